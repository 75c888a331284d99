"""hub.web.pagefiles: what the package has, and nothing else."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

from hub.web.pagefiles import BINARY, INDEX, KINDS, page_files

FOLDER = Path(str(importlib.resources.files("hub.web"))) / "page"


def test_every_file_of_a_known_kind() -> None:
    """Each file of the folder is there under its path, with its bytes and its type; the page itself among them."""
    there = {
        str(path.relative_to(FOLDER)): path for path in FOLDER.rglob("*") if path.is_file() and path.suffix in KINDS
    }
    files = page_files()
    assert {*files} == {*there} >= {INDEX}
    for name, file in files.items():
        assert file.data == there[name].read_bytes()
        assert file.kind.endswith("; charset=utf-8") == (KINDS[there[name].suffix] not in BINARY)
    assert len({file.etag for file in files.values()}) == len({file.data for file in files.values()})
    assert not [name for name in files if name.endswith(".py")]
