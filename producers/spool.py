"""
Memory that outlives the process: segments of files in the folder that the hub makes beside its socket.

The hub reads them when their owner is dead, as it would read a connection (hub.adoption). Who is alive holds a lock on
a file of its own: `lockf`, which a forked child does not keep, and on no segment, for closing any descriptor of a
locked file would drop it.

Always true:
- a segment's space is reserved before it is mapped: a full disk is an error here, and no SIGBUS in the application;
- without folder, permission or space there is memory of the process only, and `fault` says why;
- what was acknowledged, and `close`, leave no file behind; what was not stays for the hub.

Not here: what is in a segment (producers.backlog, hub.wire.spooled).
Source: posix_fallocate(3), mmap(2), fcntl(2); the experiments behind it: full disks, forks, closed descriptors.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
import sys
from collections.abc import Callable
from typing import NamedTuple

from hub.lockfile import LockFile, LockTaken
from hub.wire import spooled

MODE = 0o640


class Memory(NamedTuple):
    """A stretch of memory, and what lets go of its file, if it has one."""

    map: mmap.mmap
    free: Callable[[], None]
    is_file: bool = False


def anonymous(size: int) -> Memory:
    """Return *size* bytes of this process alone."""
    return Memory(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS), lambda: None)


class Spool:
    """Allocates the memory of one session, in files if it can."""

    def __init__(self, folder: str, session: str) -> None:
        self.folder = folder
        self.fault = ""
        """Why there are no files, empty while there are."""
        self._session = session
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
            if not spooled.IS_POSSIBLE or not hasattr(os, "posix_fallocate"):
                raise OSError(0, "this system cannot reserve space in a file")
            if not self.is_in_use:  # a file without a lock would be taken for a dead one's
                if self._lock is not None:
                    self._lock.release()
                self._lock = self._take_lock()
            return self._make_segment(size)
        except (OSError, LockTaken) as error:
            self.fault = f"{self.folder}: {getattr(error, 'strerror', None) or error}"
            return anonymous(size)

    def close(self, *, keep: bool) -> None:
        """Let go of the lock. What is not acknowledged is left for the hub if *keep* is set."""
        if self._lock is None or self._is_closed:
            return
        self._is_closed = True
        if not keep:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.folder, spooled.lock_name(self._session)))
        self._lock.release()

    def forget(self) -> None:
        """After a fork: all of it is the parent's."""
        if self._lock is not None and not self._is_closed:
            self._is_closed = True
            self._lock.forget()

    def _take_lock(self) -> LockFile:
        """Lock a file of another name first: by its own the hub would take it for that of a dead one."""
        path = os.path.join(self.folder, spooled.lock_name(self._session))
        unseen = f"{path}.{secrets.token_hex(4)}"
        lock = LockFile(unseen, mode=MODE)
        try:
            os.chmod(unseen, MODE)  # whatever the umask: the hub is to read it
            lock.rename(path)
        except BaseException:
            lock.release()
            raise
        return lock

    def _make_segment(self, size: int) -> Memory:
        self._number += 1
        path = os.path.join(self.folder, spooled.segment_name(self._session, self._number))
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, MODE)
        try:
            os.fchmod(handle, MODE)  # whatever the umask
            os.posix_fallocate(handle, 0, size)
            os.pwrite(handle, spooled.pack_header(self._session, os.getpid(), _command_name()), 0)
            memory = mmap.mmap(handle, size)
        except BaseException:
            os.unlink(path)
            raise
        finally:
            os.close(handle)
        self.fault = ""
        return Memory(memory, lambda: _unlink(path), is_file=True)


def _unlink(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _command_name() -> str:
    try:
        with open("/proc/self/comm", encoding="utf-8", errors="replace") as file:
            return file.read().rstrip("\n")
    except OSError:
        return os.path.basename(sys.argv[0]) if sys.argv else ""
