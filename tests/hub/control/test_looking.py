"""hub.control.looking: figures of many messages, in stages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.control import looking, reading
from hub.control.looking import APART_MAX, VALUE_CHARS_MAX, Looking
from hub.errors import CommandError, InvalidParams
from hub.intake import Intake
from hub.wire.jsonrpc import NOT_ALLOWED, TOO_MANY, Request
from tests.hub.clients import run_in_time
from tests.hub.control.journals import OTHER, OWN, World, batch, grant, numbered, world

SAMPLE = (
    batch("app.web", {"level": "error", "ms": 5, "path": "/a"}, {"level": "info", "ms": "7.5"}),
    batch("app.db", {"ms": 100}, peer=OTHER),
    batch("other", {"level": "info", "message": "x"}),
)


@pytest.fixture(autouse=True)
def _one_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine an answer would come in several stages."""
    monkeypatch.setattr(looking, "STAGE_S", 60.0)


def stream(there: World, method: str, caller: Intake | None = None, **params: Any) -> AsyncIterator[dict[str, Any]]:
    """Call a method."""
    command = getattr(Looking(there.journal, there.readings), method)
    found: AsyncIterator[dict[str, Any]] = command(Request(method, params, 1), caller or there.caller())
    return found


async def values(there: World, method: str, caller: Intake | None = None, **params: Any) -> list[Any]:
    """Return all values of a stream, as JSON."""
    return [msgspec.json.decode(msgspec.json.encode(value)) async for value in stream(there, method, caller, **params)]


def test_timeline(tmp_path: Path) -> None:
    """Bars by level, the worst first, as far as the filters select."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            (value,) = await values(there, "timeline", bars=10)
            assert value["levels"] == ["error", "info", None]
            assert [sum(counts) for counts in value["counts"]] == [1, 2, 1]
            assert (value["messages"], value["is_final"], value["until_sequence"]) == (4, True, 4)
            assert {len(counts) for counts in value["counts"]} <= {*range(1, 11)}
            (value,) = await values(there, "timeline", tag="app.*", level="error")
            assert (value["levels"], value["messages"]) == (["error"], 1)
            (value,) = await values(there, "timeline", tag="none")
            assert (value["levels"], value["counts"], value["messages"], value["begin_s"]) == ([], [], 0, None)

    run_in_time(main())


def test_days_begin_at_midnight_of_the_zone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long steps begin at midnight of the zone that is asked for."""
    monkeypatch.setattr("hub.query.timeline.STEPS_S", (86_400,))

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            for zone_s in (0, 7200, -3600):
                (value,) = await values(there, "timeline", zone_s=zone_s)
                assert (value["begin_s"] + zone_s) % 86_400 == 0

    run_in_time(main())


def test_counts(tmp_path: Path) -> None:
    """Rows by what is named, with what is in none of them."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            (value,) = await values(there, "counts", by=["tag"])
            assert value["rows"] == [[["app.web"], 2], [["app.db"], 1], [["other"], 1]]
            (value,) = await values(there, "counts", by=["tag", "level"], limit=1)
            assert (len(value["rows"]), value["others"], value["messages"]) == (1, 3, 4)
            for by, distinct in (("tag", 3), ("path", 1)):  # most messages have no path
                (value,) = await values(there, "counts", by=[by], limit=1)
                assert (len(value["rows"]), value["distinct"]) == (1, distinct)
            (value,) = await values(there, "counts", by=["comm"], tag="!other")
            assert value["rows"] == [[["own"], 2], [["other"], 1]]
            (value,) = await values(there, "counts", by=["record.path"], grep="/a")
            assert value["rows"] == [[["/a"], 1]]
            names = ["tag", "comm", "level", "record.path"]
            (value,) = await values(there, "counts", by=names, apart=True, limit=2)
            for name, found in zip(names, value["apart"], strict=True):
                (alone,) = await values(there, "counts", by=[name], limit=2)
                assert alone == {**found, "is_final": True, "until_sequence": 4}
            (value,) = await values(there, "counts", by=["n"] * APART_MAX, apart=True, grep="nowhere")
            assert value["apart"] == [{"rows": [], "others": 0, "distinct": 0, "messages": 0}] * APART_MAX

    run_in_time(main())


def test_many_and_long_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values beyond the limit are counted together, and long ones are cut off."""
    monkeypatch.setattr(looking, "VALUES_MAX", 3)

    async def main() -> None:
        long = "x" * (VALUE_CHARS_MAX + 1)
        async with world(tmp_path, batch("t", {"v": long + "a"}, {"v": long + "b"}), numbered("n", 5)) as there:
            (value,) = await values(there, "counts", by=["v"])
            assert [["x" * VALUE_CHARS_MAX + "…"], 2] in value["rows"]
            (value,) = await values(there, "counts", by=["n"], tag="n")
            assert (len(value["rows"]), value["others"], value["messages"]) == (3, 2, 5)

    run_in_time(main())


