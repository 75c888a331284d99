"""
A socket for Python's `logging.handlers.SocketHandler`, unchanged:

    logging.getLogger().addHandler(logging.handlers.SocketHandler("/run/mpsr/pickle", None))

Always true:
- a connection is served as one to the hub's socket is: the kernel identifies the peer, and the same shares hold;
- the socket is bound as the hub's is (hub.socketfile), and bound anew if its file is removed;
- a stop reads what clients have sent. There are no acknowledgements: what is in the socket of a hub that is killed is
  lost.

Not here: the records (hub.wire.pickled), connections (hub.connection, hub.listener).
"""

from __future__ import annotations

import functools

from hub.endpoint import Endpoint
from hub.log import get_logger
from hub.socketfile import SocketFile
from hub.sources.configured import CONNECTIONS_MAX, Accepting, ConfiguredSource, renew_if_lost
from hub.sources.kinds import FileTable
from hub.wire.pickled import PickleDecoder

log = get_logger("mpsr.sources")


class PickledSource(ConfiguredSource):
    """Serves the socket of *table*."""

    def __init__(self, table: FileTable, endpoint: Endpoint) -> None:
        super().__init__(table, endpoint)
        self._decoder = functools.partial(PickleDecoder, tag=self._tag)
        self._file = SocketFile.bind(self._table.path, mode=self._mode, group=self._group)
        self._listener = self._endpoint.listener(
            self._file, self._decoder, connections_max=CONNECTIONS_MAX, tally=self.tally
        )
        self._accepting = Accepting(self._listener, self._look)

    def permit(self, mode: int, group: str | None) -> None:
        """Change mode and group of the socket's file. Raises MpsrError."""
        self._file.permit(mode, group)
        self._mode, self._group = mode, group

    async def run(self) -> None:
        """Accept until `stop` is called, and read what was sent. Raises MpsrError or OSError."""
        await self._accepting.run()

    async def stop(self, timeout: float) -> None:
        """Accept no more clients, and return when what was sent is stored, at most *timeout* seconds later."""
        await self._accepting.stop(timeout)

    def _look(self) -> None:
        """Bind the socket anew if its file is gone, and follow the limit of frames."""
        self._listener.limit(connections_max=CONNECTIONS_MAX, frame_bytes_max=self._endpoint.frame_bytes_max)
        renew_if_lost(self._file, self._listener, self._mode, self._group)
