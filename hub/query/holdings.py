"""
What each segment of a journal holds by tag: messages, bytes, and times of receipt.

It is in the index of a segment, if that has one. Others are small, damaged or new, and are read block by block.

Always true: messages that have expired by rule do not count.
Not here: which of them are to be left out (hub.journal.tagrules), indexes (hub.query.index).
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from hub.journal.files import Files
from hub.journal.indexfile import identify, size_of
from hub.journal.rewriting import blocks_of
from hub.journal.segment import Segment, list_segments, segment_name
from hub.journal.tagrules import Held, Holding
from hub.query.index import SegmentIndex

TAGS_MAX = 100
"""Rows of a report. A client may invent tags."""


def holdings_of(files: Files, rest: Callable[[], None] = lambda: None) -> list[Holding]:
    """
    Return what the sealed segments hold, without those that are damaged. *rest* is called after each block that is
    read. Raises OSError.
    """
    found = list[Holding]()
    for first, following in itertools.pairwise(list_segments(files)):
        with contextlib.suppress(FileNotFoundError):  # it has expired
            holding = _indexed(files, first, following) or _read(files, first, following, rest)
            if holding.following == following:
                found.append(holding)
    return found


def last_holding(files: Files, rest: Callable[[], None] = lambda: None) -> Holding | None:
    """Return what the last segment holds up to now; None if there is none. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        return next((_read(files, first, None, rest) for first in list_segments(files)[-1:]), None)
    return None


def _indexed(files: Files, first: int, following: int) -> Holding | None:
    identity = identify(files, first, following)
    counts = SegmentIndex(files, first, following).counts()
    is_left = identity is not None and identity.expired < following - first
    if is_left and counts is None:
        return None
    size = size_of(files, segment_name(first))
    held = {} if counts is None else {counts.tags[tag]: Held(*row) for tag, *row in counts.held}
    return Holding(first, following, size, held)


def _read(files: Files, first: int, following: int | None, rest: Callable[[], None]) -> Holding:
    """Read the blocks of a segment, up to the first place that is damaged."""
    tags = dict[str, Held]()
    end = first
    with Segment(files, first) as segment:
        size = segment.file.disk_size
        for block in blocks_of(segment, following) if segment.header is not None else ():
            end = block.next_sequence
            rest()
            batch = None if block.is_expired or not block.count else segment.batch(block)
            if batch is None:
                continue
            tag = batch.tag.decode("utf-8", "replace")
            held = Held(block.count, block.end - block.offset, block.received, block.received)
            tags[tag] = tags[tag].plus(held) if tag in tags else held
    return Holding(first, end, size, tags)


def rows_of(holdings: Sequence[Holding], last: Holding | None) -> list[dict[str, Any]]:
    """
    Return a row for each tag, the largest first: its messages, about how many bytes of the disk they take, and when the
    first of them was received. Those beyond `TAGS_MAX` are one row without a tag.
    """
    found = dict[str, Held]()
    for holding in (*holdings, *([] if last is None else [last])):
        for tag, held in holding.tags.items():
            # The last segment is preallocated: there, the plain size is that on the disk.
            taken = held._replace(size=held.size if holding is last else holding.share(held.size))
            found[tag] = found[tag].plus(taken) if tag in found else taken
    ordered = sorted(found.items(), key=lambda item: (-item[1].size, item[0]))
    rows = [_row(tag, held) for tag, held in ordered[:TAGS_MAX]]
    if others := [held for _, held in ordered[TAGS_MAX:]]:
        together = others[0]
        for held in others[1:]:
            together = together.plus(held)
        rows.append(_row(None, together))
    return rows


def _row(tag: str | None, held: Held) -> dict[str, Any]:
    return {"tag": tag, "messages": held.messages, "bytes": held.size, "since": held.first_received}
