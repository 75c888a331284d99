"""
Reads a journal with the help of its indexes: what cannot be wanted is passed over, what is only counted is not read.

Segments without an index (the last one, small or damaged ones) are read as ever.

Always true: the messages and gaps are those of reading everything, except that a gap in a group of blocks without
anything wanted, whose segment was damaged after it was indexed, is not reported.

Not here: what an index knows (hub.query.index), who makes it (hub.query.indexing).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing
from typing import NamedTuple

from hub.journal.files import DiskFiles, Files
from hub.journal.hole import Place
from hub.journal.reader import Gap, Reader, open_reader, sequence_before
from hub.journal.segment import SEQUENCE_MAX, list_segments
from hub.message import Batch, Message
from hub.query.found import Found
from hub.query.index import Counts, SegmentIndex
from hub.query.query import Query
from hub.query.ranks import Ranked


def wanted_ranges(files: Files, query: Query, first: int, following: int | None) -> list[tuple[int, int]]:
    """
    Return the sequences between which the segment *first* can hold what is wanted, from one to before another.
    *following* is the first sequence of the next segment, if there is one.
    """
    is_indexed = following is not None and query.is_selective
    wanted = SegmentIndex(files, first, following or 0).wanted(query) if is_indexed else None
    return [(first, SEQUENCE_MAX)] if wanted is None else [(place.sequence, end) for place, end in wanted]


class Stretch(NamedTuple):
    """Part of a journal: what can be wanted there, with the gaps between, and the sequence before which it ends."""

    batches: Iterator[Batch | Gap]
    end: int


def stretches(folder: str, query: Query, after: int, below: int | None = None) -> Iterator[Stretch]:
    """
    Yield the sealed segments after the sequence *after* in parts, each to be read before the next one. They end with
    the last segment that begins before the sequence *below*, and that can have times which *query* wants.
    """
    yield from _Reading(folder, query, after, below).stretches()


def batches(folder: str, query: Query, after: int) -> Iterator[Batch | Gap]:
    """Yield the batches after the sequence *after* that can hold what *query* wants, and the gaps between them."""
    if not query.is_selective:
        with closing(open_reader(folder, after=after, since=query.since)) as reader:
            yield from reader.read()
        return
    reading = _Reading(folder, query, after)
    for stretch in reading.stretches():
        yield from stretch.batches
    yield from reading.until(SEQUENCE_MAX)


def counted(folder: str, query: Query, after: int, below: int | None = None) -> Iterator[Counts | Iterable[Message]]:
    """
    Yield the wanted messages after the sequence *after*, some at a time, for a caller that counts by tag, level and
    time of receipt. For a segment whose counts are known and of which all times are wanted, yield the counts instead:
    of all tags and levels, not only of those that are wanted. A segment that does not end before the sequence *below*
    is read; where it ends, *query* decides.

    The counts come first, because they are there at once; then the messages of the other segments, the newest segment
    first. Of a segment with an index, only the groups of blocks are read that can have wanted times, tags and levels.
    """
    if not query.is_counted:
        yield from wanted_after(query, batches(folder, query, after), after)
        return
    reading = _Reading(folder, query, after, below)
    begin, unknown = reading.begin, list[tuple[int, int, Place | None]]()
    for segment in reading.segments():
        is_whole = segment.first >= begin and (below is None or segment.following <= below)
        counts = segment.counts() if is_whole else None
        if counts is not None and query.contains(counts.first_received, counts.last_received):
            yield counts
            unknown.append((begin, segment.first, None))
        elif (ranges := segment.wanted(query)) is not None:
            unknown.append((begin, segment.first, None))
            unknown += [(max(place.sequence, begin), end, place) for place, end in ranges if end > begin]
        else:
            unknown.append((begin, segment.following, None))
        begin = segment.following
    unknown.append((begin, SEQUENCE_MAX, None))
    start = unknown[0][0]
    for first, end, place in reversed(unknown):
        head = first if place is None else place.segment
        if first < end and (first == start or reading.has_segment(head)):  # what expires meanwhile is not missing
            yield from _later(query.counted_groups(reading.between(first, end, place)), after)
            yield ()  # who counts in steps looks at the clock


def wanted_after(query: Query, found: Iterator[Batch | Gap], after: int) -> Iterator[Iterable[Message]]:
    """Yield the messages of *found* that *query* wants and whose sequence is above *after*."""
    return _later(query.groups(found), after)


def _later(groups: Iterator[Iterable[Message]], after: int) -> Iterator[Iterable[Message]]:
    for group in groups:
        is_later = isinstance(group, (Found, Ranked)) and group.batch.sequence > after
        yield group if is_later else (message for message in group if message.sequence > after)


class _Reading:
    """Reads forward, from one sequence to another, and leaves out what lies between."""

    def __init__(self, folder: str, query: Query, after: int, below: int | None = None) -> None:
        self._folder = folder
        self._files = DiskFiles(folder)
        self._query = query
        self._next = 1 + (after if query.since is None else max(after, sequence_before(self._files, query.since)))
        self._below = SEQUENCE_MAX if below is None else below
        if query.until is not None:  # what follows the segment in which that was begins later
            self._below = min(self._below, sequence_before(self._files, query.until + 1) + 2)

    @property
    def begin(self) -> int:
        """The sequence from which on it reads."""
        return self._next

    def segments(self) -> Iterator[SegmentIndex]:
        """Yield the sealed segments; the first one may have begun before."""
        for first, following in itertools.pairwise(list_segments(self._files)):
            if first >= self._below:
                return
            if following > self._next:
                yield SegmentIndex(self._files, first, following)

    def stretches(self) -> Iterator[Stretch]:
        """See `stretches`."""
        for segment in self.segments():
            yield Stretch(self.until(segment.first), segment.first)
            wanted = segment.wanted(self._query)
            if wanted is None:
                yield Stretch(self.until(segment.following), segment.following)
                continue
            for place, end in wanted:
                yield Stretch(self.until(end, place), end)
            self.pass_to(segment.following)
            yield Stretch(iter(()), segment.following)

    def has_segment(self, first: int) -> bool:
        """Return whether the segment *first* has not expired."""
        return first in list_segments(self._files)

    def pass_to(self, sequence: int) -> None:
        """Leave out everything before *sequence*."""
        self._next = max(self._next, sequence)

    def between(self, begin: int, end: int, place: Place | None) -> Iterator[Batch | Gap]:
        """Yield everything from the sequence *begin*, whose *place* may be known, to before *end*, wherever it was."""
        self._next = begin
        yield from self.until(end, place)

    def until(self, end: int, place: Place | None = None) -> Iterator[Batch | Gap]:
        """Yield everything before the sequence *end*, from *place* on if it is given, else from where it was."""
        if place is not None:
            self.pass_to(place.sequence)
        if self._next >= end:
            return
        with closing(Reader(self._files, after=self._next - 1, path=self._folder, hint=place)) as reader:
            for found in reader.read():
                if found.sequence >= end:
                    break
                self._next = found.sequence + found.count
                yield found
        self.pass_to(end)