def test_chart_and_fields(tmp_path: Path) -> None:
    """A number over time, and the fields that there are."""

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            (value,) = await values(there, "chart", field="ms")
            assert (sum(value["count"]), value["values"]) == (3, 3)
            assert min(each for each in value["min"] if each is not None) == 5
            assert max(each for each in value["max"] if each is not None) == 100
            assert {len(value[name]) for name in ("count", "min", "p50", "p95", "max")} == {len(value["count"])}
            (by,) = await values(there, "chart", field="ms", by="tag", values=["app.db", "gone", "app.db"])
            assert [each.get("value") for each in by["series"]] == ["app.db", "gone", None]
            assert [sum(each["count"]) for each in by["series"]] == [1, 0, 2]
            assert (by["series"][2]["is_others"], by["values"]) == (True, 3)
            (by,) = await values(there, "chart", by="record.path", values=[None])
            assert [sum(each["count"]) for each in by["series"]] == [3, 1]
            (value,) = await values(there, "chart", field="none")
            assert (value["count"], value["begin_s"], value["p50"]) == ([], None, [])
            (value,) = await values(there, "fields", tag="app.*")
            assert value["fields"][0] == {"name": "ms", "example": "5", "type": "number", "messages": 3}
            assert value["messages"] == 3

    run_in_time(main())


def test_only_the_newest_have_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields are those of the newest messages that match."""
    monkeypatch.setattr(looking, "RECENT", 2)

    async def main() -> None:
        stored = batch("a", {"old": 1}), batch("a", {"new": 1}), batch("b", {"b": 1}), batch("a", {"newest": 1})
        async with world(tmp_path, *stored) as there:
            (value,) = await values(there, "fields", tag="a")
            assert [field["name"] for field in value["fields"]] == ["new", "newest"]

    run_in_time(main())


def test_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes long comes in stages, whose numbers rise; what is stored meanwhile is not counted."""
    monkeypatch.setattr(looking, "STAGE_S", 0.0)
    monkeypatch.setattr(reading, "STEP_S", 0.0)

    async def main() -> None:
        async with world(tmp_path, *(numbered("t", 10) for _ in range(5))) as there:
            found: list[Any] = []
            async with aclosing(stream(there, "counts", by=["n"])) as stages:  # type: ignore[type-var]
                async for value in stages:
                    if not found:
                        await there.journal.append([numbered("late", 10)])
                    found.append(value)
            assert [value["is_final"] for value in found] == [False] * (len(found) - 1) + [True]
            assert (len(found) > 2, found[-1]["messages"], found[-1]["until_sequence"]) == (True, 50, 50)
            assert sorted(value["messages"] for value in found) == [value["messages"] for value in found]

    run_in_time(main())


def test_rights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what a caller may read is counted; a change counts from the next step, and a place is given back."""
    monkeypatch.setattr(looking, "STAGE_S", 0.0)
    monkeypatch.setattr(reading, "STEP_S", 0.0)

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            there.access.change({}, [grant("uid:4321", "app.*")])
            caller = there.caller(OTHER)
            assert (await values(there, "counts", caller, by=["tag"]))[-1]["rows"] == [
                [["app.web"], 2],
                [["app.db"], 1],
            ]
            assert (await values(there, "timeline", caller))[-1]["messages"] == 3
            assert (await values(there, "fields", caller))[-1]["messages"] == 3
            begun = stream(there, "counts", caller, by=["comm"])
            await anext(begun)
            assert caller.user.streams == 1
            there.access.change({})
            with pytest.raises(CommandError, match="may not read messages any longer") as refused:
                await anext(begun)
            assert (refused.value.code, caller.user.streams) == (NOT_ALLOWED, 0)

    run_in_time(main())


def test_places_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """These streams share their bound with tails; one that is cancelled gives its place back."""
    monkeypatch.setattr(looking, "STAGE_S", 0.0)
    monkeypatch.setattr(reading, "STEP_S", 0.0)
    monkeypatch.setattr(reading, "STREAMS_MAX", 2)

    async def main() -> None:
        async with world(tmp_path, *SAMPLE) as there:
            caller = there.caller(OWN)
            begun: Any = stream(there, "counts", caller, by=["n"])
            await anext(begun)
            with pytest.raises(CommandError) as much:
                await values(there, "timeline", caller)
            assert much.value.code == TOO_MANY
            await begun.aclose()
            assert len(await values(there, "timeline", caller)) >= 1

    run_in_time(main())


@pytest.mark.parametrize(
    ("method", "params", "param"),
    [
        ("timeline", {"bars": 0}, "bars"),
        ("timeline", {"bars": 501}, "bars"),
        ("timeline", {"zone_s": 1 << 40}, "zone_s"),
        ("timeline", {"after": 5}, "after"),
        ("counts", {}, "by"),
        ("counts", {"by": []}, "by"),
        ("counts", {"by": "tag"}, "by"),
        ("counts", {"by": ["a"] * 5}, "by"),
        ("counts", {"by": ["a"] * (APART_MAX + 1), "apart": True}, "by"),
        ("counts", {"by": ["a"], "limit": 1001}, "limit"),
        ("counts", {"by": ["a"], "level": "nonsense"}, "level"),
        ("chart", {}, "field"),
        ("chart", {"field": ""}, "field"),
        ("fields", {"grep": "("}, "grep"),
    ],
)
def test_wrong_parameters(tmp_path: Path, method: str, params: dict[str, Any], param: str) -> None:
    """A wrong value is an error that names its parameter."""

    async def main() -> None:
        async with world(tmp_path) as there:
            with pytest.raises(InvalidParams) as wrong:
                await values(there, method, **params)
            assert wrong.value.data == {"param": param}

    asyncio.run(main())
