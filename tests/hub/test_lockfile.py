"""hub.lockfile: one process, and one lock in it."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from hub import descriptor, lockfile
from hub.lockfile import LockFile, LockTaken, is_dying
from tests.users import ALICE, NEEDS_ROOT

HOLDER = "import sys; from hub.lockfile import LockFile; lock = LockFile(sys.argv[1]); "
HOLDER += "print('held', flush=True); sys.stdin.read()"


def test_a_second_one_in_this_process_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    """The error names the holder; the first lock stays held, and is released once."""
    path = str(tmp_path / "lock")
    lock = LockFile(path)
    for _ in range(2):
        with pytest.raises(LockTaken) as taken:
            LockFile(path)
        assert taken.value.pid == os.getpid()
    assert subprocess.run([sys.executable, "-c", HOLDER, path], capture_output=True, check=False).returncode == 1
    assert lock.is_in_place()
    lock.release()
    lock.release()
    assert not lock.is_in_place(), "its file is there, and is no longer ours"
    LockFile(path).release()


def test_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that nobody has any more is released, also if a signal handler interrupted the taking of it."""
    path = str(tmp_path / "lock")
    open_before = os.listdir("/dev/fd")
    lock: LockFile | None = LockFile(path)
    del lock
    LockFile(path).release()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    for module, name in ((descriptor, "identity"), (lockfile, "_has_name")):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, interrupt)
            with pytest.raises(KeyboardInterrupt):
                LockFile(path)
        LockFile(path).release()
    assert os.listdir("/dev/fd") == open_before


def test_it_can_be_removed(tmp_path: Path) -> None:
    """The file is gone then, except if another file has its name; a second call does nothing."""
    path = tmp_path / "lock"
    lock = LockFile(str(path))
    lock.remove()
    lock.remove()
    assert os.listdir(tmp_path) == []
    lock = LockFile(str(path))
    path.unlink()
    path.write_text("another's")
    lock.remove()
    assert path.read_text() == "another's"


def test_a_file_that_is_removed_before_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on a file that has lost its name is no lock: the file that has the name now is opened instead."""
    path, real = tmp_path / "lock", fcntl.lockf
    removed: list[int] = []

    def lockf(fd: int, command: int) -> None:
        if not removed:
            removed.append(os.fstat(fd).st_ino)
            path.unlink()
        real(fd, command)

    monkeypatch.setattr(fcntl, "lockf", lockf)
    lock = LockFile(str(path))
    assert lock.is_in_place()
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    assert len(removed) == 1
    lock.release()


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_its_mode_is_what_was_asked_for(tmp_path: Path, umask: int) -> None:
    """
    The mode is exact, whatever the umask and whatever mode an older program left: a reader can keep others from
    locking.
    """
    (tmp_path / "old").touch(mode=0o666)
    (tmp_path / "old").chmod(0o666)
    before = os.umask(umask)
    try:
        for name, mode in (("old", 0o600), ("new", 0o600), ("shared", 0o640)):
            LockFile(str(tmp_path / name), mode=mode).release()
            assert (tmp_path / name).stat().st_mode & 0o777 == mode
    finally:
        os.umask(before)


def test_another_process_has_it_until_it_dies(tmp_path: Path) -> None:
    """Its process id is reported; after SIGKILL the lock is free, even while a child of the dead process lives."""
    path = str(tmp_path / "lock")
    program = "import os; " + HOLDER.replace("print(", "os.fork() or os.read(0, 1); print(")
    holder = subprocess.Popen([sys.executable, "-c", program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(LockTaken) as taken:
        LockFile(path)
    assert taken.value.pid == holder.pid
    holder.kill()
    holder.wait()
    LockFile(path).release()
    holder.stdin.close()
    holder.stdout.close()


def test_a_holder_that_is_dying_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed process that still waits for the disk holds its lock for a moment; its successor does not give up."""
    path = str(tmp_path / "lock")
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        assert not is_dying(holder.pid)
        asked: list[int] = []

        def is_dying_now(pid: int) -> bool:
            asked.append(pid)
            if len(asked) == 3:  # the disk has answered
                holder.kill()
                holder.wait()
            return True

        monkeypatch.setattr(lockfile, "is_dying", is_dying_now)
        LockFile(path).release()
        assert set(asked) == {holder.pid}
        assert len(asked) >= 3


def test_a_process_that_is_killed_is_dying_until_it_is_gone() -> None:
    """A zombie is dying, one that is no longer there is gone, and this one lives."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert is_dying(process.pid)
    process.wait()
    assert is_dying(process.pid)
    assert not is_dying(os.getpid())


def test_a_full_disk_and_a_wrong_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock holds even if the process id cannot be written; a file that cannot be locked is an OSError."""

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        lock = LockFile(str(tmp_path / "lock"))
    with pytest.raises(LockTaken):
        LockFile(str(tmp_path / "lock"))
    lock.release()
    (tmp_path / "link").symlink_to(tmp_path / "lock")
    for name in ("link", "absent/lock"):
        with pytest.raises(OSError, match=r"."):
            LockFile(str(tmp_path / name))


