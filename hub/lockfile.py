"""
An exclusive right to a resource, by a lock on a file beside it.

The lock is `lockf`, not `flock`: a child forked while we held it must not keep it after our death. But a `lockf` lock
does not exclude its own process, and closing any descriptor of the file releases it. So the locks that this process
holds are recorded.

Always true: one process, and one `LockFile` in it, holds the lock. The file contains the process id. It may be removed
only while it is locked: a process that has locked the file checks that it still has its name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import stat
import struct
import sys
import threading
import time

from hub import descriptor

DYING_S = 10.0
"""How long to wait for a lock whose holder has been killed."""
_FLOCK = struct.Struct("hhqqi4x")  # Linux, 64 bits
_held_here: set[str] = set()
_one_at_a_time = threading.Lock()


def after_fork() -> None:
    """In a forked child: another thread of the parent may have held the mutex at the fork."""
    global _one_at_a_time  # noqa: PLW0603  the parent's would never be released here
    _one_at_a_time = threading.Lock()


class LockTaken(Exception):  # translated by the callers
    """The lock is held by the process *pid*, None if the file does not contain a process id."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(pid)
        self.pid = pid


def is_dying(pid: int) -> bool:
    """
    Return whether the process has been killed and is not gone yet. Where the kernel does not report that, return False.

    A process that is writing to a disk dies when the disk has answered. Until then it holds its locks, and a successor
    may have been started.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as status:
            lines = dict(line.split(b":", 1) for line in status.read().splitlines() if b":" in line)
    except FileNotFoundError:
        return os.path.isdir("/proc/self")  # it has just gone
    except OSError:
        return False
    pending = int(lines.get(b"SigPnd", b"0"), 16) | int(lines.get(b"ShdPnd", b"0"), 16)
    return bool(pending >> signal.SIGKILL - 1 & 1) or lines.get(b"State", b"").strip()[:1] in (b"Z", b"X")


def is_owner_dead(path: str, *, dir_fd: int | None = None) -> bool:
    """
    Return whether the file at *path* exists and no process holds its lock. Read permission is enough.

    With *dir_fd*, a descriptor of its folder, the file is opened in that folder. Raises OSError.
    """
    with _one_at_a_time:
        if os.path.realpath(path) in _held_here:
            return False
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # it may be a FIFO
        fd = os.open(path if dir_fd is None else os.path.basename(path), flags, dir_fd=dir_fd)
        try:
            fcntl.lockf(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            return False
        finally:
            os.close(fd)
        return True


def holder_of(path: str) -> int | None:
    """
    Return the process that holds the lock at *path*: 0 if it is in another container, None if there is none or it is
    unknown. No lock is taken, so that a process which starts at this moment is not refused.
    """
    with _one_at_a_time:
        if os.path.realpath(path) in _held_here:  # to close a descriptor of the file would release it
            return os.getpid()
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            found = fcntl.fcntl(fd, fcntl.F_GETLK, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        except OSError:
            return None
        finally:
            os.close(fd)
        kind, _, _, _, pid = _FLOCK.unpack(found)
        return pid if sys.platform == "linux" and kind != fcntl.F_UNLCK else None


class LockFile:
    """
    A held lock. Raises LockTaken or OSError.

    The file gets *mode*, whatever the umask and whatever mode an older program left. With *is_new* it must not exist
    yet. With *dir_fd*, a descriptor of the folder of *path*, the file is created and renamed in that folder, even if
    the folder's path now names another one.
    """

    def __init__(self, path: str, *, mode: int = 0o600, is_new: bool = False, dir_fd: int | None = None) -> None:
        self._key = os.path.realpath(path)
        self._dir_fd = dir_fd
        self.is_held: bool = False
        self._identity: descriptor.Identity | None = None
        self._written_ns: int = -1
        self._looked_at = float("-inf")
        with _one_at_a_time:
            if self._key in _held_here:
                raise LockTaken(os.getpid())
            self._fd = _locked(self._name(path), mode, is_new, dir_fd)
            self.is_held = True
            self._identity = descriptor.identity(self._fd)  # no other file gets this inode while the file is open
            _held_here.add(self._key)
            with contextlib.suppress(OSError):  # a full disk: the file then lacks our process id
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)
            self._written_ns = os.fstat(self._fd).st_mtime_ns

    def __del__(self) -> None:
        """
        Release a lock that nobody can release any more: a signal handler that raised has interrupted its owner before
        the owner had it. Without the mutex, which the thread that runs finalizers may hold.
        """
        if self.is_held:
            self._let_go()

    def is_in_place(self, *, believed_s: float = 0.0) -> bool:
        """
        Return whether the lock is held and the file still has its name: another process may have removed it.

        If the last check is *believed_s* seconds old or older, also check that this program has not closed the
        descriptor, which would release the lock.
        """
        if not self.is_held or not self._is_open(believed_s):
            return False
        try:
            there = os.lstat(self._key)
        except PermissionError:  # this process has become another user, without access
            return os.fstat(self._fd).st_nlink > 0
        except OSError:
            return False
        return (there.st_dev, there.st_ino) == self._identity

    def _is_open(self, believed_s: float) -> bool:
        now = time.monotonic()
        if now - self._looked_at >= believed_s:
            if not descriptor.is_same(self._fd, self._identity):
                return False
            self._looked_at = now
        return True

    def rename(self, path: str) -> None:
        """Rename the file. It stays locked throughout. Raises OSError."""
        with _one_at_a_time:
            key = os.path.join(os.path.dirname(self._key), os.path.basename(path))
            _held_here.add(key)  # first, so that no thread of this process opens it
            try:
                os.rename(self._name(self._key), self._name(key), src_dir_fd=self._dir_fd, dst_dir_fd=self._dir_fd)
            except BaseException:
                _held_here.discard(key)
                raise
            _held_here.discard(self._key)
            self._key = key

    def _name(self, path: str) -> str:
        """Return *path* as passed to system calls: with a descriptor of the folder, its last part."""
        return path if self._dir_fd is None else os.path.basename(path)

    def after_fork(self) -> None:
        """In a forked child: the lock is the parent's. Closing our copy of the descriptor does not release it."""
        self._let_go()

    def remove(self) -> None:
        """Remove the file, if it still has its name, and release the lock."""
        if self.is_in_place():
            with contextlib.suppress(OSError):
                os.unlink(self._name(self._key), dir_fd=self._dir_fd)
        self.release()

    def release(self) -> None:
        """Release the lock. A second call does nothing."""
        with _one_at_a_time:
            if self.is_held:
                self._let_go()

    def _let_go(self) -> None:
        self.is_held = False
        if self._identity is None or self._is_ours():  # without an identity, it was interrupted as it was opened
            os.close(self._fd)
        _held_here.discard(self._key)

    def _is_ours(self) -> bool:
        """
        Return whether the descriptor is still that of our file. If the program has closed it, and the file was removed
        since, the program's next file may have both its number and its inode, but it was written later.
        """
        if not descriptor.is_same(self._fd, self._identity):
            return False
        with contextlib.suppress(OSError):
            there = os.lstat(self._key)
            if (there.st_dev, there.st_ino) == self._identity:
                return True
        return os.fstat(self._fd).st_mtime_ns == self._written_ns


