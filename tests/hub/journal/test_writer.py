"""
hub.journal.writer: commits, segments, expiry, and a disk that fails.
"""

import errno
import random
import re
from pathlib import Path

import msgspec
import pytest

from hub.dedupe import Dedupe
from hub.errors import JournalLost, JournalUnavailable
from hub.journal.files import DiskFiles
from hub.journal.positions import AGE_S, DAY_S, Row
from hub.journal.reader import Reader
from hub.journal.recovery import recover
from hub.journal.retention import NOTHING_NEEDED, RETAIN_BYTES_MIN, batch_bytes_max_for, uncounted_bytes_for
from hub.journal.seal import Seal, read_seal, write_seal
from hub.journal.segment import list_segments, segment_name
from hub.journal.writer import LOOK_NS, Commit, Durability, Writer
from hub.message import DETAIL_BYTES_MAX, Batch, Peer, Position, position_batches
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import (
    NS,
    SEGMENT_BYTES,
    Life,
    Stored,
    at,
    batch,
    blocks_of,
    clock_of,
    expected,
    foreign,
    own,
    read_all,
    rows_after,
    rows_of,
    seen_of,
    stored,
    ticking,
)

NEW_SEGMENT = ["create", "page", "sync_all", "rename", "sync_folder"]
SEAL = ["truncate", "truncate_sync"]
WRITE_SEAL = NEW_SEGMENT


@pytest.fixture
def disk() -> ForgettingFiles:
    return ForgettingFiles()


def steps_of(disk: ForgettingFiles) -> list[str]:
    """Return a list to which each step of the disk is appended from now on."""
    steps: list[str] = []
    disk.watch = steps.append
    return steps


class Tail:
    """A reader that reads at intervals: one of the hub, limited to committed messages, or one of another process."""

    def __init__(self, life: Life, *, in_hub: bool) -> None:
        committed = (lambda: life.writer.last_sequence) if in_hub else None
        self._reader = Reader(life.files, committed=committed)
        self.items: list[Stored] = []

    def look(self) -> None:
        self.items += map(stored, self._reader.read(follow=True))

    def close(self) -> None:
        self._reader.close()


def test_a_commit_reports_its_result(disk: ForgettingFiles) -> None:
    """A commit reports last sequence, messages and bytes stored, duplicates left out, and time."""
    life = Life(disk, clock=lambda: 7)
    three = [own("a", 1, 2), batch("p"), own("a", 1, 2)]
    assert life.append(*three) == Commit(3, 3, sum(len(each.entries) for each in three[:2]), 1, 7, 0)
    assert life.append(own("a", 1, 2)) == Commit(3, 0, 0, 1, 7, 0)
    assert life.append() == Commit(3, 0, 0, 0, 7, 0)
    assert life.writer.last_sequence == 3


def test_an_appended_batch_is_on_stable_storage(disk: ForgettingFiles) -> None:
    """When `append` returns, no power cut can lose any of its batches."""
    life, batches = Life(disk), []
    for number in range(1, 20):
        batches.append(own("a", number, size=100 * number % 700))
        life.append(batches[-1])
        for after in disk.power_cuts(random.Random(number), 20):
            assert read_all(after) == expected(batches)


def test_a_commit_is_one_write_and_one_sync(disk: ForgettingFiles) -> None:
    """A commit in an existing segment is one write and one sync; a resend is neither."""
    life = Life(disk)
    steps = steps_of(disk)
    life.append(own("a", 1), own("a", 2), foreign("x"))
    assert steps == ["page", "page", "sync"]
    life.append(own("a", 1), foreign("x"))
    assert steps == ["page", "page", "sync"]


def test_a_message_costs_as_much_as_documented(disk: ForgettingFiles) -> None:
    """On disk, a message costs its bytes and those of its time, a chunk of a producer about a hundred more."""
    page = (Path(__file__).parents[3] / "docs/operating.md").read_text(encoding="utf-8")
    stated = re.search(r"takes its own size plus (\d+) bytes for its time. A chunk adds about (\d+) bytes", page)
    assert stated is not None
    of_message, of_chunk = map(int, stated.groups())
    life = Life(disk, segment_bytes=1 << 20)
    first, second = own("a", 1, 1), own("a", 2, 500)
    records = [
        sum(len(msgspec.msgpack.encode(message.record)) for message in each.messages()) for each in (first, second)
    ]
    life.append(first)
    life.append(second)
    costs = [block.end - block.offset - size for block, size in zip(blocks_of(disk, 1), records, strict=True)]
    assert costs[1] - costs[0] == 499 * of_message
    assert costs[0] - of_message == pytest.approx(of_chunk, abs=5)


