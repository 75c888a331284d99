"""The contract at the head of each file: what it says is elsewhere is there."""

from __future__ import annotations

import ast
import functools
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.cli import COMMANDS
from tests.test_layers import FILES, ROOT

POINTER = re.compile(r"\b(?:hub|producers)(?:\.\w+)+")


def pointers(docstring: str) -> Iterator[str]:
    """Yield each module that the "Not here" paragraph of *docstring* names."""
    for paragraph in re.findall(r"^Not here:.*?(?=\n\n|\n?\Z)", docstring, re.MULTILINE | re.DOTALL):
        yield from POINTER.findall(paragraph)


def exists(name: str) -> bool:
    """Return whether *name* is a module of ours, or something in one."""
    if name in FILES:
        return True
    module, _, attribute = name.rpartition(".")
    return module in FILES and hasattr(importlib.import_module(module), attribute)


@functools.cache
def docstrings() -> dict[str, str]:
    """Return the docstring of each module."""
    return {module: ast.get_docstring(ast.parse(path.read_bytes())) or "" for module, path in FILES.items()}


PACKAGES = sorted(path.parent for path in FILES.values() if path.name == "__init__.py" and path.parent.parent != ROOT)
NO_MAP = {"examples"}  # for readers of the documentation


@pytest.mark.parametrize("package", [path for path in PACKAGES if path.name not in NO_MAP], ids=lambda path: path.name)
def test_a_package_lists_its_files(package: Path) -> None:
    """The docstring of a package names each of its modules, except commands: each has a row in `COMMANDS`."""
    words = set(re.findall(r"\w+", ast.get_docstring(ast.parse((package / "__init__.py").read_bytes())) or ""))
    words |= set(COMMANDS) if package.name == "cli" else set()
    assert {path.stem for path in package.glob("*.py")} - words == {"__init__"}


def test_what_is_not_here_is_where_the_pointer_says() -> None:
    """Each module that a "Not here" names exists, and is another one. (Whether it does what it is named for, it cannot
    tell.)"""
    found = {module: list(pointers(text)) for module, text in docstrings().items()}
    lost = [f"{module} points to {name}" for module, names in found.items() for name in names if not exists(name)]
    assert not lost, "these do not exist"
    assert [module for module, names in found.items() if module in names] == [], "these point to themselves"


def test_the_pointers_are_found() -> None:
    """The test above looks at something: most files have pointers, over several lines too."""
    found = docstrings()
    assert sum(1 for text in found.values() if list(pointers(text))) > 90
    assert "hub.wire" in list(pointers(found["hub.connection"]))
    assert "hub.outbox" in list(pointers(found["hub.connection"]))  # in its second line
    assert not exists("hub.absent")
    assert not exists("hub.trust.absent")
