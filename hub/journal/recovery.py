"""
Opening a journal after any death: find its end, cut what was never acknowledged, remember what was received.

Always true: a block counts only if every block of its commit up to it is whole; damage in the middle costs what is
damaged, and its sequences stay missing.
Not here: the first new segment (hub.journal.writer).
Source: FORMAT.md, "Recovery".
"""

from __future__ import annotations

import os
from typing import NamedTuple

from hub.dedupe import Dedupe
from hub.errors import JournalTooNew, JournalUnusable
from hub.journal.block import VERSION, seed_of
from hub.journal.files import Files
from hub.journal.segment import Segment, list_segments, segment_name

HUB_ID_BYTES = 16


class Kept(NamedTuple):
    """A segment, the bytes of its file, and when it was begun (0 where that is damaged)."""

    first_sequence: int
    bytes: int
    created: int = 0


class Recovered(NamedTuple):
    """What a journal holds, once everything that does not count is cut."""

    hub_id: bytes
    next_sequence: int
    last_received: int
    segments: list[Kept]
    cut_bytes: int
    missing: int


def recover(files: Files, dedupe: Dedupe, *, path: str = "") -> Recovered:
    """
    Bring the journal into order and *dedupe* up to date.

    Raises JournalTooNew or JournalUnusable, with nothing changed, and OSError.
    """
    firsts = list_segments(files)
    if not firsts:
        return Recovered(os.urandom(HUB_ID_BYTES), 1, 0, [], 0, 0)
    start, hub_id = _find_start(files, firsts, dedupe, path)
    files.sync_folder()  # a hub killed while it expired: what it deleted stays so before anything more is deleted
    walk = _Walk(seed_of(hub_id), dedupe, firsts[start])
    end = cut = 0
    for first, following in zip(firsts[start:], [*firsts[start + 1 :], None], strict=True):
        with Segment(files, first) as segment:
            end = walk.segment(segment, following)
            cut = segment.written_behind(end) if following is None else 0
    # Also where nothing is cut: a hub that was killed may not have synced what counts from now on.
    files.truncate(segment_name(firsts[-1]), end)
    # A last segment without messages is not kept: the next one has its name, and takes its place in one step.
    kept = firsts if walk.next_sequence > firsts[-1] else firsts[:-1]
    segments = [_kept(files, first) for first in kept]
    return Recovered(hub_id, walk.next_sequence, walk.last_received, segments, cut, walk.missing)


def _find_start(files: Files, firsts: list[int], dedupe: Dedupe, path: str) -> tuple[int, bytes]:
    """Return the index of the last segment whose header is whole, and the hub id; restore *dedupe* from it."""
    for index in range(len(firsts) - 1, -1, -1):
        with Segment(files, firsts[index]) as segment:
            header = segment.header
        if header is None:
            continue
        if header.version > VERSION:
            raise JournalTooNew(path, header.version, VERSION)
        dedupe.restore(header.snapshot)
        return index, header.hub_id
    raise JournalUnusable(path, "no segment has a readable header (move the folder away, or restore it)")


class _Walk:
    """One pass over the blocks that count."""

    def __init__(self, seed: int, dedupe: Dedupe, next_sequence: int) -> None:
        self._seed = seed
        self._dedupe = dedupe
        self.next_sequence = next_sequence
        self.last_received = 0
        self.missing = 0

    def segment(self, segment: Segment, following: int | None) -> int:
        """Take in one segment; return where its last block that counts ends."""
        header = segment.header
        self.last_received = max(self.last_received, header.created if header else 0)
        self._pass_to(segment.first_sequence)
        offset = header.bytes if header else 0
        while True:
            block = segment.block_at(offset, self._seed)
            if block is None:
                block = segment.resume_behind(offset, self.next_sequence, self._seed, sealed=following is not None)
                if block is None:
                    break
            if following is not None and block.sequence >= following:
                break
            self._pass_to(block.sequence)
            self.next_sequence = max(self.next_sequence, block.next_sequence)
            self.last_received = max(self.last_received, block.received)
            batch = segment.batch(block)
            if batch is not None and batch.chunk is not None:
                self._dedupe.remember((batch,), block.received)
            offset = block.end
        if following is None:
            # Damage with a torn commit behind it: what was damaged is cut too, but its sequences were given already.
            self._pass_to(segment.sequence_behind(offset, self.next_sequence, self._seed))
        return offset

    def _pass_to(self, sequence: int) -> None:
        """Go on at *sequence*; what is before it and was not seen is missing."""
        self.missing += max(sequence - self.next_sequence, 0)
        self.next_sequence = max(self.next_sequence, sequence)


def _kept(files: Files, first: int) -> Kept:
    with Segment(files, first) as segment:
        return Kept(first, segment.size, segment.header.created if segment.header else 0)
