"""
Reads a journal from its end: the last messages that a query wants, or all of them, the newest first.

The journal is read in stretches. The newest is read first, and each is longer than the one before. The lengths of the
blocks lead to the beginning of a stretch, so what is before it is not read.

Always true: the messages are those that reading everything forward would give, gaps included.
Not here: filters (hub.query.query).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing

import msgspec

from hub.journal.files import DiskFiles, Files
from hub.journal.reader import Gap, Reader, sequence_before
from hub.journal.segment import SEQUENCE_MAX, Segment, list_segments
from hub.message import Batch, Message
from hub.query.indexed import wanted_ranges
from hub.query.query import Query

STRETCH_MIN, STRETCH_GROWTH, STRETCH_MAX = 256, 8, 1 << 16
"""Sequences in the first stretch, how many times as many are in each further one, and the most."""


def last(folder: str, query: Query, count: int, *, after: int = 0, below: int = SEQUENCE_MAX) -> list[Message]:
    """Return the last *count* wanted messages between the sequences *after* and *below*, in their order."""
    wanted: deque[Message] = deque()
    for messages in backward(folder, query, after=after, below=below, count=count):
        wanted.extendleft(reversed(messages))
        if len(wanted) >= count:
            break
    return [*wanted][max(len(wanted) - count, 0) :]


def backward(
    folder: str,
    query: Query,
    *,
    after: int = 0,
    below: int = SEQUENCE_MAX,
    count: int = STRETCH_MAX,
    is_time: Callable[[], bool] = lambda: False,
) -> Iterator[deque[Message]]:
    """
    Yield the wanted messages between the sequences *after* and *below*: the newest stretch first, each in its order.

    No more than the last *count* of a stretch are returned. When *is_time* returns True, an empty stretch is yielded,
    so that the caller can do something else.
    """
    files = DiskFiles(folder)
    if query.since is not None:
        after = max(after, sequence_before(files, query.since))
    firsts, asked = list_segments(files), below
    for first, following in reversed([*zip(firsts, [*firsts[1:], None], strict=True)]):
        for begin, end in reversed(wanted_ranges(files, query, first, following) if first < below else []):
            if begin >= below or end <= after + 1:
                continue
            lowest, below = max(begin - 1, after), min(end, below)
            for low in _stretches(files, first, lowest, below, count):
                with closing(Reader(files, after=low, path=folder)) as reader:
                    batches = _before(reader.read(), below, is_cut=below < asked)
                    found = yield from _last_of(query, batches, low, below, count, (low == lowest, is_time))
                if found is not None:  # else a gap may begin further back
                    yield found
                    below = low + 1
        if is_time():
            yield deque()
        below = min(below, first)
        if first <= after + 1:
            return


def last_sequence_before(folder: str, received: int) -> int:
    """Return the last sequence of the messages that the hub received before *received*, or 0."""
    files = DiskFiles(folder)
    for first in reversed(list_segments(files)):
        for low in _stretches(files, first, first - 1, SEQUENCE_MAX, STRETCH_MIN):
            found = 0
            with closing(Reader(files, after=low, path=folder)) as reader:
                for batch in reader.read():
                    if batch.received >= received:
                        break
                    found = batch.sequence + batch.count - 1
            if found:
                return found
    return 0


def last_tags(folder: str) -> set[str]:
    """Return the tags of the last `STRETCH_MAX` messages. Nothing is decoded."""
    files, tags = DiskFiles(folder), set[str]()
    firsts = list_segments(files)
    if firsts:
        low = next(_stretches(files, firsts[-1], firsts[-1] - 1, SEQUENCE_MAX, STRETCH_MAX))
        with closing(Reader(files, after=low, path=folder)) as reader:
            tags = {batch.tag.decode("utf-8", "replace") for batch in reader.read() if isinstance(batch, Batch)}
    return tags


def _stretches(files: Files, first: int, lowest: int, below: int, count: int) -> Iterator[int]:
    """Yield the sequences after which to read the segment *first*, from *below* or its end back to *lowest*."""
    try:
        with Segment(files, first) as segment:
            low = min(below, segment.skip_to(below).sequence)  # what is asked for may end far beyond the journal
    except OSError:  # the reader reports the reason, if it persists
        low = lowest
    step = max(count, STRETCH_MIN)
    if low <= lowest:
        yield lowest
    while low > lowest:
        low = max(low - step, lowest)
        step = min(step * STRETCH_GROWTH, max(STRETCH_MAX, count))
        yield low


def _last_of(
    query: Query,
    batches: Iterator[Batch | Gap],
    low: int,
    below: int,
    count: int,
    how: tuple[bool, Callable[[], bool]],
) -> Generator[deque[Message], None, deque[Message] | None]:
    """
    Return the last *count* wanted messages between the sequences *low* and *below*. None if a gap is there at the
    beginning, and the beginning is not that of the segment: then it is unknown where the gap begins.

    *how*: whether it is that of the segment, and `is_time` of `backward`.
    """
    may_begin, is_time = how
    head = next(batches, None)
    if isinstance(head, Gap) and not may_begin:
        return None
    found: deque[Message] = deque(maxlen=max(count, 0))
    if head is not None:
        for group in query.groups(itertools.chain((head,), batches)):
            found.extend(message for message in group if low < message.sequence < below)
            if is_time():
                yield deque()
    return found


def _before(batches: Iterator[Batch | Gap], below: int, *, is_cut: bool) -> Iterator[Batch | Gap]:
    """
    Yield what begins before *below*, and read nothing after it: at the end, it would be searched for damage. If it
    *is_cut*, a gap ends there, because what follows was read before.
    """
    for batch in batches:
        if batch.sequence < below:
            is_longer = is_cut and isinstance(batch, Gap) and batch.sequence + batch.count > below
            yield msgspec.structs.replace(batch, count=below - batch.sequence) if is_longer else batch
        if batch.sequence + batch.count >= below:
            return
