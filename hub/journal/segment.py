"""
One segment file, read forward.

Always true: what is given is whole; reading never raises because of what the bytes are.
Not here: the bytes of a block (hub.journal.block), which segment comes next (hub.journal.reader), writing.
Source: FORMAT.md.
"""

from __future__ import annotations

import re
from types import TracebackType

from hub.journal.block import (
    BLOCK_BYTES,
    BLOCK_MAGIC_BYTES,
    SEGMENT_HEADER_BYTES,
    Block,
    SegmentHeader,
    is_whole,
    segment_header_bytes,
    unpack_batch,
    unpack_block,
    unpack_segment_header,
)
from hub.journal.files import Files
from hub.message import Batch

_NAME = re.compile(r"(\d{20})\.seg")
_WINDOW_BYTES = 1 << 20


def segment_name(first_sequence: int) -> str:
    """Return the file name of the segment that begins with *first_sequence*."""
    return f"{first_sequence:020d}.seg"


def list_segments(files: Files) -> list[int]:
    """Return the first sequences of all segments, rising."""
    return sorted(int(match[1]) for name in files.list() if (match := _NAME.fullmatch(name)))


class Segment:
    """An open segment. Use it in a ``with``; *header* is None where it is damaged."""

    def __init__(self, files: Files, first_sequence: int) -> None:
        self._files = files
        self.first_sequence = first_sequence
        self.name = segment_name(first_sequence)
        self._handle = files.open(self.name)
        self._data = b""
        self._base = 0
        self.header = self._read_header()

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._files.close(self._handle)

    @property
    def is_replaced(self) -> bool:
        """Return whether another file has the name now: this one was given up before anything in it counted."""
        return not self._files.is_named(self._handle, self.name)

    @property
    def size(self) -> int:
        """Bytes of the file, preallocated ones included."""
        return self._files.size(self._handle)

    def block_at(self, offset: int, seed: int) -> Block | None:
        """Return the block at *offset* if it is whole."""
        at = offset - self._base
        if 0 <= at <= len(self._data) - BLOCK_BYTES:
            block = unpack_block(self._data, at, offset)
            if (
                block is not None
                and block.end - self._base <= len(self._data)
                and is_whole(block, self._data, at, seed)
            ):
                return block
        self._load(offset, BLOCK_BYTES)  # it may have been written since
        block = unpack_block(self._data, 0, offset)
        if block is None or not self._load(offset, block.end - offset) or not is_whole(block, self._data, 0, seed):
            return None
        return block

    def batch(self, block: Block) -> Batch | None:
        """Return the batch of a block that `block_at` gave just now."""
        return unpack_batch(block, self._data, block.offset - self._base)

    def is_zero_at(self, offset: int) -> bool:
        """Return whether nothing seems to be written at *offset*: zeros, or the end of the file."""
        return not any(self._files.read(self._handle, offset, BLOCK_BYTES))

    def resume_behind(self, place: int, seed: int, *, sealed: bool) -> Block | None:
        """
        Return the first whole block behind *place*, where none is, if that is damage; None if *place* is the end.

        It is damage if the segment is sealed, or if a commit that begins behind *place* is there: that could only begin
        when the commit at *place* was synced. Otherwise it is a torn commit, or one being written.
        """
        first = None
        offset = place + 1
        while (block := self._search(offset, seed)) is not None:
            first = first or block
            if sealed or block.commit_offset > place:
                return first
            offset = block.end
        return None

    def _search(self, offset: int, seed: int) -> Block | None:
        """Return the first whole block at *offset* or behind."""
        size = self.size
        while offset + BLOCK_BYTES <= size:
            data = self._files.read(self._handle, offset, _WINDOW_BYTES)
            at = data.find(BLOCK_MAGIC_BYTES)
            while at != -1:
                if (block := self.block_at(offset + at, seed)) is not None:
                    return block
                at = data.find(BLOCK_MAGIC_BYTES, at + 1)
            offset += max(len(data) - len(BLOCK_MAGIC_BYTES) + 1, 1)  # a magic may lie across two windows
        return None

    def _load(self, offset: int, size: int) -> bool:
        """Make *size* bytes from *offset* on be in the window; False if the file is shorter."""
        if self._base == offset and size <= len(self._data) and size != BLOCK_BYTES:
            return True
        self._data = self._files.read(self._handle, offset, max(size, _WINDOW_BYTES))
        self._base = offset
        return len(self._data) >= size

    def _read_header(self) -> SegmentHeader | None:
        size = segment_header_bytes(self._files.read(self._handle, 0, SEGMENT_HEADER_BYTES))
        return None if size is None else unpack_segment_header(self._files.read(self._handle, 0, size))
