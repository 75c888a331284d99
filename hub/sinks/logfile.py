"""
One file that a file sink appends to, and the comparison that makes a crash harmless.

After a crash, a file may have more than the cursor knows. The same messages come again, and give the same bytes: they
are compared with what is there, and not written a second time. The end of a half line is added.

Always true:
- what is written is whole lines. If the disk takes only a part of them, that part is removed again;
- nothing is written before an identity and a size of the file are in a cursor (hub.sinks.file sees to that);
- a file that somebody has renamed or truncated is noticed before the next write, with `look`.

Not here: which file (hub.sinks.pathtemplate), when it is finished (hub.sinks.file).
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import NamedTuple

from hub.log import get_logger
from hub.sinks.sink import SinkFault
from hub.writeall import write_all

_FLAGS = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NEVER_OURS = (".gz", ".zst", ".bz2", ".xz", ".tmp")
"""A compressed file may get the inode of a deleted one: it is never appended to."""
log = get_logger("mpsr.sinks")


class Known(NamedTuple):
    """What a cursor has of a file: the path that it was opened at, its identity, and how much of it is settled."""

    path: str
    device: int
    inode: int
    size: int


class LogFile:
    """The file *fd* of *path*, which is settled up to *size*. It may have more; see `has_more`."""

    def __init__(self, path: str, fd: int, size: int | None = None) -> None:
        described = os.fstat(fd)
        self.path = path
        self.fd = fd
        self.identity: tuple[int, int] = (described.st_dev, described.st_ino)
        self.end: int = described.st_size
        self.size: int = self.end if size is None else min(size, self.end)
        self.written: int = described.st_mtime_ns
        """When it was last written to."""
        self.is_dirty: bool = False
        self._synced = self.size

    @classmethod
    def open(cls, path: str, *, mode: int, gid: int) -> LogFile:
        """Open the file at *path*, and create it, durably, with *mode* and group if it is missing. Raises OSError."""
        try:
            fd = os.open(path, _FLAGS)
        except FileNotFoundError:
            make_folders(os.path.dirname(path))
            fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, mode)
            try:
                os.fchmod(fd, mode)
                if gid != -1:
                    os.fchown(fd, -1, gid)
                sync_folder(os.path.dirname(path))
            except BaseException:
                os.close(fd)
                raise
        return cls._checked(path, fd)

    @classmethod
    def find(cls, known: Known) -> LogFile | None:
        """
        Return the file that a cursor knows, at its path or renamed in the same folder; None if it is gone. One that is
        smaller is another file, which has got the inode of a deleted one, or it was truncated: the cursor has to know
        its size anew.
        """
        folder = os.path.dirname(known.path)
        for path in (known.path, *_with_inode(folder, known.inode)):
            with contextlib.suppress(OSError):
                fd = os.open(path, _FLAGS)
                try:
                    described = os.fstat(fd)
                    is_same = (described.st_dev, described.st_ino) == (known.device, known.inode)
                    if is_same and described.st_size >= known.size:
                        return cls(known.path, fd, known.size)
                except BaseException:
                    os.close(fd)
                    raise
                os.close(fd)
        return None

    @classmethod
    def _checked(cls, path: str, fd: int) -> LogFile:
        try:
            check_regular(path, os.fstat(fd))
        except SinkFault:
            os.close(fd)
            raise
        return cls(path, fd)

    @property
    def known(self) -> Known:
        """What a cursor is to know of it."""
        return Known(self.path, *self.identity, self.size)

    @property
    def has_more(self) -> bool:
        """Whether it has bytes after what is settled, which come again after a crash."""
        return self.size < self.end

    def look(self) -> tuple[bool, bool]:
        """Return whether it still has its path, and whether somebody else has changed its size, which counts now."""
        try:
            there = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            return False, False
        if (there.st_dev, there.st_ino) != self.identity:
            return False, False
        if there.st_size == self.end:
            return True, False
        self.size = min(self.size, there.st_size) if self.has_more else there.st_size
        self.end = there.st_size
        return True, True

    def write(self, data: bytes, now: int) -> None:
        """Append whole lines, except those that are there already. Raises OSError, with none of the others written."""
        if self.has_more:
            data = data[self._in_common(data) :]
        if not data:
            return
        self.is_dirty = True
        try:
            write_all(self.fd, data)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, self.size)
            raise
        self.size += len(data)
        self.end = self.size
        self.written = now

    def _in_common(self, data: bytes) -> int:
        """Return how many bytes of *data* are there, and count them as settled. Remove what is there instead."""
        length = min(len(data), self.end - self.size)
        there = os.pread(self.fd, length, self.size)
        if data.startswith(there):
            self.size += length
            return length
        differs = next(at for at, (one, other) in enumerate(zip(there, data, strict=False)) if one != other)
        same = data.rfind(b"\n", 0, differs) + 1
        self.size += same
        self.cut()
        return same

    def cut(self) -> None:
        """Remove what is there after what is settled: the messages that it was made of are not the same any longer."""
        log.warning("file.cut", path=self.path, bytes=self.end - self.size, reason="these messages are no longer due")
        self.is_dirty = True
        os.ftruncate(self.fd, self.size)
        self.end = self.size

    def settle(self) -> None:
        """
        Make durable what was written. Raises OSError, and removes it: what a failed sync leaves in memory may never
        reach the disk, and must not be taken for written later.
        """
        if self.is_dirty:
            try:
                os.fsync(self.fd)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self.fd, min(self._synced, self.size))
                raise
            self.is_dirty = False
        self._synced = self.size

    def close(self) -> None:
        os.close(self.fd)


def _with_inode(folder: str, inode: int) -> list[str]:
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        return [entry.path for entry in entries if entry.inode() == inode and not entry.name.endswith(_NEVER_OURS)]
    return []


def check_regular(path: str, described: os.stat_result) -> None:
    """Check that *path* is that of a file. Raises SinkFault."""
    if not stat.S_ISREG(described.st_mode):
        raise SinkFault(f"{path} is not a file (choose another path)")


def make_folders(folder: str) -> None:
    """Make *folder* and what is missing above it, durably. Raises OSError."""
    if os.path.isdir(folder):
        return
    above = os.path.dirname(folder)
    make_folders(above)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder, 0o750)
    sync_folder(above)


def sync_folder(folder: str) -> None:
    """Make the names in *folder* durable. Raises OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
