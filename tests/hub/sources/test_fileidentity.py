"""hub.sources.fileidentity: a file is the same under each of its names, and no other is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub.sources import fileidentity
from hub.sources.fileidentity import PREFIX, Identity, identify, identify_open


def of(path: Path) -> Identity:
    """Return the identity of the file at *path*."""
    dir_fd = os.open(path.parent, os.O_RDONLY)
    try:
        return identify(path.name, dir_fd, os.lstat(path))
    finally:
        os.close(dir_fd)


def test_names_do_not_matter(tmp_path: Path) -> None:
    """It is the same after a rename, through a hard link, open, and when the contents change."""
    one = tmp_path / "one"
    one.write_text("x")
    identity = of(one)
    assert identity.name.startswith(PREFIX)
    assert identity.ino == one.stat().st_ino
    os.rename(one, tmp_path / "two")
    os.link(tmp_path / "two", tmp_path / "three")
    (tmp_path / "two").write_text("changed")
    assert of(tmp_path / "two") == of(tmp_path / "three") == identity
    with open(tmp_path / "three", "rb") as file:
        assert identify_open(file.fileno(), os.fstat(file.fileno())) == identity


def reuse_inode(path: Path) -> None:
    """Make a new file at *path* that has the inode of the one that is there now."""
    ino = path.stat().st_ino
    path.unlink()
    for number in range(1000):
        other = path.with_name(f"try{number}")
        other.write_text("x")
        if other.stat().st_ino == ino:
            os.rename(other, path)
            return
    pytest.skip("this file system does not use an inode again")


def test_a_reused_inode_is_another_file(tmp_path: Path) -> None:
    """A file that has got the inode of a deleted one is not that file."""
    path = tmp_path / "file"
    path.write_text("x")
    before = of(path)
    reuse_inode(path)
    after = of(path)
    assert before.ino == after.ino
    assert before.name != after.name


def test_without_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a file system has no handles, inode and birth stand for them; without a birth, the inode alone."""
    monkeypatch.setattr(fileidentity, "_name_to_handle_at", None)
    path = tmp_path / "file"
    path.write_text("x")
    identity = of(path)
    assert identity.handle == b"i%x.%x" % (identity.ino, identity.born_ns)
    monkeypatch.setattr(fileidentity, "_statx", None)
    assert of(path).handle == b"i%x.0" % identity.ino


def test_what_is_gone_is_an_error(tmp_path: Path) -> None:
    """A file that was deleted after it was looked at raises, and is not taken for one without a handle."""
    path = tmp_path / "file"
    path.write_text("x")
    described = os.lstat(path)
    path.unlink()
    dir_fd = os.open(tmp_path, os.O_RDONLY)
    with pytest.raises(FileNotFoundError):
        identify("file", dir_fd, described)
    os.close(dir_fd)


def test_a_long_handle_is_a_checksum(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a position is bounded, whatever the file system says."""
    monkeypatch.setattr(fileidentity, "_NAME_BYTES_MAX", 4)
    path = tmp_path / "file"
    path.write_text("x")
    assert len(of(path).handle) == 64


def test_a_name_that_goes_to_another_file_meanwhile(tmp_path: Path) -> None:
    """The number of one file and the handle of another are no identity."""
    (tmp_path / "one").touch()
    (tmp_path / "two").touch()
    dir_fd = os.open(tmp_path, os.O_RDONLY)
    try:
        described = os.stat(tmp_path / "one")
        os.rename(tmp_path / "two", tmp_path / "one")
        with pytest.raises(FileNotFoundError):
            identify("one", dir_fd, described)
    finally:
        os.close(dir_fd)
