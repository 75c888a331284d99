"""docs/compatibility.md: the numbers that it has are those of the code."""

from __future__ import annotations

import importlib
import re

import pytest

import hub
import producers
from tests.docs.pages import ROOT

TEXT = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
FORMAT = re.compile(r"^\| (\w+) \| (\d+) \| `(\w+)` in `([\w/]+)\.py` \|", re.MULTILINE)


def test_every_format_has_its_row() -> None:
    """Journal and spool are in the table of formats."""
    assert [name for name, *_ in FORMAT.findall(TEXT)] == ["journal", "spool"]


@pytest.mark.parametrize(("name", "version", "constant", "module"), FORMAT.findall(TEXT))
def test_versions_of_formats(name: str, version: str, constant: str, module: str) -> None:
    """The table has the number that the code writes."""
    assert getattr(importlib.import_module(module.replace("/", ".")), constant) == int(version), name


def test_the_version_of_the_journal_is_the_one_that_is_described() -> None:
    """FORMAT.md describes the version in the table."""
    described = re.match(r"# The journal on disk, version (\d+)\n", (ROOT / "hub/journal/FORMAT.md").read_text())
    assert described
    assert [version for name, version, *_ in FORMAT.findall(TEXT) if name == "journal"] == [described[1]]


def test_members_that_are_not_public() -> None:
    """The page names the members that the API reference leaves out, and each of them exists."""
    row = next(line for line in TEXT.splitlines() if line.startswith("| Python |"))
    named = re.findall(r"`(\w+)`", row.partition("only mpsr itself uses them:")[2].partition(";")[0])
    for listed in re.findall(r":exclude-members: (.*)", (ROOT / "docs/api.rst").read_text(encoding="utf-8")):
        assert listed.split(", ") == named
    classes = [getattr(module, name) for module in (hub, producers) for name in module.__all__]
    assert [name for name in named if not any(hasattr(each, name) for each in classes)] == []
