"""hub.control.newest: one answer for all that ask for the newest messages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.control.messages import Messages
from hub.control.newest import ANSWERS_MAX, Newest
from hub.errors import CommandError
from hub.intake import Intake
from hub.wire.jsonrpc import Request
from tests.hub.clients import run_in_time
from tests.hub.control.journals import OTHER, batch, grant, world


class Journal:
    """Messages that grow in number, a clock, and how often they were looked at."""

    def __init__(self) -> None:
        self.last, self.now, self.looks = 10, 100.0, 0
        self.newest = Newest(lambda: self.now)

    async def ask(self, key: str = "", after: int = 0, count: int = 3, age_s: float = 0.1) -> list[int]:
        """Return the sequences of the last *count* messages after *after*."""

        async def find() -> dict[str, Any]:
            self.looks += 1
            found = range(max(self.last - count, after) + 1, self.last + 1)
            await asyncio.sleep(0)
            return {"messages": [msgspec.Raw(b'{"sequence":%d,"record":{}}' % each) for each in found], "next": None}

        page = await self.newest.find(key, after, count, age_s, find)
        return [msgspec.json.decode(text)["sequence"] for text in page["messages"]]


def test_one_search_for_all() -> None:
    """Those that ask at the same time, or soon after, share an answer; each gets what is after its own cursor."""

    async def main() -> None:
        there = Journal()
        found = await asyncio.gather(*(there.ask(after=after) for after in (0, 8, 9, 10)))
        assert found == [[8, 9, 10], [9, 10], [10], []]
        assert there.looks == 1
        there.last, there.now = 11, 100.1
        assert (await there.ask(), there.looks) == ([8, 9, 10], 1)
        there.now = 100.2
        assert (await there.ask(), there.looks) == ([9, 10, 11], 2)
        assert (await there.ask(age_s=0.0), there.looks) == ([9, 10, 11], 2)  # of this very moment

    run_in_time(main())


def test_an_answer_that_has_not_all_is_not_shared() -> None:
    """One that was bounded by a later cursor, or that stands for another search, is no answer."""

    async def main() -> None:
        there = Journal()
        assert await there.ask(after=9) == [10]
        assert (await there.ask(after=7), there.looks) == ([8, 9, 10], 2)
        assert (await there.ask(key="other"), there.looks) == ([8, 9, 10], 3)
        for number in range(ANSWERS_MAX + 2):
            await there.ask(key=str(number))
        assert len(there.newest._answers) == ANSWERS_MAX

    run_in_time(main())


def test_a_search_that_fails_or_is_cancelled() -> None:
    """It ends for its caller alone: the next one searches."""

    async def main() -> None:
        there = Journal()

        async def fail() -> dict[str, Any]:
            raise CommandError("not today")

        failing = asyncio.create_task(there.newest.find("", 0, 3, 1.0, fail))
        waiting = asyncio.create_task(there.ask())
        with pytest.raises(CommandError):
            await failing
        assert await waiting == [8, 9, 10]

    run_in_time(main())


def test_who_may_not_read_the_same_does_not_share(tmp_path: Path) -> None:
    """The answer to a query that may be old has the messages that its caller may read, and no others."""

    async def main() -> None:
        stored = batch("app", {"n": 1}), batch("secret", {"n": 2})
        async with world(tmp_path, *stored) as there:
            there.access.change({}, [grant(f"uid:{OTHER.uid}", "app")])
            messages = Messages(there.journal, there.readings)

            async def tags(caller: Intake, **more: Any) -> list[str]:
                answer = await messages.query(Request("query", {"last": 5, "age_ms": 1000, **more}), caller)
                return [each["tag"] for each in msgspec.json.decode(msgspec.json.encode(answer))["messages"]]

            assert await tags(there.caller()) == ["app", "secret"]
            assert await tags(there.caller(OTHER)) == ["app"]
            assert await tags(there.caller(), tag="secret") == ["secret"]
            assert await tags(there.caller(), after=1) == ["secret"]

    run_in_time(main())
