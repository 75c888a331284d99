"""
Runs the sinks that are configured, and other readers that are tables of the configuration: alerts (hub.alerts).

Always true:
- a sink neither delays nor stops the hub or another sink: each has a thread of its own (hub.sinks.runner);
- a reload touches only what it adds, changes or removes. A sink that is changed goes on at its cursor;
- retention keeps what a sink with ``when_full = "block"`` has not delivered.

Not here: which sinks there are (hub.sinks.table), delivering (hub.sinks.runner), ``--print`` (hub.sinks.stdout).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from hub.endpoint import Endpoint
from hub.errors import CommandError
from hub.journal.journal import Journal
from hub.journal.retention import NOTHING_NEEDED
from hub.log import get_logger
from hub.sinks.deadletter import Reports
from hub.sinks.kinds import SinkTable
from hub.sinks.runner import Runner

STOP_S = 5.0
"""The time that a reload gives a sink to deliver what is committed."""
log = get_logger("mpsr.sinks")


def needed_by(tables: Sequence[SinkTable]) -> list[str]:
    """Return the names of the sinks that retention waits for."""
    return [table.cursor for table in tables if table.when_full == "block"]


class Sinks:
    """The sinks for *tables*, which read *journal* and report to *endpoint*. *make_runner* makes what runs one."""

    def __init__(
        self,
        endpoint: Endpoint,
        journal: Journal,
        tables: Sequence[SinkTable],
        *,
        make_runner: Callable[..., Runner] = Runner,
    ) -> None:
        self._journal = journal
        self._reports = Reports(endpoint, journal)
        self._wanted = tuple(tables)
        self._make = make_runner
        self._running: dict[str, Runner] = {}
        self._abandoned: dict[str, Runner] = {}  # by name; their threads have not ended
        self._changing = asyncio.Lock()
        self._stopped = asyncio.Event()
        self._is_stopping = False

    async def run(self) -> None:
        """Deliver until `stop` is called."""
        await self.change(self._wanted)
        await self._stopped.wait()

    async def change(self, tables: Sequence[SinkTable]) -> None:
        """Run the sinks for *tables*, and no others."""
        async with self._changing:
            wanted = {table.cursor: table for table in tables}
            ending = [runner for name, runner in self._running.items() if wanted.get(name) != runner.table]
            await asyncio.gather(*(self._end(runner, STOP_S) for runner in ending))
            for runner in ending:
                del self._running[runner.table.cursor]
                self._abandoned.setdefault(runner.table.cursor, runner)
            self._abandoned = {name: runner for name, runner in self._abandoned.items() if runner.is_abandoned}
            if self._is_stopping:
                return
            for name, table in wanted.items():
                if name not in self._running:
                    self._running[name] = self._make(
                        table, self._journal, self._reports, on_moved=self._keep, before=self._abandoned.get(name)
                    )
            self._keep()

    async def stop(self, timeout: float) -> None:
        """Deliver what is committed, within *timeout* seconds, and end all sinks."""
        self._is_stopping = True
        await asyncio.gather(*(self._end(runner, timeout) for runner in self._running.values()))
        self._stopped.set()

    @property
    def runners(self) -> list[Runner]:
        """What runs now: sinks, and other readers of the journal that are run in the same way."""
        return list(self._running.values())

    def stats(self) -> list[dict[str, Any]]:
        """Return the state of each sink."""
        return [runner.row() for runner in self._running.values() if runner.table.is_sink]

    async def pause(self, name: str, *, is_paused: bool) -> None:
        """Pause the sink *name*, also after a restart, or resume it. Raises CommandError."""
        await self._named(name).pause(is_paused)
        if is_paused:
            log.info("sink.paused", name=name)
        else:
            log.info("sink.resumed", name=name)

    async def rewind(self, name: str, to: int | None, since: int | None) -> int:
        """Let the sink *name* go on elsewhere; see `Runner.rewind`. Return the sequence. Raises CommandError."""
        sequence = await self._named(name).rewind(to, since)
        log.info("sink.rewound", name=name, sequence=sequence)
        return sequence

    def _named(self, name: str) -> Runner:
        runner = self._running.get(name)
        if runner is None or not runner.table.is_sink:
            names = [name for name, each in self._running.items() if each.table.is_sink]
            raise CommandError(f"there is no sink {name!r} (there are: {', '.join(names) or 'none'})")
        return runner

    async def _end(self, runner: Runner, timeout: float) -> None:
        await runner.stop(timeout)
        log.info("sink.closed", name=runner.table.cursor, type=runner.table.kind)

    def _keep(self) -> None:
        """Have retention keep what is not delivered. Until all cursors are known, it keeps what it kept before."""
        needed = [runner.needed_from for runner in self._running.values() if runner.table.when_full == "block"]
        if all(sequence is not None for sequence in needed):
            self._journal.need(min((sequence for sequence in needed if sequence is not None), default=NOTHING_NEEDED))
