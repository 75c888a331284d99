"""
Memory that outlives the process: segments mapped from files in the folder that the hub creates beside its socket.

When the owner of the files has died, the hub reads them like the data of a connection (hub.sources.spool). A living
process holds a lock on a separate file: with `lockf`, which a forked child does not inherit. It locks no segment,
because closing any descriptor of a locked file releases the lock.

Always true:
- the space of a segment is reserved before it is mapped: a full disk is an error here, not a SIGBUS in the application;
- without a folder, permission or space, memory of the process is used, and `fault` gives the reason;
- the same holds if another user could read the files: the folder must belong to root, to us or to the owner of the
  hub's socket, and no other user may be able to replace it or the files in it. It is used through one descriptor, so
  that replacing its path has no effect (hub.trust);
- all files of a session belong to one user (producers.owner);
- acknowledged messages, and `close` without *keep*, leave no file; unacknowledged messages stay for the hub.

Not here: the contents of a segment (producers.backlog, hub.wire.spoolfile).
Source: posix_fallocate(3), mmap(2), fcntl(2); experiments with full disks, forks and closed descriptors.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
from collections.abc import Callable, Set
from typing import NamedTuple

from hub import descriptor, trust
from hub.lockfile import LockFile, LockTaken
from hub.wire import spoolfile
from hub.wire.chunkid import SESSION_LENGTH
from producers.owner import Owner

MODE = 0o640


class Memory(NamedTuple):
    """A mapping, and the function that removes its file, if it has one."""

    map: mmap.mmap
    free: Callable[[], None]
    is_file: bool = False


_HAS_DESCRIPTOR: bool = sys.version_info < (3, 13)
_kept: list[mmap.mmap] = []


class _Mapping(mmap.mmap):
    """
    A mapped file. Before Python 3.13 a mapping keeps a descriptor of its own and closes it at its end, so one whose
    descriptor the application has closed is kept.
    """

    def close(self) -> None:
        if self._closes_ours():
            super().close()
        else:
            _kept.append(self)

    def __del__(self) -> None:
        if not self.closed and not self._closes_ours():
            _kept.append(self)

    def _closes_ours(self) -> bool:
        try:
            return not _HAS_DESCRIPTOR or self.size() == len(self)
        except OSError:
            return False


def _map(fd: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return _Mapping(fd, size, trackfd=False)
    else:  # noqa: RET505  mypy knows only then why it is unreachable
        return _Mapping(fd, size)


def anonymous(size: int) -> Memory:
    """Return *size* bytes of process memory."""
    return Memory(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), lambda: None)


class _Folder:
    """The open spool folder."""

    def __init__(self, path: str, owners: Set[int]) -> None:
        # O_PATH: a user who may create files in it may lack permission to list it.
        self.fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._identity = descriptor.identity(self.fd)
        try:
            trust.check_folder(path, os.fstat(self.fd), owners)
        except BaseException:
            self.close()
            raise

    def __del__(self) -> None:
        if hasattr(self, "_identity"):
            self.close()  # a signal handler that raised may have interrupted the opening

    @property
    def is_open(self) -> bool:
        """Whether the descriptor is still this folder's."""
        return descriptor.is_same(self.fd, self._identity)

    def unlink(self, name: str) -> None:
        """Remove a file; errors are ignored."""
        if self.is_open:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self.fd)

    def close(self) -> None:
        """Close it once: the number may be reused for another file."""
        fd, self.fd = self.fd, -1
        descriptor.close(fd, self._identity)


