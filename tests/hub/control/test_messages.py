"""hub.control.messages: pages and streams of the journal, for those who may read them."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.access import Grant, Rule, Rules
from hub.batchreplies import REPLY_BYTES_MAX
from hub.control import messages as module
from hub.control.messages import QUERIES_MAX, QUERY_BYTES, Messages
from hub.control.pieces import OMITTED
from hub.control.reading import MESSAGE_BYTES_MAX, STREAMS_MAX
from hub.errors import CommandError, InvalidParams
from hub.intake import Intake
from hub.message import Batch
from hub.query.backward import last
from hub.query.packed import unpack
from hub.query.query import Query
from hub.query.rendering import render_json
from hub.wire.jsonrpc import NOT_ALLOWED, TOO_MANY, Request, encode_result
from tests.hub.clients import until
from tests.hub.control.journals import OTHER, OWN, World, batch, grant, numbered, world

SAMPLE = (
    batch("app.web", {"message": "started", "level": "info", "http": {"status": 200}}),
    batch(
        "app.db", {"message": "slow query", "level": "warning"}, {"message": "timeout", "level": "error"}, peer=OTHER
    ),
    batch("audit", {"message": "login", "user": "root"}),
)


async def ask(there: World, caller: Intake | None = None, **params: Any) -> dict[str, Any]:
    """Return the decoded answer of `query`."""
    answer = await Messages(there.journal, there.readings).query(Request("query", params), caller or there.caller())
    decoded: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(answer))
    return decoded


def sequences(answer: dict[str, Any]) -> list[int]:
    return [message["sequence"] for message in answer["messages"]]


def stream(there: World, caller: Intake | None = None, **params: Any) -> AsyncIterator[dict[str, Any]]:
    return Messages(there.journal, there.readings).tail(Request("tail", params), caller or there.caller())


async def value_of(stream: AsyncIterator[dict[str, Any]]) -> Any:
    return msgspec.json.decode(msgspec.json.encode(await anext(stream)))


def test_messages_are_those_of_logs(tmp_path: Path) -> None:
    """A query without parameters returns what ``--output json`` shows of the whole journal."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            answer = await ask(there)
            shown = [json.loads(render_json(message)) for message in last(there.journal.path, Query(), 10)]
            assert answer == {"messages": shown, "next": None}
            assert len(shown) == 4

    asyncio.run(main())


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"tag": "app.*"}, [1, 2, 3]),
        ({"tag": ["app.*", "!*.db"]}, [1]),
        ({"grep": "time|login"}, [3, 4]),
        ({"grep": "LOGIN", "ignore_case": True}, [4]),
        ({"grep": "log", "invert_match": True}, [1, 2, 3]),
        ({"where": "http.status=200"}, [1]),
        ({"where": ["user=root", "message=login"]}, [4]),
        ({"level": "warning"}, [2, 3]),
        ({"level": 3}, [3]),
        ({"pid": OTHER.pid}, [2, 3]),
        ({"uid": OTHER.uid}, [2, 3]),
        ({"uid": "root"}, [1, 4] if os.geteuid() == 0 else []),
        ({"comm": "oth*"}, [2, 3]),
        ({"unit": "nginx"}, []),
        ({"container": "abc"}, []),
        ({"since": "1h"}, [1, 2, 3, 4]),
        ({"since": "+1h"}, []),
        ({"until": "1 hour ago"}, []),
        ({"until": 1 << 62}, [1, 2, 3, 4]),
        ({"after": 2}, [3, 4]),
        ({"last": 1}, [4]),
        ({"last": 2, "tag": "app.*"}, [2, 3]),
        ({"last": 0}, []),
        ({"last": 3, "after": 3}, [4]),
        ({"last": 100}, [1, 2, 3, 4]),
        ({"last": 1, "until": 1 << 62}, [4]),
        ({"packed": False}, [1, 2, 3, 4]),
    ],
)
def test_filters(tmp_path: Path, params: dict[str, Any], found: list[int]) -> None:
    """Each filter of `mpsr logs` selects the same here."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            assert sequences(await ask(there, **params)) == found
            if "last" not in params and "until" not in params:
                async with aclosing(stream(there, **{"after": 0, **params})) as values:  # type: ignore[type-var]
                    await value_of(values)
                    got: list[int] = []
                    while len(got) < len(found):  # a step that the machine holds up has only some of them
                        got += sequences(await value_of(values))
                    assert got == found

    asyncio.run(main())


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"before": 3}, [1, 2]),
        ({"before": 1}, []),
        ({"before": 99}, [1, 2, 3, 4]),
        ({"before": 4, "last": 2}, [2, 3]),
        ({"before": 3, "last": 1, "tag": "app.*"}, [2]),
        ({"before": 1, "last": 1}, []),
        ({"before": 4, "after": 2}, [3]),
    ],
)
def test_before(tmp_path: Path, params: dict[str, Any], found: list[int]) -> None:
    """A page ends before a sequence, also in the middle of a batch; the last ones are those before it."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            answer = await ask(there, **params)
            assert (sequences(answer), answer["next"]) == (found, None)

    asyncio.run(main())


