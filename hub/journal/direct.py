"""
Large writes that bypass the page cache.

The kernel requires whole pages, aligned in memory and in the file. So data is copied into a page-aligned buffer: the
first page begins with the bytes that precede *offset*, the last page ends with zeros.

Always true:
- the bytes before *offset* in its page are written again unchanged; the bytes after the end in its page become zero;
- a file system without direct writes is not an error: the caller writes in the ordinary way.

Not here: syncing. Like any other write, these are durable only after a sync.
Source: open(2), O_DIRECT; measured in tests/benchmarks/README.md.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from collections.abc import Sequence

BytesLike = bytes | bytearray | memoryview
PAGE_BYTES = 4096
"""An alignment that every file system in use accepts: the largest sector size of a disk."""
BUFFER_BYTES = 4 << 20
_O_DIRECT: int = getattr(os, "O_DIRECT", 0)
_IMPOSSIBLE = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOENT, errno.ENOSYS, errno.EACCES, errno.EPERM)
"""Errors that mean "never here": no direct writes in the file system, no /proc, or no permission to use it."""
_NOT_NOW = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
"""Errors of resources that an ordinary write does not need: one more descriptor, pages to pin."""


class DirectWriter:
    """Writes to one file at a time, from one thread."""

    def __init__(self) -> None:
        self._buffer: memoryview | None = None
        self._fd = -1  # as opened by its owner
        self._direct = -1  # the same file, opened with O_DIRECT
        self._tail = -1  # the offset whose page's first bytes are in the buffer
        self._is_possible = bool(_O_DIRECT)  # until a write shows otherwise

    def write(self, fd: int, offset: int, parts: Sequence[BytesLike]) -> bool:
        """
        Write all *parts* one after the other. Return False if that is impossible: then write all of them in the
        ordinary way.
        """
        if not self._is_possible:
            return False
        try:
            if fd != self._fd:
                self.forget(self._fd)
                self._direct = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC | _O_DIRECT)
                self._fd = fd
            self._write_parts(offset, parts, self._lay_out(fd, offset))
        except OSError as error:
            self.forget(fd)
            self._is_possible = error.errno not in _IMPOSSIBLE
            if self._is_possible and error.errno not in _NOT_NOW:
                raise
            return False
        return True

    def forget(self, fd: int) -> None:
        """Close our descriptor of a file that is about to be closed."""
        if fd == self._fd and fd != -1:
            self._fd = self._tail = -1
            with contextlib.suppress(OSError):  # no data is lost: the owner's descriptor was synced
                os.close(self._direct)

    def _lay_out(self, fd: int, offset: int) -> memoryview:
        """Return the buffer. It begins with the bytes that precede *offset* in its page."""
        if self._buffer is None:
            self._buffer = memoryview(_map_buffer())
        before = offset % PAGE_BYTES
        if before and self._tail != offset:
            there = os.pread(fd, before, offset - before)
            self._buffer[: len(there)] = there
            self._buffer[len(there) : before] = bytes(before - len(there))
        self._tail = -1
        return self._buffer

    def _write_parts(self, offset: int, parts: Sequence[BytesLike], buffer: memoryview) -> None:
        at = offset % PAGE_BYTES
        start = offset - at
        for part in parts:
            left = memoryview(part)
            while left:
                size = min(len(left), BUFFER_BYTES - at)
                buffer[at : at + size] = left[:size]
                left, at = left[size:], at + size
                if at == BUFFER_BYTES:
                    _write_all(self._direct, buffer, start)
                    start, at = start + at, 0
        end = -(-at // PAGE_BYTES) * PAGE_BYTES
        buffer[at:end] = bytes(end - at)
        if end:
            _write_all(self._direct, buffer[:end], start)
        if at % PAGE_BYTES:
            buffer[:PAGE_BYTES] = bytes(buffer[end - PAGE_BYTES : end])
        self._tail = start + at


def _map_buffer() -> mmap.mmap:
    """Return memory of huge pages, if the kernel has them: a write then takes a third of the processor time."""
    buffer = mmap.mmap(-1, BUFFER_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with contextlib.suppress(AttributeError, OSError):
        buffer.madvise(mmap.MADV_HUGEPAGE)
    return buffer


def _write_all(fd: int, data: memoryview, offset: int) -> None:
    while data:
        written = os.pwrite(fd, data, offset)
        data, offset = data[written:], offset + written
