"""
hub.sources.spoolfolder: permissions like the socket's, owned by the hub, and files that only their owner has written.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.sources.spoolfolder import PRIVATE_MODE, SHARED_MODE, SpoolFolder
from hub.wire.spoolfile import lock_name
from producers.backlog import new_session
from producers.spool import Spool
from tests.hub.sources.spools import GROUP, STRANGER, as_user, beside_a_socket, folder_at, needs_root, permit, write
from tests.support import descriptors

UNDEFINED_ID = 0xFFFFFFFF


@pytest.fixture
def path() -> Iterator[Path]:
    """The path of a spool folder, beside the socket of a group."""
    with beside_a_socket(gid=GROUP if os.geteuid() == 0 else -1) as place:
        yield place


def described(path: Path) -> tuple[int, int, int]:
    there = path.lstat()
    return stat.S_IMODE(there.st_mode), there.st_uid, there.st_gid


def acl(*entries: tuple[int, int, int]) -> bytes:
    """Return an access control list in the kernel's format: tag, permissions and id of each entry."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


# The socket's permissions.


@pytest.mark.parametrize(
    ("socket_mode", "mode"),
    [(0o600, PRIVATE_MODE), (0o660, SHARED_MODE), (0o666, SHARED_MODE), (0o640, PRIVATE_MODE), (0o606, PRIVATE_MODE)],
)
def test_as_open_as_the_socket(path: Path, socket_mode: int, mode: int) -> None:
    """The group may create files if it may open the socket, other users never; the group is the socket's."""
    socket_path = path.with_suffix("")
    socket_path.chmod(socket_mode)
    assert folder_at(path).prepare()
    gid = socket_path.stat().st_gid if mode == SHARED_MODE else os.getegid()
    assert described(path) == (mode, os.geteuid(), gid)


@needs_root
def test_it_follows_the_socket(path: Path) -> None:
    """Each `prepare` applies the socket's current permissions; a missing socket changes nothing."""
    folder, socket_path = folder_at(path), path.with_suffix("")
    for mode, gid, expected in (
        (0o660, GROUP, SHARED_MODE),
        (0o600, GROUP, PRIVATE_MODE),
        (0o660, GROUP + 1, SHARED_MODE),
        (0o660, GROUP, SHARED_MODE),
    ):
        permit(socket_path, mode, gid=gid)
        assert folder.prepare()
        assert described(path)[0] == expected
        assert expected == PRIVATE_MODE or described(path)[2] == gid
    socket_path.unlink()
    assert folder.prepare()
    assert described(path) == (SHARED_MODE, 0, GROUP)


