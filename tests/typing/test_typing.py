"""What mypy checks in tests/typing/api.py (with the whole project: `make lint`) is all that is public."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

import pytest

import hub
import producers

API = Path(__file__).with_name("api.py")


@pytest.mark.parametrize("package", [hub, producers], ids=lambda package: package.__name__)
def test_every_public_name_is_used_there(package: ModuleType) -> None:
    """api.py uses each name that a package exports and none that it does not, and the package has its marker."""
    nodes = list(ast.walk(ast.parse(API.read_text())))
    froms = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == package.__name__]
    imported = {alias.name for node in froms for alias in node.names}
    assert sorted(imported) == sorted(package.__all__)
    assert imported <= {node.id for node in nodes if isinstance(node, ast.Name)}
    assert Path(package.__path__[0], "py.typed").exists()
