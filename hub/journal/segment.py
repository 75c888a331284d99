"""
One segment file, read forward.

Always true: only whole blocks are returned; reading never raises because of the bytes.
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

_NAME = re.compile(r"([0-9]{20})\.seg")
_WINDOW_BYTES = 1 << 20


def segment_name(first_sequence: int) -> str:
    """Return the file name of the segment that begins with *first_sequence*."""
    return f"{first_sequence:020d}.seg"


def list_segments(files: Files) -> list[int]:
    """Return the first sequences of all segments, in rising order."""
    return sorted(int(match[1]) for name in files.list() if (match := _NAME.fullmatch(name)))


class Segment:
    """An open segment, a context manager. *header* is None if it is damaged."""

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
        """Whether another file has the name now: this segment was given up before any of its blocks was committed."""
        return not self._files.is_named(self._handle, self.name)

    @property
    def size(self) -> int:
        """Size of the file in bytes, preallocated space included."""
        return self._files.size(self._handle)

    def block_at(self, offset: int, seed: int) -> Block | None:
        """Return the block at *offset*, or None if it is not whole."""
        block = self._block_in_window(offset, seed)
        if block is not None:
            return block
        self._load(offset, BLOCK_BYTES)  # it may be newly written, or extend beyond the window
        block = unpack_block(self._data, 0, offset)
        if block is None or block.end > self.size:
            return None
        if block.end - offset > len(self._data):
            self._load(offset, block.end - offset)
        return self._block_in_window(offset, seed)

    def batch(self, block: Block) -> Batch | None:
        """Return the batch of *block*, which must be the last block that `block_at` returned."""
        return unpack_batch(block, self._data, block.offset - self._base)

    def forget(self) -> None:
        """Discard the window. An uncommitted block may be withdrawn, so it must be read again."""
        self._data = b""

    def is_zero_at(self, offset: int) -> bool:
        """Return whether the bytes of a block's fixed part at *offset* are zeros or after the end of the file."""
        return not any(self._files.read(self._handle, offset, BLOCK_BYTES))

    def resume_behind(self, place: int, sequence: int, seed: int, *, sealed: bool) -> Block | None:
        """
        *place* has no whole block. Return the next whole block after it if *place* is damaged, or None if it is the
        end.

        *sequence* is the number expected at *place*. A block with a lower number is message content that happens to
        contain a journal.

        *place* is damaged if the segment is sealed, or if a commit that begins after *place* exists: that commit could
        only begin after the one at *place* was synced. Otherwise it is a torn commit, or one that is being written. If
        the first whole block after *place* lacks the beginning of its own commit, the same rule is applied to that
        beginning.
        """
        first = None
        offset, hole = place + 1, place
        while (block := self._search(offset, sequence, seed)) is not None:
            if first is None:
                first = block
                if place < block.commit_offset < block.offset:
                    hole = block.commit_offset
            if sealed or block.commit_offset > hole:
                # Look again: a commit that was being written at *place* may be whole by now.
                return self.block_at(place, seed) or self.block_at(first.offset, seed)
            offset = block.end
        return None

    def sequence_behind(self, place: int, sequence: int, seed: int) -> int:
        """Return the sequence of the first whole block of a commit that begins after *place*, or else *sequence*."""
        offset = place + 1
        while (block := self._search(offset, sequence, seed)) is not None:
            if block.commit_offset > place:
                return block.sequence
            offset = block.end
        return sequence

    def written_behind(self, place: int) -> int:
        """Return the number of bytes from *place* to the last byte that is not zero."""
        last = place
        for offset in range(place, self.size, _WINDOW_BYTES):
            if written := self._files.read(self._handle, offset, _WINDOW_BYTES).rstrip(b"\0"):
                last = offset + len(written)
        return last - place

    def _search(self, offset: int, sequence: int, seed: int) -> Block | None:
        """Return the first whole block at or after *offset* whose sequence is at least *sequence*."""
        size = self.size
        while offset + BLOCK_BYTES <= size:
            data = self._files.read(self._handle, offset, _WINDOW_BYTES)
            at = data.find(BLOCK_MAGIC_BYTES)
            while at != -1:
                # Messages may be full of the magic, so a candidate that cannot be a block is rejected without another
                # read.
                block = unpack_block(data, at, offset + at)
                if block is not None and block.sequence >= sequence:
                    block = self.block_at(offset + at, seed)
                    if block is not None:
                        return block
                at = data.find(BLOCK_MAGIC_BYTES, at + 1)
            if len(data) < BLOCK_BYTES:  # a hub that started meanwhile has truncated the file
                return None
            offset += len(data) - BLOCK_BYTES + 1  # the fixed part may straddle two windows
        return None

    def _block_in_window(self, offset: int, seed: int) -> Block | None:
        at = offset - self._base
        block = unpack_block(self._data, at, offset) if at >= 0 else None
        return block if block is not None and is_whole(block, self._data, at, seed) else None

    def _load(self, offset: int, size: int) -> None:
        """Read the window at *offset*: at least *size* bytes, unless the file is shorter."""
        self._data = self._files.read(self._handle, offset, max(size, _WINDOW_BYTES))
        self._base = offset

    def _read_header(self) -> SegmentHeader | None:
        size = segment_header_bytes(self._files.read(self._handle, 0, SEGMENT_HEADER_BYTES))
        return None if size is None else unpack_segment_header(self._files.read(self._handle, 0, size))
