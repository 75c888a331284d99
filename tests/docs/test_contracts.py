"""The contract at the head of each file: what it says is elsewhere is there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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


PACKAGES = sorted(path.parent for path in FILES.values() if path.name == "__init__.py" and path.parent.parent != ROOT)
NO_MAP = {"cli", "examples"}  # named after the commands; for readers of the documentation


@pytest.mark.parametrize("package", [path for path in PACKAGES if path.name not in NO_MAP], ids=lambda path: path.name)
def test_a_package_lists_its_files(package: Path) -> None:
    """The docstring of a package names each of its modules."""
    words = set(re.findall(r"\w+", ast.get_docstring(ast.parse((package / "__init__.py").read_bytes())) or ""))
    assert {path.stem for path in package.glob("*.py")} - words == {"__init__"}


@pytest.mark.parametrize("module", sorted(FILES))
def test_what_is_not_here_is_where_the_pointer_says(module: str) -> None:
    """Each module that a "Not here" names exists, and is another one. (Whether it does what it is named for, it cannot
    tell.)"""
    docstring = ast.get_docstring(ast.parse(FILES[module].read_bytes())) or ""
    for name in pointers(docstring):
        assert exists(name), f"{module} points to {name}, which does not exist"
        assert name != module, f"{module} points to itself"


def test_the_pointers_are_found() -> None:
    """The test above looks at something: most files have pointers, over several lines too."""
    found = {module: ast.get_docstring(ast.parse(path.read_bytes())) or "" for module, path in FILES.items()}
    assert sum(1 for text in found.values() if list(pointers(text))) > 90
    assert "hub.wire" in list(pointers(found["hub.connection"]))
    assert "hub.outbox" in list(pointers(found["hub.connection"]))  # in its second line
    assert not exists("hub.absent")
    assert not exists("hub.trust.absent")
