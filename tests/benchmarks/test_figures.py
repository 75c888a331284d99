"""Each figure without an axis, and each query, is measured, with the smallest numbers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.benchmarks import calls, figures, queries
from tests.benchmarks.peer import Failed
from tests.support import mpsr


def test_figures(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every unit has a figure above 0."""
    for name, value in {"SENDS": 1, "PINGS": 20, "LONE": 3, "FOLLOWED_PER_S": 2000}.items():
        monkeypatch.setattr(figures, name, value)
    monkeypatch.setattr(figures, "bench", lambda *args: {"lines_per_s": 1.0, "messages_per_s": 1.0})
    monkeypatch.setattr(figures, "disk", lambda folder: {"fdatasync_us_p50": 1.0})
    monkeypatch.setattr(calls, "SECONDS", 0.0)
    for unit in figures.units(0.1):
        place = folder / "".join(filter(str.isalpha, unit.series))
        place.mkdir()
        found = unit.run(place)
        assert found, unit.series
        assert all(value >= 0 for value in found.values()), unit.series


@pytest.mark.parametrize("lines_per_s", [-34e6, 0, 5e6])
def test_the_start_of_spawn_is_no_figure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines_per_s: float) -> None:
    """Where nearly all of the time was the start, what is left of it is noise, below zero or far too small."""
    monkeypatch.setattr(figures, "bench", lambda *args: {"lines_per_s": lines_per_s, "messages_per_s": 1e6})
    with pytest.raises(Failed):
        figures.spawned(tmp_path)


def test_the_report_of_mpsr_bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A figure of `mpsr bench` is its report, for the folder, the seconds and the options that were named."""
    monkeypatch.setattr(figures, "MPSR", (sys.executable, "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"))
    asked = ["bench", "--folder", str(tmp_path), "--json", "--seconds", "0.5", "--client", "spawn"]
    assert list(figures.bench(tmp_path, 0.5, "--client", "spawn")) == asked


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_why_mpsr_bench_failed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stream: str) -> None:
    """The error has its report, which names the fault, or its complaint."""
    program = f"import sys; print('lost 3', file=sys.{stream}); sys.exit(1)"
    monkeypatch.setattr(figures, "MPSR", (sys.executable, "-c", program))
    with pytest.raises(Failed, match=r"mpsr bench --pattern connect: lost 3$"):
        figures.bench(tmp_path, 0.5, "--pattern", "connect")


def test_a_long_stall_counts_by_its_time() -> None:
    """One stall of a second beside a thousand looks that were in time takes half of the time."""
    late = [0.0] * 1000 + [1.0]
    assert [figures.late_for(late, part) for part in (0.4, 0.6, 0.999)] == [0.0, 1.0, 1.0]


def test_queries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each query of the table is asked, of a journal that has what was written."""
    monkeypatch.setattr(queries, "RUNS", 2)
    monkeypatch.setattr(queries, "drop_caches", lambda: False)
    monkeypatch.setattr(queries, "QUERIES", {"one": ("-n", "1")})
    found = queries.against_size(folder, 1e-4)
    assert found.keys() == {"one, s", "start of the hub, s"}
    stored = int(mpsr("logs", "--journal", f"{folder}/journal", "--count").stdout)
    assert stored >= 1e-4 * 2**30 // queries.MESSAGE_BYTES


def test_searches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each search finds what its name says: a message in every one, or none."""
    (folder / "counted").mkdir()
    journal = queries.fill(folder / "counted", 1e-4)
    counts = {
        name: int(mpsr("logs", "--journal", journal, "--count", *options).stdout)
        for name, options in queries.SEARCHES.items()
    }
    assert {name for name, count in counts.items() if count} == {name for name in counts if "in every" in name}
    assert counts["--where, in every message"] >= 1e-4 * 2**30 // queries.MESSAGE_BYTES
    monkeypatch.setattr(queries, "SEARCHES", {"--grep, x": ("--grep", "x")})
    (folder / "searched").mkdir()
    found = queries.searches(folder / "searched", 1e-4)
    assert list(found) == ["--grep, x, M/s", "searched", "start, s"]
    assert found["searched"] >= 1e-4 * 2**30 // queries.MESSAGE_BYTES
    assert found["start, s"] > 0
