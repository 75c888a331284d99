"""
hub.journal.writer and hub.journal.retention: expiry by age.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hub.dedupe import Dedupe
from hub.journal.clock import PLAUSIBLE_S
from hub.journal.clock import Clock as ReceiptClock
from hub.journal.recovery import Kept, recover
from hub.journal.retention import NOTHING_NEEDED, plan_expiry
from hub.journal.writer import Writer
from hub.wire import chunkid
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import NS, RETAIN_BYTES, SEGMENT_BYTES, batch, clock_of, read_all

FOUR = [Kept(1, 100, 10), Kept(11, 100, 20), Kept(21, 100, 30), Kept(31, 100, 40)]
HOUR = 3600


@pytest.mark.parametrize(
    ("older_than", "needed_from", "goes"),
    [
        (0, NOTHING_NEEDED, 0),
        (20, NOTHING_NEEDED, 0),  # the first may hold messages received just before 20
        (21, NOTHING_NEEDED, 1),
        (31, NOTHING_NEEDED, 2),
        (1000, NOTHING_NEEDED, 3),  # never the newest
        (1000, 21, 2),
    ],
)
def test_a_segment_with_only_older_messages_expires(older_than: int, needed_from: int, goes: int) -> None:
    """A segment expires if the next one was begun before the limit, because then all of its messages are older."""
    assert plan_expiry(FOUR, retain_bytes=RETAIN_BYTES, needed_from=needed_from, older_than=older_than) == goes


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000 * NS

    def __call__(self) -> int:
        return self.now


def a_writer(files: ForgettingFiles, clock: Clock, receipt: Callable[[int], ReceiptClock] | None = None) -> Writer:
    """Return a writer that has recovered *files*; *receipt* makes its clock, else both are *clock*."""
    dedupe = Dedupe()
    writer = Writer(
        files,
        recover(files, dedupe, now=clock()),
        dedupe,
        retain_bytes=RETAIN_BYTES,
        retain_s=8 * HOUR,
        clock=receipt or clock_of(clock),
    )
    writer._segment_bytes = SEGMENT_BYTES
    writer.begin()
    return writer


def test_no_message_lives_longer_than_nine_eighths_of_the_limit() -> None:
    """With one message and one expiry per hour, no kept message is older than nine eighths of the limit."""
    files, clock = ForgettingFiles(), Clock()
    writer = a_writer(files, clock)
    received = []
    for _ in range(100):
        clock.now += HOUR * NS + 1
        received.append(writer.append([batch("m")]).received)
        writer.expire()
        kept = [received[stored.sequence - 1] for stored in read_all(files)]
        assert kept == received[-len(kept) :]
        assert clock.now - kept[0] <= 9 * HOUR * NS
        assert len(kept) == min(len(received), 8)


def test_age_is_known_after_a_new_start() -> None:
    """The time of creation is read from the segment, so a restart does not make it newer."""
    files, clock = ForgettingFiles(), Clock()
    writer = a_writer(files, clock)
    writer.append([batch("old")])
    writer.close()
    clock.now += 9 * HOUR * NS
    writer = a_writer(files, clock)
    writer.append([batch("new")])
    clock.now += HOUR * NS
    assert writer.expire() == 0  # the second segment was begun an hour ago: the first may hold older messages
    clock.now += 8 * HOUR * NS
    assert writer.expire() == 1
    assert [stored.sequence for stored in read_all(files)] == [2]


def test_an_idle_journal_makes_no_new_segments() -> None:
    """Without writes nothing is sealed, however often `expire` is called."""
    files, clock = ForgettingFiles(), Clock()
    writer = a_writer(files, clock)
    writer.append([batch("m")])
    names = set()
    for _ in range(50):
        clock.now += HOUR * NS
        writer.expire()
        names.add(tuple(sorted(files.list())))
    assert len(names) <= 3
    assert read_all(files) == []


@pytest.mark.parametrize("damaged", [1, 2])
def test_a_damaged_header_is_as_young_as_the_next(damaged: int) -> None:
    """A segment with an unreadable header expires neither early nor never."""
    segments = [*FOUR]
    segments[damaged] = Kept(segments[damaged].first_sequence, 100)
    for older_than in range(60):
        goes = plan_expiry(segments, retain_bytes=RETAIN_BYTES, needed_from=NOTHING_NEEDED, older_than=older_than)
        whole = plan_expiry(FOUR, retain_bytes=RETAIN_BYTES, needed_from=NOTHING_NEEDED, older_than=older_than)
        later = plan_expiry(FOUR, retain_bytes=RETAIN_BYTES, needed_from=NOTHING_NEEDED, older_than=older_than - 10)
        assert later <= goes <= whole


def test_a_segment_made_in_the_future_is_no_younger_than_the_next() -> None:
    """A clock that was years ahead for one segment keeps no segment for years."""
    segments = [Kept(1, 100, 10), Kept(11, 100, 9000), Kept(21, 100, 30), Kept(31, 100, 40)]
    assert plan_expiry(segments, retain_bytes=RETAIN_BYTES, needed_from=NOTHING_NEEDED, older_than=31) == 2


def test_one_commit_twenty_years_ahead_changes_nothing_for_expiry() -> None:
    """
    After a commit with a clock twenty years ahead, and after a restart, expiry keeps what it keeps without that commit.
    """
    files, wall, steady = ForgettingFiles(), Clock(), Clock()
    wall.now = steady.now = PLAUSIBLE_S * NS + 10**18
    writer = None
    for hour in range(60):
        for clock in (wall, steady):
            clock.now += HOUR * NS + 1
        if writer is None:
            writer = a_writer(files, steady, lambda last: ReceiptClock(last, wall=wall, steady=steady))
        if hour == 20:
            wall.now += 20 * 365 * 24 * HOUR * NS
        writer.append([batch(f"hour {hour}", chunk_id=chunkid.pack(f"{hour}"))])
        if hour == 20:
            assert writer.append([batch(f"hour {hour}", chunk_id=chunkid.pack(f"{hour}"))]).duplicates == 1
            wall.now = steady.now
        writer.expire()
        kept = [stored.sequence for stored in read_all(files)]
        assert kept == list(range(kept[0], hour + 2))
        assert min(hour + 1, 8) <= len(kept) <= 10, hour
        if hour in (30, 40):
            writer.close()
            writer = None
