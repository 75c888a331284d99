"""
Opens a journal after any kind of stop.

It finds the end, cuts off what was never acknowledged, and restores deduplication and the positions of sources.

Always true:
- a block counts only if all earlier blocks of its commit are whole;
- damage costs only the damaged blocks. Their sequences stay missing, also at the end of a journal that was closed in
  order.

Not here: the first new segment (hub.journal.writer).
Source: FORMAT.md, "Recovery".
"""

from __future__ import annotations

import os
from typing import NamedTuple

from hub.dedupe import Dedupe
from hub.errors import JournalTooNew, JournalUnusable
from hub.journal.block import VERSION, Block, SegmentHeader, unpack_snapshot
from hub.journal.files import Files
from hub.journal.hole import Hole, Limits, Place
from hub.journal.indexfile import index_size
from hub.journal.positions import Positions
from hub.journal.rewriting import remove_unfinished
from hub.journal.seal import Seal, read_seal
from hub.journal.segment import Segment, list_segments, segment_name

HUB_ID_BYTES = 16


UNREADABLE = (1 << 64) - 1
"""
The time of creation of a segment whose header is damaged: later than any other, so that the next readable one decides.
"""


class Kept(NamedTuple):
    """
    A segment: its first sequence, the size of its files in bytes, the real time of its creation in nanoseconds, and how
    many of the bytes are the snapshot of positions (about, in the packed form), and how many its index, if it is known
    to have one; how many of its messages have expired by rule.
    """

    first_sequence: int
    size_bytes: int
    created: int = UNREADABLE
    positions_bytes: int = 0
    index_bytes: int = 0
    expired: int = 0


class Recovered(NamedTuple):
    """The contents of a journal after everything that does not count is cut off."""

    hub_id: bytes
    next_sequence: int
    last_received: int
    segments: list[Kept]
    cut_bytes: int
    missing: int
    positions: Positions


def recover(files: Files, dedupe: Dedupe, *, now: int, path: str = "") -> Recovered:
    """
    Repair the journal and bring *dedupe* up to date; *now* is the time on its clock.

    Raises JournalTooNew or JournalUnusable, with nothing changed, and OSError.
    """
    firsts, seal = list_segments(files), read_seal(files)
    if not firsts:  # the segments were removed by hand; their sequences are still not reused
        next_sequence = seal.next_sequence if seal else 1
        hub_id = seal.hub_id if seal else os.urandom(HUB_ID_BYTES)
        return Recovered(hub_id, next_sequence, 0, [], 0, next_sequence - 1, Positions())
    _refuse_misplaced(files, firsts, path)
    start, hub_id, header = _find_start(files, firsts, path, seal)
    positions = Positions()
    if header is not None:
        known, rows = unpack_snapshot(header)
        dedupe.restore(known, now)
        if rows is not None:
            positions.restore(rows)
    files.sync_folder()  # a hub may have been killed while it expired: its deletions must last before more follow
    seal = seal if seal and seal.hub_id == hub_id else None
    walk = _Walk(dedupe, positions, firsts[start], now)
    end = cut = 0
    for first, following in zip(firsts[start:], [*firsts[start + 1 :], None], strict=True):
        with Segment(files, first, hub_id) as segment:
            end = walk.segment(segment, Limits(following, seal))
            cut = segment.written_after(end) if following is None and not segment.is_packed else 0
    if not _is_packed(files, firsts[-1]):
        # Also if nothing is cut: a hub that was killed may not have synced the blocks that count from now on.
        files.truncate(segment_name(firsts[-1]), end)
    remove_unfinished(files)
    # A last segment without messages is dropped: the next one has the same name and replaces it in one step.
    kept = firsts if walk.next_sequence > firsts[-1] else firsts[:-1]
    segments = [kept_of(files, first) for first in kept]
    return Recovered(hub_id, walk.next_sequence, walk.last_received, segments, cut, walk.missing, positions)