def test_a_segment_is_sealed_before_the_next_is_begun(disk: ForgettingFiles) -> None:
    """
    The old segment is cut to its last block, and the new one has its name durably before a block is written to it.
    """
    life = Life(disk)
    life.append(own("a", 1, size=1000))
    steps = steps_of(disk)
    life.append(own("a", 2, size=1000))
    assert steps == [*SEAL, *NEW_SEGMENT, "page", "page", "page", "sync"]
    assert list_segments(disk) == [1, 2]
    assert len(seen_of(disk, 1)) == blocks_of(disk, 1)[-1].end
    assert len(seen_of(disk, 2)) == SEGMENT_BYTES


def test_a_commit_is_never_split(disk: ForgettingFiles) -> None:
    """A commit that does not fit goes into the next segment as a whole, which is made larger if necessary."""
    life = Life(disk)
    life.append(own("a", 1))
    large = [own("a", number, size=500) for number in range(2, 12)]
    life.append(*large)
    life.append(own("a", 12))
    assert list_segments(disk) == [1, 2, 12]
    assert len(seen_of(disk, 2)) == blocks_of(disk, 2)[-1].end > 2 * SEGMENT_BYTES
    assert {block.commit_offset for block in blocks_of(disk, 2)} == {blocks_of(disk, 2)[0].offset}
    assert read_all(disk) == expected([own("a", 1), *large, own("a", 12)])


def test_a_segment_is_filled_to_its_last_byte(disk: ForgettingFiles) -> None:
    """A commit that just fits does not begin another segment; one byte more does."""
    for extra, segments in ((0, [1]), (1, [1, 2])):
        files = ForgettingFiles()
        life = Life(files)
        life.append(batch("a"))
        left = SEGMENT_BYTES - blocks_of(files, 1)[-1].end
        life.append(batch("b", size=left - (len(seen_of_block(batch("b", size=300))) - 300) + extra))
        assert list_segments(files) == segments


def seen_of_block(of: Batch) -> bytes:
    """Return the bytes of a block."""
    files = ForgettingFiles()
    life = Life(files)
    life.append(of)
    block = blocks_of(files, 1)[0]
    return seen_of(files, 1)[block.offset : block.end]


def test_many_batches_of_any_size_make_one_commit(disk: ForgettingFiles) -> None:
    """Small and large entries, bytes and views, more than one system call accepts, make one commit."""
    rng = random.Random(1)
    batches = [own("a", number, size=rng.choice([1, 30, 4000, 9000])) for number in range(1, 1500)]
    views = [Batch(each.tag, memoryview(each.entries), each.count, each.chunk_id) for each in batches]
    Life(disk).append(*views)
    assert read_all(disk) == expected(batches)


def test_a_large_snapshot_does_not_fill_the_segment(disk: ForgettingFiles) -> None:
    """Whatever the number of sessions, a segment has room for many commits."""
    life = Life(disk)
    for number in range(1, 200):
        life.append(own(f"session{number}-", 1))
    assert len(life.dedupe.snapshot(NS)) > 2 * SEGMENT_BYTES
    before = len(list_segments(disk))
    for number in range(2, 12):
        life.append(own("session1-", number, size=1))
    assert len(list_segments(disk)) - before <= 3


def test_time_does_not_go_back(disk: ForgettingFiles) -> None:
    """After the clock steps back, `received` stands still until the clock has caught up."""
    times = [7]
    life = Life(disk, clock=lambda: times[-1])
    received = []
    for number, now in enumerate([100, 50, 300, 200, 301], 1):
        times.append(now)
        received.append(life.append(own("a", number)).received)
    assert received == [100, 100, 300, 300, 301]


def test_bytes_are_those_of_the_files(disk: ForgettingFiles) -> None:
    """The size is that of the sealed segments and of the whole active one."""
    life = Life(disk)
    for number in range(1, 30):
        life.append(own("a", number))
        assert life.writer.size_bytes == sum(len(seen_of(disk, first)) for first in list_segments(disk))
    life.writer.close()
    assert life.writer.size_bytes == sum(len(seen_of(disk, first)) for first in list_segments(disk))
    assert disk.open_files == 0


# Failures.

# The failing step, and its successes before; in an append that stays in its segment, and in one that begins another.
STAYING = [("page", 0), ("page", 1), ("page", 2), ("sync", 0)]
ROLLING = [
    *STAYING,
    ("truncate", 0),
    ("truncate_sync", 0),
    ("create", 0),
    ("page", 3),
    ("sync_all", 0),
    ("rename", 0),
    ("sync_folder", 0),
]
BEFORE = [own("a", 1), foreign("x", 2)]
FAILING = [own("a", 2, size=600), foreign("y"), batch("plain"), own("b", 1, 2, size=300)]
AFTER = [own("a", 3), own("b", 2, size=900), own("a", 4, size=900)]