def _locked(path: str, mode: int, is_new: bool, dir_fd: int | None) -> int:
    """Return a descriptor of the file that has the name *path*, locked. Raises LockTaken or OSError."""
    patience = time.monotonic() + DYING_S
    while True:
        fd = _open(path, mode, is_new, dir_fd)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _has_name(fd, path, dir_fd):
                return fd
        except OSError as error:
            owner = os.pread(fd, 20, 0).strip()
            os.close(fd)
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            pid = int(owner) if owner.isdigit() else None
            if pid is None or not is_dying(pid) or time.monotonic() > patience:
                raise LockTaken(pid) from None
            time.sleep(0.01)
            continue
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)  # its holder removed it between our two calls


def _has_name(fd: int, path: str, dir_fd: int | None) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path, dir_fd=dir_fd, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _open(path: str, mode: int, is_new: bool, dir_fd: int | None) -> int:
    """
    Open a lock file, creating it if necessary. Raises OSError, also for a file with a second name: it would be emptied.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_EXCL if is_new else 0)
    fd = os.open(path, flags, mode, dir_fd=dir_fd)
    try:
        there = os.fstat(fd)
        if there.st_nlink > 1:
            raise OSError(errno.EMLINK, "it has a second name, so it may be another file", path)
        if stat.S_IMODE(there.st_mode) != mode:
            os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd
