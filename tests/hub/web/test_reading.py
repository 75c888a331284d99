"""hub.web.reading: filters, pages, events; what follows goes on, and ends."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub.access import Access, Grant, Rule, Rules
from hub.control import reading as pages
from hub.errors import InvalidParams
from hub.web import reading
from hub.web.reading import Wanted
from tests.hub.clients import Run, both_loops, until
from tests.hub.web.serving import BEARER, Serving, serving

NDJSON = "application/x-ndjson"
EVENTS = "text/event-stream"


async def fill(here: Serving, count: int, tag: str = "app", first: int = 0) -> None:
    body = "".join(f'{{"tag":"{tag}","n":{n}}}\n' for n in range(first, first + count))
    assert (await here.post("/messages", body, NDJSON)).json == {"stored": count}


def numbers(lines: list[Any]) -> list[int]:
    return [line["record"]["n"] for line in lines]


@both_loops
def test_all_messages_as_lines(run: Run, tmp_path: Path) -> None:
    """Everything comes in order, over many pages, as `mpsr logs --output json` shows it; not to be kept by anybody."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            await fill(here, 3000)
            reply = await here.get("/messages")
            assert numbers(reply.lines) == [*range(3000)]
            first = reply.lines[0]
            assert (first["sequence"], first["tag"], first["pid"], first["uid"]) == (
                1,
                "app",
                os.getpid(),
                os.geteuid(),
            )
            assert reply.headers["Content-Type"] == NDJSON
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.headers["X-Accel-Buffering"] == "no"
            assert (await here.ask("HEAD", "/messages")).body == b""

    run(main())


WRONG = ("level=loud", "grep=(", "where=x", "since=never", "after=x", "after=-1", "follow=maybe", "no=1",
         "invert_match", "limit=1&limit=2", "uid=nobody-of-that-name", f"after={1 << 63}",
         f"after={10**40:060}", f"limit={10**40:060}", f"pid={'0' * 30}{'9' * 5000}")  # fmt: skip


def test_filters(tmp_path: Path) -> None:
    """The filters of `mpsr logs` hold; a wrong one is an error that names it."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            await fill(here, 10)
            await fill(here, 5, "other", 100)
            await here.post("/messages", '{"level":"error","message":"no answer","n":200}', NDJSON)
            for query, expected in {
                "tag=other": [*range(100, 105)],
                "tag=!other&tag=!json": [*range(10)],
                "after=13&tag=other": [103, 104],
                "limit=3": [0, 1, 2],
                "limit=0": [],
                "where=n>7&where=n<101": [8, 9, 100],
                "level=warning": [200],
                "grep=ANSWER&ignore_case": [200],
                "since=1h&limit=1": [0],
                "until=2020-01-01": [],
                "uid=root&pid=1": [],
                f"pid={os.getpid()}&limit=1&comm=*": [0],
            }.items():
                assert numbers((await here.get(f"/messages?{query}")).lines) == expected, query
            for query in WRONG:
                reply = await here.get(f"/messages?{query}")
                assert reply.status == 400, query
                assert query.partition("=")[0].split("&")[0] in reply.json["error"]

    asyncio.run(main())


async def events(content: Any) -> AsyncIterator[dict[str, str]]:
    """Yield the events of a response; comments are events without an id."""
    fields: dict[str, str] = {}
    async for line in content:
        text = line.decode().rstrip("\n")
        if text:
            name, _, value = text.partition(": ")
            fields[name] = value
        else:
            yield fields
            fields = {}


@both_loops
def test_events_go_on(run: Run, tmp_path: Path) -> None:
    """A follower gets what is stored from now on; with Last-Event-ID it goes on, with nothing twice or left out."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            await fill(here, 5)
            url, headers = f"{here.base}/messages?follow&tag=app", {"Accept": EVENTS}
            seen = []
            async with here.client.get(url, headers=headers) as response:
                assert response.content_type == EVENTS
                await fill(here, 5, first=5)
                async for event in events(response.content):
                    seen.append(event["id"])
                    if len(seen) == 5:
                        break
            assert seen == ["6", "7", "8", "9", "10"]
            await fill(here, 5, "app", 10)
            headers["Last-Event-ID"] = "7"
            async with here.client.get(f"{url}&after=1", headers=headers) as response:
                seen = []
                async for event in events(response.content):
                    seen.append(event["id"])
                    if len(seen) == 8:
                        break
            assert seen == [*map(str, range(8, 16))]
            assert (await here.get("/messages?follow", Last_Event_ID="x")).status == 400
            await until(lambda: here.readings._streams == 0)

    run(main())


