"""The workflow for hosted CI tests every version of Python that the project says it supports."""

from __future__ import annotations

import re
import tomllib

from tests.test_release import ROOT


def test_all_supported_versions_are_tested() -> None:
    """The versions of the matrix are those of the classifiers, and each runs .ci/run."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    supported = [line.rpartition(" ")[2] for line in project["classifiers"] if re.search(r":: 3\.\d+$", line)]
    workflow = (ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8")
    matrix = re.search(r"^        python: \[(.*)\]$", workflow, re.MULTILINE)
    assert matrix
    assert re.findall(r'"([\d.]+)"', matrix[1]) == supported
    assert supported[0] == project["requires-python"].removeprefix(">=")
    assert len(re.findall(r"^ +(?:run: |sudo .*)\.ci/run$", workflow, re.MULTILINE)) == 2
