"""
The rows of the messages that a query in SQL needs, read from the files of a journal.

Always true: blocks outside the bounds are passed over as `mpsr logs` passes over them; the rows within are all there.

Not here: what a query needs (hub.query.sqlplan), columns (hub.query.columns).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from hub.journal.reader import Gap
from hub.journal.segment import SEQUENCE_MAX
from hub.message import Batch
from hub.query.columns import COLUMNS, Columns, Part
from hub.query.indexed import batches
from hub.query.level import LEVELS
from hub.query.query import Query
from hub.query.sqlplan import Needs

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
    for found in _found(folder, needs, stretches):
        progress.gaps += isinstance(found, Gap)
        columns.add(found)
        if columns.is_full:
            part = columns.take()
            misfits += part.misfits
            _note(progress, columns, part, misfits)
            yield part
    part = columns.take()
    _note(progress, columns, part, misfits + part.misfits)
    if part.rows:
        yield part


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
