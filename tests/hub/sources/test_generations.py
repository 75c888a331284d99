"""hub.sources.generations: what rotation has made of a file while nobody looked."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from hub.sources import generations
from hub.sources.filecheck import mark_at
from hub.sources.generations import (
    Candidate,
    Reached,
    bases_of,
    family,
    find,
    is_rotated_name,
    listed,
    may_be_copies,
)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("app.log.1", "app.log"),
        ("app.log.12", "app.log"),
        ("app.log-20261127", "app.log"),
        ("app.log-20261127-1", "app.log"),
        ("app.log.2026-11-27", "app.log"),
        ("app.log.20261127-101112", "app.log"),
        ("app-20261127.log", "app.log"),
        ("app.1.log", "app.log"),
        ("app.log.old", "app.log"),
        ("app.log~", "app.log"),
        ("messages.1", "messages"),
        ("messages-20261127", "messages"),
    ],
)
def test_names_of_rotated_files(name: str, base: str) -> None:
    """What logrotate and others call the older generations, and what they were called before."""
    assert is_rotated_name(name, base)
    assert base in bases_of(name)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("app.log", "app.log"),
        ("app.log.1.gz", "app.log"),
        ("app.log.errors", "app.log"),
        ("application.log", "app.log"),
        ("other.log.1", "app.log"),
        ("app-web.log", "app.log"),
        ("messages1", "messages"),
    ],
)
def test_other_names(name: str, base: str) -> None:
    """What is no generation of a file."""
    assert not is_rotated_name(name, base)
    assert base not in bases_of(name)


class Folder:
    """A folder with files, each younger than the one before."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: set[int] = set()
        self.since_ns = time.clock_gettime_ns(5) if hasattr(time, "clock_gettime_ns") else 0

    def write(self, name: str, data: bytes) -> None:
        """Write a file, and wait until the clock that stamps files has moved on."""
        (self.path / name).write_bytes(data)
        before = time.clock_gettime_ns(5)
        while time.clock_gettime_ns(5) == before:
            pass

    def find(self, read_to: bytes | None = None, **options: int) -> list[Candidate]:
        """Find the generations of app.log; *read_to* is what was read of it."""
        place = None
        if read_to is not None:
            (self.path / "place").write_bytes(read_to)
            fd = os.open(self.path / "place", os.O_RDONLY)
            place = Reached(len(read_to), mark_at(fd, len(read_to))[0], time.time_ns())
            os.close(fd)
            (self.path / "place").unlink()
        since_ns = options.get("since_ns", self.since_ns)
        dir_fd = os.open(self.path, os.O_RDONLY)
        try:
            return find(
                dir_fd,
                may_be_copies(listed(dir_fd), "app.log"),
                "app.log",
                is_known=lambda each: each.ino in self.known,
                since_ns=since_ns,
                read_to=place,
            ).candidates
        finally:
            os.close(dir_fd)

    def names(self, read_to: bytes | None = None, **options: int) -> list[str]:
        return [each.entry for each in self.find(read_to, **options)]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_the_oldest_comes_first(folder: Folder) -> None:
    """Unknown files with the names of generations are found, in the order in which they were made."""
    for name in ("app.log.3", "app.log.1", "app.log.2", "app.log", "other.log.1", "app.log.4.gz"):
        folder.write(name, name.encode() * 20)
    assert folder.names() == ["app.log.3", "app.log.1", "app.log.2"]


def test_what_is_old_or_known_is_left_out(folder: Folder) -> None:
    """Files made before anything was read, and files that are followed already."""
    folder.write("app.log.2", b"old")
    time_ns = time.clock_gettime_ns(5) + 21_000_000
    while time.clock_gettime_ns(5) < time_ns:
        pass
    folder.write("app.log.1", b"new")
    assert folder.names(since_ns=time_ns) == ["app.log.1"]
    folder.known.add((folder.path / "app.log.1").stat().st_ino)
    assert folder.names(since_ns=time_ns) == []


def test_the_copy_comes_first(folder: Folder) -> None:
    """Of a truncated file, the copy is found by its contents, whatever its name; all that nobody has read follows."""
    read = b"line of text\n" * 100
    folder.write("app.log.0", b"an older one\n" * 20)
    folder.write("saved", read + b"not read\n")
    folder.write("app.log.1", b"younger\n" * 20)
    folder.write("app.log", b"")
    assert folder.names(read) == ["saved", "app.log.0", "app.log.1"]
    assert [each.is_copy for each in folder.find(read)] == [True, False, False]


def test_of_several_copies_the_longest(folder: Folder) -> None:
    """A copy that was made before the last lines were written does not have them."""
    read = b"line of text\n" * 100
    folder.write("app.log.bak", read)
    folder.write("app.log.1", read + b"not read\n")
    assert [(each.entry, each.is_read) for each in folder.find(read)] == [("app.log.1", False), ("app.log.bak", True)]


def test_copies_of_what_is_read_anyway(folder: Folder) -> None:
    """A copy of a file that is read in full is no generation; files that are short may begin alike."""
    folder.write("app.log.1", b"line of text\n" * 100)
    shutil.copy(folder.path / "app.log.1", folder.path / "app.log.2")
    assert folder.names() in (["app.log.1"], ["app.log.2"])
    folder.write("app.log.1", b"x\n")
    folder.write("app.log.2", b"x\n")
    assert len(folder.names()) == 2


def test_what_is_no_file(folder: Folder) -> None:
    """Folders, links and pipes with such names are left alone."""
    (folder.path / "app.log.1").mkdir()
    os.symlink("/etc/passwd", folder.path / "app.log.2")
    os.mkfifo(folder.path / "app.log.3")
    assert folder.names() == []


def test_a_full_folder(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many names, the likely ones are searched."""
    monkeypatch.setattr(generations, "CANDIDATES_MAX", 2)
    for name in ("a", "b", "c", "app.log", "app.log.1", "app.log.2"):
        (folder.path / name).touch()
    dir_fd = os.open(folder.path, os.O_RDONLY)
    names = listed(dir_fd)
    os.close(dir_fd)
    assert list(may_be_copies(names, "app.log")) == ["app.log.1", "app.log.2", "a", "b"]
    assert family(names, "app.log").keys() == {"app.log", "app.log.1", "app.log.2"}


def test_names_that_have_changed_since_they_were_listed(folder: Folder) -> None:
    """A name that leads to another file than was listed, or to none, is reported as changed."""
    for name in ("app.log.1", "app.log.2"):
        folder.write(name, b"x\n" * 40 + name.encode())
    dir_fd = os.open(folder.path, os.O_RDONLY)
    names = listed(dir_fd)

    def search() -> generations.Found:
        return find(dir_fd, names, "app.log", is_known=lambda _: False, since_ns=folder.since_ns)

    try:
        assert search().is_steady
        os.rename(folder.path / "app.log.2", folder.path / "app.log.3")
        assert not search().is_steady
        os.rename(folder.path / "app.log.1", folder.path / "app.log.2")
        names.pop("app.log.1")
        assert not search().is_steady
        os.rename(folder.path / "app.log.3", folder.path / "app.log.2")
        assert search().is_steady
    finally:
        os.close(dir_fd)
