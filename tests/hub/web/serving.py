"""
A hub without a process for the tests of HTTP: an endpoint, a journal with its receiver, and one source.

Not here: other processes (tests/system), the configuration.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from hub.access import Access
from hub.address import Address
from hub.control.reading import Readings
from hub.endpoint import Endpoint
from hub.journal.journal import Journal
from hub.message import Batch, Message
from hub.paths import AbsolutePath
from hub.quantities import Mode
from hub.receiver import Receiver
from hub.socketfile import SocketFile
from hub.sources.kinds import Http
from hub.sources.shown import Shown
from hub.sources.table import make
from hub.sources.values import Tag
from hub.web.source import HttpSource
from tests.hub.clients import until

TOKEN = "a token that nobody guesses"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Reply:
    """A response that was read to its end."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def lines(self) -> list[Any]:
        """The lines of a body of NDJSON."""
        return [json.loads(line) for line in self.body.splitlines()]


class Serving:
    """The source, running at ``folder/web`` or at a port, and a client of it."""

    def __init__(self, folder: Path, journal: Journal, *, is_tcp: bool, tag: str | None, **options: Any) -> None:
        self.path = str(folder / "web")
        self.endpoint = Endpoint(SocketFile.bind(str(folder / "hub.sock")), **options)
        self.budget = self.endpoint.inbox.budget
        self.journal = journal
        self.is_stopping = False
        self.readings = Readings()
        self.shown = Shown(journal, self.readings, stats=self.figures, is_stopping=lambda: self.is_stopping)
        self.token = folder / "token"
        self.token.write_text(f"{TOKEN}\n")
        self.token.chmod(0o600)
        given = Tag(tag) if tag is not None else None
        if is_tcp:
            table = Http(address=Address("127.0.0.1:0"), token_file=AbsolutePath(self.token), tag=given)
        else:
            table = Http(path=AbsolutePath(self.path), mode=Mode(0o660), tag=given)
        made = make(table, self.endpoint, self.shown)
        assert isinstance(made, HttpSource)
        self.source: HttpSource = made
        self.receiver = Receiver(self.endpoint.inbox, journal, self.endpoint.metrics)
        self.client: aiohttp.ClientSession
        self._writers: list[asyncio.StreamWriter] = []

    def figures(self) -> dict[str, Any]:
        return {"messages": self.endpoint.metrics.messages, "uptime_s": 1.5, "sources": []}

    @property
    def base(self) -> str:
        return f"http://{self.source.where}" if self.source.where.startswith("127") else "http://hub"

    def batches(self) -> list[Batch]:
        """Return what is stored."""
        reader = self.journal.read()
        try:
            return [found for found in reader.read(follow=True) if isinstance(found, Batch)]
        finally:
            reader.close()

    @property
    def got(self) -> list[Message]:
        """The messages that are stored."""
        return [message for batch in self.batches() for message in batch.messages()]

    @property
    def records(self) -> list[Any]:
        return [message.record for message in self.got]

    async def ask(self, method: str, path: str, **options: Any) -> Reply:
        """Send a request, and return its whole response."""
        async with self.client.request(method, self.base + path, **options) as response:
            return Reply(response.status, response.headers, await response.read())

    async def post(self, path: str, data: Any, kind: str = "text/plain", **headers: str) -> Reply:
        """Post a body with its Content-Type and other headers, whose names have no dashes here."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("POST", path, data=data, headers={"Content-Type": kind, **given})

    async def get(self, path: str, **headers: str) -> Reply:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.ask("GET", path, headers=given)

    async def raw(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, and send bytes as they are."""
        if self.source.where.startswith("127"):
            host, _, port = self.source.where.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
        else:
            reader, writer = await asyncio.open_unix_connection(self.path)
        self._writers.append(writer)
        writer.write(data)
        await writer.drain()
        return reader, writer

    async def close(self) -> None:
        """Close all clients."""
        await self.client.close()
        for writer in self._writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def serving(
    folder: Path, *, is_tcp: bool = False, tag: str | None = None, access: Access | None = None, **options: Any
) -> AsyncIterator[Serving]:
    """Serve, and stop in order: everything is given back then."""
    journal = await Journal.open(str(folder / "journal"))
    here = Serving(folder, journal, is_tcp=is_tcp, tag=tag, access=access, **options)
    tasks = asyncio.create_task(here.source.run()), asyncio.create_task(here.receiver.run())
    connector = aiohttp.TCPConnector() if is_tcp else aiohttp.UnixConnector(here.path)
    here.client = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(30), auto_decompress=False)
    try:
        yield here
        await here.source.stop(30)
        await asyncio.wait_for(tasks[0], 30)
        await until(lambda: here.budget.loose_bytes == 0, "everything is given back")
    finally:
        await here.close()
        await here.endpoint.stop(timeout=0)
        here.endpoint.close()
        here.readings.close()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        await journal.close()
