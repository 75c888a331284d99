"""
A hub without a process for the tests of sources: an endpoint, a receiver that keeps what it takes, and one source.

Not here: the journal, a reload, other processes (test_sources.py has them).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from hub.access import Access
from hub.endpoint import Endpoint
from hub.message import Batch, Message
from hub.paths import AbsolutePath
from hub.quantities import Mode
from hub.socketfile import SocketFile
from hub.sources.kinds import FileTable, SourceTable
from hub.sources.source import Source
from hub.sources.table import SOURCES, make
from hub.sources.values import Tag


class Receiving:
    """An endpoint, and a receiver that takes batches while `may_take` is set; *got* is what was received."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self.endpoint = Endpoint(SocketFile.bind(str(folder / "hub.sock")), **options)
        self.budget = self.endpoint.inbox.budget
        self.batches: list[Batch] = []
        self.may_take = asyncio.Event()
        self.may_take.set()

    @property
    def got(self) -> list[Message]:
        """The messages that were received."""
        return [message for batch in self.batches for message in batch.messages()]

    @property
    def records(self) -> list[Any]:
        """Their records."""
        return [message.record for message in self.got]

    async def receive(self) -> None:
        """Take batches, and acknowledge them, until the inbox is closed."""
        while True:
            await self.may_take.wait()
            taken = await self.endpoint.inbox.take(1 << 20)
            if not taken:
                return
            for batch in taken:
                self.batches.append(batch)
                batch.acknowledge()
            taken.release()


class Served(Receiving):
    """The source of a type at ``folder/way``, or the one for *table*, running."""

    def __init__(
        self, folder: Path, kind: str, *, tag: str | None = None, table: SourceTable | None = None, **options: Any
    ) -> None:
        super().__init__(folder, **options)
        self.path = str(folder / "way")
        if table is None:
            has_file = cast("type[FileTable]", SOURCES[kind].table)
            table = has_file(path=AbsolutePath(self.path), mode=Mode(0o660), tag=None if tag is None else Tag(tag))
        self.table: SourceTable = table
        self.source: Source = make(table, self.endpoint)


@contextlib.asynccontextmanager
async def served(
    folder: Path, kind: str, *, site: type[Served] = Served, access: Access | None = None, **options: Any
) -> AsyncIterator[Served]:
    """Serve the source, and stop it in order: everything is given back then."""
    here = site(folder, kind, access=access, **options)
    running, receiving = asyncio.create_task(here.source.run()), asyncio.create_task(here.receive())
    try:
        yield here
        await here.source.stop(30)
        await asyncio.wait_for(running, 30)
        assert here.budget.loose_bytes == 0, "everything is given back"
    finally:
        running.cancel()
        await asyncio.wait((running,))
        await here.endpoint.stop(timeout=0)
        here.endpoint.close()
        receiving.cancel()
        await asyncio.wait((receiving,))
