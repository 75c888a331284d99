"""`make coverage` (.ci/covered.py): what it compares. The measuring itself is a step of `make test`."""

from __future__ import annotations

import tomllib

from tests.test_release import ROOT, loaded

covered = loaded(ROOT / ".ci/covered.py")


def test_what_is_below_its_floor() -> None:
    """A file without a floor must be covered in full. A fault names file, figure and floor."""
    found = {"hub/wire/a.py": 97.99, "hub/wire/b.py": 99.9, "hub/wire/c.py": 100.0, "total": 98.5}
    assert covered.faults(found, {"hub/wire/a.py": 97, "hub/wire/b.py": 99, "total": 98}) == []
    assert covered.faults(found, {"hub/wire/a.py": 98, "hub/wire/gone.py": 90, "total": 99}) == [
        "hub/wire/a.py: 97.99 % of lines and branches, at least 98 % before",
        "hub/wire/b.py: 99.90 % of lines and branches, at least 100 % before",
        "total: 98.50 % of lines and branches, at least 99 % before",
        "hub/wire/gone.py: has a floor, and is not there",
    ]


def test_files_have_the_names_of_the_repository() -> None:
    """Where the package is installed does not matter."""
    summary = {"summary": {"percent_covered": 50.0}}
    report = {"files": {".venv/lib/hub/site-packages/hub/wire/a.py": summary}, "totals": {"percent_covered": 50.0}}
    assert covered.percentages(report) == {"hub/wire/a.py": 50.0, "total": 50.0}


def test_every_floor_has_its_file() -> None:
    """The floors are of files in hub/wire and hub/journal, below 100, and sorted."""
    floors = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mpsr"]["coverage"]
    total = floors.pop("total")
    assert min(floors.values()) <= total < covered.FULL
    assert all(floor < covered.FULL for floor in floors.values())
    assert list(floors) == sorted(floors)
    assert [name for name in floors if not (ROOT / name).is_file()] == []
    assert {name.rpartition("/")[0] for name in floors} <= {"hub/wire", "hub/journal"}
