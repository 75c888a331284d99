"""hub.bench.bench: a run whose journal is full; the other runs are those of tests/hub/cli/test_cli.py."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.bench import bench
from hub.bench.check import Checked, check


@pytest.fixture(autouse=True)
def _signals_are_kept() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def test_a_full_journal_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--full` the journal is filled until it expires; what is sent afterwards is found in it and compared."""
    found: list[tuple[int, Checked]] = []

    def watch(*args: Any, after: int) -> Checked:
        found.append((after, check(*args, after=after)))
        return found[-1][1]

    monkeypatch.setattr(bench, "FULL_JOURNAL_BYTES", 48 << 20)
    monkeypatch.setattr(bench, "check", watch)
    folder = str(Path(__file__).parent)  # most probably a disk; the temporary folder may be in memory
    stages: list[str] = []
    report = bench.run(bench.BenchSettings(folder=folder, messages=100_000, full=True), say=stages.append)
    assert (report["messages"], report["full"]) == (100_000, True)
    assert [report[name] for name in ("checked", *bench.FAULTS)] == [100_000, 0, 0, 0, 0]
    ((after, checked),) = found
    assert checked.messages == 100_000
    assert after * 130 > 48 << 20, "more than it holds was there before"
    assert "filling the journal" in stages