def test_an_exact_mode(tmp_path: Path) -> None:
    """A new file gets exactly the requested mode, whatever the umask; an existing file is refused, and kept."""
    path, before = tmp_path / "lock", os.umask(0o077)
    try:
        lock = LockFile(str(path), mode=0o640, is_new=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    lock.release()
    with pytest.raises(FileExistsError):
        LockFile(str(path), is_new=True)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_second_name(tmp_path: Path) -> None:
    """A lock file with two names may be another file: it is refused, and not emptied."""
    (tmp_path / "file").write_text("precious")
    os.link(tmp_path / "file", tmp_path / "lock")
    with pytest.raises(OSError, match="second name"):
        LockFile(str(tmp_path / "lock"))
    assert (tmp_path / "file").read_text() == "precious"
    (tmp_path / "file").unlink()
    LockFile(str(tmp_path / "lock")).release()


def test_in_an_open_folder(tmp_path: Path) -> None:
    """
    With a folder's descriptor the lock is created and renamed in that folder; `is_in_place` checks the folder's path.
    """
    folder, path = tmp_path / "folder", tmp_path / "folder/lock"
    folder.mkdir()
    handle = os.open(folder, os.O_PATH)
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    lock = LockFile(str(path), dir_fd=handle)
    assert (os.listdir(folder), os.listdir(tmp_path / "moved")) == ([], ["lock"])
    lock.rename(str(folder / "other"))
    assert os.listdir(tmp_path / "moved") == ["other"]
    assert not lock.is_in_place()
    folder.rmdir()
    (tmp_path / "moved").rename(folder)
    assert lock.is_in_place()
    with pytest.raises(LockTaken):
        LockFile(str(folder / "other"))
    lock.release()
    os.close(handle)


@NEEDS_ROOT
def test_seen_by_another_user(tmp_path: Path) -> None:
    """A process without access to the path takes the file to be in place until it is removed."""
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o700)
    lock = LockFile(str(folder / "lock"))
    for is_there in (True, False):
        os.seteuid(ALICE)
        assert lock.is_in_place() == is_there
        os.seteuid(0)
        (folder / "lock").unlink(missing_ok=True)
    lock.release()


def test_a_closed_descriptor_is_noticed_at_once(tmp_path: Path) -> None:
    """Closing it has released the lock. Only who says how long a look is believed hears of it later."""
    lock = LockFile(str(tmp_path / "lock"))
    assert lock.is_in_place()
    assert lock.is_in_place(believed_s=3600.0)
    os.close(lock._fd)
    assert lock.is_in_place(believed_s=3600.0)
    assert not lock.is_in_place()
    assert not lock.is_in_place(believed_s=0.0)
    lock.release()


def test_a_file_of_the_program_in_its_place_is_not_closed(tmp_path: Path) -> None:
    """
    The program has closed the descriptor, and its next file got the number and, as ours was removed, the inode too.
    Here it is another name of the same inode, as no file system promises to use one again.
    """
    lock = LockFile(str(tmp_path / "lock"))
    os.link(tmp_path / "lock", tmp_path / "theirs")
    os.unlink(tmp_path / "lock")
    os.close(lock._fd)
    theirs = os.open(tmp_path / "theirs", os.O_RDWR)
    assert theirs == lock._fd
    os.utime(theirs, ns=(0, lock._written_ns + 1))
    lock.release()
    os.close(theirs)


@pytest.mark.parametrize(("is_touched", "is_removed"), [(True, False), (False, True), (False, False)])
def test_its_own_descriptor_is_closed(tmp_path: Path, is_touched: bool, is_removed: bool) -> None:
    """Also if somebody has touched its file, or removed it."""
    lock = LockFile(str(tmp_path / "lock"))
    if is_touched:
        os.utime(tmp_path / "lock")
    if is_removed:
        os.unlink(tmp_path / "lock")
    lock.release()
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        os.fstat(lock._fd)


def test_the_holder(tmp_path: Path) -> None:
    """It is known without a lock of one's own, also here, and there is none where nothing is held."""
    path = str(tmp_path / "lock")
    assert lockfile.holder_of(path) is None
    lock = LockFile(path)
    assert lockfile.holder_of(path) == os.getpid()
    assert lock.is_in_place()
    lock.release()
    assert lockfile.holder_of(path) is None
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        assert lockfile.holder_of(path) == process.pid
        process.kill()
        process.communicate()
    assert lockfile.holder_of(path) is None
    assert lockfile.holder_of(str(tmp_path)) is None
