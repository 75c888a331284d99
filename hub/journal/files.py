"""
The journal's only access to the disk.

`Files` is the set of operations that the journal needs. It is small, so that a test can replace it with a disk that
forgets, fills up or fails. `DiskFiles` is the real one.

A large write bypasses the page cache if the file system can (hub.journal.direct). That takes a third of the time and a
tenth of the CPU, and other programs keep their cache. A small write goes through the cache, because a following reader
reads it soon. If it has to be synced, one system call does both (`RWF_DSYNC`): after each call the writer's thread has
to wait for the interpreter's lock.

Always true: everything here blocks, so the event loop never calls it; errors are OSError.
Not here: the meaning of the bytes.
Source: pwritev2(2), fdatasync(2), posix_fallocate(3), proc_pid_mountinfo(5); IOV_MAX is 1024 on Linux.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Sequence
from typing import Protocol

from hub.journal.direct import PAGE_BYTES, BytesLike, DirectWriter

_PARTS_MAX = 1024
MODE = 0o640
"""The mode of each file. The folder is 0700 when it is made; its owner may open it to the group."""
DIRECT_BYTES = 256 << 10
"""From this size on, a direct write is faster."""
_RWF_DSYNC: int = getattr(os, "RWF_DSYNC", 0)
_HONOURS_DSYNC = frozenset({"ext2", "ext3", "ext4", "f2fs", "overlay", "tmpfs", "xfs"})
"""
File systems whose kernel code syncs a write with `RWF_DSYNC` exactly as `fdatasync` does (``generic_write_sync``).
Others may ignore the flag without an error: 9p does, and FUSE leaves it to the server.
"""
_NO_DSYNC = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)
"""Errors that mean "this kernel does not know the flag"; nothing has been written."""
_MOUNTS = "/proc/self/mountinfo"
__all__ = ["DIRECT_BYTES", "BytesLike", "DiskFiles", "Files"]


class Files(Protocol):
    """A folder of files. An *fd* is an open file, as an int. Offsets and sizes are in bytes."""

    def list(self) -> list[str]: ...

    def open(self, name: str) -> int:
        """Open for reading."""

    def create(self, name: str, size: int) -> int:
        """Create a file of *size* zeros, opened for writing. It must not exist yet. All of its space is reserved."""

    def read(self, fd: int, offset: int, size: int) -> bytes:
        """
        Return *size* bytes, or fewer at the end of the file. Bytes that the disk cannot read (EIO) are returned as
        zeros.
        """

    def write(self, fd: int, offset: int, parts: Sequence[BytesLike], *, is_synced: bool = False) -> None:
        """
        Write all *parts* one after the other. With *is_synced* they are on stable storage on return.

        Data written earlier without a sync is not covered. After an error nothing is known about the written range.
        """

    def sync(self, fd: int) -> None:
        """Return when all data written to *fd* is on stable storage."""

    def sync_all(self, fd: int) -> None:
        """Do the same for the data and all metadata of the file, its size included."""

    def sync_folder(self) -> None:
        """Return when all created and removed names are on stable storage."""

    def truncate(self, name: str, size: int) -> None:
        """Cut the file to *size* bytes. Return when all of it is on stable storage."""

    def size(self, fd: int) -> int: ...

    def close(self, fd: int) -> None: ...

    def remove(self, name: str) -> None: ...

    def rename(self, name: str, new_name: str) -> None:
        """Rename a file in one step. A file that has *new_name* is replaced."""

    def is_named(self, fd: int, name: str) -> bool:
        """Return whether *name* refers to the open file, or to no file."""

    def is_linked(self, fd: int) -> bool:
        """Return whether the open file still has a name."""


class DiskFiles:
    """The files of a real folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._direct = DirectWriter()
        self._has_dsync: bool | None = None  # None until the first write that is to be synced

    def list(self) -> list[str]:
        return os.listdir(self._folder)

    def open(self, name: str) -> int:
        return os.open(os.path.join(self._folder, name), os.O_RDONLY | os.O_CLOEXEC)

    def create(self, name: str, size: int) -> int:
        path = os.path.join(self._folder, name)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE)
        try:
            if stat.S_IMODE(os.fstat(fd).st_mode) != MODE:
                os.fchmod(fd, MODE)  # whatever the umask: the folder decides who reads
            _allocate(fd, size)
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
        return fd

    def read(self, fd: int, offset: int, size: int) -> bytes:
        try:
            return self._read(fd, offset, size)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return self._read_around(fd, offset, size)

    def _read(self, fd: int, offset: int, size: int) -> bytes:
        data = os.pread(fd, size, offset)
        if not data or len(data) == size:
            return data
        parts, got = [data], len(data)
        while got < size and (data := os.pread(fd, size - got, offset + got)):
            parts.append(data)
            got += len(data)
        return b"".join(parts)

    def _read_around(self, fd: int, offset: int, size: int) -> bytes:
        """Read page by page. A bad sector costs only its own page, and no checksum accepts the zeros as data."""
        end = min(offset + size, self.size(fd))
        parts = []
        while offset < end:
            step = min(PAGE_BYTES - offset % PAGE_BYTES, end - offset)
            try:
                parts.append(self._read(fd, offset, step))
            except OSError as error:
                if error.errno != errno.EIO:
                    raise
                parts.append(bytes(step))
            offset += step
        return b"".join(parts)

    def write(self, fd: int, offset: int, parts: Sequence[BytesLike], *, is_synced: bool = False) -> None:
        total = sum(map(len, parts))
        if total >= DIRECT_BYTES and self._write_direct(fd, offset, parts, total):
            pass
        elif is_synced and len(parts) <= _PARTS_MAX and self._write_synced(fd, offset, parts, total):
            return
        else:
            _write_all(fd, offset, parts)
        if is_synced:
            self.sync(fd)

    def _write_direct(self, fd: int, offset: int, parts: Sequence[BytesLike], total: int) -> bool:
        """Bypass the page cache. Return False, with nothing written, if that is impossible."""
        has_room = offset + total <= self.size(fd) - PAGE_BYTES  # padding must not extend the file
        return has_room and self._direct.write(fd, offset, parts)

    def _write_synced(self, fd: int, offset: int, parts: Sequence[BytesLike], total: int) -> bool:
        """
        Write and sync with one system call. Return False if that is impossible or if less than *total* was written:
        then write all of it, and sync.

        An error of the sync is raised like an error of `fdatasync`, and means the same.
        """
        if self._has_dsync is None:
            self._has_dsync = bool(_RWF_DSYNC) and _file_system(self._folder) in _HONOURS_DSYNC
        if not self._has_dsync:
            return False
        try:
            return os.pwritev(fd, parts, offset, _RWF_DSYNC) == total
        except OSError as error:
            if error.errno not in _NO_DSYNC:
                raise
            self._has_dsync = False
            return False

    def sync(self, fd: int) -> None:
        _fdatasync(fd)

    def sync_all(self, fd: int) -> None:
        os.fsync(fd)

    def sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def truncate(self, name: str, size: int) -> None:
        fd = os.open(os.path.join(self._folder, name), os.O_RDWR | os.O_CLOEXEC)
        try:
            os.ftruncate(fd, size)
            os.fsync(fd)
        finally:
            os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def close(self, fd: int) -> None:
        self._direct.forget(fd)
        os.close(fd)

    def remove(self, name: str) -> None:
        os.unlink(os.path.join(self._folder, name))

    def rename(self, name: str, new_name: str) -> None:
        os.rename(os.path.join(self._folder, name), os.path.join(self._folder, new_name))

    def is_named(self, fd: int, name: str) -> bool:
        try:
            there = os.stat(os.path.join(self._folder, name))
        except FileNotFoundError:
            return True
        return os.path.samestat(os.fstat(fd), there)

    def is_linked(self, fd: int) -> bool:
        return os.fstat(fd).st_nlink > 0


def _write_all(fd: int, offset: int, parts: Sequence[BytesLike]) -> None:
    for first in range(0, len(parts), _PARTS_MAX):
        group = parts[first : first + _PARTS_MAX]
        size = sum(map(len, group))
        written = os.pwritev(fd, group, offset)
        if written < size:  # interrupted by a signal, or a nearly full disk
            rest = memoryview(b"".join(group))[written:]
            while rest:
                written += (more := os.pwrite(fd, rest, offset + written))
                rest = rest[more:]
        offset += size


def _file_system(folder: str) -> str:
    """Return the type of the file system that *folder* is on, or "" if that is unknown."""
    try:
        device = os.stat(folder).st_dev
        with open(_MOUNTS, encoding="utf-8", errors="replace") as mounts:
            for fields in map(str.split, mounts):
                if fields[2] == f"{os.major(device)}:{os.minor(device)}":
                    return fields[fields.index("-") + 1]
    except OSError:  # no /proc
        pass
    return ""


# macOS has neither function. ftruncate leaves a hole there, and a full disk is found by the write.
def _allocate(fd: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(fd, 0, size)
    else:
        os.ftruncate(fd, size)


_fdatasync = getattr(os, "fdatasync", os.fsync)
