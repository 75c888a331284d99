"""
Runs the sources that are configured: starts them, tries them again after a fault, and changes them at a reload.

Always true:
- a fault of a source is one line in the log, however often it is repeated, and another try each `RETRY_S`; it stops
  neither the hub nor another source;
- a reload touches only what it adds, changes or removes. Other permissions alone are set without a restart;
- a source that is removed, or restarted, takes what was sent to it before;
- a source that continues at a position is made only when everything that its predecessor gave is settled: until then
  the position is not known.

Not here: which sources there are (hub.sources.table), their work (hub.sources.fifo and others).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hub.endpoint import Endpoint
from hub.errors import HubClosed, MpsrError
from hub.intake import Tally
from hub.log import get_logger
from hub.service.tables import type_of
from hub.sources.kinds import FileTable, SourceTable
from hub.sources.source import Lag, Source
from hub.sources.table import SOURCES, as_source_error, load, make
from hub.waiting import until_set

RETRY_S = 1.0
SETTLED_LOOK_S = 0.05
"""
How often a waiting source checks whether everything is settled. That takes one commit, or as long as the disk fails.
"""
STOP_S = 5.0
"""How long a reload gives a source to take what was sent."""
log = get_logger("mpsr.sources")


class SourceList(dict[str, "_Running"]):
    """
    The sources that run, by path or address. `Sources` adds and removes them. A source may be given the list, to report
    on all of them.
    """

    def stats(self) -> list[dict[str, Any]]:
        """Return the state of each source."""
        return [running.stats() for running in self.values()]

    def rows(self) -> list[dict[str, Any]]:
        """Return the state of each source, also what went wrong with it last."""
        return [running.row() for running in self.values()]


class Sources:
    """The sources for *tables*; those that run are in *listed*. *make_source* makes one."""

    def __init__(
        self,
        endpoint: Endpoint,
        tables: Sequence[SourceTable],
        listed: SourceList,
        *,
        make_source: Callable[[SourceTable, Endpoint], Source] = make,
    ) -> None:
        self._endpoint = endpoint
        self._make = make_source
        self._running = listed
        self._ended: set[Tally] = set()  # of sources that have ended
        self._wanted = tuple(tables)
        self._changing = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._stopping = asyncio.Event()
        self.has_started = asyncio.Event()
        """Set when each source was tried once."""

    async def run(self) -> None:
        """Serve until `stop` is called."""
        try:
            await self.change(self._wanted)
            self.has_started.set()
            await self._stopped.wait()
        finally:
            for running in self._running.values():
                running.task.cancel()
            if self._running:
                await asyncio.wait([running.task for running in self._running.values()])

    async def ready(self) -> None:
        """Return when each source was tried once."""
        await self.has_started.wait()

    async def change(self, tables: Sequence[SourceTable]) -> None:
        """Run the sources for *tables*, and no others. Return when those that are new were tried once."""
        async with self._changing:
            if self._stopping.is_set():
                return
            wanted: dict[str, SourceTable] = {table.where: table for table in tables}
            ending = [running for where, running in self._running.items() if not running.becomes(wanted.get(where))]
            await asyncio.gather(*(running.stop(STOP_S) for running in ending))
            for running in ending:
                del self._running[running.table.where]
            if self._stopping.is_set():
                return
            fresh = [table for where, table in wanted.items() if where not in self._running]
            for table in fresh:
                self._running[table.where] = _Running(table, self._endpoint, self._make, self._ended)
            await asyncio.gather(*(self._running[table.where].tried.wait() for table in fresh))

    async def stop(self, timeout: float) -> None:
        """Stop all sources, within *timeout* seconds."""
        self._stopping.set()
        await asyncio.gather(*(running.stop(timeout) for running in self._running.values()))
        self._stopped.set()


class _Running:
    """One source, and its task. *ended* has the tallies of the sources that have ended."""

    def __init__(
        self, table: SourceTable, endpoint: Endpoint, make_source: Callable[..., Source], ended: set[Tally]
    ) -> None:
        self.table = table
        self.tried = asyncio.Event()
        self._endpoint = endpoint
        self._make = make_source
        self._ended = ended
        self._source: Source | None = None
        self._fault = ""  # of the last try
        self._last_fault = ""  # of any try
        self._was_open = False  # in the last try
        self._counted = Tally()  # of the tries before
        self._stopping = asyncio.Event()
        self.task = asyncio.create_task(self._run(), name=f"mpsr-{type_of(table)}")

    def becomes(self, table: SourceTable | None) -> bool:
        """Return whether it now is the source for *table*: it was, or could be given its permissions."""
        if table is None:
            return False
        if table == self.table:
            return True
        if not isinstance(table, FileTable) or not isinstance(self.table, FileTable) or table.mode is None:
            return False
        if msgspec.structs.replace(table, mode=self.table.mode, group=self.table.group) != self.table:
            return False
        if self._source is not None:
            try:
                self._source.permit(table.mode, table.group)
            except (MpsrError, OSError) as error:
                self._report(error)
                return False
        self.table = table
        return True

    async def stop(self, timeout: float) -> None:
        """Stop within *timeout* seconds."""
        self._stopping.set()
        if self._source is not None:
            with contextlib.suppress(Exception):  # `run` raises it, too
                await self._source.stop(timeout)
        self.task.cancel()
        await asyncio.wait((self.task,))
        log.info("source.closed", type=type_of(self.table), path=self.table.where)

    def stats(self) -> dict[str, Any]:
        """Return type, path and state, what it has accepted, and the lag if it is known."""
        tally = self._source.tally if self._source is not None else Tally()
        lag: Lag | None = getattr(self._source, "lag", None)
        return {
            "type": type_of(self.table),
            "path": str(self.table.where if self._source is None else self._source.where),
            "state": "open" if self._source is not None else self._fault or "closed",
            "messages": self._counted.messages + tally.messages,
            "losses": self._counted.losses + tally.losses,
            "lag": None if lag is None else lag._asdict(),
        }

    def row(self) -> dict[str, Any]:
        """Return the same, the state as one word, and the last fault, also if it is over."""
        state = "open" if self._source is not None else "failed" if self._fault else "closed"
        tally = self._source.tally if self._source is not None else Tally()
        return {
            **self.stats(),
            "state": state,
            "bytes": self._counted.bytes + tally.bytes,
            "last_error": self._last_fault or None,
        }

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                await self._try()
            except HubClosed:
                return
            except Exception as error:  # noqa: BLE001  whatever it is, the hub goes on
                self._report(error)
            finally:
                self._forget()
                self.tried.set()
            await until_set(self._stopping, RETRY_S)

    async def _try(self) -> None:
        was_open, self._was_open = self._was_open, False
        await asyncio.to_thread(load, self.table)  # importing a library takes long
        if SOURCES[type_of(self.table)].is_repeatable:
            await self._all_settled()
        source = self._make(self.table, self._endpoint)
        self._source, self._was_open = source, True
        if not was_open:
            self._fault = ""
            log.info("source.opened", type=type_of(self.table), path=source.where)
        self.tried.set()
        await source.run()

    async def _all_settled(self) -> None:
        """
        Return when everything is settled that sources gave before their end. Do not delay those that wait for the first
        try.
        """
        while any(tally.unsettled for tally in self._ended):
            self.tried.set()
            await asyncio.sleep(SETTLED_LOOK_S)

    def _report(self, error: Exception) -> None:
        """Log a fault, unless it is the one that was logged last."""
        text = as_source_error(self.table, error).reason
        is_new, self._fault, self._last_fault = text != self._fault, text, text
        if is_new:
            log.error("source.failed", type=type_of(self.table), path=self.table.where, error=text, retry_s=RETRY_S)

    def _forget(self) -> None:
        if self._source is not None:
            self._counted.add(self._source.tally)
            self._ended.difference_update([tally for tally in self._ended if not tally.unsettled])
            self._ended.add(self._source.tally)
            self._source = None
