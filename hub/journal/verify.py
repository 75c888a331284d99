"""
Checks a journal: every header, every block, the order, gaps, positions.

Always true: it needs only read permission and changes nothing; it may run while a hub writes.
Not here: whether entries can be decoded (a reader returns each unreadable entry as a loss at its own sequence).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hub import entries as codec
from hub.errors import JournalUnusable
from hub.journal.block import SegmentHeader, unpack_snapshot
from hub.journal.files import Files
from hub.journal.positions import NO_POSITIONS, Positions
from hub.journal.reader import Gap, Reader
from hub.journal.seal import read_seal
from hub.journal.segment import Segment, list_segments
from hub.message import Batch

PROGRESS_BATCHES = 1000


class Verified(NamedTuple):
    """
    The number of messages, batches and segments that are whole, every fault in the order of the journal, and how many
    messages have expired by rule.
    """

    messages: int
    batches: int
    segments: int
    faults: tuple[str, ...] = ()
    expired: int = 0


def verify(files: Files, *, path: str = "", progress: Callable[[int], None] = lambda messages: None) -> Verified:
    """Check all of the journal. *progress* is called every `PROGRESS_BATCHES` batches, with the messages checked."""
    firsts = list_segments(files)
    faults = [*_damaged_headers(files, firsts)]
    if not firsts and (seal := read_seal(files)) is not None and seal.next_sequence > 1:
        faults.append(f"sequences up to {seal.next_sequence - 1} are missing: no segment is left")
    messages = batches = received = 0
    reader = Reader(files, path=path, with_empty=True)
    try:
        for batch in reader.read():
            if fault := _fault_of(batch, received):
                faults.append(fault)
            received = batch.received
            if not isinstance(batch, Gap) and batch.count:
                messages += batch.count
                batches += 1
                if batches % PROGRESS_BATCHES == 0:
                    progress(messages)
    except JournalUnusable as error:
        if not faults:
            raise
        faults.append(error.reason)  # no header can be read, so no block can
    finally:
        reader.close()
    return Verified(messages, batches, len(firsts), tuple(faults), reader.expired)


def _damaged_headers(files: Files, firsts: Sequence[int]) -> Iterator[str]:
    for first in firsts:
        # A running hub may delete it as expired at this moment.
        with contextlib.suppress(FileNotFoundError), Segment(files, first) as segment:
            if segment.misplaced is not None:
                yield f"{segment.name}: its header says {segment.misplaced}"
            elif segment.header is None:
                yield f"{segment.name}: its header is damaged"
            elif not _has_positions(segment.header):
                yield f"{segment.name}: its positions cannot be read"


def _has_positions(header: SegmentHeader) -> bool:
    """Return whether the positions in a segment's snapshot can be read, if its version has any."""
    try:
        _, positions = unpack_snapshot(header)
        Positions().restore(positions or NO_POSITIONS)
    except ValueError:
        return False
    return True


def _fault_of(batch: Batch | Gap, received: int) -> str:
    """Return what is wrong with *batch*, whose predecessor was received at *received*; empty if nothing is."""
    if isinstance(batch, Gap) and not batch.count:
        return f"before sequence {batch.sequence}: positions are missing: {batch.reason}, {batch.place}"
    if isinstance(batch, Gap):
        last = batch.sequence + batch.count - 1
        return f"sequences {batch.sequence} to {last} are missing: {batch.reason}, {batch.place}"
    if batch.received < received:
        return f"sequence {batch.sequence}: received goes back"
    if not batch.count and not batch.positions:
        return f"before sequence {batch.sequence}: a block with neither messages nor positions"
    return "" if codec.is_whole(batch.entries) else f"sequence {batch.sequence}: entries are not msgpack"
