"""
hub.sources.userfiles: the files in the folder by user; files that are not spool files or exceed a limit are removed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.lockfile import LockFile
from hub.sources import userfiles
from hub.sources.spoolfolder import SpoolFolder
from hub.sources.userfiles import PATIENCE_RATIO, PATIENCE_S, Known, Look, Patience, UserFiles
from hub.wire.spoolfile import lock_name, segment_name
from producers.backlog import new_session
from tests.hub.sources.spools import (
    GROUP,
    SECOND_STRANGER,
    STRANGER,
    as_user,
    beside_a_socket,
    folder_at,
    leave,
    needs_root,
    write,
)

pytestmark = needs_root


@pytest.fixture
def path() -> Iterator[Path]:
    with beside_a_socket(gid=GROUP) as place:
        yield place


@pytest.fixture
def folder(path: Path) -> SpoolFolder:
    folder = folder_at(path)
    assert folder.prepare()
    return folder


def look(
    folder: SpoolFolder,
    left_alone: dict[str, Known] | None = None,
    patience: Patience | None = None,
    *,
    now: float = 0,
    later_s: float = 0,
) -> dict[int, UserFiles]:
    left_alone = {} if left_alone is None else left_alone
    found = Look(folder, left_alone, patience or Patience(), now=now, today=time.time() + later_s)
    for _ in found.steps():
        pass
    return found.by_user


def names(kept: UserFiles) -> set[str]:
    return {file.name for files in kept.spools.values() for file in files}


def test_one_name_of_two_users_is_two_spools(path: Path, folder: SpoolFolder) -> None:
    """A file of another user with the name of a spool belongs to that user's spool of the same name."""
    name = leave(path, 10)
    theirs = segment_name(name, 7)
    assert as_user(STRANGER, lambda: write(path / theirs, b"x" * 5000), groups=[GROUP]) == 0
    found = look(folder)
    assert (names(found[0]), names(found[STRANGER])) == ({lock_name(name), segment_name(name, 1)}, {theirs})
    assert (found[STRANGER].files, found[STRANGER].size_bytes) == (1, 8192)


def test_what_is_no_spool_is_removed(path: Path, folder: SpoolFolder) -> None:
    """Other names, kinds, links and files writable for others are removed, and counted once for their user."""
    name = leave(path, 10)
    roots = write(path.parent / "roots", b"roots", mode=0o666)

    def plant() -> None:
        (path / "what is this").touch()
        (path / f"{name}.1.seg").touch()
        (path / segment_name(name, 2)).symlink_to("/etc/passwd")
        os.mkfifo(path / segment_name(name, 3))
        (path / segment_name(name, 4)).mkdir()
        write(path / segment_name(name, 5), mode=0o660)
        os.link(roots, path / segment_name(name, 6))
        write(path / f"{name}.lock.0123abcd", b"x" * 5000)

    assert as_user(STRANGER, plant, groups=[GROUP]) == 0
    found = look(folder)
    assert (found[STRANGER].foreign_files, found[0].foreign_files) == (7, 1), "a link is counted for the file's owner"
    assert {path.name for path in path.iterdir()} == names(found[0]) == {lock_name(name), segment_name(name, 1)}
    assert roots.read_bytes() == b"roots"
    assert {kept.foreign_files for kept in look(folder).values()} == {0}


def test_what_stays_is_reported_once(path: Path, folder: SpoolFolder) -> None:
    """A folder that is not empty and files of root are left alone; a new file of that name is not."""
    (path / "ours").touch()
    assert as_user(STRANGER, lambda: (path / "theirs" / "inside").mkdir(parents=True), groups=[GROUP]) == 0
    left_alone: dict[str, Known] = {}
    found = look(folder, left_alone)
    assert (found[0].stuck_files, found[0].stuck_name) == (1, "ours")
    assert (found[STRANGER].stuck_files, found[STRANGER].stuck_name) == (1, "theirs")
    assert set(left_alone) == {"ours", "theirs"}
    assert [kept.stuck_files for kept in look(folder, left_alone).values()] == [0, 0]
    (path / "another").touch()
    (path / "another").rename(path / "ours")
    assert look(folder, left_alone)[0].stuck_files == 1
    (path / "ours").unlink()
    look(folder, left_alone)
    assert set(left_alone) == {"theirs"}


def test_a_lock_before_it_has_its_name(path: Path, folder: SpoolFolder) -> None:
    """It stays while it may still be renamed or is held; then it is removed."""
    held, fresh = (path / f"{new_session()}.lock.0123abcd" for _ in range(2))
    lock = LockFile(str(held))
    write(fresh)
    look(folder)
    assert {held.name, fresh.name} == set(os.listdir(path))
    look(folder, later_s=2 * userfiles.UNSEEN_S)
    assert os.listdir(path) == [held.name]
    lock.release()
    look(folder, later_s=2 * userfiles.UNSEEN_S)
    assert os.listdir(path) == []


