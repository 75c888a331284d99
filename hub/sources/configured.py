"""
What configured sources have in common: what their table says, and how one that reads by itself is stopped.

Not here: the table (hub.sources.table), running sources (hub.sources.sources).
"""

from __future__ import annotations

import asyncio
import contextlib

from hub.endpoint import Endpoint
from hub.intake import Tally
from hub.sources.table import FileTable


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
    """One whose `run` reads until `_is_stopping`, which `_woken` tells it to look at, and sets `_ended` at its end."""

    def __init__(self, table: FileTable, endpoint: Endpoint) -> None:
        super().__init__(table, endpoint)
        self._woken = asyncio.Event()
        self._ended = asyncio.Event()
        self._is_stopping = False

    async def stop(self, timeout: float) -> None:
        """Return when what was sent by now is stored, at most *timeout* seconds later."""
        self._is_stopping = True
        self._woken.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()
