"""
A hub without a process, with its methods and an open page, for the tests of what the page asks.

Not here: the page in a browser (tests/hub/web/page).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp

from hub.access import Access, Gate, Grant
from hub.control.figures import Figures
from hub.control.methods import RIGHT_OF, Commands
from hub.control.reading import Readings
from hub.dispatch import AnyCommand
from hub.endpoint import Endpoint
from hub.intake import Intake
from hub.journal.journal import Journal
from hub.message import Batch, Peer
from hub.socketfile import SocketFile
from hub.sources.shown import Shown
from hub.web.pages import Pages
from hub.web.pageserver import PageServer, page_for
from tests.hub.clients import until

TOKEN = "a token that nobody guesses"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
OWN = Peer(pid=1, uid=os.geteuid(), gid=2, comm="own")
OTHER = Peer(pid=3, uid=4321, gid=54, comm="other")


class Socket:
    """A WebSocket that has shown its token."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, hub: Mapping[str, Any]) -> None:
        self.socket = socket
        self.hub = hub
        self._ids = itertools.count(1)

    async def send(self, method: str, params: Any = None, *, wants_reply: bool = True) -> int:
        """Send a request, and return its id."""
        id_ = next(self._ids)
        request = {"jsonrpc": "2.0", "method": method} | ({"id": id_} if wants_reply else {})
        await self.socket.send_json(request if params is None else {**request, "params": params})
        return id_

    async def next(self) -> Any:
        """Return the next message of the hub."""
        return json.loads(await self.socket.receive_str(timeout=30))

    async def ask(self, method: str, params: Any = None) -> Any:
        """Return the result of a method. Raises AssertionError for an error."""
        id_ = await self.send(method, params)
        reply = await self.next()
        assert reply["id"] == id_, reply
        assert "result" in reply, reply
        return reply["result"]

    async def values(self, method: str, params: Any = None) -> list[Any]:
        """Return all values of a stream that ends by itself."""
        found: list[Any] = []
        id_ = await self.send(method, params)
        while True:
            message = await self.next()
            if message.get("method") != "stream":
                assert message == {"jsonrpc": "2.0", "id": id_, "result": None}, message
                return found
            found.append(message["params"]["value"])


class Opened:
    """The hub and its page, which acts for *peer*."""

    def __init__(
        self, folder: Path, journal: Journal, peer: Peer, grants: tuple[Grant, ...], more: Mapping[str, AnyCommand]
    ) -> None:
        self.journal = journal
        self.access = Access(methods=RIGHT_OF, grants=grants)
        self.endpoint = Endpoint(SocketFile.bind(str(folder / "hub.sock")), access=self.access)
        self.readings = Readings()
        self.is_stopping = False
        figures = Figures(self.endpoint, journal)
        self.shown = Shown(journal, self.readings, stats=figures.stats, is_stopping=lambda: self.is_stopping)
        self.pages = Pages(self.endpoint, self.shown, lambda: self.commands)
        methods = Commands(self.endpoint, journal, _reload, figures=figures, readings=self.readings, more=more)
        self.commands: Mapping[str, AnyCommand] = methods.table
        self.caller = self.intake(peer)
        self.server: PageServer = page_for(self.caller, TOKEN.encode(), self.endpoint, self.shown, self.commands)
        self.client: aiohttp.ClientSession

    def intake(self, peer: Peer) -> Intake:
        """Return the intake of a caller on the hub's socket."""
        return Intake(self.endpoint.admission(peer, Gate(self.access, peer, lambda: frozenset((peer.gid,)))))

    @property
    def base(self) -> str:
        return f"http://{self.server.where}"

    async def get(self, path: str, method: str = "GET", **headers: str) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of the answer to a request; dashes of header names are underscores here."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(method, self.base + path, headers=given) as response:
            return response.status, response.headers, await response.read()

    @contextlib.asynccontextmanager
    async def connected(self, token: str = TOKEN) -> AsyncIterator[Socket]:
        """A WebSocket that has shown *token*."""
        async with self.client.ws_connect(f"{self.base}/rpc") as socket:
            await socket.send_json({"token": token})
            yield Socket(socket, json.loads(await socket.receive_str(timeout=30))["hub"])


async def _reload() -> dict[str, Any]:
    return {"changed": []}


@contextlib.asynccontextmanager
async def opened(
    folder: Path,
    *batches: Batch,
    peer: Peer = OWN,
    grants: tuple[Grant, ...] = (),
    more: Mapping[str, AnyCommand] | None = None,
) -> AsyncIterator[Opened]:
    """Serve the page of a hub that holds *batches*, each of a commit of its own; *more* are further methods."""
    journal = await Journal.open(str(folder / "journal"))
    for each in batches:
        await journal.append([each])
    here = Opened(folder, journal, peer, grants, more or {})
    running = asyncio.create_task(here.server.run())
    here.client = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30))
    try:
        yield here
        await here.client.close()
        await here.server.stop(30)
        await asyncio.wait_for(running, 30)
        await until(lambda: here.endpoint.inbox.budget.loose_bytes == 0, "everything is given back")
    finally:
        await here.client.close()
        running.cancel()
        await asyncio.wait((running,))
        await here.endpoint.stop(timeout=0)
        here.endpoint.close()
        here.readings.close()
        await journal.close()
