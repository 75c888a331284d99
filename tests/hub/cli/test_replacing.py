"""hub.cli.replacing: the old file or the new one, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub.cli.replacing import replacing


@pytest.mark.parametrize(("mode", "umask", "expected"), [(0o666, 0o022, 0o644), (0o600, 0o022, 0o600)])
def test_it_gets_its_name_at_the_end(tmp_path: Path, mode: int, umask: int, expected: int) -> None:
    """Until then the old one is there; afterwards only the new one, with its mode."""
    path = tmp_path / "it"
    path.write_text("old")
    before = os.umask(umask)
    try:
        with replacing(str(path), mode) as fd:
            os.write(fd, b"new")
            assert path.read_text() == "old"
    finally:
        os.umask(before)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", expected)
    assert os.listdir(tmp_path) == ["it"]


def test_a_fault_leaves_the_old_one(tmp_path: Path) -> None:
    """What was written is removed."""
    path = tmp_path / "it"
    path.write_text("old")

    def fail() -> None:
        with replacing(str(path), 0o600) as fd:
            os.write(fd, b"new")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()
    assert (path.read_text(), os.listdir(tmp_path)) == ("old", ["it"])