def test_the_last_before_a_time(tmp_path: Path) -> None:
    """The last messages until a time are found behind many that are later."""

    async def main() -> None:
        async with world(tmp_path, *(numbered("a", 1) for _ in range(40))) as there:
            received = last(there.journal.path, Query(), 40)[-1].received
            await there.journal.append([numbered("a", 600) for _ in range(3)])
            later = last(there.journal.path, Query(), 1)[0].received
            assert later > received
            assert sequences(await ask(there, until=received, last=30)) == list(range(11, 41))

    asyncio.run(main())


def test_packed_messages(tmp_path: Path) -> None:
    """Messages that are asked for as they are stored arrive so, from `query` and from `tail`."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE, batch("bytes", {"data": b"\xff", "like": "/w=="})) as there:
            stored = last(there.journal.path, Query(), 10)
            answer = await ask(there, packed=True)
            assert [unpack(message) for message in answer["messages"]] == stored
            async with aclosing(stream(there, after=0, packed=True)) as values:  # type: ignore[type-var]
                await value_of(values)
                value = await value_of(values)
                assert [unpack(message) for message in value["messages"]] == stored
            await there.journal.append([batch("big", {"data": b"x" * MESSAGE_BYTES_MAX})])
            (big,) = (await ask(there, packed=True, last=1))["messages"]
            assert unpack(big).record[OMITTED] > MESSAGE_BYTES_MAX

    asyncio.run(main())


@pytest.mark.parametrize(
    ("params", "param", "words"),
    [
        ({"level": "nonsense"}, "level", "no level 'nonsense'"),
        ({"grep": "("}, "grep", "unterminated subpattern"),
        ({"invert_match": True}, "invert_match", "needs grep"),
        ({"where": ["x"]}, "where", "KEY=VALUE"),
        ({"since": "soon"}, "since", "not a time"),
        ({"until": "soon"}, "until", "not a time"),
        ({"uid": "nobody-of-that-name"}, "uid", "no such user"),
        ({"limit": 0}, "limit", "expected int >= 1"),
        ({"limit": 1001}, "limit", "expected int <= 1000"),
        ({"after": -1}, "after", "expected int >= 0"),
        ({"after": "1"}, "after", "expected int"),
        ({"last": 1 << 20}, "last", "expected int <= 10000"),
        ({"tag": 5}, "tag", "expected"),
        ({"colour": "red"}, "colour", "no parameter"),
    ],
)
def test_wrong_filters(tmp_path: Path, params: dict[str, Any], param: str, words: str) -> None:
    """A wrong value is an error that names its parameter, of `query` and of `tail`."""

    async def main() -> None:
        async with world(tmp_path) as there:
            with pytest.raises(InvalidParams) as caught:
                await ask(there, **params)
            assert caught.value.data == {"param": param}
            assert words in str(caught.value)
            with pytest.raises(InvalidParams):
                await anext(stream(there, **params))

    asyncio.run(main())


def test_pages(tmp_path: Path) -> None:
    """Each page goes on where the one before ended, and the last has no next one. Nothing is twice, nothing missing."""

    async def main() -> None:
        async with world(tmp_path, numbered("a", 7), numbered("b", 5), numbered("a", 6, 7)) as there:
            found, after, pages = [], 0, 0
            while after is not None:
                answer = await ask(there, tag="a", limit=4, after=after)
                assert len(answer["messages"]) <= 4
                found += [message["record"]["n"] for message in answer["messages"]]
                after, pages = answer["next"], pages + 1
            assert found == list(range(13))
            assert pages == 4

    asyncio.run(main())


def test_a_page_fits_into_a_reply(tmp_path: Path) -> None:
    """Large messages make more pages. One that is too large for any has its size in the place of its record."""
    texts = ["x" * size for size in (90_000, 5, MESSAGE_BYTES_MAX - 1000, 7, MESSAGE_BYTES_MAX, 400_000, 9)]

    async def main() -> None:
        async with world(tmp_path, batch("a", *({"t": text} for text in texts))) as there:
            found: list[Any] = []
            after = 0
            while after is not None:
                answer = await ask(there, after=after)
                assert len(encode_result("x" * 128, answer)) < REPLY_BYTES_MAX
                assert sum(len(each["record"].get("t", "")) for each in answer["messages"][:-1]) < QUERY_BYTES
                found += answer["messages"]
                after = answer["next"]
            assert [each["sequence"] for each in found] == list(range(1, 8))
            assert [each["record"].get("t") for each in found] == [*texts[:4], None, None, texts[6]]
            assert MESSAGE_BYTES_MAX < found[4]["record"][OMITTED] < MESSAGE_BYTES_MAX + 1000
            assert 400_000 < found[5]["record"][OMITTED] < 400_100

    asyncio.run(main())


def test_the_last_ones_are_searched_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far back they are, others have their turn meanwhile; the result is the same."""
    monkeypatch.setattr("hub.control.reading.STEP_S", 0.0)

    async def main() -> None:
        batches = [numbered("a", 1000, first) for first in range(0, 20_000, 1000)]
        async with world(tmp_path, numbered("b", 5), *batches) as there:
            steps, do = [], there.readings.do

            async def counted(*given: Any) -> Any:
                steps.append(given)
                return await do(*given)

            monkeypatch.setattr(there.readings, "do", counted)
            assert sequences(await ask(there, tag="b", last=3))[:3] == [3, 4, 5]
            assert len(steps) > 20

    asyncio.run(main())