def life_before_a_failure(*, before: int, rolling: bool) -> tuple[ForgettingFiles, Life, list[Batch]]:
    """Return a writer after *before* batches, and the batches; with *rolling*, its segment is nearly full."""
    disk = ForgettingFiles()
    life = Life(disk, segment_bytes=4096)
    done = [*BEFORE[:before], *([own("filler", 1, size=3300)] if rolling else [])]
    for each in done:
        life.append(each)
    return disk, life, done


@pytest.mark.parametrize("truncating_fails", [False, True])
@pytest.mark.parametrize(
    ("before", "rolling", "step", "after"),
    [(before, rolling, *fault) for before in (0, 2) for rolling in (False, True) for fault in ROLLING],
)
def test_a_failure_is_met_by_a_new_segment(
    before: int, rolling: bool, step: str, after: int, truncating_fails: bool
) -> None:
    """
    After any single failure the commit succeeds in a new segment: no power cut loses a batch, and every reader has each
    batch once.
    """
    disk, life, done = life_before_a_failure(before=before, rolling=rolling)
    tails = [Tail(life, in_hub=True), Tail(life, in_hub=False)]
    for tail in tails:
        tail.look()
    disk.fail(step, after=after)
    if truncating_fails:
        disk.fail("truncate")
    assert life.append(*FAILING).stored == 5
    rng, batches = random.Random(0), [*done, *FAILING]
    for cut in disk.power_cuts(rng, 30):
        assert read_all(cut) == expected(batches)
    for each in AFTER:
        tails[0].look()
        life.append(each)
    batches += AFTER
    life.writer.close()
    for tail in tails:
        tail.look()
        assert tail.items == expected(batches)
        tail.close()
    assert read_all(disk) == expected(batches)
    assert disk.open_files == 0
    assert Life(disk).append(*(each for each in batches if each.chunk_id)).stored == 0


@pytest.mark.parametrize("different", [False, True])
@pytest.mark.parametrize("truncating_fails", [False, True])
@pytest.mark.parametrize(
    ("before", "rolling", "step", "after"),
    [
        (before, rolling, *fault)
        for before in (0, 2)
        for rolling in (False, True)
        for fault in (*STAYING, *ROLLING)
        if fault[0] not in SEAL
    ],
)
def test_after_two_failures_nothing_is_kept_and_a_retry_succeeds(
    before: int, rolling: bool, step: str, after: int, truncating_fails: bool, different: bool
) -> None:
    """
    If the second attempt fails too, nothing is stored or remembered, and the next batches, the same or others, are
    stored once.
    """
    disk, life, done = life_before_a_failure(before=before, rolling=rolling)
    tail = Tail(life, in_hub=True)
    tail.look()
    snapshot, sequence = life.dedupe.snapshot(NS), life.writer.last_sequence
    disk.fail("sync")  # the first attempt, if only a new segment can cause the failure
    disk.fail(step, errno.ENOSPC, after=after, times=20)
    if truncating_fails:
        disk.fail("truncate", times=20)
    with pytest.raises(JournalUnavailable, match="No space left"):
        life.append(*FAILING)
    tail.look()
    assert (life.dedupe.snapshot(NS), life.writer.last_sequence) == (snapshot, sequence)
    assert read_all(disk, committed=lambda sequence=sequence: sequence) == expected(done)  # type: ignore[misc]
    for name in (step, "sync", "truncate"):
        disk.fail(name, times=0)
    steps = steps_of(disk)
    given = [own("c", 1), *FAILING[::-1]] if different and not truncating_fails else FAILING
    life.append(*given)
    assert (
        next(name for name in steps if name != "remove") == "create"
    )  # the second file is not written to again either
    tail.look()
    for each in AFTER:
        life.append(each)
    tail.look()
    batches = [*done, *given, *AFTER]
    assert tail.items == expected(batches)
    assert read_all(disk) == expected(batches)
    life.writer.close()
    tail.close()
    assert disk.open_files == 0


def test_a_failed_sync_is_never_repeated(disk: ForgettingFiles) -> None:
    """After a failed sync the kernel may have dropped the pages, so the commit is written to another file."""
    life = Life(disk)
    life.append(own("a", 1))
    steps = steps_of(disk)
    disk.fail("sync")
    life.append(own("a", 2))
    assert steps == ["page", "sync", *SEAL, *NEW_SEGMENT, "page", "sync"]
    assert list_segments(disk) == [1, 2]


def test_a_failed_commit_leaves_nothing_after_the_last_good_one(disk: ForgettingFiles) -> None:
    """The given-up segment ends with its last committed block."""
    life = Life(disk)
    life.append(own("a", 1))
    end = blocks_of(disk, 1)[-1].end
    disk.fail("sync")
    life.append(own("a", 2))
    assert len(seen_of(disk, 1)) == end


