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

import asyncio
import functools
import socket

from hub.connection import Connection
from hub.endpoint import Endpoint
from hub.listener import Listener
from hub.log import get_logger
from hub.socketfile import SocketFile
from hub.sources.configured import ConfiguredSource
from hub.sources.table import FileTable
from hub.wire.pickled import PickleDecoder

LOOK_S = 1.0
"""How often the source looks whether clients can find the socket."""
CONNECTIONS_MAX = 1000
"""Connections of one source; more wait in the backlog. A program has one for each handler."""
log = get_logger("mpsr.sources")


class PickledSource(ConfiguredSource):
    """Serves the socket of *table*."""

    def __init__(self, table: FileTable, endpoint: Endpoint) -> None:
        super().__init__(table, endpoint)
        self._decoder = functools.partial(PickleDecoder, tag=self._tag)
        self._file: SocketFile
        self._listener: Listener[Connection]
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._timeout = 0.0

    def open(self) -> None:
        """Bind the socket. Raises MpsrError."""
        self._file = SocketFile.bind(self._table.path, mode=self._mode, group=self._group)
        self._listener = self._endpoint.listener(
            self._file, self._decoder, connections_max=CONNECTIONS_MAX, tally=self.tally
        )

    def permit(self, mode: int, group: str | None) -> None:
        """Change mode and group of the socket's file. Raises MpsrError."""
        self._file.permit(mode, group)
        self._mode, self._group = mode, group

    async def run(self) -> None:
        """Accept until `stop` is called, and read what was sent. Raises MpsrError or OSError."""
        accepting = asyncio.create_task(self._listener.run(), name="mpsr-accept-pickle")
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            while True:
                done, _ = await asyncio.wait((accepting, stopping), timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
                if accepting in done:
                    await accepting
                if done:
                    return
                self._look()
        finally:
            accepting.cancel()
            stopping.cancel()
            await asyncio.wait((accepting, stopping))
            await self._listener.stop(timeout=self._timeout)
            self._ended.set()

    async def stop(self, timeout: float) -> None:
        """Accept no more clients, and return when what was sent is stored, at most *timeout* seconds later."""
        self._timeout = timeout
        self._stopping.set()
        await self._ended.wait()

    def _look(self) -> None:
        """Bind the socket anew if its file is gone, and follow the limit of frames."""
        self._listener.limit(connections_max=CONNECTIONS_MAX, frame_bytes_max=self._endpoint.frame_bytes_max)
        if self._file.is_lost and self._listener.renew(self._bind_again):
            log.warning("socket.renewed", socket=self._table.path)

    def _bind_again(self) -> socket.socket:
        return self._file.listen_again(self._mode, self._group)
