"""
A hub without a process for the tests of sources that can be read again: what is committed outlives the hub.

`Life` is one hub with the source. It is stopped in order, or killed: then what it has not committed is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

from hub.endpoint import Endpoint
from hub.errors import SourceError
from hub.message import FORGET, LOSS_TAG, Batch, Message, Position
from hub.socketfile import SocketFile
from hub.sources.kinds import SourceTable
from hub.sources.shown import Shown
from hub.sources.source import Source
from hub.sources.table import make


class Committed:
    """What a journal keeps: batches, and the positions in them. It stands for a `Journal`, too."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._positions: dict[bytes, Position] = {}

    def commit(self, batch: Batch) -> None:
        """Keep *batch*, and the positions in it."""
        self.batches.append(batch)
        for position in batch.positions:
            if position.number == FORGET:
                self._positions.pop(position.name, None)
            else:
                self._positions[position.name] = position

    def position(self, name: bytes) -> Position | None:
        """Return the position of *name*."""
        return self._positions.get(name)

    def positions(self, prefix: bytes) -> list[Position]:
        """Return the positions whose names begin with *prefix*."""
        return [position for name, position in self._positions.items() if name.startswith(prefix)]

    @property
    def messages(self) -> list[Message]:
        """The messages that are no losses."""
        return [each for batch in self.batches for each in batch.messages() if each.tag != LOSS_TAG.decode()]

    @property
    def losses(self) -> list[dict[Any, Any]]:
        """The records of the losses."""
        return [each.record for batch in self.batches for each in batch.messages() if each.tag == LOSS_TAG.decode()]

    @property
    def texts(self) -> list[Any]:
        """The texts of the messages."""
        return [message.record["message"] for message in self.messages]

    @property
    def lost(self) -> int:
        """How many messages the losses say are missing."""
        return sum(record["count"] for record in self.losses)


Make = Callable[[SourceTable, Endpoint, Shown], Source]


class Life:
    """One hub with the source for *table*; commits batches while `may_commit` is set."""

    def __init__(self, folder: Path, committed: Committed, table: SourceTable, make_source: Make, **options: Any):
        file = SocketFile.bind(str(folder / "hub.sock"))
        self.endpoint = Endpoint(file, **options)
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self._committed = committed
        shown = Shown(cast("Any", committed), cast("Any", None), stats=dict, is_stopping=lambda: False)
        self._make = functools.partial(make_source, table, self.endpoint, shown)
        try:
            self.source = self._make()
        except BaseException:
            self.endpoint.close()
            file.remove()
            file.close()
            raise
        self.running = asyncio.create_task(self.source.run())
        self._receiving = asyncio.create_task(self._receive())

    async def _receive(self) -> None:
        while True:
            await self.may_commit.wait()
            taken = await self.endpoint.inbox.take(1 << 20)
            if not taken:
                return
            for batch in taken:
                await self.may_commit.wait()
                self._committed.commit(batch)
                batch.acknowledge()
            taken.release()

    def look(self) -> None:
        """Put another source in the place of one that has failed, as the hub does after a while."""
        if self.running.done() and isinstance(self.running.exception(), SourceError):
            self.source = self._make()
            self.running = asyncio.create_task(self.source.run())

    async def stop(self) -> None:
        """Stop in order: all that was read is committed, and all memory is given back."""
        self.may_commit.set()
        await self.source.stop(30)
        await asyncio.wait_for(self.running, 30)
        assert self.endpoint.inbox.budget.loose_bytes == 0, "everything is given back"
        await self.kill()

    async def kill(self) -> None:
        """End at once. What is in the inbox is lost."""
        for task in (self.running, self._receiving):
            task.cancel()
        await asyncio.wait((self.running, self._receiving))
        await self.endpoint.stop(timeout=0)
        self.endpoint.close()


@contextlib.asynccontextmanager
async def living(
    folder: Path, committed: Committed, table: SourceTable, *, make_source: Make = make, **options: Any
) -> AsyncIterator[Life]:
    """Run a hub with the source for *table*, and stop it in order."""
    life = Life(folder, committed, table, make_source, **options)
    try:
        yield life
        await life.stop()
    finally:
        await life.kill()
