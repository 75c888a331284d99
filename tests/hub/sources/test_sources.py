"""hub.sources.sources: sources start, fail, are tried again, and change at a reload, each by itself."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, cast

import pytest

from hub.endpoint import Endpoint
from hub.errors import HubClosed, SourceError
from hub.intake import Tally
from hub.paths import AbsolutePath
from hub.quantities import Mode
from hub.sources import sources
from hub.sources.kinds import Fifo, SourceTable
from hub.sources.source import Lag, Source
from hub.sources.sources import SourceList, Sources
from hub.sources.table import SOURCES
from hub.sources.values import Tag
from tests.hub.clients import until
from tests.support import logged

A, B, C = (Fifo(path=AbsolutePath(f"/{name}"), mode=Mode(0o660)) for name in "abc")


class Fake:
    """A source that does what a test says; *calls* is what was asked of it."""

    lag: Lag | None = None

    def __init__(self, table: SourceTable, calls: list[str], faults: dict[str, Exception]) -> None:
        self.tally = Tally()
        self._name = self.where = table.where
        self._calls = calls
        self._faults = faults
        self._stopped, self._ended = asyncio.Event(), asyncio.Event()
        self._call("open")

    def _call(self, what: str) -> None:
        self._calls.append(f"{what} {self._name}")
        if what in self._faults:
            raise self._faults[what]

    async def run(self) -> None:
        self._call("run")
        self.tally.messages += 1
        try:
            await self._stopped.wait()
            self._call("ended")
        finally:
            self._ended.set()

    async def stop(self, timeout: float) -> None:
        self._call("stop")
        self._stopped.set()
        await self._ended.wait()

    def permit(self, mode: int, group: str | None) -> None:
        self._call(f"permit {mode:o}")


class Watched(Tally):
    """Two batches are not settled; it counts how often it was asked."""

    looks, left = 0, 2

    @property
    def unsettled(self) -> int:
        self.looks += 1
        return self.left

    @unsettled.setter
    def unsettled(self, _: int) -> None:
        pass


class Rig:
    """Sources, and what was asked of each; *faults* by path."""

    def __init__(self, tables: Sequence[SourceTable]) -> None:
        self.calls: list[str] = []
        self.faults: dict[str, dict[str, Exception]] = {}
        self.made: dict[str, Fake] = {}
        self.listed = SourceList()
        self.sources = Sources(cast(Endpoint, None), tables, self.listed, make_source=self._make)

    def _make(self, table: SourceTable, _: Any) -> Source:
        made = self.made[table.where] = Fake(table, self.calls, self.faults.setdefault(table.where, {}))
        return made


@contextlib.asynccontextmanager
async def running(rig: Rig) -> AsyncIterator[None]:
    task = asyncio.create_task(rig.sources.run())
    await rig.sources.ready()
    try:
        yield
        await rig.sources.stop(5)
        await asyncio.wait_for(task, 5)
    finally:
        task.cancel()
        await asyncio.wait((task,))


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "RETRY_S", 0.001)


def test_they_start_and_stop() -> None:
    """Each source is opened before `ready` returns, and stopped in order."""
    rig = Rig([A, B])

    async def main() -> None:
        async with running(rig):
            assert rig.calls[:1] == ["open /a"]
            assert {"open /a", "open /b"} <= set(rig.calls)
            assert [each["state"] for each in rig.listed.stats()] == ["open", "open"]
        assert {"stop /a", "ended /a", "stop /b", "ended /b"} <= set(rig.calls)

    asyncio.run(main())


def test_the_lag_is_shown_where_it_is_known() -> None:
    """A source that knows its lag shows it while it is open; of the others it is None."""
    rig = Rig([A, B])

    async def main() -> None:
        async with running(rig):
            lagging = rig.made[B.where]
            lagging.lag = Lag(bytes=70, seconds=0.5)
            lag = {"bytes": 70, "messages": None, "seconds": 0.5}
            for rows in (rig.listed.stats(), rig.listed.rows()):
                assert {each["path"]: each["lag"] for each in rows} == {A.where: None, B.where: lag}
            await rig.sources.change([A])
        assert [each["lag"] for each in rig.listed.rows()] == [None]

    asyncio.run(main())


@pytest.mark.parametrize("how", ["a fault", "a reload"])
def test_a_repeatable_source_begins_when_all_is_settled(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Until everything that its predecessor gave is committed, its position is unknown; a reload does not wait for that.
    """
    monkeypatch.setitem(SOURCES, "fifo", SOURCES["fifo"]._replace(is_repeatable=True))
    monkeypatch.setattr(sources, "SETTLED_LOOK_S", 0.001)
    rig = Rig([A, B])

    async def main() -> None:
        async with running(rig):
            before = rig.made[A.where]
            before.tally = tally = Watched()
            rig.calls.clear()
            if how == "a fault":
                rig.faults["/a"]["ended"] = OSError(5, "why")
                await before.stop(5)
                await until(lambda: rig.listed.rows()[0]["state"] == "failed")
            else:
                await rig.sources.change([Fifo(path=A.path, mode=A.mode, tag=Tag("x")), B])
            looks = tally.looks
            await until(lambda: tally.looks > looks + 3)
            assert rig.calls == ["stop /a", "ended /a"]
            rig.faults["/a"].clear()
            tally.left = 0
            await until(lambda: "run /a" in rig.calls)
            assert rig.calls == ["stop /a", "ended /a", "open /a", "run /a"]
            assert rig.made[A.where] is not before

    asyncio.run(main())