def test_nothing_is_changed_that_is_right(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that may not change permissions can use a folder that has them already."""
    assert folder_at(path).prepare()

    def forbidden(*_: Any) -> None:
        raise AssertionError

    for name in ("fchown", "fchmod", "chown", "chmod", "removexattr"):
        monkeypatch.setattr(os, name, forbidden)
    assert folder_at(path).prepare()


def test_no_socket_file(path: Path) -> None:
    """Without a socket file, as for an abstract name, no folder is made."""
    path.with_suffix("").unlink()
    assert not folder_at(path).prepare()
    path.with_suffix("").touch()
    assert not folder_at(path).prepare(), "a file that is no socket"
    assert not SpoolFolder("@name.spool", "@name").prepare()
    assert not path.exists()
    assert not os.path.lexists("@name.spool")


@needs_root
def test_a_group_that_the_hub_cannot_give(path: Path) -> None:
    """A hub that is not in the socket's group keeps the folder to itself, and logs it."""
    os.chown(path.parent, STRANGER, STRANGER)

    def prepare() -> None:
        folder = folder_at(path)
        assert folder.prepare()
        assert "group of the socket" in folder._fault

    assert as_user(STRANGER, prepare) == 0
    assert described(path) == (PRIVATE_MODE, STRANGER, STRANGER)
    path.rmdir()

    def prepare_as_member() -> None:
        folder = folder_at(path)
        assert folder.prepare()
        assert folder._fault == ""

    assert as_user(STRANGER, prepare_as_member, groups=[GROUP]) == 0
    assert described(path) == (SHARED_MODE, STRANGER, GROUP)


@needs_root
def test_an_inherited_access_control_list(path: Path) -> None:
    """An inherited default list, which would admit users that the socket does not, is removed."""
    everything = acl((1, 7, UNDEFINED_ID), (2, 7, STRANGER), (4, 0, UNDEFINED_ID), (16, 7, UNDEFINED_ID),
                     (32, 0, UNDEFINED_ID))  # fmt: skip
    try:
        os.setxattr(path.parent, "system.posix_acl_default", everything)
    except OSError as error:
        pytest.skip(f"no access control lists here: {error.strerror}")
    path.mkdir()
    path.chmod(SHARED_MODE)
    os.chown(path, 0, GROUP)
    assert as_user(STRANGER, (path / "let in").touch) == 0, "without the hub"
    assert folder_at(path).prepare()
    assert as_user(STRANGER, (path / "kept out").touch) == 1
    assert os.listxattr(path) == []
    assert described(path) == (SHARED_MODE, 0, GROUP)


# Folders of others.


def test_what_is_no_folder(path: Path) -> None:
    """A file, a link and a dangling path are refused and unchanged."""
    elsewhere = path.parent / "elsewhere"
    elsewhere.mkdir(0o755)
    makers: list[Callable[[], object]] = [
        path.touch,
        lambda: path.symlink_to(elsewhere),
        lambda: path.symlink_to(path),
    ]
    for make in makers:
        make()
        before = described(path)
        assert not folder_at(path).prepare()
        assert described(path) == before
        path.unlink()
    assert described(elsewhere)[0] == 0o755
    assert not SpoolFolder(str(path / "absent" / "x"), str(path.with_suffix(""))).prepare()


@needs_root
@pytest.mark.parametrize("mode", [0o700, 0o3730, 0o777])
def test_a_folder_of_somebody_else(path: Path, mode: int) -> None:
    """It is neither used nor taken over: its maker could list it, and may hold descriptors of it."""
    path.mkdir()
    os.chown(path, STRANGER, GROUP)
    path.chmod(mode)
    folder = folder_at(path)
    assert not folder.prepare()
    assert described(path) == (mode, STRANGER, GROUP)
    path.rmdir()
    assert folder.prepare(), "it is looked at again"


def test_a_folder_that_everybody_can_write_to(path: Path) -> None:
    """It is not used: the makers of its files are unknown."""
    path.mkdir()
    path.chmod(0o1777)
    assert not folder_at(path).prepare()
    assert described(path)[0] == 0o1777


def test_a_folder_that_is_replaced(path: Path) -> None:
    """Files are opened and removed in the checked folder; the next look uses the new one if it is allowed."""
    folder = folder_at(path)
    assert folder.prepare()
    seen = write(path / "seen").stat()
    path.rename(path.parent / "away")
    path.mkdir()
    other = write(path / "seen", b"another")
    with folder.open_file("seen") as (_, there):
        assert there.st_ino == seen.st_ino
    assert folder.remove("seen", seen.st_ino, seen.st_uid)
    assert (other.read_bytes(), list((path.parent / "away").iterdir())) == (b"another", [])
    assert folder.prepare()
    with folder.open_file("seen") as (_, there):
        assert there.st_ino == other.stat().st_ino
    path.rename(path.parent / "away too")
    path.symlink_to(path.parent / "away too")
    assert not folder.prepare()


# Files.


@needs_root
@pytest.mark.parametrize("kind", ["link", "group", "others", "list", "fifo", "symlink", "folder", "sound"])
def test_a_file_that_another_can_have_written(path: Path, kind: str) -> None:
    """Only a regular file with one link, and write permission for its owner only, is opened."""
    folder = folder_at(path)
    assert folder.prepare()
    roots = write(path.parent / "roots", b"text", mode={"group": 0o660, "others": 0o602}.get(kind, 0o640))
    name = path / "x"
    if kind == "link":
        os.link(roots, name)
    elif kind == "fifo":
        os.mkfifo(name, 0o600)
    elif kind == "symlink":
        name.symlink_to(roots)
    elif kind == "folder":
        name.mkdir()
    else:
        roots.rename(name)
    if kind == "list":
        entries = acl((1, 6, UNDEFINED_ID), (2, 6, STRANGER), (4, 0, UNDEFINED_ID), (16, 6, UNDEFINED_ID),
                      (32, 0, UNDEFINED_ID))  # fmt: skip
        try:
            os.setxattr(name, "system.posix_acl_access", entries)
        except OSError as error:
            pytest.skip(f"no access control lists here: {error.strerror}")
    assert folder.is_sound(name.lstat()) == (kind == "sound")
    if kind == "sound":
        with folder.open_file("x") as (fd, _):
            assert os.pread(fd, 10, 0) == b"text"
    else:
        with pytest.raises(OSError), folder.open_file("x"):  # noqa: PT011  the error depends on the kind
            pass


def test_what_is_checked_is_what_is_read(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that gets a second link between check and open is refused."""
    folder = folder_at(path)
    assert folder.prepare()
    write(path / "x")
    original = os.open

    def open_late(name: str, flags: int, *args: Any, **options: Any) -> int:
        os.link(path / "x", path / "y")
        return original(name, flags, *args, **options)

    monkeypatch.setattr(os, "open", open_late)
    with pytest.raises(FileNotFoundError), folder.open_file("x"):
        pass


@needs_root
@pytest.mark.parametrize(
    ("mode", "uid", "gid", "groups", "expected"),
    [
        (0o600, 0, 0, None, True),
        (0o600, STRANGER, GROUP, frozenset({GROUP}), False),
        (0o660, STRANGER, GROUP, None, True),  # made in this folder, so by a member
        (0o660, STRANGER, STRANGER, None, False),  # made elsewhere, by an unknown user
        (0o660, STRANGER, STRANGER, frozenset({GROUP}), True),
        (0o660, STRANGER, STRANGER, frozenset({1}), False),
        (0o666, STRANGER, STRANGER, None, True),
        (0o606, STRANGER, GROUP, None, False),
    ],
)
def test_who_may_open_the_socket(
    path: Path, mode: int, uid: int, gid: int, groups: frozenset[int] | None, expected: bool
) -> None:
    """Owner, group and mode of the socket decide, as in the kernel."""
    path.with_suffix("").chmod(mode)
    folder = folder_at(path)
    assert folder.prepare()
    assert folder.admits(uid, gid, groups) is expected


@needs_root
def test_the_owner_of_the_socket(path: Path) -> None:
    """A socket made by systemd may belong to another user, who is admitted."""
    folder = folder_at(path)
    os.chown(path.with_suffix(""), STRANGER, GROUP)
    for mode, expected in ((0o660, True), (0o460, False)):
        path.with_suffix("").chmod(mode)
        assert folder.prepare()
        assert folder.admits(STRANGER, GROUP, None) is expected


@needs_root
def test_whose_lock_counts(path: Path) -> None:
    """A process is alive if it holds the lock of its spool, and the lock belongs to the same user."""
    folder = folder_at(path)
    assert folder.prepare()
    spool = Spool(str(path), new_session())
    assert folder.is_dead(spool._name, 0), "there is no lock"
    spool.allocate(4096)
    assert not folder.is_dead(spool._name, 0)
    assert folder.is_dead(spool._name, STRANGER), "the lock of another user"
    spool.close(keep=True)
    assert folder.is_dead(spool._name, 0)
    theirs = write(path / lock_name(new_session()))
    os.chown(theirs, STRANGER, GROUP)
    assert folder.is_dead(theirs.name.removesuffix(".lock"), 0)


def test_only_what_was_seen_is_removed(path: Path) -> None:
    """A new file of that name stays; a folder is removed if it is empty; a missing file counts as removed."""
    folder, uid = folder_at(path), os.geteuid()
    assert folder.prepare()
    first = write(path / "x").stat().st_ino
    write(path / "other").rename(path / "x")
    second = (path / "x").stat().st_ino
    assert folder.remove("x", first, uid)
    assert folder.remove("x", second, uid + 1), "another user's, to whom the inode has come"
    assert (path / "x").exists()
    assert folder.remove("x", second, uid)
    assert not (path / "x").exists()
    assert folder.remove("x", second, uid)
    (path / "d" / "inside").mkdir(parents=True)
    inode = (path / "d").stat().st_ino
    assert not folder.remove("d", inode, uid)
    (path / "d" / "inside").rmdir()
    assert folder.remove("d", inode, uid)
    assert list(path.iterdir()) == []


def test_no_descriptor_is_kept(path: Path) -> None:
    """After any number of calls of `prepare` one descriptor is open; after `close` none."""
    before = descriptors()
    folder = folder_at(path)
    for _ in range(10):
        assert folder.prepare()
    write(path / "x")
    with folder.open_file("x"):
        pass
    assert descriptors() == before + 1
    folder.close()
    assert descriptors() == before
