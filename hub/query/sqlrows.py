"""
The rows of the messages that a query in SQL needs, read from the files of a journal.

Always true: blocks outside the bounds are passed over as `mpsr logs` passes over them; the rows within are all there.

Not here: what a query needs (hub.query.sqlplan), columns (hub.query.columns).
"""

from __future__ import annotations

import itertools
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hub.journal.files import DiskFiles
from hub.journal.reader import Gap
from hub.journal.segment import SEQUENCE_MAX, list_segments
from hub.message import Batch
from hub.query.columns import COLUMNS, Choices, Columns, Part
from hub.query.counting import level_name
from hub.query.index import Counts, SegmentIndex
from hub.query.indexed import batches
from hub.query.level import LEVELS
from hub.query.query import Query
from hub.query.sqlplan import Needs

COUNTED_ROWS = 1 << 18
"""Rows of a part without a look at the messages: a few megabytes."""
_NS_OF_US = 1_000
MayRead = Callable[[str], bool]
"""Whether messages under a tag may be read."""
_SPECIAL = re.compile(r"([*?\[])")


class Stretch(NamedTuple):
    """Sequences from *first* to before *end*."""

    first: int = 1
    end: int = SEQUENCE_MAX


WHOLE = (Stretch(),)


class Cached(NamedTuple):
    """Where messages are: the files of Parquet, and the stretches of the journal that are in none of them."""

    files: Sequence[str] = ()
    stretches: Sequence[Stretch] = WHOLE


class Progress:
    """What has been read. *report* is called after each part, with the number of its rows."""

    def __init__(self, report: Callable[[int], None] = lambda _rows: None) -> None:
        self.report = report
        self.rows = 0
        self.decoded_bytes = 0
        self.gaps = 0
        self.misfits = 0
        """Values that did not fit their column in the scan that had the most of them."""


def query_of(needs: Needs) -> Query:
    """Return the filters that pass over blocks in which nothing is within the bounds."""
    low, high = needs.received_us
    is_plain = needs.tag is not None and not needs.tag.startswith("!")
    return Query(
        tag=_SPECIAL.sub(r"[\1]", needs.tag) if needs.tag is not None and is_plain else None,
        level=None if needs.rank_min is None else LEVELS[needs.rank_min],
        since=None if low is None else low * _NS_OF_US,
        until=None if high is None else high * _NS_OF_US + _NS_OF_US - 1,
    )


def parts(
    folder: str,
    needs: Needs,
    progress: Progress,
    stretches: Sequence[Stretch] = WHOLE,
    may_read: MayRead | None = None,
) -> Iterator[Part]:
    """
    Yield the rows that *needs* bounds, and perhaps some more, from these stretches of the journal in *folder*. None is
    of a message under a tag that may not be read.
    """
    columns, misfits = Columns([COLUMNS[name] for name in needs.columns], may_read=may_read), 0
    segments = Segments(folder)
    if is_counted(needs):
        stretches, counted = segments.counted(needs, stretches, may_read)
        for counts in counted:
            misfits += _misfits(needs, counts, may_read) or 0
            for part in _of_counts(needs, counts, may_read):
                _note(progress, columns, part, misfits)
                yield part
    for found in _found(folder, needs, stretches):
        progress.gaps += isinstance(found, Gap)
        columns.add(found, is_readable=segments.are_readable(found))
        if columns.is_full:
            part = columns.take()
            misfits += part.misfits
            _note(progress, columns, part, misfits)
            yield part
    part = columns.take()
    _note(progress, columns, part, misfits + part.misfits)
    if part.rows:
        yield part


def is_counted(needs: Needs) -> bool:
    """Return whether the counts of an index say all that is needed."""
    return {*needs.columns} <= {"tag", "level"} and needs.ranges.keys() <= {"tag", "level"}


class Segments:
    """What the indexes say about whole segments of the journal in *folder*."""

    def __init__(self, folder: str) -> None:
        self._files = DiskFiles(folder)
        self._pairs = [*itertools.pairwise(list_segments(self._files))]
        self._last = Stretch(0, 0)  # the segment that was asked about last
        self._is_readable = False

    def counted(
        self, needs: Needs, stretches: Sequence[Stretch], may_read: MayRead | None = None
    ) -> tuple[list[Stretch], list[Counts]]:
        """Return what is left of *stretches* beside the segments whose counts are known, and these counts."""
        left: list[Stretch] = []
        found: list[Counts] = []
        for stretch in stretches:
            first = stretch.first
            for pair in self._pairs:
                counts = self._counts(*pair) if first <= pair[0] and pair[1] <= stretch.end else None
                if counts is not None and _misfits(needs, counts, may_read) is not None:
                    found.append(counts)
                    if first < pair[0] and pair is not self._pairs[0]:  # nothing before the oldest one is missing
                        left.append(Stretch(first, pair[0]))
                    first = pair[1]
            left.append(Stretch(first, stretch.end))
        return left, found

    def are_readable(self, found: Batch | Gap) -> bool:
        """Return whether it is known that all entries of *found* can be read."""
        if isinstance(found, Gap):
            return False
        if not self._last.first <= found.sequence < self._last.end:
            index = bisect_right(self._pairs, (found.sequence, SEQUENCE_MAX)) - 1
            pair = self._pairs[index] if index >= 0 else (0, 0)
            counts = self._counts(*pair) if found.sequence < pair[1] else None
            self._last = Stretch(*pair) if found.sequence < pair[1] else Stretch(found.sequence)
            self._is_readable = counts is not None and counts.are_all_readable
        return self._is_readable

    def _counts(self, first: int, following: int) -> Counts | None:
        return SegmentIndex(self._files, first, following).counts()


def _misfits(needs: Needs, counts: Counts, may_read: MayRead | None) -> int | None:
    """Return how many values of a segment do not fit the columns that are needed; None if that is not known."""
    if "level" not in needs.columns or "level" in needs.ranges:  # what is none is not within bounds either
        return 0
    is_of_all_tags = "tag" not in needs.ranges and may_read is None
    return counts.misfits if is_of_all_tags or not counts.misfits else None


def _of_counts(needs: Needs, counts: Counts, may_read: MayRead | None) -> Iterator[Part]:
    """Yield the rows of a segment, of which only tag and level are needed."""
    for series, tag in counts.wanted(query_of(needs)):
        if may_read is not None and not (may_read(tag) and may_read(counts.tags[series.within])):
            continue
        texts = {"tag": tag, "level": level_name(series.rank)}
        left = series.messages
        while left:
            rows = min(left, COUNTED_ROWS)
            yield Part(rows, [Choices([texts[name]], array("I", (0,)) * rows) for name in needs.columns], 0)
            left -= rows


def _note(progress: Progress, columns: Columns, part: Part, misfits: int) -> None:
    progress.rows += part.rows
    progress.decoded_bytes, columns.decoded_bytes = progress.decoded_bytes + columns.decoded_bytes, 0
    progress.misfits = max(progress.misfits, misfits)
    progress.report(part.rows)


def _found(folder: str, needs: Needs, stretches: Sequence[Stretch]) -> Iterator[Batch | Gap]:
    query = query_of(needs)
    low, high = needs.sequences
    for stretch in stretches:
        first, end = max(stretch.first, low), min(stretch.end, high + 1)
        if first >= end:
            continue
        # One sequence earlier, or a gap that has begun before would be taken for one that begins at the first.
        for found in batches(folder, query, max(first - 2, 0) if first > stretch.first else first - 1):
            if found.sequence >= end or query.is_after(found):
                break
            if isinstance(found, Gap) or query.reads(found):
                yield found
