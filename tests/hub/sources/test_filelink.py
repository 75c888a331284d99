"""hub.sources.filelink: which links are followed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub.sources.filelink import LinkRefused, may_follow, open_folder, resolved
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
        with pytest.raises(OSError, match=r"No such file|Too many levels"):
            resolved(str(tmp_path / name))
    assert resolved(f"{tmp_path}/folder/..//./two") == str(file)


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


@NEEDS_ROOT
def test_links_on_the_way(tmp_path: Path) -> None:
    """A link to a folder counts as one to a file does, in the middle of a path and of what another link leads to."""
    (tmp_path / "secret" / "logs").mkdir(parents=True)
    (tmp_path / "secret" / "file").write_text("x")
    os.symlink(tmp_path / "secret", tmp_path / "theirs")
    os.lchown(tmp_path / "theirs", ALICE, ALICE)
    os.symlink(tmp_path / "secret", tmp_path / "ours")
    os.symlink("theirs/file", tmp_path / "through")
    assert resolved(f"{tmp_path}/through") is None
    assert resolved(f"{tmp_path}/theirs/file") is None
    assert resolved(f"{tmp_path}/ours/file") == f"{tmp_path}/secret/file"
    with pytest.raises(LinkRefused):
        open_folder(f"{tmp_path}/theirs/logs")
    for name in ("secret", "ours"):
        fd = open_folder(f"{tmp_path}/{name}/logs")
        assert os.readlink(f"/proc/self/fd/{fd}") == f"{tmp_path}/secret/logs"
        os.close(fd)


@NEEDS_ROOT
def test_a_folder_that_is_replaced_while_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was a link when it was opened, and is a folder when the way to it is checked: it is not there."""
    (tmp_path / "secret").mkdir()
    os.symlink("secret", tmp_path / "logs")
    os.lchown(tmp_path / "logs", ALICE, ALICE)
    opened = os.open

    def exchanging(*args: object) -> int:
        fd = opened(*args)  # type: ignore[arg-type]
        os.unlink(tmp_path / "logs")
        (tmp_path / "logs").mkdir()
        return fd

    monkeypatch.setattr(os, "open", exchanging)
    with pytest.raises(FileNotFoundError):
        open_folder(str(tmp_path / "logs"))