def test_too_many_files(path: Path, folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Excess segments and unheld locks are removed and counted; other files and held locks stay."""
    monkeypatch.setattr(userfiles, "FILES_MAX", 5)
    ours = {name for _ in range(2) for name in (lock_name(leave(path, 1)),)}

    def plant() -> None:
        for number in range(20):
            write(path / segment_name("s" * 22, number), b"x" * 5000)
            write(path / lock_name(new_session()))

    assert as_user(STRANGER, plant, groups=[GROUP]) == 0
    found = look(folder)
    assert found[0].removed_files == 0
    assert ours <= set(os.listdir(path))
    theirs = [name for name in os.listdir(path) if (path / name).stat().st_uid == STRANGER]
    assert (len(theirs), len(names(found[STRANGER]))) == (5, 5)
    left = sum(name.endswith(".seg") for name in theirs)
    assert (found[STRANGER].removed_files, found[STRANGER].removed_bytes) == (20 - left, 8192 * (20 - left))
    monkeypatch.setattr(userfiles, "FILES_MAX", 0)
    lock = LockFile(str(path / lock_name(new_session())))
    look(folder)
    assert lock.is_in_place(), "a process without its lock would pass for dead"
    lock.release()


@pytest.mark.parametrize("free", [10_000, 30_000])
def test_too_many_bytes(path: Path, folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """While room is short, sessions beyond a quarter of it lose their segments, for each user separately."""
    monkeypatch.setattr(folder, "room", lambda: (100_000, free))

    def plant(letters: str) -> None:
        for letter in letters:
            write(path / segment_name(letter * 22, 1), b"x" * 4000)
            write(path / segment_name(letter * 22, 2), b"x" * 4000)
            write(path / lock_name(letter * 22))

    assert as_user(STRANGER, lambda: plant("abcdefgh"), groups=[GROUP]) == 0
    assert as_user(SECOND_STRANGER, lambda: plant("ABC"), groups=[GROUP]) == 0
    patience = Patience()
    for now in (0, PATIENCE_S - 1):
        assert look(folder, None, patience, now=now)[STRANGER].removed_files == 0
    found = look(folder, None, patience, now=PATIENCE_S)
    removed = 10 if free == 10_000 else 0
    assert (found[STRANGER].removed_files, found[STRANGER].removed_bytes) == (removed, removed * 4096)
    assert found[SECOND_STRANGER].removed_files == 0
    kept = {name for name in os.listdir(path) if (path / name).stat().st_uid == STRANGER}
    assert sum(name.endswith(".seg") for name in kept) == 16 - removed
    assert sum(name.endswith(".lock") for name in kept) == 8
    assert look(folder, None, patience, now=PATIENCE_S)[STRANGER].removed_files == 0


def test_patience() -> None:
    """Each user has its own; it is spent while the user exceeds its share, and is restored slowly."""
    patience = Patience()
    assert patience.spent([1], 1000.0) == set()
    assert patience.spent([1, 2], 1000.0 + PATIENCE_S - 1) == set()
    assert patience.spent([1, 2], 1000.0 + PATIENCE_S) == {1}
    assert patience.spent([], 1000.0 + PATIENCE_S) == set()
    now = 1000.0 + PATIENCE_S + 10 * PATIENCE_RATIO
    assert patience.spent([1], now) == set(), "ten seconds have come back"
    assert patience.spent([1], now + 9) == set()
    assert patience.spent([1], now + 10) == {1}
    assert patience.spent([], now + 10) == set()
    patience.spent([], now + 10 + PATIENCE_S * PATIENCE_RATIO)
    assert patience._left_s == {}


def test_a_folder_that_grows_while_it_is_looked_at(
    path: Path, folder: SpoolFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look ends after a maximum number of names, and is complete if it saw all; what it missed stays left alone."""
    monkeypatch.setattr(userfiles, "ENTRIES_MAX", 10)
    for _ in range(20):
        write(path / lock_name(new_session()))
    left_alone = {"beyond": (1, 0)}
    found = Look(folder, left_alone, Patience(), now=0, today=0)
    assert all(step is None for step in found.steps())
    assert (found.by_user[0].files, found.is_complete, set(left_alone)) == (10, False, {"beyond"})
    monkeypatch.setattr(userfiles, "ENTRIES_MAX", 20)
    found = Look(folder, left_alone, Patience(), now=0, today=0)
    assert all(step is None for step in found.steps())
    assert (found.by_user[0].files, found.is_complete, set(left_alone)) == (20, True, set())


def test_an_inode_that_another_user_has_now(path: Path, folder: SpoolFolder) -> None:
    """A name is left alone only while its file has the inode and the owner that it had."""
    name = leave(path, 10)
    inodes = {left.name: left.stat().st_ino for left in path.iterdir()}
    for uid, kept in ((0, set(inodes)), (STRANGER, set())):
        left_alone = {file: (inode, uid) for file, inode in inodes.items()}
        assert list(look(folder, left_alone)[0].spools) == [name]
        assert set(left_alone) == kept
