"""hub.sources.filelink: which links are followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub.sources.filelink import may_follow, resolved
from tests.users import ALICE, NEEDS_ROOT


def test_links_of_ours(tmp_path: Path) -> None:
    """A chain of links leads to the file; a file is itself; a loop leads nowhere; a broken link is an error."""
    file = tmp_path / "file"
    file.write_text("x")
    (tmp_path / "folder").mkdir()
    os.symlink("../file", tmp_path / "folder" / "one")
    os.symlink("folder/one", tmp_path / "two")
    assert resolved(str(tmp_path / "two")) == str(file)
    assert resolved(str(file)) == str(file)
    os.symlink("loop", tmp_path / "loop")
    os.symlink("nowhere", tmp_path / "broken")
    for name in ("loop", "broken"):
        with pytest.raises(OSError, match=r"No such file|Too many levels"):
            may_follow(str(tmp_path / name))


@NEEDS_ROOT
def test_links_of_others(tmp_path: Path) -> None:
    """A user's link is followed to a file of that user, and to no other user's."""
    secret, own = tmp_path / "secret", tmp_path / "own"
    secret.write_text("x")
    own.write_text("x")
    os.chown(own, ALICE, ALICE)
    for name, target in (("to-secret", secret), ("to-own", own)):
        os.symlink(target, tmp_path / name)
        os.lchown(tmp_path / name, ALICE, ALICE)
    os.symlink("to-secret", tmp_path / "through")
    assert resolved(str(tmp_path / "to-own")) == str(own)
    assert resolved(str(tmp_path / "to-secret")) is None
    assert resolved(str(tmp_path / "through")) is None