def test_a_change_touches_only_what_changes() -> None:
    """What is added is started, what is removed or differs is stopped, and the rest goes on."""
    rig = Rig([A, B])

    async def main() -> None:
        async with running(rig):
            rig.calls.clear()
            other = Fifo(path=B.path, mode=B.mode, tag=Tag("x"))
            await rig.sources.change([A, other, C])
            assert rig.calls[:2] == ["stop /b", "ended /b"]
            assert sorted(rig.calls[2:]) == ["open /b", "open /c", "run /b", "run /c"]
            rig.calls.clear()
            await rig.sources.change([A])
            assert sorted(rig.calls) == ["ended /b", "ended /c", "stop /b", "stop /c"]
            assert [each["path"] for each in rig.listed.stats()] == ["/a"]

    asyncio.run(main())


def test_permissions_change_without_a_restart() -> None:
    """Another mode is set while the source runs; if that fails, it is restarted."""
    rig = Rig([A])

    async def main() -> None:
        async with running(rig):
            rig.calls.clear()
            await rig.sources.change([Fifo(path=A.path, mode=Mode(0o600))])
            assert rig.calls == ["permit 600 /a"]
            rig.faults["/a"]["permit 640"] = PermissionError(1, "no")
            await rig.sources.change([Fifo(path=A.path, mode=Mode(0o640))])
            assert rig.calls[1:] == ["permit 640 /a", "stop /a", "ended /a", "open /a", "run /a"]

    asyncio.run(main())


@pytest.mark.parametrize("step", ["open", "run"])
@pytest.mark.parametrize("error", [SourceError("/a", "why"), OSError(13, "why"), ZeroDivisionError("why")])
def test_a_fault_is_one_line_and_a_retry(step: str, error: Exception, capsys: pytest.CaptureFixture[str]) -> None:
    """Other sources go on; the state shows the fault, and that it has passed."""
    rig = Rig([A, B])
    rig.faults["/a"] = {step: error}

    async def main() -> None:
        async with running(rig):
            await until(lambda: rig.calls.count("open /a") > 5)
            states = {each["path"]: each["state"] for each in rig.listed.stats()}
            assert states["/b"] == "open"
            assert "why" in states["/a"] or step == "run"
            rig.faults["/a"].clear()
            tries = rig.calls.count("open /a")
            await until(lambda: rig.listed.stats()[0]["state"] == "open" and rig.calls.count("open /a") > tries)

    asyncio.run(main())
    said = [event for event in logged(capsys) if event["path"] == "/a"]
    assert [event["event"] for event in said].count("source.failed") == 1
    assert "why" in next(event["error"] for event in said if event["event"] == "source.failed")


def test_counts_outlive_a_fault() -> None:
    """What a source had accepted before a fault still counts."""
    rig = Rig([A])
    rig.faults["/a"] = {"ended": OSError(5, "why")}

    async def main() -> None:
        async with running(rig):
            rig.sources._running["/a"]._source._stopped.set()  # type: ignore[union-attr]
            await until(lambda: rig.calls.count("run /a") == 2)
            assert rig.listed.stats()[0]["messages"] == 2

    asyncio.run(main())


def test_a_closed_hub_ends_a_source() -> None:
    """When the inbox is closed, the source is not tried again."""
    rig = Rig([A])
    rig.faults["/a"] = {"run": HubClosed()}

    async def main() -> None:
        async with running(rig):
            await until(rig.sources._running["/a"].task.done)
            assert rig.calls == ["open /a", "run /a"]

    asyncio.run(main())


def test_no_change_after_a_stop() -> None:
    """A reload that comes during the stop starts nothing."""
    rig = Rig([A])

    async def main() -> None:
        async with running(rig):
            await rig.sources.stop(5)
            await rig.sources.change([A, B])
            assert "open /b" not in rig.calls

    asyncio.run(main())
