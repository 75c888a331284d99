"""
One segment file, read forward.

Always true: only whole blocks are returned; reading never raises because of the bytes.
Not here: the bytes of a block (hub.journal.block), which segment comes next (hub.journal.reader), writing.
Source: FORMAT.md.
"""

from __future__ import annotations

import re
from types import TracebackType
from typing import NamedTuple

from hub.journal.block import (
    BLOCK_BYTES,
    BLOCK_MAGIC_BYTES,
    ENTRY_BYTES_MIN,
    HEADER_BYTES_MAX,
    SEGMENT_HEADER_BYTES,
    Block,
    SegmentHeader,
    is_front_whole,
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
SEQUENCE_MAX = (1 << 64) - 1


def segment_name(first_sequence: int) -> str:
    """Return the file name of the segment that begins with *first_sequence*."""
    return f"{first_sequence:020d}.seg"


def list_segments(files: Files) -> list[int]:
    """Return the first sequences of all segments, rising."""
    found = (int(match[1]) for name in files.list() if (match := _NAME.fullmatch(name)))
    return sorted(first for first in found if first <= SEQUENCE_MAX)


class _Expected(NamedTuple):
    """What a block after a damaged *place* may be: no earlier than *sequence*, and no later than fits between."""

    place: int
    sequence: int
    below: int = SEQUENCE_MAX

    def may_be(self, block: Block) -> bool:
        most = self.sequence + (block.offset - self.place) // ENTRY_BYTES_MIN
        return self.sequence <= block.sequence <= most and block.next_sequence <= self.below


class Segment:
    """An open segment. Use it in a ``with``; *header* is None where it is damaged, or belongs to another segment."""

    def __init__(self, files: Files, first_sequence: int) -> None:
        self._files = files
        self.first_sequence = first_sequence
        self.name = segment_name(first_sequence)
        self._fd = files.open(self.name)
        self._data = b""
        self._base = 0
        header = self._read_header()
        self.header = header if header is not None and header.first_sequence == first_sequence else None
        self.misplaced = None if header is None or header is self.header else header.first_sequence
        """The first sequence of another segment, whose file has come to this name."""

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._files.close(self._fd)

    @property
    def is_replaced(self) -> bool:
        """Whether another file has the name now: this segment was given up before any of its blocks was committed."""
        return not self._files.is_named(self._fd, self.name)

    @property
    def size(self) -> int:
        """Size of the file in bytes, preallocated space included."""
        return self._files.size(self._fd)

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
        return not any(self._files.read(self._fd, offset, BLOCK_BYTES))

    def resume_behind(
        self, place: int, sequence: int, seed: int, *, sealed: bool, below: int = SEQUENCE_MAX
    ) -> Block | None:
        """
        *place* has no whole block. Return the next whole block after it if *place* is damaged, or None if it is the
        end.

        *sequence* is the one that a block at *place* would have, *below* the first one of the next segment. A block
        that cannot have come after *place* was quoted inside a message.

        *place* is damaged if the segment is sealed, or if a commit that begins after *place* exists: that commit could
        only begin after the one at *place* was synced. Otherwise it is a torn commit, or one that is being written. If
        the first whole block after *place* lacks the beginning of its own commit, the same rule is applied to that
        beginning.
        """
        first = None
        offset, hole = self._behind(place, seed), place
        while (block := self._search(offset, _Expected(place, sequence, below), seed)) is not None:
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
        """Return the sequence of the first whole block of a commit that begins behind *place*, else *sequence*."""
        offset = self._behind(place, seed)
        while (block := self._search(offset, _Expected(place, sequence), seed)) is not None:
            if block.commit_offset > place:
                return block.sequence
            offset = block.end
        return sequence

    def written_behind(self, place: int) -> int:
        """Return the number of bytes from *place* to the last byte that is not zero."""
        last = place
        for offset in range(place, self.size, _WINDOW_BYTES):
            if written := self._files.read(self._fd, offset, _WINDOW_BYTES).rstrip(b"\0"):
                last = offset + len(written)
        return last - place

    def _behind(self, place: int, seed: int) -> int:
        """
        Return where to search for a block after *place*.

        Where only the entries of a block are damaged, that is its end: its entries may quote blocks.
        """
        while True:
            data = self._files.read(self._fd, place, BLOCK_BYTES + HEADER_BYTES_MAX)
            block = unpack_block(data, 0, place)
            if block is None or not is_front_whole(block, data, 0, seed):
                return place + 1
            if block.end > self.size or self.block_at(block.end, seed) is not None:
                return block.end
            place = block.end

    def _search(self, offset: int, expected: _Expected, seed: int) -> Block | None:
        """Return the first whole block at *offset* or behind that may be what is *expected*."""
        size = self.size
        while offset + BLOCK_BYTES <= size:
            data = self._files.read(self._fd, offset, _WINDOW_BYTES)
            at = data.find(BLOCK_MAGIC_BYTES)
            while at != -1:
                # Messages may be full of the magic, so a candidate that cannot be a block is rejected without another
                # read.
                block = unpack_block(data, at, offset + at)
                if block is not None and expected.may_be(block):
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
        self._data = self._files.read(self._fd, offset, max(size, _WINDOW_BYTES))
        self._base = offset

    def _read_header(self) -> SegmentHeader | None:
        size = segment_header_bytes(self._files.read(self._fd, 0, SEGMENT_HEADER_BYTES))
        return None if size is None else unpack_segment_header(self._files.read(self._fd, 0, size))
