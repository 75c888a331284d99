"""
Memory that outlives the process: segments of files in the folder that the hub makes beside its socket.

The hub reads them when their owner is dead, as it would read a connection (hub.sources.spool). A living process holds a
lock on a file of its own: `lockf`, which a forked child does not keep, and on no segment, for closing any descriptor of
a locked file would drop it.

Always true:
- a segment's space is reserved before it is mapped: a full disk is an error here, and no SIGBUS in the application;
- without folder, permission or space there is memory of the process only, and `fault` says why;
- so there is where somebody else could read what waits: the folder belongs to root, to us or to the owner of the hub's
  socket, nobody else can replace it or the files in it, and it is used through one descriptor, whatever comes to stand
  at its path (hub.trust);
- all files of a session belong to one user (producers.owner);
- what was acknowledged, and `close`, leave no file behind; what was not stays for the hub.

Not here: what is in a segment (producers.backlog, hub.wire.spoolfile).
Source: posix_fallocate(3), mmap(2), fcntl(2); the experiments behind it: full disks, forks, closed descriptors.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import sys
from collections.abc import Callable, Set
from typing import NamedTuple

from hub import trust
from hub.lockfile import LockFile, LockTaken
from hub.wire import spoolfile
from producers.owner import Owner

MODE = 0o640


class Memory(NamedTuple):
    """A stretch of memory, and what lets go of its file, if it has one."""

    map: mmap.mmap
    free: Callable[[], None]
    is_file: bool = False


def anonymous(size: int) -> Memory:
    """Return *size* bytes of this process alone."""
    return Memory(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), lambda: None)


class _Folder:
    """The open folder."""

    def __init__(self, path: str, owners: Set[int]) -> None:
        # O_PATH: those who may make files in it need not be able to list it.
        self.handle = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            trust.check_folder(path, os.fstat(self.handle), owners)
        except BaseException:
            self.close()
            raise

    def unlink(self, name: str) -> None:
        """Remove a file, if that is possible."""
        if self.handle != -1:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=self.handle)

    def close(self) -> None:
        """Close it once: the same number may be somebody else's then."""
        handle, self.handle = self.handle, -1
        if handle != -1:
            os.close(handle)


class Spool:
    """
    Allocates the memory of one session, in files of *folder* if it can.

    *socket* is the hub's socket, whose owner may have the folder; *owner* is the user of the session.
    """

    def __init__(self, folder: str, session: str, *, socket: str | None = None, owner: Owner | None = None) -> None:
        self.folder = folder
        self.fault = ""
        """Why there are no files, empty while there are."""
        self._session = session
        self._socket = socket
        self._owner = owner or Owner()
        self._opened: _Folder | None = None
        self._lock: LockFile | None = None
        self._number = 0
        self._is_closed = False

    @property
    def is_in_use(self) -> bool:
        """Whether the hub will find what is in files: somebody may have removed the folder."""
        return self._lock is not None and self._lock.is_in_place()

    def allocate(self, size: int) -> Memory:
        """Return *size* bytes, in a file where that is possible."""
        try:
            if not spoolfile.IS_POSSIBLE or not hasattr(os, "posix_fallocate") or not hasattr(os, "O_PATH"):
                raise OSError(0, "this system cannot reserve space in a file")
            if not self._owner.claim():
                raise OSError(0, f"it is for files of user {self._owner.uid}, and this process is another's now")
            if self._opened is None or not self.is_in_use:  # a file without a lock would be taken for a dead one's
                self._opened = self._open()
            return self._make_segment(self._opened, size)
        except trust.Untrusted as error:
            self.fault = f"{self.folder}: {error.reason if error.place == self.folder else error}"
        except (OSError, LockTaken) as error:
            self.fault = f"{self.folder}: {getattr(error, 'strerror', None) or error}"
        return anonymous(size)

    def close(self, *, keep: bool) -> None:
        """Let go of the lock. What is not acknowledged is left for the hub if *keep* is set."""
        if self._lock is None or self._is_closed:
            return
        self._is_closed = True
        if not keep and self._opened is not None:
            self._opened.unlink(spoolfile.lock_name(self._session))
        self._lock.release()
        self._close_folder()

    def forget(self) -> None:
        """After a fork: all of it is the parent's."""
        if self._lock is not None and not self._is_closed:
            self._is_closed = True
            self._lock.forget()
            self._close_folder()

    def _open(self) -> _Folder:
        """Open the folder anew and take the lock in it. Raises OSError or LockTaken."""
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

    def _close_folder(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _take_lock(self, folder: _Folder) -> LockFile:
        """Lock a file of another name first: by its own the hub would take it for that of a dead one."""
        path = os.path.join(self.folder, spoolfile.lock_name(self._session))
        unseen = f"{path}.{secrets.token_hex(4)}"
        lock = LockFile(unseen, mode=MODE, is_new=True, dir_fd=folder.handle)  # the hub is to read it
        try:
            lock.rename(path)
        except BaseException:
            lock.release()
            folder.unlink(os.path.basename(unseen))
            raise
        return lock

    def _make_segment(self, folder: _Folder, size: int) -> Memory:
        self._number += 1
        name = spoolfile.segment_name(self._session, self._number)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(name, flags, MODE, dir_fd=folder.handle)
        try:
            os.fchmod(handle, MODE)  # whatever the umask
            os.posix_fallocate(handle, 0, size)
            os.pwrite(handle, spoolfile.pack_header(self._session, os.getpid(), _command_name()), 0)
            memory = mmap.mmap(handle, size)
        except BaseException:
            folder.unlink(name)
            raise
        finally:
            os.close(handle)
        self.fault = ""
        return Memory(memory, lambda: folder.unlink(name), is_file=True)


def _command_name() -> str:
    try:
        with open("/proc/self/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return os.path.basename(sys.argv[0]) if sys.argv else ""
