"""
hub.journal.recovery: a table of crashes.

The disk is simulated. At every step, the process is killed, or the power is cut and any mix of unsynced data is left.
"""

import random
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from hub import entries as codec
from hub.dedupe import Dedupe
from hub.errors import JournalTooNew, JournalUnavailable, JournalUnusable
from hub.journal import segment as segment_module
from hub.journal.block import (
    SEGMENT_HEADER_BYTES,
    VERSION,
    Block,
    SegmentHeader,
    pack_block,
    pack_segment_header,
    seed_of,
)
from hub.journal.recovery import check_recoverable, recover
from hub.journal.seal import read_seal, write_seal
from hub.journal.segment import Segment, list_segments, segment_name
from hub.message import Batch, Peer
from hub.wire import chunkid
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import (
    NS,
    PEER,
    Life,
    Moment,
    Producers,
    Stored,
    at,
    batch,
    blocks_of,
    check_recovery,
    expected,
    flipped,
    foreign,
    moments,
    own,
    read_all,
    rows_after,
    rows_of,
    seen_of,
)

History = Callable[[ForgettingFiles, Producers], None]


def small_commits(disk: ForgettingFiles, producers: Producers) -> None:
    """All kinds of batches, alone and with others, in one segment."""
    life = Life(disk)
    producers.send(life, own("a", 1))
    producers.send(life, own("a", 2), foreign("x", 2), batch("plain"))
    producers.send(life, batch("empty", 0, chunk_id=chunkid.pack("empty")), own("b", 1))
    producers.send(life, own("a", 3, size=900))
    producers.send(life, own("b", 2, 3), own("a", 4), foreign("y"))


def segment_rolls(disk: ForgettingFiles, producers: Producers) -> None:
    """Several segments: one of them for a commit larger than a segment, one filled to its last byte."""
    life = Life(disk)
    for number in range(1, 12):
        producers.send(life, own("a", number), own("b", number, 2))
    producers.send(life, own("a", 12, size=1500), foreign("large", size=1500))
    producers.send(life, own("a", 13))
    life.writer.close()


def reopenings(disk: ForgettingFiles, producers: Producers) -> None:
    """Runs that are closed in order, runs that are not, and one without messages."""
    for number in range(1, 4):
        life = Life(disk)
        producers.send(life, own("a", 2 * number), foreign(f"x{number}"))
        producers.send(life, own("a", 2 * number + 1))
        if number % 2:
            life.writer.close()
    Life(disk).writer.close()
    Life(disk)
    producers.send(Life(disk), own("a", 99))


def expiry(disk: ForgettingFiles, producers: Producers) -> None:
    """A journal that never holds more than three segments, and later two."""
    life = Life(disk, segment_bytes=700, retain_bytes=2100)
    for number in range(1, 9):
        producers.send(life, own("a", number, size=200), foreign(f"x{number}"))
    life.writer._retain_bytes = 1400
    life.writer.expire()
    producers.send(life, own("a", 20))


def failures(disk: ForgettingFiles, producers: Producers) -> None:
    """Syncs and writes that fail, in a new segment and in an older one."""
    life = Life(disk)
    disk.fail("sync")
    producers.send(life, own("a", 1), foreign("x"))
    producers.send(life, own("a", 2))
    disk.fail("page", after=1)
    producers.send(life, own("a", 3, size=900), foreign("y"))
    disk.fail("sync_folder")
    disk.fail("truncate")
    producers.send(life, own("a", 4, size=1500))
    life.writer.close()


def positions(disk: ForgettingFiles, producers: Producers) -> None:
    """A source that is read again: with messages and without, alone, in a segment without messages, and forgotten."""
    life = Life(disk)
    producers.send(life, at({b"x": 0}))
    producers.send(life, at({b"x": 1}, "x", 2), own("a", 1), at({b"x": 2, b"y": 1}), at({b"x": 3}, "x"))
    for number in range(4, 8):
        producers.send(life, at({b"x": number}, "x", size=500), at({b"y": number}))
        producers.send(life, at({b"x": 0}), at({b"x": -1, b"z": number}))
    life.writer.close()
    life = Life(disk, segment_bytes=300)
    for number in range(8, 12):
        producers.send(life, at({b"x": number}), at({b"z": -1}))
    producers.send(life, own("a", 2), at({b"y": 99}, "y"))


HISTORIES: list[History] = [small_commits, segment_rolls, reopenings, expiry, positions]


def moments_of(history: History) -> list[Moment]:
    disk, producers = ForgettingFiles(), Producers()
    found = moments(disk, producers, lambda: history(disk, producers))
    assert len(producers.acknowledged) > 5
    return found


