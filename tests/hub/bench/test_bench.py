"""hub.bench.bench: each kind of load, and a run whose journal is full. Its runs as a command are in tests/hub/cli."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.bench import bench, disk
from hub.bench.check import Checked, check

FOLDER = str(Path(__file__).parent)
"""Most probably on a disk; the temporary folder may be in memory."""


@pytest.fixture(autouse=True)
def _signals_are_kept() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(autouse=True)
def _disk_is_measured_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its figures are tested with the command's (tests/hub/cli); here they would take longer than all the rest."""
    monkeypatch.setattr(disk, "FILE_BYTES", 16 << 20)
    monkeypatch.setattr(disk, "SYNCS", 10)


@pytest.mark.parametrize(
    "options", [{"chunk": 1, "ack": False}, *({"client": c} for c in ("producer", "async", "connect"))]
)
def test_each_load_is_found_in_the_journal(options: dict[str, Any]) -> None:
    """A short run with each kind of producer: all its messages are read back, once and in order."""
    report = bench.run(bench.BenchSettings(folder=FOLDER, messages=2000, **options), progress=lambda _: None)
    assert [report[name] for name in bench.FAULTS] == [0, 0, 0, 0]
    assert report["checked"] == report["messages"] >= 2000


def test_pings_are_not_checked() -> None:
    """Nothing of them is in the journal: the numbers are None, and not 0."""
    report = bench.run(bench.BenchSettings(folder=FOLDER, messages=5, client="ping"), progress=lambda _: None)
    assert [report[name] for name in ("checked", *bench.FAULTS)] == [None] * 5


def test_a_full_journal_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--full` the journal is filled until it expires; what is sent afterwards is found in it and compared."""
    found: list[tuple[int, Checked]] = []

    def watch(*args: Any, after: int) -> Checked:
        found.append((after, check(*args, after=after)))
        return found[-1][1]

    monkeypatch.setattr(bench, "FULL_JOURNAL_BYTES", 48 << 20)
    monkeypatch.setattr(bench, "check", watch)
    stages: list[str] = []
    report = bench.run(bench.BenchSettings(folder=FOLDER, messages=100_000, full=True), progress=stages.append)
    assert (report["messages"], report["full"]) == (100_000, True)
    assert [report[name] for name in ("checked", *bench.FAULTS)] == [100_000, 0, 0, 0, 0]
    ((after, checked),) = found
    assert checked.messages == 100_000
    assert after * 130 > 48 << 20, "more than it holds was there before"
    assert "filling the journal" in stages


def _remove_newest_but_one(journal: str) -> None:
    segments = sorted(Path(journal).glob("*.seg"))
    assert len(segments) > 2
    segments[-2].unlink()


def test_a_hub_that_is_killed_loses_nothing() -> None:
    """With `--kill` the hub is killed and started again; the clients send on, and nothing is missing or there twice."""
    settings = bench.BenchSettings(folder=FOLDER, producers=2, seconds=0.5, client="async", kill=2)
    report = bench.run(settings, progress=lambda _: None)
    assert [report[name] for name in ("kills", *bench.FAULTS)] == [2, 0, 0, 0, 0]
    assert report["checked"] == report["messages"] > 0
    assert report["expired_by_rule"] == {}


def test_a_segment_that_is_gone_after_a_kill_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the check misses counts as lost, and what `mpsr verify` finds as damaged."""

    def spoil(journal: str, *args: Any, after: int) -> Checked:
        _remove_newest_but_one(journal)
        return check(journal, *args, after=after)

    monkeypatch.setattr(bench, "check", spoil)
    settings = bench.BenchSettings(
        folder=FOLDER, producers=2, seconds=0.5, size=8000, client="producer", kill=1, journal_size=8 << 20
    )
    report = bench.run(settings, progress=lambda _: None)
    assert report["lost"] > 0
    assert report["damaged"] > 0