class Spool:
    """
    Allocates the memory of one session, in files of *folder* if possible.

    *socket* is the hub's socket, whose owner may also own the folder. *owner* is the user of the session.
    """

    def __init__(self, folder: str, session: str, *, socket: str | None = None, owner: Owner | None = None) -> None:
        self.folder = folder
        self.fault = ""
        """Why there are no files; empty while there are."""
        self._session = session
        self._name = os.urandom(SESSION_LENGTH // 2).hex()
        """The beginning of the names of its files. It is not the session, which readers of the journal know."""
        self._socket = socket
        self._owner = owner or Owner()
        self._opened: _Folder | None = None
        self._lock: LockFile | None = None
        self._number = 0
        self._is_closed = False

    @property
    def is_in_use(self) -> bool:
        """Whether the hub can find the files: the lock file still has its name."""
        return self._lock is not None and self._lock.is_in_place()

    def allocate(self, size: int) -> Memory:
        """Return *size* bytes, in a file if possible."""
        try:
            if not spoolfile.IS_POSSIBLE or not hasattr(os, "posix_fallocate") or not hasattr(os, "O_PATH"):
                raise OSError(0, "this system cannot reserve space in a file")
            if not self._owner.claim():
                raise OSError(
                    0, f"it is for files of user {self._owner.uid}, but this process now runs as another user"
                )
            # The hub would adopt a file without a lock.
            if self._opened is None or not self._opened.is_open or not self.is_in_use:
                self._opened = self._open()
            return self._make_segment(self._opened, size)
        except trust.Untrusted as error:
            self.fault = f"{self.folder}: {error.reason if error.place == self.folder else error}"
        except (OSError, LockTaken) as error:
            self.fault = f"{self.folder}: {getattr(error, 'strerror', None) or error}"
        return anonymous(size)

    def close(self, *, keep: bool) -> None:
        """Release the lock. With *keep* its file stays, so that the hub finds what is not acknowledged."""
        if self._lock is None or self._is_closed:
            return
        self._is_closed = True
        if not keep and self._opened is not None:
            self._opened.unlink(spoolfile.lock_name(self._name))
        self._lock.release()
        self._close_folder()

    def after_fork(self) -> None:
        """In a forked child: close the copies of the parent's descriptors."""
        if self._lock is not None and not self._is_closed:
            self._is_closed = True
            self._lock.after_fork()
            self._close_folder()

    def _open(self) -> _Folder:
        """Open the folder again and take the lock in it. Raises OSError or LockTaken."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._close_folder()
        if self._socket is None:
            owners: Set[int] = trust.check(os.path.dirname(self.folder), is_client=True).owners
        else:
            socket = trust.check(self._socket, is_client=True)
            owners = socket.owners | ({socket.described.st_uid} if socket.described is not None else set())
        folder = _Folder(self.folder, owners)
        try:
            self._lock = self._take_lock(folder)
        except BaseException:
            folder.close()
            raise
        return folder

    def _unlink(self, folder: _Folder, name: str) -> None:
        """Remove a file of *folder*, or of the one that was opened after the program had closed that."""
        (folder if folder.is_open or self._opened is None else self._opened).unlink(name)

    def _close_folder(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _take_lock(self, folder: _Folder) -> LockFile:
        """
        Lock a file under a temporary name, then rename it: an unlocked file of the final name would look like a dead
        owner's.
        """
        path = os.path.join(self.folder, spoolfile.lock_name(self._name))
        unseen = f"{path}.{os.urandom(4).hex()}"
        lock = LockFile(unseen, mode=MODE, is_new=True, dir_fd=folder.fd)  # the hub must be able to read it
        try:
            lock.rename(path)
        except BaseException:
            lock.release()
            folder.unlink(os.path.basename(unseen))
            raise
        return lock

    def _make_segment(self, folder: _Folder, size: int) -> Memory:
        self._number += 1
        name = spoolfile.segment_name(self._name, self._number)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(name, flags, MODE, dir_fd=folder.fd)
        try:
            os.fchmod(fd, MODE)  # independent of the umask
            os.posix_fallocate(fd, 0, size)
            os.pwrite(fd, spoolfile.pack_header(self._session, os.getpid(), _command_name()), 0)
            memory = _map(fd, size)
        except BaseException:
            folder.unlink(name)
            raise
        finally:
            os.close(fd)
        self.fault = ""
        return Memory(memory, lambda: self._unlink(folder, name), is_file=True)


def _command_name() -> str:
    try:
        fd = os.open("/proc/self/comm", os.O_RDONLY | os.O_CLOEXEC)  # at interpreter shutdown there is no `open`
        try:
            return os.read(fd, 64).decode(errors="replace").rstrip("\n")
        finally:
            os.close(fd)
    except OSError:
        return os.path.basename(sys.argv[0]) if sys.argv else ""