def test_a_query_that_finds_nothing_for_long_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It tells where to go on, although it has nothing yet."""
    monkeypatch.setattr(module, "QUERY_S", 0.0)
    monkeypatch.setattr("hub.control.reading.STEP_S", 0.0005)

    async def main() -> None:
        async with world(tmp_path, *(numbered("a", 1000, first) for first in range(0, 20_000, 1000))) as there:
            found, after, pages = [], 0, 0
            while after is not None:
                answer = await ask(there, where="n=19999", after=after)
                assert answer["next"] is None or answer["next"] > after
                found += answer["messages"]
                after, pages = answer["next"], pages + 1
            assert pages > 2
            assert [each["record"] for each in found] == [{"n": 19_999}]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("grants", "found"),
    [
        ([], None),
        ([grant("uid:4321", "audit")], [4]),
        ([grant("gid:54", "app.*")], [1, 2, 3]),
        ([grant("all", "app.web", "audit")], [1, 4]),
        ([grant("uid:1", "*")], None),
        ([grant("all", "*"), Grant(Rules(deny=(Rule.parse("uid:4321"),)), read=("audit",))], [1, 2, 3]),
    ],
)  # fmt: skip
def test_who_may_read_what(tmp_path: Path, grants: list[Any], found: list[int] | None) -> None:
    """The hub's own user reads everything. Others read what a grant names, and nothing that another one denies."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            there.access.change({}, grants)
            caller = there.caller(OTHER)
            assert caller.gate.may_call("query") is caller.gate.may_call("tail") is (found is not None)
            for last in (None, 10):
                if found is None:
                    with pytest.raises(CommandError, match="may not read messages"):
                        await ask(there, caller, last=last)
                else:
                    assert sequences(await ask(there, caller, last=last)) == found
            assert sequences(await ask(there)) == [1, 2, 3, 4]

    asyncio.run(main())


def test_unreadable_entries_are_not_shown_to_those_who_may_not_read_losses(tmp_path: Path) -> None:
    """They are messages under another tag; a reader needs the right to both."""
    broken = Batch(b"app", b"\xdd\x00\x00\x00\x02\x92\xc0\x80\x05", 2, None, OWN)

    async def main() -> None:
        async with world(tmp_path, broken) as there:
            for tags, found in ((("app",), [1]), (("*",), [1, 2]), (("mpsr.loss.client",), [])):
                there.access.change({}, [grant("all", *tags)])
                assert sequences(await ask(there, there.caller(OTHER))) == found

    asyncio.run(main())


@pytest.mark.parametrize(
    ("grep", "is_allowed"),
    [
        ("timeout", True), ("time|login", True), (r"a\.b \[x\]", True), ("[0-9] of [^a-f]", True), ("^x.y$", True),
        ("(a+)+$", False), ("a*", False), ("a?", False), ("a{9}", False), ("(a|b)", False), ("x" * 33, False),
    ],
)  # fmt: skip
def test_expressions_of_others_are_linear(tmp_path: Path, grep: str, is_allowed: bool) -> None:
    """Those who are not the hub's own user cannot have it search for ever; its own user may search for anything."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            there.access.change({}, [grant("all", "*")])
            await ask(there, grep=grep)
            if is_allowed:
                await ask(there, there.caller(OTHER), grep=grep)
            else:
                with pytest.raises(InvalidParams, match="no group, no repetition"):
                    await ask(there, there.caller(OTHER), grep=grep)

    asyncio.run(main())


def test_a_tail_begins_now_and_goes_on(tmp_path: Path) -> None:
    """The first value has no messages, and says where it begins; then come those that match, as they are stored."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there, aclosing(stream(there, tag="b")) as values:  # type: ignore[type-var]
            assert await value_of(values) == {"messages": [], "next": 4}
            waiting = asyncio.create_task(value_of(values))
            await there.journal.append([numbered("a", 2)])
            await there.journal.append([numbered("b", 3)])
            value = await waiting
            assert (sequences(value), value["next"]) == ([7, 8, 9], 9)

    asyncio.run(main())


def test_a_tail_goes_on_after_a_sequence(tmp_path: Path) -> None:
    """With *after*, or with the last N, no message is repeated or missing, whatever the size of the pages."""

    async def main() -> None:
        batches = [numbered("a", 1000, first) for first in range(0, 5000, 1000)]
        async with world(tmp_path, *batches) as there:
            for params, first in (({"after": 10}, 10), ({"last": 4990}, 10), ({"after": 0}, 0)):
                async with aclosing(stream(there, None, **params)) as values:  # type: ignore[type-var]
                    found: list[int] = []
                    while len(found) < 5000 - first:
                        value = await value_of(values)
                        found += [message["record"]["n"] for message in value["messages"]]
                        assert value["next"] == first + len(found)
                    assert found == list(range(first, 5000))

    asyncio.run(main())


