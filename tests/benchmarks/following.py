"""
What pages that follow cost the ingest: ten connections that ask for what `live.js` asks for, beside producers at full
rate.

    python -m tests.benchmarks.following SOCKET COUNT     the pages: opens one of the hub, prints ``ready``

A page follows by `tail` until that is too fast, then it asks for the newest screen ten times a second. The pages here
find the sequences in the answers, and do nothing else with them: where the hub is, nobody looks.

Not here: what browsers do with the answers (tests/hub/web/page/test_flood.py).
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.peer import START_S, Process, Work, measure, module
from tests.benchmarks.peers.hub import Journal

PAGES = 10
FLUSH_S, FAST, SCREEN, CALM = 0.1, 500, 100, 10
"""As in hub/web/page/live.js."""
NEWEST = {"last": SCREEN, "limit": SCREEN, "age_ms": 100}
"""What it asks for when there is too much."""
_SEQUENCE = re.compile(rb'"sequence":(\d+),')


class Followed(Journal):
    """`mpsr hub` with pages that follow."""

    _pages: Process | None = None

    def start(self, folder: Path, work: Work) -> None:
        super().start(folder, work)
        self._pages = Process(folder, module("following", f"{folder}/s", str(PAGES)), "pages")
        self._pages.line(START_S)

    def stop(self) -> None:
        if self._pages is not None:
            self._pages.end()
        super().stop()


def beside_pages(folder: Path, seconds: float) -> dict[str, Any]:
    """Ingest without pages and beside `PAGES` of them, each with a fresh hub and journal."""
    alone, beside = folder / "alone", folder / "beside"
    alone.mkdir()
    beside.mkdir()
    work = Work(seconds=seconds)
    base, own = measure(Journal(), work, alone), measure(Followed(), work, beside)
    ratio = round(own["messages_per_s"] / base["messages_per_s"], 3)
    return {"messages_per_s": own["messages_per_s"], "alone_per_s": base["messages_per_s"], "ratio": ratio}


class Page:
    """One page, connected by *socket*."""

    def __init__(self, socket: Any) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self._cursor = 0

    async def follow(self, token: str) -> None:
        """Follow without end."""
        await self._socket.send_str(json.dumps({"token": token}))
        await self._socket.receive_str()
        (newest,) = _sequences(await self._ask("query", last=1)) or [0]
        self._cursor = newest
        while True:
            await self._tail()
            await self._leap()

    async def _tail(self) -> None:
        """Take what a stream brings; return when it is too fast."""
        id_ = await self._send("tail", after=self._cursor)
        taken, due = 0, 0.0
        while True:
            found = _sequences(await self._socket.receive_str())
            due = due or time.monotonic() + FLUSH_S
            taken += len(found)
            self._cursor = max(self._cursor, *found, 0)
            if time.monotonic() >= due:
                if taken > FAST:
                    break
                taken, due = 0, 0.0
        await self._send("cancel", id=id_)
        while f'"id":{id_},"error"' not in (await self._socket.receive_str()).replace(" ", ""):
            pass

    async def _leap(self) -> None:
        """Ask for the newest screen, again and again; return when there is less."""
        calm = 0
        while calm < CALM:
            begun = time.monotonic()
            found = _sequences(await self._ask("query", after=self._cursor, **NEWEST))
            self._cursor = max(self._cursor, *found, 0)
            calm = calm + 1 if len(found) < SCREEN else 0
            await asyncio.sleep(max(FLUSH_S - (time.monotonic() - begun), 0.01))

    async def _ask(self, method: str, **params: int) -> str:
        await self._send(method, **params)
        reply: str = await self._socket.receive_str()
        return reply

    async def _send(self, method: str, **params: int) -> int:
        id_ = next(self._ids)
        await self._socket.send_str(json.dumps({"jsonrpc": "2.0", "id": id_, "method": method, "params": params}))
        return id_


def _sequences(text: str) -> list[int]:
    return [int(found) for found in _SEQUENCE.findall(text.encode())]


async def _follow(url: str, token: str, count: int) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as pages:
        for _ in range(count):
            pages.create_task(Page(await session.ws_connect(f"{url}/rpc", max_msg_size=0)).follow(token))
        print("ready", flush=True)


def main() -> None:
    """Open a page, and follow."""
    from producers import Client

    with Client(sys.argv[1]) as client, client.stream("web") as stream:
        opened = next(stream)
        asyncio.run(_follow(f"http://{opened['address']}", opened["token"], int(sys.argv[2])))


if __name__ == "__main__":
    main()
