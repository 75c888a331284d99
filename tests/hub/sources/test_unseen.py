"""hub.sources.unseen: files that came and went between two looks, by their events."""

from __future__ import annotations

import pytest

from hub.sources.unseen import CREATE, DELETE, MODIFY, MOVED_FROM, MOVED_TO, Unseen

Event = tuple[str, int, int]
LOG, OLD = "app.log", "app.log.1"


def gone(*reads: list[Event], is_certain: bool = True) -> list[list[str]]:
    """Return the names of the files that are gone after the events of *reads*."""
    it, found = Unseen(), []
    for events in reads:
        it.begin(is_certain=is_certain)
        for name, mask, cookie in events:
            it.note((1, name), mask, cookie)
        found += [[name for _, name in names] for names in it.end()]
    return found


MADE: list[Event] = [(LOG, CREATE, 0), (LOG, MODIFY, 0)]
ROTATED: list[Event] = [*MADE, (LOG, MOVED_FROM, 7), (OLD, MOVED_TO, 7)]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([*MADE, (LOG, DELETE, 0)], [[LOG]]),
        ([*MADE, (LOG, MOVED_FROM, 7)], [[LOG]]),
        (ROTATED, []),
        ([*ROTATED, (OLD, DELETE, 0)], [[LOG, OLD]]),
        ([*ROTATED, *ROTATED], [[LOG, OLD]]),
        ([*MADE, ("other", MOVED_FROM, 7), (LOG, MOVED_TO, 7), (LOG, DELETE, 0)], [[LOG]]),
        ([(LOG, CREATE, 0), (LOG, DELETE, 0)], []),
        ([(LOG, MODIFY, 0), (LOG, DELETE, 0)], []),
        ([(LOG, MODIFY, 0), (LOG, MOVED_FROM, 7)], []),
        (MADE, []),
    ],
    ids=[
        "deleted", "moved away", "renamed", "renamed and deleted", "renamed over", "replaced", "empty", "known",
        "known and moved", "there",
    ],
)  # fmt: skip
def test_what_is_gone(events: list[Event], expected: list[list[str]]) -> None:
    """What was made, written to, and is nowhere; not what was there before, or is still there."""
    assert gone(events, []) == expected
    assert gone(events, [], is_certain=False) == []


def test_the_halves_of_a_move() -> None:
    """The second one may come with the next events."""
    moved: Event = (LOG, MOVED_FROM, 7)
    assert gone([*MADE, moved], [(OLD, MOVED_TO, 7)], [(OLD, DELETE, 0)]) == []
    assert gone([*MADE, moved], [(OLD, MOVED_TO, 8)], []) == [[LOG]]


def test_each_read_begins_anew() -> None:
    """What was made before is seen by the look that follows."""
    assert gone(MADE, [(LOG, DELETE, 0)]) == []