def check_moment(moment: Moment, rng: random.Random, most: int) -> list[Moment]:
    """Check every way to die at this moment, at most *most* of the power cuts. Return the moments of the next crash."""
    keeps_from = min(list_segments(moment.disk), default=1)
    again = check_recovery(moment.disk.after_kill(), moment.producers, keeps_from=keeps_from)
    for disk in moment.disk.power_cuts(rng, most):
        again += check_recovery(disk, moment.producers, keeps_from=keeps_from)
    return again


@pytest.mark.costly
@pytest.mark.parametrize("history", HISTORIES)
def test_nothing_acknowledged_is_lost_at_any_moment(history: History) -> None:
    """After a crash at any moment, each acknowledged batch is stored once, and each other one once it is resent."""
    rng = random.Random(1)
    for moment in moments_of(history):
        check_moment(moment, rng, 100)


@pytest.mark.costly
@pytest.mark.parametrize("window_bytes", [1 << 20, 64])
@pytest.mark.parametrize("history", HISTORIES)
def test_nothing_is_lost_by_a_crash_during_recovery(
    history: History, window_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same holds after a second crash during or just after recovery, and a third one after that."""
    monkeypatch.setattr(segment_module, "_WINDOW_BYTES", window_bytes)
    rng = random.Random(2)
    second = [again for moment in rng.sample(moments_of(history), 20) for again in check_moment(moment, rng, 3)]
    third = [again for moment in rng.sample(second, 40) for again in check_moment(moment, rng, 3)]
    for moment in rng.sample(third, 60):
        check_moment(moment, rng, 3)


def test_a_power_cut_after_failures_loses_nothing() -> None:
    """The same holds for a power cut around failed writes and syncs, whatever the disk kept."""
    rng = random.Random(3)
    for moment in moments_of(failures):
        for disk in moment.disk.power_cuts(rng, 60):
            check_recovery(disk, moment.producers)


def test_blocks_of_a_killed_hub_are_synced_before_they_count() -> None:
    """A commit that was written and not synced is kept, and is on stable storage after recovery."""
    disk, producers = ForgettingFiles(), Producers()
    life = Life(disk)
    large = own("a", 1, size=3 * 2048)  # fills its segment to the last byte, so there is nothing to cut
    found = moments(disk, producers, lambda: producers.send(life, large))
    killed = found[-2].disk.after_kill()  # before the sync
    recovered = recover(killed, Dedupe(), now=NS)
    assert recovered.next_sequence == 2
    for after in killed.power_cuts(random.Random(0), 500):
        assert read_all(after) == expected([large])


def test_segments_deleted_by_a_killed_hub_stay_deleted() -> None:
    """
    A hub is killed after it deleted a segment and before the folder was synced. The next one expires more: at no moment
    does a power cut bring the deleted segment back without the next.
    """
    disk, producers = ForgettingFiles(), Producers()
    segment_rolls(disk, producers)
    firsts = list_segments(disk)
    life = Life(disk)
    life.writer._retain_bytes = life.writer.size_bytes - 1
    expiring = moments(disk, producers, life.writer.expire)
    killed = next(moment.disk for moment in expiring if list_segments(moment.disk)[0] == firsts[1])
    assert {list_segments(cut)[0] for cut in killed.power_cuts(random.Random(0), 100)} == set(firsts[:2])
    for moment in moments(killed, producers, lambda: Life(killed, retain_bytes=4096)):
        for cut in moment.disk.power_cuts(random.Random(0), 100):
            found = [first for first in list_segments(cut) if first in firsts]
            assert found == firsts[len(firsts) - len(found) :]
    assert firsts[2] not in list_segments(killed), "more has expired"


def test_deduplication_knows_the_same_after_recovery() -> None:
    """Sessions, foreign ids and their times are recovered exactly, from the snapshot and the blocks after it."""
    disk, producers = ForgettingFiles(), Producers()
    life = Life(disk)
    for number in range(1, 12):
        producers.send(life, own("a", number), foreign(f"x{number}"))
        life.append(own("a", number))  # a resend changes nothing
        dedupe = Dedupe()
        recover(disk.after_kill(), dedupe, now=NS)
        assert dedupe.snapshot(NS) == life.dedupe.snapshot(NS)


def test_positions_are_the_same_after_recovery() -> None:
    """All rows are recovered exactly, with their times, from the snapshot and the blocks after it."""
    disk, producers = ForgettingFiles(), Producers()
    life = Life(disk)
    for number in range(12):
        name = b"x%d" % (number % 5)
        producers.send(life, at({name: number}, "x", number % 3, size=300), at({b"x3": -1, b"y": number}))
        recovered = recover(disk.after_kill(), Dedupe(), now=NS).positions
        assert recovered.size_bytes == life.writer.positions.size_bytes
        assert {*recovered._rows.values()} == {*life.writer.positions._rows.values()}
    assert len(list_segments(disk)) > 2
    assert rows_of(life.writer.positions) == rows_after(producers.acknowledged)


def test_positions_at_the_end_of_a_segment_count_if_the_next_header_is_damaged() -> None:
    """The snapshot that has them is lost; the blocks without messages before it are still there."""
    disk = ForgettingFiles()
    life = Life(disk)
    sent = [at({b"x": 1}, "x"), at({b"x": 2}), at({b"y": 1})]
    for each in sent:
        life.append(each)
    life.writer.close()
    Life(disk).append(own("a", 1))
    last = list_segments(disk)[-1]
    assert last > 1
    disk.overwrite(segment_name(last), flipped(seen_of(disk, last), 8 * 40))
    life = Life(disk)
    assert rows_of(life.writer.positions) == rows_after(sent)
    assert read_all(disk) == expected([*sent, own("a", 1)])


def test_a_block_whose_header_is_not_ours_has_no_positions() -> None:
    """Its messages are a gap, and what it says about sources is not known."""
    disk = ForgettingFiles()
    life = Life(disk)
    life.append(at({b"x": 1}, "x"))
    life.append(msgspec.structs.replace(at({b"x": 2}, "y"), tag="a text"))
    recovered = recover(disk.after_kill(), Dedupe(), now=NS)
    assert (rows_of(recovered.positions), recovered.next_sequence) == ({b"x": 1}, 3)
    assert read_all(disk)[1:] == [Stored(2, 1, None)]


@pytest.mark.parametrize("index", range(6))
def test_damage_takes_positions_and_messages_together(index: int) -> None:
    """Whichever block is damaged: the positions are those of the blocks that are left, as its messages are."""
    disk = ForgettingFiles()
    life, sent = Life(disk), [at({b"x": number}, "x", number % 3, size=100) for number in range(6)]
    for each in sent:
        life.append(each)
    block = blocks_of(disk, 1)[index]
    for bit in range(8 * block.offset, 8 * block.end, 13):
        damaged = disk.after_kill()
        damaged.overwrite(segment_name(1), flipped(seen_of(disk, 1), bit))
        recovered = recover(damaged, Dedupe(), now=NS)
        assert rows_of(recovered.positions) == rows_after(each for each in sent if each is not sent[index])
        assert recovered.missing == (sent[index].count if index < 5 else 0)  # at the end it looks torn


# Torn and damaged.


def three_commits(*, reopened: bool) -> tuple[ForgettingFiles, list[Batch], list[Block]]:
    """Return a disk with a last segment of three commits of 2, 3 and 1 batches; with *reopened*, it is sealed."""
    disk = ForgettingFiles()
    life = Life(disk, segment_bytes=4096)
    batches = [own("a", 1), foreign("x", 2), own("a", 2, 3), foreign("y"), own("a", 3, 2), own("a", 4)]
    for commit in (batches[:2], batches[2:5], batches[5:]):
        life.append(*commit)
    if reopened:
        life.writer.close()
        Life(disk)
    return disk, batches, blocks_of(disk, 1)


def without(items: list[Stored], index: int) -> list[Stored]:
    """Return *items* with one of them replaced by a gap."""
    return [*items[:index], items[index]._replace(entries=None, chunk_id=None), *items[index + 1 :]]


@pytest.mark.costly
@pytest.mark.parametrize("index", range(5))
def test_damage_before_a_later_commit_keeps_the_blocks_after_it(index: int) -> None:
    """A bit flip in an acknowledged block costs its sequences only, and none is assigned again."""
    disk, batches, blocks = three_commits(reopened=False)
    data, block = seen_of(disk, 1), blocks[index]
    for bit in range(8 * block.offset, 8 * block.end):
        disk.overwrite(segment_name(1), flipped(data, bit))
        dedupe = Dedupe()
        recovered = recover(disk, dedupe, now=NS)
        assert (recovered.next_sequence, recovered.missing, recovered.cut_bytes) == (11, batches[index].count, 0)
        assert read_all(disk) == without(expected(batches), index)
        assert dedupe.unseen(batches, NS) in ([], [batches[index]])


def test_a_flip_in_the_last_commit_cuts_it() -> None:
    """A damaged last commit looks like a torn one: it is cut, and can be resent."""
    disk, batches, blocks = three_commits(reopened=False)
    data, block = seen_of(disk, 1), blocks[-1]
    for bit in range(8 * block.offset, 8 * block.end):
        damaged = ForgettingFiles()
        damaged.overwrite(segment_name(1), flipped(data, bit))
        life = Life(damaged)
        assert (life.recovered.next_sequence, life.recovered.missing) == (10, 0)
        assert 0 < life.recovered.cut_bytes <= block.end - block.offset
        life.append(*batches)
        assert read_all(damaged) == expected(batches)


@pytest.mark.parametrize("index", range(6))
def test_damage_in_a_sealed_segment_keeps_the_blocks_after_it(index: int) -> None:
    """In a sealed segment every flip is damage, also in its last commit."""
    disk, batches, blocks = three_commits(reopened=True)
    data, block = seen_of(disk, 1), blocks[index]
    for bit in range(8 * block.offset, 8 * block.end, 5):
        damaged = disk.after_kill()
        damaged.overwrite(segment_name(1), flipped(data, bit))
        life = Life(damaged)
        assert life.writer.last_sequence == 10
        life.append(own("a", 5))
        assert read_all(damaged) == without(expected([*batches, own("a", 5)]), index)


def test_a_block_after_a_torn_one_of_its_commit_is_no_duplicate() -> None:
    """If a commit is torn in any block, everything after that is cut, and the resend of the whole commit is stored."""
    disk, batches, blocks = three_commits(reopened=False)
    data = seen_of(disk, 1)
    for torn in (2, 3, 4):
        cut = bytearray(data[: blocks[4].end])
        cut[blocks[torn].offset : blocks[torn].offset + 100] = bytes(100)
        damaged = ForgettingFiles()
        damaged.overwrite(segment_name(1), bytes(cut) + bytes(1000))
        life = Life(damaged)
        assert life.recovered.missing == 0
        assert read_all(damaged) == expected(batches[:torn])
        assert life.append(*batches[2:5]).duplicates == torn - 2
        assert read_all(damaged) == expected(batches[:5])


def test_damage_right_before_a_torn_commit_takes_no_chunk_for_a_duplicate() -> None:
    """A whole block of a torn commit after a damaged block does not count, and no sequence is assigned twice."""
    disk, batches, blocks = three_commits(reopened=False)
    data = bytearray(seen_of(disk, 1)[: blocks[4].end] + bytes(1000))
    data[blocks[1].end - 1] ^= 1  # the end of the first commit: acknowledged, damaged
    data[blocks[2].offset : blocks[2].offset + 100] = bytes(100)  # the first block of the second: torn
    damaged = ForgettingFiles()
    damaged.overwrite(segment_name(1), bytes(data))
    assert read_all(damaged) == expected(batches[:1])
    life = Life(damaged)
    assert life.recovered.next_sequence == 7  # after the damaged and the torn block, whose sequences are known
    commit = life.append(*batches[2:5])
    assert (commit.duplicates, commit.stored) == (0, 6)
    gap = Stored(2, 5, None)
    assert read_all(damaged) == [*expected(batches[:1]), gap, *expected(batches[2:5], 7)]


def test_damage_in_two_commits_keeps_the_whole_blocks() -> None:
    """Damage in two commits, with a third commit after them, costs only the damaged blocks."""
    disk, batches, blocks = three_commits(reopened=False)
    data = bytearray(seen_of(disk, 1))
    data[blocks[1].end - 1] ^= 1
    data[blocks[2].end - 1] ^= 1
    disk.overwrite(segment_name(1), bytes(data))
    recovered = recover(disk, Dedupe(), now=NS)
    assert (recovered.next_sequence, recovered.missing) == (11, 5)
    items = expected(batches)
    assert read_all(disk) == [items[0], Stored(2, 5, None), *items[3:]]


def test_a_quoted_block_is_not_taken_for_one() -> None:
    """A part of this journal inside a message does not make a torn commit look like damage."""
    disk, batches, blocks = three_commits(reopened=True)
    quoted = seen_of(disk, 1)[: blocks[-1].end]
    entries = b"\xdd\0\0\0\1\xc6" + len(quoted).to_bytes(4, "big") + quoted
    commit = [Batch(b"app", entries, 1, own("c", 1).chunk_id), own("c", 2)]
    Life(disk, segment_bytes=8192).append(*commit)
    carrier = blocks_of(disk, 11)[0]
    assert blocks[-1].commit_offset > carrier.offset
    disk.overwrite(segment_name(11), flipped(seen_of(disk, 11), 8 * (carrier.offset + 50)))
    life = Life(disk)
    assert (life.recovered.next_sequence, life.recovered.missing) == (11, 0)
    assert life.append(*commit).duplicates == 0
    assert read_all(disk) == expected([*batches, *commit])


# Headers.


def test_a_damaged_header_of_the_last_segment_costs_nothing() -> None:
    """After a flip in the last header, recovery begins one segment earlier and knows every message and chunk."""
    disk, batches, _ = three_commits(reopened=True)
    life = Life(disk)
    more = [own("a", 5), foreign("z", 2)]
    life.append(*more)
    life.append(own("a", 6))
    everything = [*batches, *more, own("a", 6)]
    data = seen_of(disk, 11)
    with Segment(disk, 11) as segment:
        assert segment.header is not None
        header_bytes = segment.header.size_bytes
    assert header_bytes > SEGMENT_HEADER_BYTES + 40
    for bit in range(8 * header_bytes):
        damaged = disk.after_kill()
        damaged.overwrite(segment_name(11), flipped(data, bit))
        again = Life(damaged)
        assert (again.recovered.next_sequence, again.recovered.missing) == (15, 0)
        assert again.append(*everything).duplicates == len(everything)
        assert [item.sequence for item in read_all(damaged)] == [1, 2, 4, 7, 8, 10, 11, 12, 14]


def test_a_damaged_header_of_an_empty_last_segment_costs_nothing() -> None:
    """Sequences continue after the previous sealed segment, or at the number in the name."""
    disk, batches, _ = three_commits(reopened=True)
    disk.overwrite(segment_name(11), bytes(4096))
    life = Life(disk)
    assert life.append(*batches, own("a", 5)).duplicates == len(batches)
    assert read_all(disk) == expected([*batches, own("a", 5)])


def test_a_given_up_segment_before_a_damaged_header_is_read_to_its_end() -> None:
    """Blocks that failed and could not be cut do not count: neither their sequences nor their chunks."""
    disk = ForgettingFiles()
    life = Life(disk)
    life.append(own("a", 1))
    disk.fail("sync", times=2)
    disk.fail("truncate", times=2)
    failing = [own("a", 2, 5), foreign("x")]
    with pytest.raises(JournalUnavailable):
        life.append(*failing)
    life.append(own("b", 1))
    assert [block.sequence for block in blocks_of(disk, 1)] == [1, 2, 7]
    disk.overwrite(segment_name(2), flipped(seen_of(disk, 2), 8 * 20))
    again = Life(disk)
    assert (again.recovered.next_sequence, again.recovered.missing) == (3, 0)
    assert again.append(*failing).duplicates == 0
    assert read_all(disk) == expected([own("a", 1), own("b", 1), *failing])


def test_a_name_says_how_far_sequences_had_come() -> None:
    """With the last header and the end of the previous segment damaged, no sequence is assigned twice."""
    disk, batches, blocks = three_commits(reopened=True)
    disk.overwrite(segment_name(1), seen_of(disk, 1)[: blocks[-1].offset])
    disk.overwrite(segment_name(11), bytes(4096))
    life = Life(disk)
    assert (life.recovered.next_sequence, life.recovered.missing) == (11, 1)
    life.append(own("b", 1))
    assert read_all(disk) == [*expected(batches[:-1]), Stored(10, 1, None), *expected([own("b", 1)], 11)]


def test_without_a_readable_header_nothing_is_changed() -> None:
    """A journal without a whole header or seal is refused as it is, by readers too, and not taken for an empty one."""
    disk = ForgettingFiles()
    Life(disk).append(own("a", 1))
    disk.overwrite(segment_name(1), flipped(seen_of(disk, 1), 100))
    disk.remove("seal")
    check_refused(disk, JournalUnusable)
    with pytest.raises(JournalUnusable, match="no segment has a readable header"):
        read_all(disk)


def test_a_segment_under_another_name_is_refused() -> None:
    """Going on would destroy a segment: nothing is changed, and both names are in the error."""
    disk = ForgettingFiles()
    check_recoverable(disk)
    life = Life(disk)
    life.append(own("a", 1, 2))
    life.writer.close()
    check_recoverable(disk)
    disk.rename(segment_name(1), segment_name(7))
    check_refused(disk, JournalUnusable)
    with pytest.raises(JournalUnusable, match=f"{segment_name(7)} holds another segment, {segment_name(1)}"):
        recover(disk, Dedupe(), now=NS)


def test_a_damaged_header_of_the_only_segment_costs_nothing() -> None:
    """From the first life on the seal knows which journal it is: readers and the next hub find every message."""
    disk, batches = ForgettingFiles(), [own("a", 1, 2), foreign("x"), own("a", 2)]
    life = Life(disk)
    for each in batches:
        life.append(each)
    for bit in range(8 * 20, 8 * (SEGMENT_HEADER_BYTES - 1), 31):
        after = disk.after_kill()
        after.overwrite(segment_name(1), flipped(seen_of(disk, 1), bit))
        assert read_all(after) == expected(batches)
        again = Life(after)
        assert (again.recovered.next_sequence, again.recovered.missing) == (5, 0)
        assert again.append(own("a", 2), own("a", 3)).duplicates == 1
        assert read_all(after) == expected([*batches, own("a", 3)])


def test_a_segment_under_the_name_of_another_is_refused() -> None:
    """Continuing would assign sequences twice or destroy readable messages, so nothing is changed."""
    disk, batches, _ = three_commits(reopened=True)
    first, second = seen_of(disk, 1), seen_of(disk, 11)
    for changes in ({1: second, 11: first}, {11: first}, {5: first}, {1000: first}):
        broken = disk.after_kill()
        for name, data in changes.items():
            broken.overwrite(segment_name(name), data)
        check_refused(broken, JournalUnusable)
        found = [item for item in read_all(broken) if item.entries]
        assert set(found) <= set(expected(batches))
        assert len(found) == len(set(found))
    assert Life(disk).recovered.next_sequence == 11
    assert read_all(disk) == expected(batches)


def test_a_number_beyond_all_sequences_is_no_segment() -> None:
    """A name whose number exceeds every possible sequence is ignored, like any other file."""
    disk, batches, _ = three_commits(reopened=True)
    disk.overwrite("9" * 20 + ".seg", seen_of(disk, 1))
    assert Life(disk).recovered.next_sequence == 11
    assert read_all(disk) == expected(batches)


# Messages that quote blocks.


def quoting(*, sequence: int, commit_offset: int, hub_id: bytes) -> Batch:
    """Return a batch whose one message contains a whole block, forged by somebody who can read the journal."""
    forged = batch("forged", 2)
    front, _ = pack_block(
        msgspec.structs.replace(forged, tag=b"sudo", peer=Peer(1, 0, 0, "sudo")),
        sequence=sequence,
        received=1 << 60,
        commit_offset=commit_offset,
        seed=seed_of(hub_id),
    )
    record = msgspec.msgpack.encode({"text": b"." * 50 + front + bytes(forged.entries) + b"." * 50})
    return Batch(b"app", codec.join((codec.UNSTAMPED + record,), 1), 1, None, PEER)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("sequence", [1, 3, 4, 5, 1000, (1 << 64) - 3])
def test_damage_does_not_bring_quoted_blocks_to_life(sequence: int, closed: bool) -> None:
    """A bit flip in a message that quotes a block costs that message, and the quoted block is not read."""
    disk = ForgettingFiles()
    life = Life(disk)
    life.append(own("a", 1, 2))
    (block,) = blocks_of(disk, 1)
    with Segment(disk, 1) as segment:
        assert segment.header is not None
        evil = quoting(sequence=sequence, commit_offset=block.end, hub_id=segment.header.hub_id)
    rest = [own("b", number) for number in range(1, 6)]
    for each in (evil, *rest):
        life.append(each)
    if closed:
        life.writer.close()
    data, hit = seen_of(disk, 1), blocks_of(disk, 1)[1]
    entries = hit.end - hit.entries_bytes
    everything = expected([own("a", 1, 2), evil, *rest])
    for bit in [*range(8 * entries, 8 * hit.end, 61), 8 * hit.end - 1]:
        after = disk.after_kill()
        after.overwrite(segment_name(1), flipped(data, bit))
        assert read_all(after) == without(everything, 1)
        recovered = recover(after, Dedupe(), now=NS)
        assert (recovered.next_sequence, recovered.missing) == (9, 1)


def test_no_quoted_block_uses_up_sequences() -> None:
    """If the front of a block is damaged, its message is searched; blocks that cannot have come next are ignored."""
    disk = ForgettingFiles()
    life = Life(disk)
    life.append(own("a", 1, 2))
    (block,) = blocks_of(disk, 1)
    with Segment(disk, 1) as segment:
        assert segment.header is not None
        evil = quoting(sequence=1_000_000, commit_offset=block.end, hub_id=segment.header.hub_id)
    for each in (evil, own("b", 1)):
        life.append(each)
    hit = blocks_of(disk, 1)[1]
    for bit in range(8 * hit.offset, 8 * (hit.offset + 48), 5):
        after = disk.after_kill()
        after.overwrite(segment_name(1), flipped(seen_of(disk, 1), bit))
        assert read_all(after) == [*expected([own("a", 1, 2)]), Stored(3, 1, None), *expected([own("b", 1)], 4)]
        assert recover(after, Dedupe(), now=NS).next_sequence == 5


def test_a_newer_format_is_refused_with_nothing_changed() -> None:
    """A newer version in the newest segment is refused, whatever the earlier segments contain."""
    disk, _, _ = three_commits(reopened=True)
    disk.overwrite(
        segment_name(11), pack_segment_header(SegmentHeader(VERSION + 1, bytes(16), 11, 5, 5, b"unknown")) + bytes(99)
    )
    check_refused(disk, JournalTooNew)


def check_refused(disk: ForgettingFiles, kind: type[Exception]) -> None:
    before = [disk.contents()[1][number] for number in disk.contents()[0].values()]
    with pytest.raises(kind, match="/the/journal"):
        recover(disk, Dedupe(), now=NS, path="/the/journal")
    with pytest.raises(kind, match="/the/journal"):
        check_recoverable(disk, path="/the/journal")
    assert [disk.contents()[1][number] for number in disk.contents()[0].values()] == before
    assert disk.open_files <= 2  # those of the earlier runs


def test_other_files_are_left_unchanged() -> None:
    """Files with other names, also with digits of other scripts, are neither read nor removed."""
    disk = ForgettingFiles()
    others = [
        "lock",
        "1.seg",
        "notes.txt",
        "x00000000000000000001.seg",
        "\N{ARABIC-INDIC DIGIT ONE}" * 20 + ".seg",
        "0" * 20 + ".seg~",
    ]
    for name in others:
        disk.overwrite(name, b"mine")
    Life(disk).append(own("a", 1))
    life = Life(disk)
    assert read_all(disk) == expected([own("a", 1)])
    assert set(disk.list()) == {*others, segment_name(1), segment_name(2), "seal"}
    assert life.writer.last_sequence == 1


# Time, and durability "relaxed".


def test_received_never_decreases_over_lives() -> None:
    """A clock that was set back has no effect on `received`, neither in a run nor after the next recovery."""
    disk = ForgettingFiles()
    received = []
    for start in (1000, 500, 700):
        life = Life(disk, clock=lambda start=start: start)  # type: ignore[misc]
        received += [life.append(own("a", start + number)).received for number in range(3)]
        received += [life.append(own("b", start)).received]
    assert received == [1000] * 12


def test_relaxed_loses_nothing_when_it_is_killed() -> None:
    """With durability ``relaxed``, acknowledged messages survive the process, synced or not."""
    disk, producers = ForgettingFiles(), Producers()

    def run() -> None:
        life = Life(disk, durability="relaxed")
        for number in range(1, 15):
            producers.send(life, own("a", number), foreign(f"x{number}"))

    for moment in moments(disk, producers, run):
        check_recovery(moment.disk.after_kill(), moment.producers)


def test_relaxed_keeps_what_was_synced_over_a_power_cut() -> None:
    """After a power cut, synced messages exist in order, followed by a prefix of the later ones without holes."""
    rng = random.Random(5)
    for seed in range(60):
        disk, batches = ForgettingFiles(), [own("a", number, size=seed) for number in range(1, 20)]
        life = Life(disk, durability="relaxed")
        synced = rng.randrange(1, len(batches))
        for index, each in enumerate(batches):
            life.append(each)
            if index + 1 == synced:
                life.writer.sync()
        for after in disk.power_cuts(rng, 20):
            recovered = Life(after)
            items = read_all(after)
            assert len(items) >= synced
            assert items == expected(batches)[: len(items)]
            assert not recovered.recovered.missing
            recovered.append(own("b", 1))


def test_a_chunk_id_counts_although_its_messages_cannot_be_read() -> None:
    """Entries that cannot be decoded are stored and recognised like any others."""
    disk = ForgettingFiles()
    odd = Batch(b"\xff", b"\xdd\0\0\0\1\xc1", 1, chunkid.pack(b"\xff\x00"))
    Life(disk).append(odd)
    life = Life(disk)
    assert life.append(odd).duplicates == 1


def test_an_invalid_snapshot_is_an_error() -> None:
    """A whole header without a valid snapshot is an error."""
    disk = ForgettingFiles()
    disk.overwrite(
        segment_name(1), pack_segment_header(SegmentHeader(1, bytes(16), 1, 0, 0, msgspec.msgpack.encode([1])))
    )
    with pytest.raises(ValueError, match="not a snapshot"):
        recover(disk, Dedupe(), now=NS)


# A journal that was closed in order.


def closed() -> tuple[ForgettingFiles, list[Batch], list[Block]]:
    """Return a journal of one segment that was closed in order, its batches and their blocks."""
    disk, batches = ForgettingFiles(), [own("a", 1, 2), foreign("x", 3), own("a", 2), own("b", 1, 4, size=100)]
    life = Life(disk)
    life.append(*batches[:2])
    for each in batches[2:]:
        life.append(each)
    life.writer.close()
    assert list_segments(disk) == [1]
    return disk, batches, blocks_of(disk, 1)


def test_the_end_of_a_closed_journal_is_known() -> None:
    """
    Wherever the end is cut or wiped, the missing messages are reported as damage, and no sequence is assigned again.
    """
    disk, batches, blocks = closed()
    data = seen_of(disk, 1)
    for place in range(blocks[0].offset, len(data), 5):
        whole = [block for block in blocks if block.end <= place]
        kept, missing = sum(block.count for block in whole), sum(block.count for block in blocks[len(whole) :])
        for damaged in (data[:place], data[:place] + bytes(len(data) - place)):
            disk.overwrite(segment_name(1), damaged)
            after = disk.after_kill()
            gap = [Stored(kept + 1, missing, None)]
            assert read_all(after) == [*expected(batches[: len(whole)]), *gap]
            life = Life(after)
            assert (life.recovered.next_sequence, life.recovered.missing) == (11, missing)
            life.append(own("c", 1))
            assert read_all(after) == [*expected(batches[: len(whole)]), *gap, *expected([own("c", 1)], 11)]


def test_any_flip_in_a_closed_journal_costs_one_block() -> None:
    """A flip costs one block, also in the last commit, which without a seal would look torn."""
    disk, batches, blocks = closed()
    data = seen_of(disk, 1)
    for index, block in enumerate(blocks):
        for bit in range(8 * block.offset, 8 * block.end, 3):
            disk.overwrite(segment_name(1), flipped(data, bit))
            after = disk.after_kill()
            assert read_all(after) == without(expected(batches), index)
            recovered = recover(after, Dedupe(), now=NS)
            assert (recovered.next_sequence, recovered.missing) == (11, block.count)


def test_a_seal_does_not_limit_later_messages() -> None:
    """After a restart and a kill, a torn commit is cut in spite of the older seal."""
    disk, batches, _ = closed()
    life = Life(disk)
    more = [own("a", 3), own("a", 4)]
    for each in more:
        life.append(each)
    last = blocks_of(disk, 11)[-1]
    disk.overwrite(segment_name(11), seen_of(disk, 11)[: last.end - 1])
    again = Life(disk.after_kill())
    assert (again.recovered.next_sequence, again.recovered.missing) == (12, 0)
    assert read_all(again.files) == expected([*batches, more[0]])


def test_the_seal_of_an_idle_life_does_not_vouch_for_the_next() -> None:
    """The seal of a run without messages claims no bytes of its segment, because the next run replaces it."""
    disk, batches, _ = closed()
    Life(disk).writer.close()
    life = Life(disk)
    life.append(own("a", 3))
    (block,) = blocks_of(disk, 11)
    disk.overwrite(segment_name(11), seen_of(disk, 11)[: block.end - 1])
    again = Life(disk.after_kill())
    assert (again.recovered.next_sequence, again.recovered.missing) == (11, 0)
    assert again.append(own("a", 3)).duplicates == 0
    assert read_all(again.files) == expected([*batches, own("a", 3)])


def test_sequences_go_on_although_all_segments_were_removed() -> None:
    """While the seal exists, no sequence is assigned twice, whatever other files are left."""
    disk, _, _ = closed()
    for first in list_segments(disk):
        disk.remove(segment_name(first))
    life = Life(disk)
    assert (life.recovered.next_sequence, life.recovered.missing) == (11, 10)
    life.append(own("c", 1))
    assert read_all(disk) == expected([own("c", 1)], 11)


@pytest.mark.parametrize("change", [{"hub_id": bytes(16), "next_sequence": 999}, {"next_sequence": 5}])
def test_a_seal_of_another_journal_or_time_is_no_harm(change: dict[str, Any]) -> None:
    """A seal of another journal, or an older one of this journal, causes no damage report."""
    disk, batches, _ = closed()
    seal = read_seal(disk)
    assert seal is not None
    write_seal(disk, seal._replace(**change))
    assert read_all(disk) == expected(batches)
    assert Life(disk).recovered.next_sequence == 11


def test_a_kill_or_power_cut_while_it_is_closed_loses_nothing() -> None:
    """At every step of a close, acknowledged messages survive a kill and a power cut."""
    disk, producers = ForgettingFiles(), Producers()
    life = Life(disk)
    for number in range(1, 4):
        producers.send(life, own("a", number), foreign(f"x{number}"))
    for moment in moments(disk, producers, life.writer.close):
        check_recovery(moment.disk.after_kill(), moment.producers)
        for after in moment.disk.power_cuts(random.Random(1), 10):
            check_recovery(after, moment.producers)


# Owners of chunks.


def test_a_chunk_of_another_user_or_content_is_stored_after_any_recovery() -> None:
    """
    A chunk is a resend only with the same user, tag, id and content, after recovery from blocks and from a snapshot.
    """
    disk = ForgettingFiles()
    mine = [own("a", 1), foreign("x")]
    theirs = [msgspec.structs.replace(each, peer=Peer(9, 7777, 7777, "other")) for each in mine]
    other = msgspec.structs.replace(batch("other content"), chunk_id=mine[1].chunk_id)
    Life(disk).append(*mine)
    for _ in range(2):  # from the blocks, then from the snapshot
        life = Life(disk)
        assert life.dedupe.unseen([*mine, *theirs, other], NS) == [*theirs, other]
        life.writer.close()
    assert Life(disk).append(*mine, *theirs, other).stored == 3


def test_empty_chunks_are_acknowledged_and_leave_nothing() -> None:
    """A chunk without messages is not stored, and a later chunk with its id is."""
    disk = ForgettingFiles()
    life, empty = Life(disk), batch("empty", 0, chunk_id=own("a", 1).chunk_id)
    for _ in range(2):
        commit = life.append(empty)
        assert (commit.last_sequence, commit.stored, commit.stored_bytes, commit.duplicates) == (0, 0, 0, 0)
    assert blocks_of(disk, 1) == []
    assert life.append(own("a", 1)).stored == 1
    assert read_all(disk) == expected([own("a", 1)])
