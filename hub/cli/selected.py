"""
Which of the messages that match `mpsr logs` shows: all, the last ones, those with their context, the later ones, too.

Not here: filters (hub.cli.logs), how a message becomes a line (hub.cli.showing), where messages come from
(hub.cli.stored).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    from hub.cli.showing import Showing
    from hub.cli.stored import Stored
    from hub.query.query import Query

COUNT_MAX, SEQUENCE_MAX = 1 << 31, 1 << 62
ALL = COUNT_MAX + 1
"""The number of lines that `-n all` stands for."""
LAST = 10
"""The number of stored messages that a follower shows first."""


class Selected(NamedTuple):
    """
    Which of the messages that match are shown: the *last* ones (None: all), after a sequence. A follower also shows all
    that were received since the time *began*.
    """

    last: int | None
    after: int
    began: int
    is_followed: bool = False
    is_reversed: bool = False


def write_selected(stored: Stored, showing: Showing, selected: Selected) -> int:
    """Write the lines that are selected. Return their number."""
    count, after = selected.last, selected.after
    if selected.is_followed:
        _follow(stored, showing, LAST if count is None else count, selected)
    if selected.is_reversed:
        newest = (message for stretch in stored.backward(after) for message in reversed(stretch))
        return showing.write(iter([itertools.islice(newest, count)]))
    return showing.write_all(stored, after) if count is None else showing.write(iter([stored.last(count, after)]))


def write_around(stored: Stored, showing: Showing, selected: Selected, context: Query, around: tuple[int, int]) -> int:
    """Do the same, with as many messages of *context* before and after each as *around* says."""
    from hub.cli.stored import Around, InFiles

    assert isinstance(stored, InFiles)
    count, end = selected.last, SEQUENCE_MAX
    if selected.is_followed:
        count = LAST if count is None else None if count == ALL else count
        end = max(stored.end_before(selected.began), selected.after) + 1
    groups = stored.around(context, Around(*around, count, end), selected.after, follow=selected.is_followed)
    return sum(map(showing.write_around, groups))


def _follow(stored: Stored, showing: Showing, count: int, selected: Selected) -> NoReturn:
    """Write the last *count* messages before the start, then all since, until the reader of the output ends."""
    end = selected.after
    if count != ALL:
        end = max(stored.end_before(selected.began), end)
        showing.write(iter([stored.last(count, selected.after, end + 1)]))
    for groups in stored.follow(end):
        showing.write(groups)
    raise AssertionError("a follower does not end")
