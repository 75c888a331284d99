"""
Checking a journal: every header, every block, order and holes.

Always true: it needs read permission and nothing else, and changes nothing; it may run beside a hub.
Not here: whether entries can be decoded (readers show those that cannot, each at its own sequence).
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
    """What was checked, and the first fault, None if there is none."""

    messages: int
    batches: int
    segments: int
    fault: str | None


def verify(files: Files, *, path: str = "", progress: Callable[[int], None] = lambda messages: None) -> Verified:
    """Check the journal; stop at the first fault. *progress* is called now and then with the messages checked."""
    messages = batches = 0
    firsts = list_segments(files)
    for first in firsts:
        # A hub beside us may let one expire this moment.
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
