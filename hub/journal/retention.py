"""
Retention: which segments may be deleted.

Always true: only whole segments, the oldest first; never the newest. Readers hold up nothing: what expires before it is
read reaches them as a gap.
Not here: deleting (hub.journal.writer).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from hub.dedupe import ROW_BYTES, ROWS_MAX

if TYPE_CHECKING:  # the configuration needs the limits only, and `mpsr send` reads it
    from hub.journal.recovery import Kept

SEGMENT_BYTES = 64 << 20
SEGMENT_BYTES_MIN = 1 << 20
RETAIN_BYTES = 1 << 30
RETAIN_BYTES_MIN = 4 << 20
NOTHING_NEEDED = (1 << 64) - 1


def segment_bytes_for(retain_bytes: int) -> int:
    """
    Return the size of segments in a journal of *retain_bytes*: an eighth of it, at most `SEGMENT_BYTES`, so that expiry
    removes little at a time.
    """
    return max(SEGMENT_BYTES_MIN, min(SEGMENT_BYTES, retain_bytes // 8))


AGE_STEPS = 8
"""With a limit on age, a segment is sealed after an eighth of the limit, because only whole segments can be deleted."""


def rows_max_for(retain_bytes: int) -> int:
    """
    Return the maximum number of rows in each deduplication table in a journal of *retain_bytes*.

    Each segment begins with all rows. They take at most a quarter of it; otherwise a small journal would hold nothing
    else.
    """
    return min(ROWS_MAX, segment_bytes_for(retain_bytes) // 4 // ROW_BYTES)


def batch_bytes_max_for(retain_bytes: int) -> int:
    """
    Return the size of the largest batch that a journal of *retain_bytes* accepts: no batch may push out all others.
    """
    return retain_bytes // 8


def commit_bytes_max_for(retain_bytes: int) -> int:
    """
    Return the size that a commit to a journal of *retain_bytes* should not exceed: half a segment. One batch may exceed
    it.
    """
    return segment_bytes_for(retain_bytes) // 2


def uncounted_bytes_for(retain_bytes: int, positions_bytes: int) -> int:
    """
    Return how many of the *positions_bytes* with which a segment begins do not count in *retain_bytes*: those above a
    quarter of a segment. Otherwise a small journal with many positions would hold nothing else.
    """
    return max(positions_bytes - segment_bytes_for(retain_bytes) // 4, 0)


def plan_expiry(
    segments: Sequence[Kept], *, retain_bytes: int, needed_from: int, older_than: int = 0, other_bytes: int = 0
) -> int:
    """
    Return how many of the oldest *segments* to delete.

    Segments are deleted until the total, with *other_bytes*, is within *retain_bytes* and the oldest segment holds
    something that has neither expired by rule nor is from before *older_than* (nanoseconds since the epoch). Segments
    with a sequence of *needed_from* or above are kept.
    """
    sizes = [segment.size_bytes - uncounted_bytes_for(retain_bytes, segment.positions_bytes) for segment in segments]
    total = sum(sizes) + other_bytes
    count = 0
    for segment, size, (following, created) in zip(segments, sizes, _with_ages(segments)[1:], strict=False):
        is_old = created < older_than  # *created* is the next segment's: nothing in the segment is newer
        is_empty = segment.expired == following.first_sequence - segment.first_sequence
        if not (is_old or is_empty or total > retain_bytes) or following.first_sequence > needed_from:
            break
        total -= size
        count += 1
    return count


def _with_ages(segments: Sequence[Kept]) -> list[tuple[Kept, int]]:
    """
    Return each segment with the latest time at which it can have been created: no later than any newer segment.

    This corrects segments whose header is damaged, or which were created while the clock was ahead.
    """
    latest = accumulate((segment.created for segment in reversed(segments)), min)
    return list(zip(reversed(segments), latest, strict=True))[::-1]