def check_recoverable(files: Files, *, path: str = "") -> None:
    """
    Raise JournalTooNew or JournalUnusable if `recover` would, and OSError. Nothing is changed; a hub may be writing.
    """
    if firsts := list_segments(files):
        _refuse_misplaced(files, firsts, path)
        _find_start(files, firsts, path, read_seal(files))


def _refuse_misplaced(files: Files, firsts: list[int], path: str) -> None:
    """Raises JournalUnusable for a segment under the name of another: going on would destroy one of them."""
    for first in firsts:
        with Segment(files, first) as segment:
            if segment.misplaced is not None:
                reason = f"{segment.name} holds another segment, {segment_name(segment.misplaced)}"
                raise JournalUnusable(path, f"{reason} (give it its name back, or move it away)")


def _find_start(
    files: Files, firsts: list[int], path: str, seal: Seal | None
) -> tuple[int, bytes, SegmentHeader | None]:
    """Return the index of the last segment whose header is whole, the hub id, and the header."""
    for index in range(len(firsts) - 1, -1, -1):
        with Segment(files, firsts[index]) as segment:
            header = segment.header
        if header is None:
            continue
        if header.version > VERSION:
            raise JournalTooNew(path, header.version, VERSION)
        return index, header.hub_id, header
    if seal is not None:  # the blocks can be read; what was known before the first of them is lost
        return 0, seal.hub_id, None
    raise JournalUnusable(path, "no segment has a readable header (move the folder away, or restore it)")


class _Walk:
    """One pass over the blocks that count."""

    def __init__(self, dedupe: Dedupe, positions: Positions, next_sequence: int, now: int) -> None:
        self._dedupe = dedupe
        self._positions = positions
        self._now = now
        self.next_sequence = next_sequence
        self.last_received = 0
        self.missing = 0

    def segment(self, segment: Segment, limits: Limits) -> int:
        """Read one segment. Return the offset of the end of its last block that counts."""
        self.last_received = max(self.last_received, segment.header.received if segment.header else 0)
        self._pass_to(segment.first_sequence)
        place = segment.start._replace(sequence=self.next_sequence)
        hole = None
        while True:
            block = segment.block_at(place.offset)
            if block is None:
                hole, block = segment.examine(place, limits)
            if block is None or limits.excludes(block):
                break
            self._take(segment, block)
            place = Place(place.segment, block.end, self.next_sequence)
        if limits.next_segment is None:
            if hole is not Hole.END:
                # Damage followed by a torn commit: the damaged blocks are cut too, but their sequences were assigned.
                self._pass_to(segment.sequence_after(place))
            if limits.seal is not None:
                self._pass_to(limits.seal.next_sequence)
        return place.offset

    def _take(self, segment: Segment, block: Block) -> None:
        self._pass_to(block.sequence)
        self.next_sequence = max(self.next_sequence, block.next_sequence)
        self.last_received = max(self.last_received, block.received)
        batch = segment.batch(block)
        if batch is None:
            return
        if batch.chunk_id is not None:
            self._dedupe.remember((batch,), self._now)
        self._positions.put(batch.positions, block.received)

    def _pass_to(self, sequence: int) -> None:
        """Continue at *sequence*. Unseen sequences before it count as missing."""
        self.missing += max(sequence - self.next_sequence, 0)
        self.next_sequence = max(self.next_sequence, sequence)


def _is_packed(files: Files, first: int) -> bool:
    with Segment(files, first) as segment:
        return segment.is_packed


def kept_of(files: Files, first: int) -> Kept:
    """Return what a sealed segment takes. Raises OSError."""
    with Segment(files, first) as segment:
        header, index_bytes, disk_size = segment.header, index_size(files, first), segment.file.disk_size
        expired = segment.described.expired if segment.described is not None else 0
        if header is None:
            return Kept(first, disk_size + index_bytes, index_bytes=index_bytes)
        positions_bytes = len(unpack_snapshot(header)[1] or b"")
        if segment.is_packed:
            positions_bytes = positions_bytes * disk_size // segment.size
        return Kept(first, disk_size + index_bytes, header.created, positions_bytes, index_bytes, expired)
