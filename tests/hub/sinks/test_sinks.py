"""hub.sinks.sinks: sinks start, change at a reload, and hold up retention if they are to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.errors import CommandError
from hub.journal.journal import Journal
from hub.journal.retention import NOTHING_NEEDED
from hub.sinks import runner as runner_module
from hub.sinks import sinks as module
from hub.sinks.kinds import File
from hub.sinks.runner import Runner
from hub.sinks.sinks import Sinks, needed_by
from hub.sinks.values import SinkName, Where
from tests.hub.clients import until
from tests.hub.sinks.delivering import TABLE, Memory, MemorySink, Rig, hub_in, numbered

A = TABLE
B = msgspec.structs.replace(TABLE, name=SinkName("b"), when_full="block")


@contextlib.asynccontextmanager
async def running(rig: Rig, memories: dict[str, Memory], *tables: File) -> AsyncIterator[Sinks]:
    def make(table: File, *given: Any, on_moved: Callable[[], None], before: Runner | None) -> Runner:
        make_sink = memories.setdefault(table.name, Memory()).make
        return Runner(table, *given, on_moved=on_moved, make_sink=make_sink, before=before)

    sinks = Sinks(rig.endpoint, rig.journal, tables, make_runner=make)
    task = asyncio.create_task(sinks.run())
    await until(lambda: len(sinks.stats()) == len(tables))
    try:
        yield sinks
    finally:
        await sinks.stop(30)
        await asyncio.wait_for(task, 30)


def needed(journal: Journal) -> int:
    return journal._writer.needed_from


def test_each_delivers_by_itself(tmp_path: Path) -> None:
    """One that is blocked delays no other one, and a stop ends all."""
    memories = {"a": Memory(), "b": Memory()}
    memories["a"].may_go.clear()

    async def main() -> None:
        async with hub_in(tmp_path) as rig, running(rig, memories, A, B) as sinks:
            await rig.journal.append([numbered(1, 2)])
            await until(lambda: memories["b"].numbers == [1, 2])
            assert [(row["name"], row["sequence"]) for row in sinks.stats()] == [("a", 0), ("b", 2)]
            memories["a"].go()
        assert memories["a"].numbers == [1, 2]

    asyncio.run(main())


def test_a_reload_touches_what_it_changes(tmp_path: Path) -> None:
    """A sink that is changed goes on at its cursor, one that is not is not even closed, one that is removed ends."""
    memories: dict[str, Memory] = {}

    async def main() -> None:
        async with hub_in(tmp_path) as rig, running(rig, memories, A, B) as sinks:
            await rig.journal.append([numbered(1)])
            await until(lambda: memories["a"].numbers == memories["b"].numbers == [1])
            await sinks.change([msgspec.structs.replace(A, tag=("none",)), B])
            await rig.journal.append([numbered(2)])
            await until(lambda: memories["b"].numbers == [1, 2])
            await until(lambda: sinks.stats()[-1]["sequence"] == 2)
            assert memories["a"].numbers == [1]
            assert "close" not in memories["b"].calls
            await sinks.change([])
            assert sinks.stats() == []
            assert memories["b"].calls[-1] == "close"
            assert needed(rig.journal) == NOTHING_NEEDED

    asyncio.run(main())


def test_retention_waits_for_those_that_block(tmp_path: Path) -> None:
    """What ``block`` has not delivered is needed, by the stored cursor; ``expire`` needs nothing."""
    memories = {"a": Memory(), "b": Memory()}
    for memory in memories.values():
        memory.may_go.clear()
    assert needed_by([A, B]) == ["b"]

    async def main() -> None:
        async with hub_in(tmp_path) as rig, running(rig, memories, A, B):
            await until(lambda: needed(rig.journal) == 1)
            await rig.journal.append([numbered(1, 2)])
            memories["b"].go()
            await until(lambda: needed(rig.journal) == 3)
            memories["a"].go()

    async def again() -> None:
        async with hub_in(tmp_path, needed_by=["b"]) as rig:
            assert needed(rig.journal) == 3

    asyncio.run(main())
    asyncio.run(again())


def test_orders_name_a_sink(tmp_path: Path) -> None:
    """Pause, resume and rewind reach the sink of the name; another name is an error that lists them."""
    memories: dict[str, Memory] = {}

    async def main() -> None:
        async with hub_in(tmp_path) as rig, running(rig, memories, A) as sinks:
            await rig.journal.append([numbered(1)])
            await until(lambda: memories["a"].numbers == [1])
            await sinks.pause("a", is_paused=True)
            await until(lambda: sinks.stats()[0]["state"] == "paused")
            assert await sinks.rewind("a", None, None) == 1
            await sinks.pause("a", is_paused=False)
            await until(lambda: memories["a"].numbers == [1, 1])
            with pytest.raises(CommandError, match=r"no sink 'x' \(there are: a\)"):
                await sinks.rewind("x", None, None)

    asyncio.run(main())


class Stuck(MemorySink):
    """A destination whose call returns when the test lets it, and not before."""

    def deliver(self, messages: Any) -> None:
        self._memory.is_blocked.set()
        self._memory.may_go.wait()
        super().deliver(messages)


def test_a_sink_begins_when_the_one_before_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the same name would write to the same destination. What the one before has delivered comes once."""
    monkeypatch.setattr(module, "STOP_S", 0.01)
    monkeypatch.setattr(runner_module, "HALT_S", 0.01)
    monkeypatch.setattr(runner_module, "IDLE_S", 0.01)
    memory = Memory()
    memory.may_go.clear()
    memory.make = lambda _, host: Stuck(memory, host)  # type: ignore[method-assign]

    async def main() -> None:
        async with hub_in(tmp_path) as rig, running(rig, {"a": memory}, A) as sinks:
            await rig.journal.append([numbered(1, 2)])
            assert await asyncio.to_thread(memory.is_blocked.wait, 30)
            for number in (8, 9):
                await sinks.change([msgspec.structs.replace(A, where=(Where(f"n!={number}"),))])
                await until(lambda: sinks.stats()[0]["state"] == "failed")
            assert sinks.stats()[0]["last_error"] == "a call to its destination does not return"
            assert [call for call in memory.calls if "open" in call] == ["open 0 "]
            memory.may_go.set()
            await rig.journal.append([numbered(3)])
            await until(lambda: memory.numbers == [1, 2, 3])
            await until(lambda: sinks.stats()[0]["state"] == "open")

    asyncio.run(main())