def test_a_silent_follower_gets_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While nothing is stored a comment shows that the hub is there; lines have none."""
    monkeypatch.setattr(reading, "SILENCE_S", 0.001)

    async def main() -> None:
        async with serving(tmp_path) as here:
            url = f"{here.base}/messages?follow=1"
            async with here.client.get(url, headers={"Accept": EVENTS}) as response:
                assert await anext(events(response.content)) == {"": "the hub is here"}
            async with here.client.get(url) as response:
                await fill(here, 1)
                assert b'"n":0' in await response.content.readline()

    asyncio.run(main())


def test_a_stop_ends_followers(tmp_path: Path) -> None:
    """Responses that would go on end in order when the hub stops, also those that nobody reads."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            large = b'{"text":"' + b"x" * 50_000 + b'"}\n'
            await here.post("/messages", io.BytesIO(large * 200), NDJSON)
            async with here.client.get(f"{here.base}/messages?follow&since=1h&limit=300") as unread:
                async with here.client.get(f"{here.base}/messages?follow") as response:
                    reading_on = asyncio.create_task(response.read())
                    connections = here.source._listener.clients
                    await until(lambda: any(each._handler.writing_paused for each in connections))
                    await here.source.stop(30)
                    assert await reading_on == b""
                assert unread.status == 200

    asyncio.run(main())


def test_a_slow_reader_holds_up_nobody(tmp_path: Path) -> None:
    """While one reader does not read, others read everything, and messages are stored."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            large = b'{"text":"' + b"x" * 50_000 + b'"}\n'
            await here.post("/messages", io.BytesIO(large * 200), NDJSON)
            async with here.client.get(f"{here.base}/messages"):
                connections = here.source._listener.clients
                await until(lambda: any(each._handler.writing_paused for each in connections))
                await fill(here, 3)
                assert len((await here.get("/messages")).lines) == 203

    asyncio.run(main())


def test_limit_and_until_end_a_follower(tmp_path: Path) -> None:
    """A response that follows ends when it has what it was asked for, or when nothing that comes can match."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            await fill(here, 3)
            assert len((await here.get("/messages?follow&after=0&limit=2")).lines) == 2
            ending = asyncio.create_task(here.get("/messages?follow&after=0&limit=5"))
            await fill(here, 4)
            assert len((await ending).lines) == 5
            assert (await here.get("/messages?follow&after=0&until=2020-01-01")).lines == []

    asyncio.run(main())


def test_who_may_read(tmp_path: Path) -> None:
    """A reader without rights is refused; one with rights for some tags gets those; a change of the rules counts."""
    me = f"uid:{os.geteuid()}"
    nothing, some = ([Grant(Rules(deny=(Rule.parse(me),)), read=tags)] for tags in (("*",), ("secret",)))
    access = Access()

    async def main() -> None:
        async with serving(tmp_path, access=access) as here:
            await fill(here, 2)
            await fill(here, 2, "secret", 10)
            access.change({}, some)
            assert numbers((await here.get("/messages")).lines) == [0, 1]
            async with here.client.get(f"{here.base}/messages?follow&after=0") as response:
                assert b'"n":0' in await response.content.readline()
                assert b'"n":1' in await response.content.readline()
                access.change({}, [])
                await fill(here, 1, "secret", 20)
                assert b'"n":20' in await response.content.readline()
            access.change({}, nothing)
            assert (await here.get("/messages")).status == 403
            assert here.endpoint.metrics.refused == 1

    asyncio.run(main())


def test_with_the_token(tmp_path: Path) -> None:
    """At an address, a request with the token reads everything."""

    async def main() -> None:
        async with serving(tmp_path, is_tcp=True) as here:
            await here.post("/messages", "x", **BEARER)
            assert (await here.get("/messages")).status == 401
            assert len((await here.get("/messages", **BEARER)).lines) == 1
            reply = await here.get("/messages?grep=(x)%2B", **BEARER)
            assert (reply.status, "repetition" in reply.json["error"]) == (400, True)

    asyncio.run(main())


def test_readers_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the number of streams that a user may have, a reader is refused for now, whether it follows or not."""
    monkeypatch.setattr(pages, "STREAMS_MAX", 2)

    async def main() -> None:
        async with serving(tmp_path) as here:
            async with here.client.get(f"{here.base}/messages?follow"):
                for path in ("/messages?follow", "/messages"):
                    reply = await here.get(path)
                    assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
            await until(lambda: here.readings._streams == 0)

    asyncio.run(main())


def test_parameters() -> None:
    """Numbers and flags are distinguished; lists may be repeated."""
    wanted = Wanted.parse([("follow", ""), ("tag", "a"), ("tag", "b"), ("ignore_case", "no"), ("limit", "5")], None)
    assert wanted == Wanted({"tag": ["a", "b"], "ignore_case": False}, True, None, 5)
    assert Wanted.parse([("after", "3")], "9").after == 9
    with pytest.raises(InvalidParams):
        Wanted.parse([("limit", "²")], None)
