"""
One process of a hub in this one: a journal that commits on the loop, the spine, and a source of files.

Not here: what happens meanwhile (tests.system.files.history).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

from hub.dedupe import Dedupe
from hub.endpoint import Endpoint
from hub.errors import JournalUnavailable
from hub.journal.journal import Journal
from hub.journal.recovery import recover
from hub.journal.writer import Writer
from hub.receiver import Receiver
from hub.socketfile import SocketFile
from hub.sources.kinds import Files
from hub.sources.shown import Shown
from hub.sources.tail import FilesSource
from tests.hub.journal.forgetting import ForgettingFiles
from tests.system.files.model import LINE_BYTES_MAX


class Inline:
    """An executor without threads: the loop calls what it is given for one."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def submit(self, work: Callable[[], object]) -> None:
        work()

    def shutdown(self, **_: object) -> None:
        pass


class SteppedJournal(Journal):
    """A journal whose writer works on the loop: a step before the commit, the commit, a step after it."""

    async def _do(self, work: Callable[[], Any]) -> Any:
        await asyncio.sleep(0)
        try:
            result = work()
        except OSError as error:
            await asyncio.sleep(0)
            raise JournalUnavailable(self.path, f"{error.strerror or error}") from error
        await asyncio.sleep(0)
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
        return result

    def abandon(self) -> None:
        """Let the thread end, which has nothing to do."""
        self._work.put(None)


class Life:
    """One process of the hub, from its start to its end."""

    def __init__(self, name: str, disk: ForgettingFiles, table: Files, clock: Callable[[], float]) -> None:
        self.name = name
        self.disk = disk
        self.table = table
        self.clock = clock
        self.tasks: list[asyncio.Task[Any]] = []
        self.journal: SteppedJournal | None = None

    async def start(self, segment_bytes: int) -> None:
        """Recover the journal, and begin."""
        dedupe = Dedupe()
        recovered = recover(self.disk, dedupe, now=time.time_ns())
        writer = Writer(self.disk, recovered, dedupe, retain_bytes=1 << 40)
        writer._segment_bytes = segment_bytes
        writer.begin()
        self.journal = SteppedJournal("journal", self.disk, writer, recovered, None)
        self.endpoint = Endpoint(SocketFile.bind(f"@{self.name}"), frame_bytes_max=LINE_BYTES_MAX)
        self.receiver = Receiver(self.endpoint.inbox, self.journal, self.endpoint.metrics)
        no_readings: Any = None
        shown = Shown(self.journal, no_readings, stats=dict, is_stopping=lambda: False)
        self.source = FilesSource(self.table, self.endpoint, shown, clock=self.clock)
        self.tasks = [asyncio.create_task(self.receiver.run()), asyncio.create_task(self.source.run())]

    async def rest(self, seconds: float) -> None:
        """Let time pass. Raises what ended the source or the receiver."""
        await asyncio.wait(self.tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in self.tasks:
            if task.done():
                task.result()
                raise AssertionError("it ended by itself")

    async def stop(self) -> None:
        """Stop in order."""
        receiving, running = self.tasks
        await self.source.stop(30)
        await running
        await self.endpoint.stop(timeout=1)
        await self.receiver.stop(30)
        await receiving
        assert self.endpoint.inbox.budget.loose_bytes == 0, "everything is given back"
        assert self.journal is not None
        self.journal._writer.close()

    async def clear(self) -> None:
        """Free what a dead process leaves in this one. Its disk is another already."""
        while rest := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in sorted(rest, key=asyncio.Task.get_name):  # always in the same order
                task.cancel()
            await asyncio.wait(rest, timeout=1)
        for task in self.tasks:
            with contextlib.suppress(BaseException):
                task.result()
        if self.journal is not None:
            self.journal.abandon()
        if hasattr(self, "endpoint"):
            with contextlib.suppress(Exception):
                await self.endpoint.stop(timeout=0)
            self.endpoint.close()
