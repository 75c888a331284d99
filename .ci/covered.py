"""
Whether hub/wire/ and hub/journal/ are covered by their own tests as well as before: lines and branches, file by file.

    .ci/covered.py [FLOORS]      FLOORS: a file with the table [tool.mpsr.coverage], by default pyproject.toml

Only tests/hub/wire and tests/hub/journal run, each in a process of its own, without those marked `costly`: measuring
makes Python three times slower, and the rest of the suite has limits of time, counts system calls and starts processes,
which nobody should disturb. The examples of Hypothesis are the same in every run (profile `coverage` in
tests/conftest.py), so the figures are, too.

Where tests were skipped because the machine lacks something, a figure below its floor is reported and is no failure;
with CI=true it is one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

ROOT = Path(__file__).parents[1]
TESTS = ("tests/hub/wire", "tests/hub/journal")
TOTAL = "total"
FULL = 100


def measure(folder: Path) -> tuple[dict[str, float], bool]:
    """Run the tests. Return the percentage of each file and of all, and whether a test was skipped."""
    environ = {**os.environ, "COVERAGE_FILE": str(folder / "data"), "PYTHONSAFEPATH": "1"}  # what is installed
    coverage = [sys.executable, "-m", "coverage"]
    pytest = ["-m", "pytest", "-q", "--no-header", "-m", "not costly", "--hypothesis-profile=coverage"]
    reports = [folder / f"{number}.xml" for number, _ in enumerate(TESTS)]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                subprocess.Popen(
                    [*coverage, "run", *pytest, "-p", "no:cacheprovider", f"--junitxml={report}", tests],
                    cwd=ROOT,
                    env={**environ, "COVERAGE_FILE": f"{folder}/data.{report.stem}"},
                )
            )
            for tests, report in zip(TESTS, reports, strict=True)
        ]
    if failed := [run.returncode for run in runs if run.returncode]:
        sys.exit(failed[0])
    subprocess.run([*coverage, "combine", "--quiet", str(folder)], cwd=ROOT, env=environ, check=True)
    report = folder / "coverage.json"
    subprocess.run([*coverage, "json", "--quiet", "-o", str(report)], cwd=ROOT, env=environ, check=True)
    skips = any(True for each in reports for _ in ElementTree.parse(each).iter("skipped"))
    return percentages(json.loads(report.read_text())), skips


def percentages(report: Mapping[str, Any]) -> dict[str, float]:
    """Return the figures of a report, by the path that a file has in this repository."""
    found: dict[str, float] = {
        "hub/" + path.replace(os.sep, "/").rpartition("/hub/")[2]: file["summary"]["percent_covered"]
        for path, file in report["files"].items()
    }
    return {**found, TOTAL: report["totals"]["percent_covered"]}


def faults(found: Mapping[str, float], floors: Mapping[str, float]) -> list[str]:
    """Return a sentence for each figure that is below its floor, and for each floor that no file has."""
    below = [
        f"{name}: {percent:.2f} % of lines and branches, at least {floors.get(name, FULL)} % before"
        for name, percent in sorted(found.items())
        if percent < floors.get(name, FULL)
    ]
    return below + [f"{name}: has a floor, and is not there" for name in sorted(floors.keys() - found.keys())]


def main() -> int:
    """Measure and compare; return the exit code."""
    settings = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "pyproject.toml")
    floors = tomllib.loads(settings.read_text(encoding="utf-8"))["tool"]["mpsr"]["coverage"]
    with tempfile.TemporaryDirectory() as folder:
        found, skips = measure(Path(folder))
        wrong = faults(found, floors)
        if wrong:
            report = [sys.executable, "-m", "coverage", "report", "--show-missing", "--skip-covered"]
            subprocess.run(report, cwd=ROOT, env={**os.environ, "COVERAGE_FILE": f"{folder}/data"}, check=False)
    print(f"hub/wire and hub/journal: {found[TOTAL]:.2f} % of lines and branches in {len(found) - 1} files")
    if wrong:
        print("below the floors in pyproject.toml, [tool.mpsr.coverage]:", *wrong, sep="\n")
    if wrong and skips and not os.environ.get("CI"):
        print("tests were skipped on this machine, so this is no failure here")
        return 0
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
