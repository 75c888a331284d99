"""
One segment file, read forward.

Always true: only whole blocks are returned; reading never raises because of the bytes.
Not here: the bytes of a block (hub.journal.block), the forms of the file (hub.journal.packed), what a place without a
block is (hub.journal.hole), which segment comes next (hub.journal.reader), writing.
Source: FORMAT.md.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from types import TracebackType
from typing import NamedTuple

from hub.journal.block import (
    BLOCK_BYTES,
    BLOCK_LENGTHS,
    HEADER_BYTES_MAX,
    MAGIC_PREFIX,
    MAGICS,
    SEGMENT_HEADER_BYTES,
    Block,
    SegmentHeader,
    is_front_whole,
    is_whole,
    seed_of,
    segment_header_bytes,
    unpack_batch,
    unpack_block,
    unpack_run,
    unpack_segment_header,
)
from hub.journal.files import Files
from hub.journal.hole import Hole, Limits, Place, classify_hole
from hub.journal.packed import Described, SegmentFile, read_head
from hub.message import Batch

_NAME = re.compile(r"([0-9]{20})\.seg")
_WINDOW_BYTES, _WINDOW_BYTES_MIN = 1 << 20, 64 << 10
"""
The most that is read at once, and the first window. Each is twice as large as the one before: who follows a writer
finds little at the end, and zeros after it.
"""
_SKIP_BYTES, _LARGE_BLOCK_BYTES = 256 << 10, 32 << 10
"""What is read at once to pass over blocks. After a block of the second size, only the lengths of the next one are."""
SEQUENCE_MAX = (1 << 64) - 1


def segment_name(first_sequence: int) -> str:
    """Return the file name of the segment that begins with *first_sequence*."""
    return f"{first_sequence:020d}.seg"


def list_segments(files: Files) -> list[int]:
    """Return the first sequences of all segments, rising."""
    found = (int(match[1]) for name in files.list() if (match := _NAME.fullmatch(name)))
    return sorted(first for first in found if first <= SEQUENCE_MAX)


class Examined(NamedTuple):
    """What a place without a whole block is, and for damage the block with which reading continues."""

    hole: Hole
    block: Block | None


class Segment:
    """
    An open segment. Use it in a ``with``; *header* is None where it is damaged, or belongs to another segment.

    *hub_id* identifies the journal's blocks if the header does not. Without either, no blocks can be read before
    `identify`.
    """

    def __init__(self, files: Files, first_sequence: int, hub_id: bytes | None = None) -> None:
        self._files = files
        self.first_sequence = first_sequence
        self.name = segment_name(first_sequence)
        self._fd = files.open(self.name)
        self.file: SegmentFile = SegmentFile(files, self._fd)
        self._data = b""
        self._base = 0
        self._window_bytes = _WINDOW_BYTES_MIN  # of the next window
        header = self._read_header()
        self.header = header if header is not None and header.first_sequence == first_sequence else None
        self.misplaced = None if header is None or header is self.header else header.first_sequence
        """The first sequence of another segment, whose file has come to this name."""
        self._seed: int | None = None
        if self.header is not None:
            hub_id = self.header.hub_id
        if hub_id is not None:
            self.identify(hub_id)

    def __enter__(self) -> Segment:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._files.close(self._fd)

    def identify(self, hub_id: bytes) -> None:
        """Read the blocks of this journal, and no others."""
        self._seed = seed_of(hub_id)

    @property
    def start(self) -> Place:
        """The place of the first block. With a damaged header it is searched for from the beginning of the file."""
        return Place(self.first_sequence, self.header.size_bytes if self.header else 0, self.first_sequence)

    @property
    def is_replaced(self) -> bool:
        """Whether another file has the name now: this segment was given up before any of its blocks was committed."""
        return not self._files.is_named(self._fd, self.name)

    @property
    def described(self) -> Described | None:
        """What the file says about the segment."""
        return read_head(self._files, self._fd)

    @property
    def is_packed(self) -> bool:
        """Whether the file has the packed form. Then the segment is sealed, and nothing in it is torn."""
        return self.file.directory is not None

    @property
    def size(self) -> int:
        """Size of the plain form in bytes, preallocated space included."""
        return self.file.size

    def skip_to(self, sequence: int) -> Place:
        """
        Return the place of the block that contains *sequence*, or a place before it.

        Lengths and sequences lead from block to block: 0.2 µs for a small block, 2 µs for a large one, of which nothing
        else is read. Where they do not fit together, that is the end or damage, and the block before it is the last
        that is skipped.
        """
        start = self._start_before(sequence)
        offset = before = start.offset
        expected = passed = start.sequence
        unpack, lengths, more = BLOCK_LENGTHS.unpack_from, BLOCK_LENGTHS.size, BLOCK_BYTES
        data, base, last, step = b"", 0, -1, 0
        while self.header is not None:
            at = offset - base
            if at > last:
                size = _SKIP_BYTES if step < _LARGE_BLOCK_BYTES else lengths
                data, base, at = self.file.read(offset, size), offset, 0
                last = len(data) - lengths
                if last < 0:
                    break
            magic, header_bytes, entries_bytes, first, count = unpack(data, at)
            if magic not in MAGICS or first != expected:
                break
            before, passed = offset, expected
            if expected + count > sequence or expected == sequence:  # one without messages may precede it
                break
            expected += count
            step = more + header_bytes + entries_bytes
            offset += step
        return Place(self.first_sequence, before, passed)

    def _start_before(self, sequence: int) -> Place:
        """Return a place before *sequence* that is known without reading."""
        row = self.file.directory.before_sequence(sequence) if self.file.directory is not None else None
        return self.start if row is None else Place(self.first_sequence, row.offset, row.sequence)

    def block_at(self, offset: int) -> Block | None:
        """Return the block at *offset*, or None if it is not whole."""
        block = self._block_in_window(offset)
        if block is not None:
            return block
        self._load(offset, BLOCK_BYTES)  # it may be newly written, or extend beyond the window
        block = unpack_block(self._data, offset - self._base, offset)
        if block is None or block.end > self.size:
            self._window_bytes = _WINDOW_BYTES_MIN
            return None
        if block.end - self._base > len(self._data):
            self._load(offset, block.end - offset)
        return self._block_in_window(offset)

    def run(self, offset: int, sequence: int, below: int) -> Iterator[tuple[int, Batch]]:
        """
        Yield the batches from *offset* on, the first with *sequence* and all below the sequence *below*, and where each
        ends: as long as they are in the window, and there is nothing else to see. What follows is for `block_at`.
        """
        assert self._seed is not None
        at = offset - self._base
        return unpack_run(self._data, self._base, at, self._seed, sequence, below) if at >= 0 else iter(())

    def batch(self, block: Block) -> Batch | None:
        """
        Return the batch of *block*, which must be the last block that `block_at` returned. The entries of one that has
        expired are zeros.
        """
        return unpack_batch(block, self._data, block.offset - self._base)

    def forget(self) -> None:
        """Discard the window. An uncommitted block may be withdrawn, so it must be read again."""
        self._data = b""
        self._window_bytes = _WINDOW_BYTES_MIN

    def is_zero_at(self, offset: int) -> bool:
        """Return whether the bytes of a block's fixed part at *offset* are zeros or after the end of the file."""
        return not any(self.file.read(offset, BLOCK_BYTES))

    def examine(self, place: Place, limits: Limits) -> Examined:
        """
        *place* has no whole block. Return what it is, and if it is damaged, the next whole block.

        A commit that was being written at *place* may have become whole meanwhile: then its block is returned.
        """
        following = self.blocks_after(place, limits)
        first = next(following, None)
        hole = classify_hole(
            place,
            () if first is None else itertools.chain((first,), following),
            is_committed=self.is_packed or limits.is_committed(place),
            is_blank=first is None and self.is_zero_at(place.offset),
        )
        if first is None or hole is not Hole.DAMAGE:
            return Examined(hole, None)
        return Examined(hole, self.block_at(place.offset) or self.block_at(first.offset))

    def blocks_after(self, place: Place, limits: Limits) -> Iterator[Block]:
        """Yield the whole blocks after *place*, which has none. One that cannot have come after it is left out."""
        offset = self._end_of_damage(place.offset)
        while (block := self._search(offset, place, limits)) is not None:
            yield block
            offset = block.end

    def sequence_after(self, place: Place) -> int:
        """Return the sequence of the first whole block of a commit that begins after *place*, else that of *place*."""
        later = (block.sequence for block in self.blocks_after(place, Limits()) if block.commit_offset > place.offset)
        return next(later, place.sequence)

    def written_after(self, offset: int) -> int:
        """Return the number of bytes from *offset* to the last byte that is not zero."""
        last = offset
        for start in range(offset, self.size, _WINDOW_BYTES):
            if written := self.file.read(start, _WINDOW_BYTES).rstrip(b"\0"):
                last = start + len(written)
        return last - offset

    def _end_of_damage(self, offset: int) -> int:
        """
        Return where to search for blocks after *offset*.

        Where only the entries of a block are damaged, that is its end: its entries may quote blocks.
        """
        assert self._seed is not None
        while True:
            data = self.file.read(offset, BLOCK_BYTES + HEADER_BYTES_MAX)
            block = unpack_block(data, 0, offset)
            if block is None or not is_front_whole(block, data, 0, self._seed):
                return offset + 1
            if block.end > self.size or self.block_at(block.end) is not None:
                return block.end
            offset = block.end

    def _search(self, offset: int, place: Place, limits: Limits) -> Block | None:
        """Return the first whole block at *offset* or after it that may follow *place*."""
        size = self.size
        while offset + BLOCK_BYTES <= size:
            data = self.file.read(offset, _WINDOW_BYTES)
            at = data.find(MAGIC_PREFIX)
            while at != -1:
                # Messages may be full of the magic, so a candidate that cannot be a block is rejected without another
                # read.
                block = unpack_block(data, at, offset + at)
                if block is not None and limits.may_follow(block, place):
                    block = self.block_at(offset + at)
                    if block is not None:
                        return block
                at = data.find(MAGIC_PREFIX, at + 1)
            if len(data) < BLOCK_BYTES:  # a hub that started meanwhile has truncated the file
                return None
            offset += len(data) - BLOCK_BYTES + 1  # the fixed part may straddle two windows
        return None

    def _block_in_window(self, offset: int) -> Block | None:
        assert self._seed is not None
        at = offset - self._base
        block = unpack_block(self._data, at, offset) if at >= 0 else None
        return block if block is not None and is_whole(block, self._data, at, self._seed) else None

    def _load(self, offset: int, size: int) -> None:
        """Read the window at *offset*: at least *size* bytes, unless the file is shorter."""
        self._base, self._data = self.file.window(offset, size, min(self._window_bytes, _WINDOW_BYTES))
        self._window_bytes = min(2 * self._window_bytes, _WINDOW_BYTES)

    def _read_header(self) -> SegmentHeader | None:
        size = segment_header_bytes(self.file.read(0, SEGMENT_HEADER_BYTES))
        return None if size is None else unpack_segment_header(self.file.read(0, size))
