"""
hub.journal.retention: which segments are deleted.
"""

import random

import pytest

from hub.journal.recovery import Kept
from hub.journal.retention import (
    NOTHING_NEEDED,
    RETAIN_BYTES,
    RETAIN_BYTES_MIN,
    SEGMENT_BYTES,
    SEGMENT_BYTES_MIN,
    plan_expiry,
    segment_bytes_for,
    uncounted_bytes_for,
)

FOUR = [Kept(1, 100), Kept(11, 100), Kept(21, 50), Kept(31, 100)]


@pytest.mark.parametrize(
    ("segments", "retain_bytes", "needed_from", "goes"),
    [
        ([], 0, NOTHING_NEEDED, 0),
        ([Kept(1, 100)], 0, NOTHING_NEEDED, 0),  # never the newest
        (FOUR, 350, NOTHING_NEEDED, 0),
        (FOUR, 349, NOTHING_NEEDED, 1),
        (FOUR, 250, NOTHING_NEEDED, 1),
        (FOUR, 249, NOTHING_NEEDED, 2),
        (FOUR, 149, NOTHING_NEEDED, 3),
        (FOUR, 0, NOTHING_NEEDED, 3),
        (FOUR, 0, 1, 0),
        (FOUR, 0, 10, 0),  # the last sequence of the first segment
        (FOUR, 0, 11, 1),
        (FOUR, 0, 20, 1),
        (FOUR, 0, 31, 3),
        (FOUR, 250, 31, 1),
    ],
)
def test_the_oldest_go_until_the_rest_fits(
    segments: list[Kept], retain_bytes: int, needed_from: int, goes: int
) -> None:
    """Expiry deletes whole segments, the oldest first, no more than needed, never the newest, never a needed one."""
    assert plan_expiry(segments, retain_bytes=retain_bytes, needed_from=needed_from) == goes


def test_the_plan_is_the_least_that_fits() -> None:
    """In random journals, the rest fits or no more may be deleted, and one segment less would not be enough."""
    rng = random.Random(1)
    for _ in range(500):
        segments, first = [], 1
        for _ in range(rng.randrange(1, 8)):
            segments.append(Kept(first, rng.randrange(1, 100)))
            first += rng.randrange(1, 50)
        keep, needed = rng.randrange(500), rng.choice([NOTHING_NEEDED, rng.randrange(first + 20)])
        count = plan_expiry(segments, retain_bytes=keep, needed_from=needed)
        allowed = sum(1 for following in segments[1:] if following.first_sequence <= needed)
        sizes = [sum(segment.size_bytes for segment in segments[index:]) for index in range(len(segments))]
        assert count <= allowed
        assert sizes[count] <= keep or count == allowed
        assert count == 0 or sizes[count - 1] > keep


@pytest.mark.parametrize(
    ("retain_bytes", "expected"),
    [
        (RETAIN_BYTES, SEGMENT_BYTES),
        (8 * RETAIN_BYTES, SEGMENT_BYTES),
        (RETAIN_BYTES_MIN, SEGMENT_BYTES_MIN),
        (80 << 20, 10 << 20),
    ],
)
def test_segments_are_an_eighth(retain_bytes: int, expected: int) -> None:
    """A journal has about eight segments, between 1 and 64 MiB each."""
    assert segment_bytes_for(retain_bytes) == expected


def test_positions_above_a_quarter_of_a_segment_do_not_count() -> None:
    """In a small journal they would push out all messages."""
    quarter = SEGMENT_BYTES_MIN // 4
    assert [uncounted_bytes_for(RETAIN_BYTES_MIN, each) for each in (0, quarter, quarter + 7)] == [0, 0, 7]
    assert uncounted_bytes_for(RETAIN_BYTES, 16 << 20) == 0
    segments = [Kept(first, 10 * SEGMENT_BYTES_MIN, 0, 9 * SEGMENT_BYTES_MIN + quarter) for first in (1, 2, 3, 4, 5)]
    assert plan_expiry(segments, retain_bytes=RETAIN_BYTES_MIN, needed_from=NOTHING_NEEDED) == 1
