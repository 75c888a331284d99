"""
How much of the past is kept: which segments may go.

Always true: whole segments only, oldest first; never the newest; never one that a reader still needs.
Not here: deleting (hub.journal.writer).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from hub.dedupe import ROW_BYTES, ROWS_MAX
from hub.journal.recovery import Kept

SEGMENT_BYTES = 64 << 20
SEGMENT_BYTES_MIN = 1 << 20
KEEP_BYTES = 1 << 30
KEEP_BYTES_MIN = 4 << 20
NOTHING_NEEDED = (1 << 64) - 1


def segment_bytes_for(keep_bytes: int) -> int:
    """Return how large segments are in a journal of *keep_bytes*: an eighth of it, so that expiry stays gentle."""
    return max(SEGMENT_BYTES_MIN, min(SEGMENT_BYTES, keep_bytes // 8))


AGE_STEPS = 8
"""With a limit on age, a segment is sealed after an eighth of it, for only whole segments can go."""


def rows_max_for(keep_bytes: int) -> int:
    """
    Return how many rows each table of deduplication may have in a journal of *keep_bytes*.

    Each segment begins with all of them. They take a quarter of it at most, or a small journal would hold nothing else.
    """
    return min(ROWS_MAX, segment_bytes_for(keep_bytes) // 4 // ROW_BYTES)


def batch_bytes_max_for(keep_bytes: int) -> int:
    """Return the size of the largest batch that a journal of *keep_bytes* takes: no message may push out all others."""
    return keep_bytes // 8


def commit_bytes_max_for(keep_bytes: int) -> int:
    """Return the size that a commit to a journal of *keep_bytes* should not exceed: half a segment, one batch apart."""
    return segment_bytes_for(keep_bytes) // 2


def plan_expiry(segments: Sequence[Kept], *, keep_bytes: int, needed_from: int, older_than: int = 0) -> int:
    """
    Return how many of the oldest *segments* go: until all is within *keep_bytes* and nothing is only of before
    *older_than* (nanoseconds since the epoch), and nothing needed is touched.
    """
    total = sum(segment.bytes for segment in segments)
    count = 0
    for segment, (following, created) in zip(segments, _with_ages(segments)[1:], strict=False):
        is_old = created < older_than  # nothing in *segment* was received after that
        if not (is_old or total > keep_bytes) or following.first_sequence > needed_from:
            break
        total -= segment.bytes
        count += 1
    return count


def _with_ages(segments: Sequence[Kept]) -> list[tuple[Kept, int]]:
    """
    Return each segment, and when it was made at the latest: no later than the next one.

    That decides where a header is damaged, or the clock was ahead.
    """
    latest = accumulate((segment.created for segment in reversed(segments)), min)
    return list(zip(reversed(segments), latest, strict=True))[::-1]
