"""
The content of a finished log: a plain file, or one compressed with gzip or zstd, in one or more pieces.

Always true:
- the content ends where the file ended at the last `look`, even if it grows;
- a bomb costs no memory: one step gives `BLOCK_BYTES` of content, or a few MiB of what is compressed;
- of a file that is damaged or cut off, all content before the damage is given; then `BadContents` is raised.

What cannot be read twice (a pipe, a standard input of which a part has been read) is copied to a temporary file first.
Not here: what the content means (hub.importing.formats).
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import tempfile
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

from hub.wire.compression import FAULTS, METHODS
from hub.writeall import write_all

BLOCK_BYTES = 192 << 10
"""Bytes of content in one step. As messages they are one frame, which the hub decodes at once."""
OUTPUT_BYTES = 4 << 20
"""Maximum bytes of content from one step of decompression."""
READ_BYTES = 256 << 10
_METHOD_OF = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
_SKIPPABLE = tuple(bytes((first,)) + b"\x2a\x4d\x18" for first in range(0x50, 0x60))  # zstd's; pzstd begins with one
_OTHERS = {
    b"\xfd7zXZ\0": "compressed with xz (try: xz -dc FILE | mpsr import -)",
    b"BZh": "compressed with bzip2 (try: bzip2 -dc FILE | mpsr import -)",
    b"\x04\x22\x4d\x18": "compressed with lz4 (try: lz4 -dc FILE | mpsr import -)",
    b"PK\3\4": "a zip archive (try: unzip -p FILE | mpsr import -)",
    b"LPKSHHRH": "a journal of systemd (try: journalctl --file FILE -o export | mpsr import -)",
}
_MAGIC_BYTES = 8
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOLDER = "it is a folder (give the files in it)"


class BadContents(Exception):
    """The rest of the file cannot be read; the text is the reason."""


class Contents:
    """A file that is open. *path* is ``-`` for standard input."""

    def __init__(self, path: str) -> None:
        """Raises OSError, and BadContents if it is no file that can be imported."""
        self.path = path
        self._file = _opened(path)
        try:
            self.size: int = os.fstat(self._file.fileno()).st_size
            """The size of the file as stored, compressed or not, in bytes."""
            self.read_bytes: int = 0
            """How far it has been read."""
            magic = self._pread(0, _MAGIC_BYTES)
            self._method = "zstd" if magic.startswith(_SKIPPABLE) else _match(magic, _METHOD_OF)
            if other := _match(magic, _OTHERS):
                raise BadContents(f"it is {other}")
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Contents:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def look(self) -> None:
        """Look at the size again: another program may have imported what was added meanwhile."""
        self.size = os.fstat(self._file.fileno()).st_size

    def blocks(self, start: int = 0) -> Iterator[bytes]:
        """
        Yield the content from *start* on, cut at multiples of `BLOCK_BYTES`: the same wherever it begins.

        Raises OSError, and BadContents at the damage.
        """
        if not self._method:
            yield from self._raw(start, BLOCK_BYTES)
            return
        held, left = bytearray(), start
        fault: BadContents | None = None
        try:
            for part in self._decompressed(self._method):
                skipped = min(left, len(part))
                left -= skipped
                held += memoryview(part)[skipped:]
                while len(held) >= (size := BLOCK_BYTES - start % BLOCK_BYTES):
                    yield bytes(held[:size])
                    del held[:size]
                    start += size
        except BadContents as error:
            fault = error
        if held:
            yield bytes(held)
        if fault is not None:
            raise fault

    def _raw(self, at: int, size: int) -> Iterator[bytes]:
        while data := self._pread(at, size - at % size):
            at += len(data)
            self.read_bytes = at
            yield data

    def _pread(self, at: int, size: int) -> bytes:
        return os.pread(self._file.fileno(), max(min(size, self.size - at), 0), at)

    def _decompressed(self, method: str) -> Iterator[bytes]:
        make, expansion = METHODS[method]
        window_bytes = OUTPUT_BYTES // expansion
        piece, pieces = make(), 0
        is_begun = False
        for data in self._raw(0, READ_BYTES):
            rest = memoryview(data)
            while rest:
                if not is_begun and pieces and not bytes(rest[:64]).strip(b"\0"):
                    rest = rest[64:]  # the padding of tapes and disks
                    continue
                window, rest = rest[:window_bytes], rest[window_bytes:]
                try:
                    part = piece.decompress(window)
                except FAULTS as error:
                    after = " (all that precedes it was read)" if pieces else ""
                    raise BadContents(f"it is damaged: {method}: {error}{after}") from error
                is_begun = True
                if part:
                    yield part
                if piece.eof:
                    unused = len(piece.unused_data)
                    rest = memoryview(data)[len(data) - len(rest) - unused :]
                    piece, pieces, is_begun = make(), pieces + 1, False
        if is_begun:
            raise BadContents(f"it ends in the middle of {method}")


def _match(magic: bytes, table: dict[bytes, str]) -> str:
    return next((name for begin, name in table.items() if magic.startswith(begin)), "")


def _opened(path: str) -> BinaryIO:
    """Return the file at *path*, open. What can be read only once is copied. Raises OSError or BadContents."""
    if path != "-" and os.path.isdir(path):
        raise BadContents(_FOLDER)
    if path == "-":
        if sys.stdin is None:
            raise BadContents("standard input is closed")
        file: BinaryIO = os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    else:
        # A named pipe without a writer is not waited for.
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK), "rb", buffering=0)
        os.set_blocking(file.fileno(), True)
    try:
        kind = os.fstat(file.fileno()).st_mode
        if stat.S_ISREG(kind) and (path != "-" or not os.lseek(file.fileno(), 0, os.SEEK_CUR)):
            return file
        if path != "-" and not stat.S_ISFIFO(kind):
            raise BadContents("it is not a file")
        with file:
            return _copy_of(file)
    except BaseException:
        file.close()
        raise


def _copy_of(file: BinaryIO) -> BinaryIO:
    """Return a temporary file with what *file* gives. Raises OSError, and BadContents if there is no room for it."""
    copy = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115  the caller closes it
    try:
        while data := _read(file.fileno()):
            write_all(copy.fileno(), data)
    except BaseException as error:
        copy.close()
        if isinstance(error, OSError) and error.errno in _FULL:
            where = tempfile.gettempdir()
            raise BadContents(f"{where} has no room for a copy of it (set TMPDIR to another folder)") from error
        raise
    return copy


def _read(fd: int) -> bytes:
    """Return the bytes at hand, none at the end. Waits even if another program has made the pipe non-blocking."""
    while True:
        try:
            return os.read(fd, READ_BYTES)
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            poll.poll()
