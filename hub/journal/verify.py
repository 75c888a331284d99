"""
Checks a journal: every header, every block, the order, gaps.

Always true: it needs only read permission and changes nothing; it may run while a hub writes.
Not here: whether entries can be decoded (a reader returns each unreadable entry as a loss at its own sequence).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from hub import entries as codec
from hub.journal.files import Files
from hub.journal.reader import Gap, Reader
from hub.journal.segment import Segment, list_segments


class Verified(NamedTuple):
    """The number of messages, batches and segments checked, and the first fault, or None."""

    messages: int
    batches: int
    segments: int
    fault: str | None


def verify(files: Files, *, path: str = "", progress: Callable[[int], None] = lambda messages: None) -> Verified:
    """Check the journal; stop at the first fault. *progress* is called every 1000 batches with the messages checked."""
    messages = batches = 0
    firsts = list_segments(files)
    for first in firsts:
        # A running hub may delete it as expired at this moment.
        with contextlib.suppress(FileNotFoundError), Segment(files, first) as segment:
            if segment.misplaced is not None:
                return Verified(0, 0, len(firsts), f"{segment.name}: its header says {segment.misplaced}")
            if segment.header is None:
                return Verified(0, 0, len(firsts), f"{segment.name}: its header is damaged")
    reader = Reader(files, path=path)
    received = 0
    try:
        for batch in reader.read():
            if isinstance(batch, Gap):
                last = batch.sequence + batch.count - 1
                fault = f"sequences {batch.sequence} to {last} are missing: {batch.reason}, {batch.place}"
                return Verified(messages, batches, len(firsts), fault)
            if batch.received < received:
                return Verified(messages, batches, len(firsts), f"sequence {batch.sequence}: received goes back")
            if not codec.is_well_formed(batch.entries):
                return Verified(messages, batches, len(firsts), f"sequence {batch.sequence}: entries are not msgpack")
            received = batch.received
            messages += batch.count
            batches += 1
            if batches % 1000 == 0:
                progress(messages)
    finally:
        reader.close()
    return Verified(messages, batches, len(firsts), None)
