"""A sitting measures everything in turn, survives what fails, goes on after a stop, and ends in time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import parts, sitting
from tests.benchmarks.peer import Failed
from tests.benchmarks.results import Point, Results, Unit
from tests.benchmarks.sitting import Sitting


def unit(series: str, log: list[str], *, part: str = "figures", fails: bool = False) -> Unit:
    def run(folder: Path) -> dict[str, Any]:
        log.append(series)
        (folder / "written").touch()
        if fails:
            raise Failed("it has ended")
        return {"value": float(len(log))}

    return Unit(part, series, run, needs=(series,))


def go_on(results: Results, place: Path, plan: list[tuple[int, Unit]], seconds: float = 60) -> None:
    Sitting(results, place, str(place), seconds).run(plan)


def test_one_that_fails_does_not_end_the_sitting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its error is kept and printed, the others are measured, and no folder is left."""
    log: list[str] = []
    plan = [(number, one) for number in range(2) for one in (unit("a", log, fails=True), unit("b", log))]
    go_on(results := Results(), tmp_path, plan)
    assert log == ["a", "b"] * 2
    assert [point.error for point in results.points] == ["Failed: it has ended", ""] * 2
    assert "a: Failed: it has ended" in capsys.readouterr().out
    assert len(results.slowness) == 3  # at the beginning of each round, and at the end
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_a_stopped_sitting_goes_on(tmp_path: Path) -> None:
    """What is measured is not measured again; what has failed is."""
    log: list[str] = []
    plan = [(0, unit("a", log)), (0, unit("b", log, fails=True))]
    go_on(Results(options={"rounds": 1}), tmp_path, plan)
    results = sitting._resumed(tmp_path / "results.json", {"rounds": 1})
    assert [point.series for point in results.points] == ["a", "b"]
    go_on(results, tmp_path, [(0, unit("a", log)), (0, unit("b", log))])
    assert log == ["a", "b", "b"]
    assert [point.error for point in results.points] == ["", ""]


@pytest.mark.parametrize("change", ["finished", "options", "form", "nonsense"])
def test_another_sitting_begins_anew(tmp_path: Path, change: str) -> None:
    """A finished one, one with other options, and a file of another form are not continued."""
    path = tmp_path / "results.json"
    Results(options={"rounds": 3}, points=[Point("figures", "a", 0, 0)], finished=change == "finished").save(path)
    if change == "form":
        path.write_text(json.dumps({**json.loads(path.read_text()), "form": 0}))
    if change == "nonsense":
        path.write_text("{")
    assert sitting._resumed(path, {"rounds": 1 if change == "options" else 3}).points == []


def test_nothing_begins_after_the_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is left is named by its number."""
    log: list[str] = []
    go_on(results := Results(), tmp_path, [(0, unit("a", log)), (0, unit("b", log))], seconds=-1)
    assert (log, results.points) == ([], [])
    assert "not measured: 2 of 2" in capsys.readouterr().out


def test_a_missing_peer_is_not_tried(tmp_path: Path) -> None:
    """Its points say that it is missing."""
    log: list[str] = []
    go_on(results := Results(peers={"a": {"missing": "not here"}}), tmp_path, [(0, unit("a", log))])
    assert (log, [point.error for point in results.points]) == ([], ["missing"])


def test_results_are_what_was_saved(tmp_path: Path) -> None:
    """A file read back is equal, each point on a line of its own."""
    results = Results({"a": "b"}, {"rounds": 1}, {"x": {"version": "1"}}, [Point("p", "s", 2, 0, {"v": 1.5})], True)
    results.save(tmp_path / "r.json")
    assert Results.load(tmp_path / "r.json") == results
    assert '  {"part": "p", "series": "s"' in (tmp_path / "r.json").read_text().splitlines()[-3]


@pytest.mark.parametrize("extent", [parts.QUICK, parts.FULL], ids=["quick", "full"])
def test_the_hub_and_its_peers_are_in_turn(extent: parts.Extent) -> None:
    """In every sweep, each value of the axis has all series one after the other; every part is measured."""
    units = list(parts.units(extent))
    assert tuple(dict.fromkeys(unit.part for unit in units)) == parts.PARTS
    for part in ("producers", "chunks", "sizes"):
        swept = [unit for unit in units if unit.part == part]
        width = len({unit.series for unit in swept})
        assert width >= 2
        assert all(len({unit.x for unit in swept[at : at + width]}) == 1 for at in range(0, len(swept), width))
    keys = [(unit.part, unit.series, unit.x) for unit in units]
    assert len(keys) == len(set(keys))