def test_a_tail_until_a_time_ends(tmp_path: Path) -> None:
    """What comes later is not wanted, so there is nothing to wait for."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            values = [value async for value in stream(there, after=0, until=1)]
            assert values == [{"messages": [], "next": 0}]

    asyncio.run(main())


def test_a_tail_says_what_has_expired(tmp_path: Path) -> None:
    """
    A reader that expiry has overtaken gets the number of what it missed, and goes on after it. The messages that follow
    are in the same value: a reader whose connection breaks goes on after the last value.
    """

    async def main() -> None:
        async with world(tmp_path, numbered("a", 10)) as there:
            async with aclosing(stream(there, after=3)) as values:  # type: ignore[type-var]
                await value_of(values)
                await there.journal.close()
            (segment,) = (tmp_path / "j").glob("*.seg")
            segment.unlink()
        async with world(tmp_path, numbered("a", 2, 10)) as there, aclosing(stream(there, after=3)) as values:  # type: ignore[type-var]
            assert (await value_of(values))["next"] == 3
            found = await value_of(values)
            assert (found["missed"], found["next"]) == (7, 12)
            assert [each["record"] for each in found["messages"][-2:]] == [{"n": 10}, {"n": 11}]
            assert found["messages"][0]["tag"] == "mpsr.loss"

    asyncio.run(main())


def test_a_tail_follows_the_rules(tmp_path: Path) -> None:
    """A change of the rules counts from the next step; a reader that may read nothing any longer gets an error."""

    async def main() -> None:
        async with world(tmp_path) as there:
            there.access.change({}, [grant("uid:4321", "a", "b")])
            async with aclosing(stream(there, there.caller(OTHER))) as values:  # type: ignore[type-var]
                await value_of(values)
                await there.journal.append([numbered("a", 1)])
                assert sequences(await value_of(values)) == [1]
                there.access.change({}, [grant("uid:4321", "b")])
                waiting = asyncio.create_task(value_of(values))
                await there.journal.append([numbered("a", 1), numbered("b", 1)])
                assert sequences(await waiting) == [3]
                there.access.change({})
                await there.journal.append([numbered("b", 1)])
                with pytest.raises(CommandError, match="uid 4321 may not read messages any longer") as caught:
                    await anext(values)
                assert caught.value.code == NOT_ALLOWED

    asyncio.run(main())


@pytest.mark.parametrize("last", [None, 10])
def test_a_query_that_waits_follows_the_rules(tmp_path: Path, last: int | None) -> None:
    """What counts is what its caller may read when its turn comes."""

    async def main() -> None:
        async with world(tmp_path, numbered("a", 1), numbered("b", 1)) as there:
            caller = there.caller(OTHER)

            async def ask_under(*grants: Grant) -> dict[str, Any]:
                there.access.change({}, [grant("uid:4321", "a", "b")])
                async with caller.user.querying:
                    asking = asyncio.create_task(ask(there, caller, last=last))
                    await until(lambda: bool(caller.user.querying._waiters))
                    there.access.change({}, grants)
                return await asking

            assert sequences(await ask_under(grant("uid:4321", "b"))) == [2]
            with pytest.raises(CommandError, match="uid 4321 may not read messages any longer") as caught:
                await ask_under()
            assert caught.value.code == NOT_ALLOWED
            assert caller.user.queries == 0

    asyncio.run(main())


def test_queries_are_bounded(tmp_path: Path) -> None:
    """A user with too many that wait gets an error; others are not concerned, and one that has ended makes room."""

    async def main() -> None:
        async with world(tmp_path, numbered("a", 1)) as there:
            own = there.caller()
            there.access.change({}, [grant("all", "*")])
            async with own.user.querying:
                waiting = [asyncio.create_task(ask(there, own)) for _ in range(QUERIES_MAX)]
                await until(lambda: own.user.queries == QUERIES_MAX)
                with pytest.raises(CommandError, match=f"already has {QUERIES_MAX} queries") as caught:
                    await ask(there, own)
                assert caught.value.code == TOO_MANY
                assert sequences(await ask(there, there.caller(OTHER))) == [1]
                waiting.pop().cancel()
                await until(lambda: own.user.queries == QUERIES_MAX - 1)
            assert [sequences(await each) for each in waiting] == [[1]] * (QUERIES_MAX - 1)
            assert own.user.queries == 0

    asyncio.run(main())


def test_tails_are_bounded(tmp_path: Path) -> None:
    """A user has half of those that others leave free; one that ends makes room."""

    async def main() -> None:
        async with world(tmp_path) as there:
            own, other = there.caller(), there.caller(OTHER)
            there.access.change({}, [grant("all", "*")])
            tails = [stream(there, own) for _ in range(STREAMS_MAX // 2)]
            for tail in tails:
                await anext(tail)
            with pytest.raises(CommandError, match="already has 32 tails") as caught:
                await anext(stream(there, own))
            assert caught.value.code == TOO_MANY
            others = stream(there, other)
            await anext(others)
            await tails.pop().aclose()  # type: ignore[attr-defined]
            again = stream(there, own)
            with pytest.raises(CommandError):
                await anext(again)
            await others.aclose()  # type: ignore[attr-defined]
            tails.append(stream(there, own))
            await anext(tails[-1])
            for tail in tails:
                await tail.aclose()  # type: ignore[attr-defined]
            assert own.user.streams == other.user.streams == 0

    asyncio.run(main())
