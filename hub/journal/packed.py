"""
The forms of a segment's file. `SegmentFile` hides them: it is read as the bytes of the plain form.

Always true:
- an offset means the same in both forms;
- unpacking never raises because of the bytes: what is damaged is read as zeros, which are never a block;
- at most one frame is kept decompressed.

Not here: making the packed form (hub.journal.rewriting), what the bytes mean (hub.journal.segment).
Source: FORMAT.md, "Packed segment".
"""

from __future__ import annotations

import bisect
import functools
import importlib
import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from hub.checksum import crc32
from hub.journal.block import SEGMENT_HEADER_BYTES, SEGMENT_MAGIC
from hub.journal.files import Files

FRAME_BYTES = 256 << 10
"""Of the plain form: what a reader decompresses to read one block. Larger frames would hardly be smaller in total."""
LEVEL = 3
_MAGIC = b"MPSRPAK\n"
_HEAD = struct.Struct("<8sII16sQQQIIQI")
_ROW = struct.Struct("<QQQIII")
_CRC_FROM = 12
_FRAMES_MAX = 1 << 20
_CRC_AT, _HUB_ID_AT = slice(8, 12), slice(16, 32)  # in the header of the plain form


class Head(NamedTuple):
    """
    The head of a packed segment: the journal, the sequences from which and up to which it reaches, the size of the
    plain form, the CRC in the header of that, the number of frames, and of messages that have expired by rule.
    """

    version: int
    hub_id: bytes
    first_sequence: int
    next_sequence: int
    size: int
    header_crc: int
    frames: int
    expired: int
    table_crc: int


class Row(NamedTuple):
    """
    A frame: its offset in the plain form, the sequence of its first block, its offset in the file, its length in the
    plain form and in the file, and the CRC of what is in the file.
    """

    offset: int
    sequence: int
    at: int
    length: int
    packed: int
    crc: int


class Directory(NamedTuple):
    """Head and table of a packed segment."""

    head: Head
    table: bytes

    def row(self, number: int) -> Row:
        return Row(*_ROW.unpack_from(self.table, number * _ROW.size))

    def at_offset(self, offset: int) -> int:
        """Return the number of the last frame that begins at *offset* or before it; -1 if there is none."""
        return bisect.bisect_right(range(self.head.frames), offset, key=lambda number: self.row(number).offset) - 1

    def before_sequence(self, sequence: int) -> Row | None:
        """Return the last frame after the first one that begins with a lower sequence. None if there is none."""
        last = bisect.bisect_left(range(self.head.frames), sequence, key=lambda number: self.row(number).sequence) - 1
        return self.row(last) if last > 0 else None


def directory_bytes(frames: int) -> int:
    """Return the length of head and table of a segment with this many *frames*."""
    return _HEAD.size + frames * _ROW.size


def pack_directory(head: Head, rows: Sequence[Row]) -> tuple[bytes, bytes]:
    """Return head and table. The number of frames in *head*, and the CRC, are set to those of *rows*."""
    table = b"".join(_ROW.pack(*row) for row in rows)
    whole = head._replace(frames=len(rows), table_crc=crc32(table))
    packed = _HEAD.pack(_MAGIC, 0, *whole)
    return packed[:8] + crc32(packed[_CRC_FROM:]).to_bytes(4, "little") + packed[_CRC_FROM:], table


def unpack_head(data: bytes) -> Head | None:
    """Return the head that *data* begins with, or None if it is not whole."""
    if len(data) < _HEAD.size or data[:8] != _MAGIC:
        return None
    _, crc, *fields = _HEAD.unpack_from(data)
    head = Head(*fields)
    return head if crc32(data[_CRC_FROM : _HEAD.size]) == crc and head.frames <= _FRAMES_MAX else None


def read_directories(files: Files, fd: int) -> Iterator[Directory]:
    """Yield the directory at the beginning of the file, and then the one at its end, if they are whole."""
    end = files.size(fd) - _HEAD.size
    for head_at, is_first in ((0, True), (end, False)):
        head = unpack_head(files.read(fd, head_at, _HEAD.size)) if head_at >= 0 else None
        if head is None:
            continue
        size = head.frames * _ROW.size
        table = files.read(fd, _HEAD.size if is_first else max(end - size, 0), size)
        if len(table) == size and crc32(table) == head.table_crc:
            yield Directory(head, table)


