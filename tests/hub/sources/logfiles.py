"""
A hub without a process for the tests of the source `files`: a journal, a receiver and one source, which can be killed
and started again.

Not here: other sources, a reload (test_sources.py).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

from hub.access import Access
from hub.control.reading import Readings
from hub.endpoint import Endpoint
from hub.journal.journal import Journal
from hub.limits import Limits
from hub.message import LOSS_TAG, Batch, Message
from hub.metrics import Metrics
from hub.receiver import Receiver
from hub.socketfile import SocketFile
from hub.sources.kinds import Files
from hub.sources.shown import Shown
from hub.sources.tail import FilesSource
from hub.sources.values import GlobPath
from tests.hub.clients import until


class Site:
    """Files in *folder*/logs, and a hub that follows them. Changes of *table* apply from the next start on."""

    def __init__(self, folder: Path, **options: Any) -> None:
        self._folder = folder
        self.logs = folder / "logs"
        self.logs.mkdir(exist_ok=True)
        paths = options.pop("paths", [str(self.logs / "*.log")])
        options.setdefault("begin", "start")
        self.table = Files(paths=tuple(GlobPath.parse(path) for path in paths), **options)
        self.access = Access()
        self.frame_bytes_max = 64 << 20
        self.source: FilesSource
        self.journal: Journal
        self._tasks: list[asyncio.Task[None]] = []

    def write(self, name: str, text: str | bytes) -> None:
        """Append to a file."""
        with open(self.logs / name, "ab") as file:
            file.write(text.encode() if isinstance(text, str) else text)

    async def start(self, limits: Limits | None = None) -> None:
        """Start a hub, and return when it has looked at everything."""
        self.journal = await Journal.open(str(self._folder / "journal"), retain_bytes=64 << 20)
        socket_file = SocketFile.bind(str(self._folder / "hub.sock"))
        self.endpoint = Endpoint(socket_file, access=self.access, frame_bytes_max=self.frame_bytes_max)
        self.endpoint.limits = limits or self.endpoint.limits
        receiver = Receiver(self.endpoint.inbox, self.journal, Metrics())
        shown = Shown(self.journal, cast("Readings", None), stats=dict, is_stopping=lambda: False)
        self.source = FilesSource(self.table, self.endpoint, shown)
        self._tasks = [asyncio.create_task(receiver.run()), asyncio.create_task(self.source.run())]
        looked = asyncio.create_task(self.source.has_looked.wait())
        await asyncio.wait((looked, self._tasks[1]), return_when=asyncio.FIRST_COMPLETED)
        looked.cancel()
        if self._tasks[1].done():
            self._tasks[1].result()

    @property
    def running(self) -> asyncio.Task[None]:
        """The source's task."""
        return self._tasks[1]

    async def kill(self) -> None:
        """End the hub without any care; what is committed stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        self.endpoint.close()
        await self.endpoint.stop(timeout=0)
        await self.journal.close()

    async def stop(self) -> None:
        """Stop it in order."""
        await self.source.stop(30)
        await asyncio.wait_for(self._tasks[1], 30)
        await self.kill()

    @property
    def messages(self) -> list[Message]:
        """What is stored, losses left out."""
        return [message for message in self._stored() if message.tag != LOSS_TAG.decode()]

    @property
    def losses(self) -> list[dict[str, Any]]:
        """The losses that are stored."""
        return [message.record for message in self._stored() if message.tag == LOSS_TAG.decode()]

    @property
    def texts(self) -> list[str]:
        """The texts of the messages."""
        return [message.record["message"] for message in self.messages]

    def _stored(self) -> list[Message]:
        with contextlib.closing(self.journal.read()) as reader:
            batches = [batch for batch in reader.read() if isinstance(batch, Batch)]
            return [message for batch in batches for message in batch.messages()]

    async def has_rested(self) -> None:
        """Return when the source waits for events, and has none to look at."""
        following = self.source._following
        await until(lambda: not self.source._is_looking and following.next_look_in is None, "all is looked at")

    async def has(self, *texts: str) -> None:
        """Return when these texts are stored, in this order, and no others."""
        await until(lambda: len(self.texts) >= len(texts), f"{texts}")
        assert self.texts == list(texts)


@contextlib.asynccontextmanager
async def following(folder: Path, **options: Any) -> AsyncIterator[Site]:
    """Run a site, and stop it in order."""
    site = Site(folder, **options)
    await site.start()
    try:
        yield site
        await site.stop()
    except BaseException:
        with contextlib.suppress(Exception):
            await site.kill()
        raise
