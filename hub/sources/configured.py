"""
The common parts of configured sources: the values of their table, reading, accepting, and the stop.

Not here: the tables (hub.sources.kinds), running sources (hub.sources.sources).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from hub.budget import PIECE_BYTES
from hub.endpoint import Endpoint
from hub.intake import Intake, Tally
from hub.listener import Listener
from hub.log import get_logger
from hub.socketfile import SocketFile
from hub.sources.kinds import FileTable
from hub.waiting import until_set

CONNECTIONS_MAX = 1000
"""Maximum connections of one source; more wait in the backlog. A program has one for each handler."""
WAKE_S = 30e-6
"""The time that a wake-up takes in addition to the read; it counts as the user's time on the loop."""
LOOK_S = 1.0
"""How often a source that accepts looks at its files."""
log = get_logger("mpsr.sources")


class ConfiguredSource:
    """A source made for *table*, which has a file; its mode is known by now."""

    def __init__(self, table: FileTable, endpoint: Endpoint) -> None:
        assert table.mode is not None
        self.tally: Tally = Tally()
        self._table = table
        self._endpoint = endpoint
        self._mode, self._group = int(table.mode), table.group
        self._tag = None if table.tag is None else table.tag.encode()

    @property
    def where(self) -> str:
        """Where clients find it."""
        return self._table.where


class ReadingSource(ConfiguredSource):
    """
    A source whose `run` reads until `_is_stopping` is true, looks at that when `_woken` is set, and sets `_ended` at
    its end.
    """

    def __init__(self, table: FileTable, endpoint: Endpoint) -> None:
        super().__init__(table, endpoint)
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()
        self._is_stopping = False

    async def stop(self, timeout: float) -> None:
        """Return when what was sent by now is stored, at most *timeout* seconds later."""
        self._is_stopping = True
        self._woken.set()
        await until_set(self._ended, timeout)


def renew_if_lost(file: SocketFile, listener: Listener[Any], mode: int, group: str | None) -> None:
    """Bind the socket *file* of *listener* anew if its path was removed or replaced. Raises MpsrError."""
    if file.is_lost and listener.renew(lambda: file.listen_again(mode, group)):
        log.warning("socket.renewed", socket=file.path)


async def read_in_turn(intake: Intake, fd: int) -> bytes:
    """
    Read *fd*, which does not block, when there is room for it and it is the turn of its user.

    Raises BlockingIOError if there is nothing to read, and OSError. The caller counts what has arrived.
    """
    budget, holding, turn = intake.budget, intake.holding, intake.user.turn
    await budget.room_to_read(holding)
    if not turn.is_free:
        await turn.come()
    turn.spend(WAKE_S)
    with turn:
        return os.read(fd, budget.readable_bytes(holding) or PIECE_BYTES)


class Accepting:
    """Serves the clients of *listener* until `stop` is called. Every `LOOK_S`, *look* is called."""

    def __init__(self, listener: Listener[Any], look: Callable[[], None]) -> None:
        self._listener = listener
        self._look = look
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._timeout = 0.0

    async def run(self) -> None:
        """Accept until `stop` is called, and read what was sent. Raises what *look* raises, and OSError."""
        accepting = asyncio.create_task(self._listener.run(), name="mpsr-accept-source")
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