class Described(NamedTuple):
    """
    What a segment's file says about it, in either form: hub id, size of the plain form, CRC of its header, and the
    number of messages that have expired by rule.
    """

    hub_id: bytes
    size: int
    crc: int
    expired: int


def read_head(files: Files, fd: int) -> Described | None:
    """Return what a segment's file says about it; None if it is too short for a header."""
    start = files.read(fd, 0, SEGMENT_HEADER_BYTES)
    if not start.startswith(SEGMENT_MAGIC) and (directory := next(read_directories(files, fd), None)) is not None:
        head = directory.head
        return Described(head.hub_id, head.size, head.header_crc, head.expired)
    if len(start) < SEGMENT_HEADER_BYTES:
        return None
    return Described(start[_HUB_ID_AT], files.size(fd), int.from_bytes(start[_CRC_AT], "little"), 0)


class SegmentFile:
    """An open file of a segment. *directory* is None for the plain form."""

    def __init__(self, files: Files, fd: int) -> None:
        self._files = files
        self._fd = fd
        is_plain = files.read(fd, 0, len(SEGMENT_MAGIC)) == SEGMENT_MAGIC
        self.directory = None if is_plain else next(read_directories(files, fd), None)
        self._base, self._frame = -1, b""  # the frame that was decompressed last

    @property
    def size(self) -> int:
        """Size of the plain form in bytes, preallocated space included."""
        return self._files.size(self._fd) if self.directory is None else self.directory.head.size

    @property
    def disk_size(self) -> int:
        """Size of the file in bytes."""
        return self._files.size(self._fd)

    def read(self, offset: int, size: int) -> bytes:
        """Return *size* bytes of the plain form at *offset*, or fewer at its end."""
        if self.directory is None:
            return self._files.read(self._fd, offset, size)
        end = min(offset + size, self.size)
        parts: list[bytes] = []
        at = offset
        while at < end:
            base, data = self._frame_at(at)
            parts.append(data[at - base : end - base])
            at = base + len(data)
        return b"".join(parts)

    def window(self, offset: int, size: int, size_wanted: int) -> tuple[int, bytes]:
        """
        Return bytes of the plain form, and the offset at which they begin. *size* bytes at *offset* are among them,
        unless the segment is shorter; about *size_wanted* if that costs little.
        """
        if self.directory is None:
            return offset, self._files.read(self._fd, offset, max(size, size_wanted))
        if offset < self.size:
            base, data = self._frame_at(offset)
            if base + len(data) >= min(offset + size, self.size):
                return base, data
        return offset, self.read(offset, size)

    def _frame_at(self, offset: int) -> tuple[int, bytes]:
        """Return the bytes of the frame that contains *offset*, and where it begins; zeros where no frame is whole."""
        if self._base <= offset < self._base + len(self._frame):
            return self._base, self._frame
        assert self.directory is not None
        number = self.directory.at_offset(offset)
        row = self.directory.row(number) if number >= 0 else None
        if row is not None and offset < row.offset + row.length:
            self._base, self._frame = row.offset, self._unpacked(row)
            return self._base, self._frame
        end = self.directory.row(number + 1).offset if number + 1 < self.directory.head.frames else self.size
        return offset, bytes(min(end - offset, FRAME_BYTES))

    def _unpacked(self, row: Row) -> bytes:
        data = self._files.read(self._fd, row.at, row.packed)
        if len(data) != row.packed or crc32(data) != row.crc:
            return bytes(row.length)
        if row.packed == row.length:
            return data
        try:
            unpacked: bytes = zstd().decompress(data, row.length)
        except zstd().ZstdFault:
            return bytes(row.length)
        return unpacked


@functools.cache
def zstd() -> Any:
    """Return `hub.zstd`, which takes longer to load than a short query takes to answer."""
    return importlib.import_module("hub.zstd")