# No space.


def test_a_full_disk_refuses_until_there_is_space(disk: ForgettingFiles) -> None:
    """While the disk is full, nothing is lost or stored twice, and the same batches succeed later."""
    disk.capacity = 3 * SEGMENT_BYTES
    life, batches = Life(disk), []
    refused = 0
    for number in range(1, 40):
        batches.append(own("a", number, size=200))
        for _ in range(3):
            try:
                life.append(batches[-1])
                break
            except JournalUnavailable:
                refused += 1
            assert read_all(disk) == expected(batches[:-1])
        else:
            disk.capacity += SEGMENT_BYTES
            life.append(batches[-1])
    assert refused > 3
    assert read_all(disk) == expected(batches)


def test_a_journal_within_its_limit_never_needs_more_than_the_limit(disk: ForgettingFiles) -> None:
    """Old segments are deleted before a new one is created, so a disk of the journal's limit is enough."""
    disk.capacity = 4 * SEGMENT_BYTES
    life = Life(disk, retain_bytes=4 * SEGMENT_BYTES)
    for number in range(1, 200):
        life.append(own("a", number, size=200))
        assert life.writer.size_bytes <= 4 * SEGMENT_BYTES


def test_an_empty_segment_that_was_given_up_takes_no_space(disk: ForgettingFiles) -> None:
    """On a disk with room for two segments, failures and restarts do not fill it."""
    disk.capacity = 2 * SEGMENT_BYTES - 1
    life = Life(disk)
    disk.fail("sync")
    life.append(own("a", 1))
    killed = disk.after_kill()
    killed.capacity = 2 * SEGMENT_BYTES - 1
    Life(killed)
    Life(killed.after_kill())
    assert read_all(killed) == expected([own("a", 1)])


# Expiry.


def test_the_oldest_segments_expire(disk: ForgettingFiles) -> None:
    """
    The journal stays within its limit, keeps its newest messages, and deletes in an order that survives a power cut.
    """
    life = Life(disk, retain_bytes=4 * SEGMENT_BYTES)
    batches = []
    for number in range(1, 60):
        batches.append(own("a", number, size=200))
        life.append(batches[-1])
    items = read_all(disk)
    assert 10 < len(items) < len(batches)
    assert items == expected(batches)[-len(items) :]
    life.writer._retain_bytes = 0
    assert life.writer.expire() == 3
    assert life.writer.expire() == 0
    assert len(list_segments(disk)) == 1
    items = read_all(disk)
    assert items == expected(batches)[-len(items) :]


def test_segments_that_are_still_needed_do_not_expire(disk: ForgettingFiles) -> None:
    """The segment that holds `needed_from`, and all later ones, are kept beyond every limit."""
    life = Life(disk, retain_bytes=0)
    life.writer.needed_from = 5
    for number in range(1, 30):
        life.append(own("a", number, size=600))
    first = list_segments(disk)[0]
    assert 1 < first <= 5
    life.writer.needed_from = 6
    life.append(own("a", 30))
    life.writer.expire()
    assert list_segments(disk)[0] >= first


