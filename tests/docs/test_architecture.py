"""docs/architecture.md: its maps are those of the tree. The files that any page names exist."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.test_layers import ORDER, place

TEXT = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")


def section(heading: str) -> str:
    """Return the text below *heading*, up to the next one of its level."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


@pytest.mark.parametrize("package", ["hub", "producers"])
def test_every_module_has_its_place(package: str) -> None:
    """Each module and folder of a package is named below the package in "Where is what"; nothing else is."""
    below = re.search(rf"^{package}/ .*\n((?:  .*\n)*)", section("Where is what"), re.MULTILINE)
    assert below is not None
    named = re.findall(r"[\w/]+\.py\b|\b\w+/(?= |$)", below[1], re.MULTILINE)
    folder = ROOT / package
    modules = {path.name for path in folder.glob("*.py") if not path.name.startswith("__")}
    folders = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    assert sorted(named) == sorted(modules | folders)


def rows_of_places() -> list[tuple[str, str]]:
    """Return question and place of each row of "Where does it belong?"."""
    rows = [line.split(" | ", 1) for line in section(r"Where does it belong\?").splitlines() if line.startswith("| ")]
    return [(question.removeprefix("| "), place) for question, place in rows[1:]]


@pytest.mark.parametrize(("question", "place"), rows_of_places())
def test_a_place_is_where_the_table_says(question: str, place: str) -> None:
    """Each name in a row, and what a search in it looks for, stands in one of the files of that row."""
    words = re.findall(r"`([^`]+)`", place)
    texts = [(ROOT / word).read_text(encoding="utf-8") for word in words if (ROOT / word).is_file()]
    searches = [word.split()[2:] for word in words if word.startswith("git grep ")]
    names = [next(part for part in search if not part.startswith("-")) for search in searches]
    names += [word for word in words if re.fullmatch(r"[\w-]+", word)]
    assert [name for name in names if not any(name in text for text in texts)] == [], question


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_the_files_of_a_page_exist(page: Path) -> None:
    """Each file or folder of ours that a page names is in the tree; NAME stands for any name."""
    named = re.findall(r"`((?:hub|producers|tests|docs)/[\w./-]+)`", page.read_text(encoding="utf-8"))
    assert [path for path in named if "NAME" not in path and not (ROOT / path).exists()] == []


def test_the_layers_are_in_order() -> None:
    """Each module or folder in the table of layers stands, in the table of test_layers.py, after those above it."""
    rows = [line.split("|")[3] for line in section("Layers").splitlines() if line.startswith("| ")][1:]
    places = [[ORDER.index(place(module)) for name in re.findall(r"`([\w/.]+)`", row) if (module := as_module(name))]
              for row in rows]  # fmt: skip
    assert all(places)
    for above, below in itertools.pairwise(places):
        assert max(above) < min(below)


def as_module(name: str) -> str:
    """Return the module that a name in the table stands for; empty for one inside the folder named before it."""
    if name == "producers/":
        return "producers.blocking"
    path = ROOT / "hub" / name
    return f"hub.{name.removesuffix('.py').replace('/', '.x')}" if path.exists() else ""