def test_bytes_beyond_a_sequence(disk: ForgettingFiles) -> None:
    """Whole segments count with their bytes, a part of one by its share of the messages; nothing is beyond the end."""
    life = Life(disk)
    assert life.writer.bytes_beyond(0) == 0
    for number in range(1, 30):
        life.append(own("a", number, size=600))
    last = life.writer.last_sequence
    beyond = [life.writer.bytes_beyond(sequence) for sequence in range(last + 2)]
    assert beyond == sorted(beyond, reverse=True)
    assert beyond[-2:] == [0, 0]
    assert beyond[0] == sum(each.size_bytes for each in life.writer._sealed) + life.writer._position
    assert beyond[last // 2] in range(beyond[0] // 3, beyond[0] * 2 // 3)
    life.writer.close()
    assert life.writer.bytes_beyond(last - 1) > 0


def test_a_resend_is_recognised_after_its_batch_has_expired(disk: ForgettingFiles) -> None:
    """Deduplication covers expired messages too, also after a restart."""
    life = Life(disk, retain_bytes=2 * SEGMENT_BYTES)
    first = [own("a", 1), foreign("x")]
    life.append(*first)
    for number in range(1, 30):
        life.append(own("b", number, size=500))
    assert list_segments(disk)[0] > 3
    assert life.append(*first).duplicates == 2
    assert Life(disk).append(*first).duplicates == 2


def test_the_last_segment_stays_until_there_is_a_newer(disk: ForgettingFiles) -> None:
    """The last segment is kept, because only it records the next sequence and the last time of receipt."""
    life = Life(disk, retain_bytes=0)
    life.append(own("a", 1))
    life.writer.close()
    disk.fail("create", times=100)
    with pytest.raises(OSError, match="Input/output error"):
        Life(disk, retain_bytes=0)
    recovered = recover(disk, Dedupe(), now=NS)
    writer = Writer(disk, recovered, Dedupe(), retain_bytes=0)
    assert writer.expire() == 0
    with pytest.raises(JournalUnavailable):
        writer.append([own("a", 2)])
    assert list_segments(disk) == [1]
    disk.fail("create", times=0)
    writer.append([own("a", 2)])
    assert read_all(disk) == expected([own("a", 1), own("a", 2)])
    writer.expire()
    assert list_segments(disk) == [2]


def test_a_segment_that_somebody_else_deleted_is_not_missed(disk: ForgettingFiles) -> None:
    """If a segment was already deleted by hand, expiry continues with the next."""
    life = Life(disk, retain_bytes=0)
    for number in range(1, 4):
        life.writer.needed_from = 1
        life.append(own("a", number, size=1500))
    disk.remove(segment_name(1))
    life.writer.needed_from = 3
    assert life.writer.expire() == 2
    assert list_segments(disk) == [3]


# Durability "relaxed".


def test_relaxed_does_not_sync_each_commit(disk: ForgettingFiles) -> None:
    """Durability ``relaxed`` syncs when `sync` is called, when the segment is full, and on closing."""
    life = Life(disk, durability="relaxed")
    steps = steps_of(disk)
    life.append(own("a", 1))
    life.append(own("a", 2))
    assert steps == ["page", "page"]
    assert life.writer.is_unsynced
    life.writer.sync()
    life.writer.sync()
    assert steps == ["page", "page", "sync"]
    assert not life.writer.is_unsynced
    life.append(own("a", 3, size=1000))
    steps.clear()
    life.append(own("a", 4, size=1000))
    assert steps[:4] == ["sync", *SEAL, "create"]
    life.writer.close()
    assert steps[-3 - len(WRITE_SEAL) :] == ["sync", *SEAL, *WRITE_SEAL]


def test_relaxed_gives_up_a_segment_whose_sync_failed(disk: ForgettingFiles) -> None:
    """
    After a failed sync, the next batches go to another file, because a later sync of the same file would prove nothing.
    """
    life = Life(disk, durability="relaxed")
    life.append(own("a", 1))
    disk.fail("sync")
    with pytest.raises(OSError, match="Input/output error"):
        life.writer.sync()
    assert not life.writer.is_unsynced
    steps = steps_of(disk)
    life.writer.sync()
    life.append(own("a", 2))
    assert steps == [*NEW_SEGMENT, "page"]
    assert read_all(disk) == expected([own("a", 1), own("a", 2)])
    life.writer.sync()
    for cut in disk.power_cuts(random.Random(1), 30):
        assert expected([own("a", 1), own("a", 2)])[1] in read_all(cut)


def test_relaxed_close_tells_that_its_sync_failed(disk: ForgettingFiles) -> None:
    """If the last sync fails, closing raises the error and leaves no file open."""
    life = Life(disk, durability="relaxed")
    life.append(own("a", 1))
    disk.fail("sync")
    with pytest.raises(OSError, match="Input/output error"):
        life.writer.close()
    assert disk.open_files == 0


# A lock that is no longer in place.


class Lock:
    """The state of the lock: it is in place for *looks* checks."""

    def __init__(self, looks: int = 1 << 30) -> None:
        self.looks = looks

    def __call__(self) -> bool:
        self.looks -= 1
        return self.looks >= 0


@pytest.mark.parametrize("durability", ["fsync", "relaxed"])
def test_nothing_is_written_without_the_lock(disk: ForgettingFiles, durability: Durability) -> None:
    """Without the lock, every operation of the writer changes nothing and raises JournalLost, for ever."""
    lock = Lock()
    life = Life(disk, durability=durability, is_ours=lock, clock=ticking(LOOK_NS))
    life.append(own("a", 1))
    before, steps = disk.contents(), steps_of(disk)
    lock.looks = 0
    for work in (lambda: life.append(own("a", 2)), life.writer.expire, life.writer.sync, life.writer.check_ours):
        with pytest.raises(JournalLost, match="lock file was removed or replaced"):
            work()
        lock.looks = 5  # owned by another process
    life.writer.close()
    assert steps == []
    assert disk.contents() == before
    assert disk.open_files == 0


def test_the_first_life_writes_a_seal_and_later_ones_keep_it(disk: ForgettingFiles) -> None:
    """A seal of this journal stays until the next one; one of another journal is replaced at the start."""
    life = Life(disk)
    hub_id = life.recovered.hub_id
    assert read_seal(disk) == Seal(hub_id, 1, 0, 1)
    life.append(own("a", 1))
    life.writer.close()
    written = read_seal(disk)
    assert written is not None
    assert written.next_sequence == 2
    Life(disk)
    assert read_seal(disk) == written
    write_seal(disk, written._replace(hub_id=bytes(16)))
    Life(disk)
    assert read_seal(disk) == Seal(hub_id, 2, 0, 2)


def test_one_look_at_the_lock_allows_commits_for_a_while(disk: ForgettingFiles) -> None:
    """Before a commit the lock is checked only if the last look is `LOOK_NS` ago; after its sync it always is."""
    lock, now = Lock(), 1_700_000_000 * NS
    life = Life(disk, is_ours=lock, clock=lambda: now)
    life.append(own("a", 1))
    for elapsed, looks in ((0, 1), (LOOK_NS - 1, 1), (1, 2), (LOOK_NS - 1, 1)):
        now += elapsed
        before = lock.looks
        life.append(batch("p"))
        assert before - lock.looks == looks


def test_a_commit_is_not_announced_if_the_lock_went_meanwhile(disk: ForgettingFiles) -> None:
    """Another hub may have recovered before the sync: whatever it found, nothing was acknowledged."""
    lock = Lock()
    life = Life(disk, is_ours=lock)
    life.append(own("a", 1))
    disk.watch = lambda step: setattr(lock, "looks", 0 if step == "sync" else lock.looks)
    with pytest.raises(JournalLost):
        life.append(own("a", 2))
    disk.watch = lambda step: None
    assert life.writer.last_sequence == 1
    again = Life(disk.after_kill())
    assert again.append(own("a", 1)).duplicates == 1
    assert again.append(own("a", 2)).duplicates == 1  # it was synced, and may be found
    assert read_all(again.files) == expected([own("a", 1), own("a", 2)])


@pytest.mark.parametrize("durability", ["fsync", "relaxed"])
def test_commits_in_quick_succession_share_a_look_but_none_is_acknowledged(
    disk: ForgettingFiles, durability: Durability
) -> None:
    """Without the lock, what was written since the last look is not acknowledged, and nothing follows it."""
    lock = Lock()
    life = Life(disk, durability=durability, is_ours=lock)
    life.append(own("a", 1))
    lock.looks = 0
    with pytest.raises(JournalLost):
        life.append(own("a", 2))
    steps = steps_of(disk)
    with pytest.raises(JournalLost):
        life.append(own("a", 3))
    assert (steps, life.writer.last_sequence) == ([], 1)


@pytest.mark.parametrize("step", ["create", "page", "sync_all"])
def test_another_hubs_segment_is_not_replaced(disk: ForgettingFiles, step: str) -> None:
    """While a new segment is made the disk may be slow: the lock is looked at again before it gets its name."""
    lock = Lock()
    life = Life(disk, is_ours=lock)
    life.append(own("a", 1, size=1500))
    steps: list[str] = []

    def watch(name: str) -> None:
        steps.append(name)
        if name == step and "create" in steps:
            lock.looks = 0

    disk.watch = watch
    with pytest.raises(JournalLost):
        life.append(own("a", 2, size=1500))
    disk.watch = lambda name: None
    assert "rename" not in steps
    assert list_segments(disk) == [1]


def test_after_a_failure_nothing_is_done_without_the_lock(disk: ForgettingFiles) -> None:
    """The second attempt looks at the lock like the first, and the segment that is given up is not cut."""
    lock = Lock()
    life = Life(disk, is_ours=lock)
    life.append(own("a", 1))
    steps = steps_of(disk)
    disk.fail("sync", errno.EIO)
    record = disk.watch

    def watch(name: str) -> None:
        record(name)
        if name == "sync":
            lock.looks = 0

    disk.watch = watch
    with pytest.raises(JournalLost):
        life.append(own("a", 2))
    assert steps[-1] == "sync"


def test_a_deleted_segment_is_noticed(disk: ForgettingFiles) -> None:
    """Nothing is acknowledged into a file without a name: the next commit begins a new segment, and the gap is seen."""
    life = Life(disk, clock=ticking(LOOK_NS))
    life.append(own("a", 1, 3))
    disk.remove(segment_name(1))
    life.append(own("a", 2))
    assert list_segments(disk) == [4]
    assert read_all(disk, after=1) == [Stored(2, 2, None), *expected([own("a", 2)], 4)]


def test_a_smaller_journal_is_small_soon(disk: ForgettingFiles) -> None:
    """After a reload to a smaller size the large segment is sealed, and the limit holds with the next ones."""
    retain_bytes = 64 << 20
    recovered, dedupe = recover(disk, Dedupe(), now=NS), Dedupe()
    writer = Writer(disk, recovered, dedupe, retain_bytes=retain_bytes, clock=clock_of(ticking()))
    writer.begin()
    writer.append([own("a", 1)])
    assert writer.size_bytes > RETAIN_BYTES_MIN
    writer.retain(RETAIN_BYTES_MIN, None)
    writer.expire()
    assert writer.size_bytes <= RETAIN_BYTES_MIN
    assert read_all(disk) == expected([own("a", 1)])


# What a journal takes of the disk.


def test_a_small_journal_keeps_its_size_with_full_tables() -> None:
    """With full deduplication tables and the largest commits, all segments together are within the limit."""
    disk, retain_bytes = ForgettingFiles(), RETAIN_BYTES_MIN
    dedupe = Dedupe()
    recovered = recover(disk, dedupe, now=NS)
    writer = Writer(disk, recovered, dedupe, retain_bytes=retain_bytes, clock=clock_of(ticking()))
    writer.begin()
    for user in range(2):
        for number in range(10_000):
            dedupe.remember(
                [
                    msgspec.structs.replace(each, peer=Peer(uid=user))
                    for each in (own(f"{number}", 1), foreign(f"{number}"))
                ],
                NS,
            )
    largest = batch_bytes_max_for(retain_bytes)
    for number in range(30):
        commit = [batch(f"{number}", size=writer.commit_bytes_max - 1000), batch("last", size=largest)]
        writer.append(commit)
        assert writer.size_bytes <= retain_bytes
        assert sum(len(seen_of(disk, first)) for first in list_segments(disk)) <= retain_bytes
    assert len(list_segments(disk)) >= 3


# Positions.


def test_positions_move_with_the_commit(disk: ForgettingFiles) -> None:
    """After JournalUnavailable they are what they were; the same batches appended again move them."""
    life = Life(disk)
    life.append(at({b"x": 1}, "x"))
    disk.fail("sync", times=2)
    given = at({b"x": 2}, "x", 2), at({b"x": 3, b"y": 1})
    with pytest.raises(JournalUnavailable):
        life.append(*given)
    assert rows_of(life.writer.positions) == {b"x": 1}
    assert life.append(*given).stored == 2
    assert rows_of(life.writer.positions) == {b"x": 3, b"y": 1}
    assert rows_of(recover(disk.after_kill(), Dedupe(), now=NS).positions) == {b"x": 3, b"y": 1}


def test_positions_do_not_move_if_the_lock_went_meanwhile(disk: ForgettingFiles) -> None:
    """A commit that is not announced moves nothing."""
    has_lock = True
    life = Life(disk, is_ours=lambda: has_lock)
    life.append(at({b"x": 1}))

    def lose(step: str) -> None:
        nonlocal has_lock
        has_lock = False

    disk.watch = lose
    with pytest.raises(JournalLost):
        life.append(at({b"x": 2}))
    assert rows_of(life.writer.positions) == {b"x": 1}


def test_the_positions_of_a_resend_are_left_out(disk: ForgettingFiles) -> None:
    """They were committed with the first copy, and newer ones must not go back to them."""
    life = Life(disk)
    first = msgspec.structs.replace(own("a", 1), positions=(Position(b"x", 1),))
    life.append(first)
    life.append(at({b"x": 2}))
    assert life.append(first).duplicates == 1
    assert rows_of(life.writer.positions) == {b"x": 2}


def test_a_segment_without_messages_is_replaced_when_it_is_full(disk: ForgettingFiles) -> None:
    """However many positions are written between two messages, one segment holds them."""
    life = Life(disk)
    life.append(own("a", 1))
    life.writer.close()
    life = Life(disk)
    for number in range(100):
        life.append(*position_batches([Position(b"x", number), Position(b"y%d" % (number % 7), number)], peer=Peer()))
    assert list_segments(disk) == [1, 2]
    assert len(seen_of(disk, 2)) <= SEGMENT_BYTES
    assert rows_of(Life(disk.after_kill()).writer.positions) == rows_of(life.writer.positions)
    assert len(life.writer.positions) == 8


def test_old_positions_go_when_a_segment_begins(disk: ForgettingFiles) -> None:
    """A row that nobody has written for a month is left out of the next snapshot; a restart gives it a day more."""
    times = [1_800_000_000 * NS]
    life = Life(disk, clock=lambda: times[-1])

    def after_days(days: float, position: dict[bytes, int]) -> None:
        for _ in range(int(days * 24)):  # by the hour: a clock that jumps is not believed
            times[0] += DAY_S * NS // 24
            life.writer._clock.read()
        life.append(at(position, "x", size=1800))

    times[:] = [1_800_000_000 * NS]
    life.append(at({b"old": 1}))
    after_days(AGE_S // DAY_S, {b"x": 1})
    after_days(0, {b"x": 2})
    assert rows_of(life.writer.positions) == {b"old": 1, b"x": 2}
    after_days(2, {b"x": 3})
    assert rows_of(life.writer.positions) == {b"x": 3}
    after_days(AGE_S // DAY_S + 5, {b"y": 1})
    assert rows_of(life.writer.positions) == {b"y": 1}


def test_after_a_restart_positions_have_a_day(disk: ForgettingFiles) -> None:
    """What is older than a month at the start is kept until its source can have written it again."""
    times = [1_800_000_000 * NS]
    Life(disk, clock=lambda: times[0]).append(at({b"x": 1}, "x"))
    times[0] += 90 * DAY_S * NS
    life = Life(disk, clock=lambda: times[0])
    life.append(batch("x", size=1800), at({b"y": 1}))
    life.append(batch("x", size=1800))
    assert rows_of(life.writer.positions) == {b"x": 1, b"y": 1}
    assert rows_of(Life(disk.after_kill(), clock=lambda: times[0]).writer.positions) == {b"x": 1, b"y": 1}


def test_too_many_positions_are_reported_and_the_oldest_forgotten(disk: ForgettingFiles) -> None:
    """The next commit reports how many: no more than the limit goes into a snapshot."""
    life = Life(disk)
    life.writer.positions._bytes_max = 10 * Row(Position(b"x00", 0, b"detail"), 0).size_bytes
    sent = [at({b"x%02d" % number: number}, "x", size=10) for number in range(20)]
    forgotten = sum(life.append(each).forgotten for each in sent)
    forgotten += life.append(own("a", 1, size=1900)).forgotten + life.append(own("a", 2, size=1900)).forgotten
    assert forgotten == 10
    assert rows_of(life.writer.positions) == rows_after(sent[10:])
    assert rows_of(Life(disk.after_kill()).writer.positions) == rows_after(sent[10:])


def small_journal(path: Path) -> Writer:
    """Open the smallest journal that is allowed."""
    files, dedupe = DiskFiles(str(path)), Dedupe()
    recovered = recover(files, dedupe, now=NS)
    writer = Writer(files, recovered, dedupe, retain_bytes=RETAIN_BYTES_MIN, clock=clock_of(ticking()))
    writer.begin()
    return writer


@pytest.mark.parametrize("detail_bytes", [150, DETAIL_BYTES_MAX])
def test_a_small_journal_has_room_for_20_000_positions(tmp_path: Path, detail_bytes: int) -> None:
    """They count only in part: the journal keeps its messages, and takes a few snapshots more of the disk."""
    writer = small_journal(tmp_path)
    positions = [Position(b"files:%032d" % number, number, b"d" * detail_bytes) for number in range(20_000)]
    writer.append(position_batches(positions, peer=Peer()))
    commits = [writer.append([own("a", number, size=400_000)]) for number in range(1, 16)]
    assert not any(commit.forgotten for commit in commits)
    uncounted_bytes = commits[-1].uncounted_bytes
    assert uncounted_bytes == uncounted_bytes_for(RETAIN_BYTES_MIN, len(writer.positions.snapshot())) > 1 << 20
    firsts = list_segments(writer._files)
    assert 3 <= len(firsts) <= 5
    assert writer.size_bytes <= RETAIN_BYTES_MIN + len(firsts) * uncounted_bytes
    assert sum(len(item.entries or b"") for item in read_all(writer._files)) > RETAIN_BYTES_MIN // 3
    assert (writer.expire(), list_segments(writer._files)) == (0, firsts), "none is taken for that of a larger journal"
    again = small_journal(tmp_path)
    assert again.positions.starting_with(b"") == positions
    assert again.size_bytes <= RETAIN_BYTES_MIN + (len(firsts) + 1) * uncounted_bytes


def test_a_segment_is_sealed_for_the_rules(disk: ForgettingFiles) -> None:
    """What leaves sealed segments by rules must not wait until a segment is full; the earlier age counts."""
    now = 1_700_000_000 * NS
    life = Life(disk, clock=lambda: now, segment_bytes=1 << 20)
    for seal_s, retain_s, age_s in ((10.0, None, 10), (10.0, 160.0, 10), (30.0, 160.0, 20), (None, 160.0, 20)):
        life.writer.retain(1 << 40, retain_s, seal_s)
        life.append(batch("x"))
        count = len(list_segments(disk))
        now += age_s * NS
        life.writer.expire()
        assert len(list_segments(disk)) == count
        now += 1
        life.writer.expire()
        assert len(list_segments(disk)) == count + 1
        assert life.writer.expiry() == (now, NOTHING_NEEDED)
