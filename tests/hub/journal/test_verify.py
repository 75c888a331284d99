"""hub.journal.verify: checking a journal."""

import pytest

from hub import entries
from hub.errors import JournalTooNew
from hub.journal.block import VERSION, SegmentHeader, pack_segment_header
from hub.journal.segment import Segment, list_segments, segment_name
from hub.journal.verify import Verified, verify
from hub.message import Batch
from hub.wire import chunkid
from hub.wire.checking import check
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import Life, at, batch, blocks_of, flipped, own, seen_of

BATCHES = [own("a", number, number % 3 + 1, size=200) for number in range(1, 15)]


@pytest.fixture
def disk() -> ForgettingFiles:
    """A journal of several segments."""
    disk = ForgettingFiles()
    life = Life(disk)
    for each in BATCHES:
        life.append(each)
    life.append(batch("empty", 0, chunk_id=chunkid.pack("e")))
    return disk


def fault_of(disk: ForgettingFiles) -> str:
    """Return the first fault."""
    return verify(disk).faults[0]


def test_a_whole_journal_has_no_fault(disk: ForgettingFiles) -> None:
    """Everything is counted, whether a hub has the journal open or not; an empty folder is valid too."""
    messages, batches = sum(each.count for each in BATCHES), len(BATCHES)
    assert verify(disk) == Verified(messages, batches, len(list_segments(disk)))
    Life(disk).writer.close()
    assert verify(disk) == Verified(messages, batches, len(list_segments(disk)))
    assert verify(ForgettingFiles()) == Verified(0, 0, 0)


def test_every_flip_is_named(disk: ForgettingFiles) -> None:
    """
    For every bit flip in a sealed segment, the fault names the missing sequences or the segment with the bad header.
    """
    first = list_segments(disk)[1]
    data, blocks, name = seen_of(disk, first), blocks_of(disk, first), segment_name(first)
    for bit in range(0, 8 * len(data), 7):
        disk.overwrite(name, flipped(data, bit))
        hit = [block for block in blocks if block.offset <= bit // 8 < block.end]
        if hit:
            assert fault_of(disk).startswith(f"sequences {hit[0].sequence} to {hit[0].next_sequence - 1} are missing")
        else:
            assert fault_of(disk) == f"{name}: its header is damaged"


def test_damage_at_the_end_of_a_journal_that_was_reopened_is_named() -> None:
    """Damage at the end is found, because the empty segment after it records the next sequence."""
    disk = ForgettingFiles()
    Life(disk).append(own("a", 1), own("a", 2))
    Life(disk)
    disk.overwrite(segment_name(1), seen_of(disk, 1)[:-1])
    assert fault_of(disk).startswith("sequences 2 to 2 are missing")


def test_a_missing_segment_is_named(disk: ForgettingFiles) -> None:
    """The fault names the sequences from the first of the missing segment to the one before the next segment."""
    firsts = list_segments(disk)
    disk.remove(segment_name(firsts[1]))
    assert fault_of(disk).startswith(f"sequences {firsts[1]} to {firsts[2] - 1} are missing")


def test_every_damaged_place_is_named(disk: ForgettingFiles) -> None:
    """Damage in several segments, a bad header and a missing segment are all named, and the rest is counted."""
    firsts = list_segments(disk)
    damaged = {}
    for first in firsts[0], firsts[3]:
        damaged[first] = blocks_of(disk, first)[0]
        disk.overwrite(segment_name(first), flipped(seen_of(disk, first), 8 * damaged[first].end - 8))
    disk.overwrite(segment_name(firsts[2]), flipped(seen_of(disk, firsts[2]), 0))
    disk.remove(segment_name(firsts[1]))
    header, *gaps = verify(disk).faults
    assert header == f"{segment_name(firsts[2])}: its header is damaged"
    missing = [(block.sequence, block.next_sequence - 1) for block in damaged.values()]
    missing.insert(1, (firsts[1], firsts[2] - 1))
    assert [gap.partition(" are")[0] for gap in gaps] == [f"sequences {low} to {high}" for low, high in missing]
    assert verify(disk).messages == sum(each.count for each in BATCHES) - sum(1 + b - a for a, b in missing)


def test_a_journal_without_segments_is_named(disk: ForgettingFiles) -> None:
    """If all segments are gone and the seal is there, the last sequence is named."""
    Life(disk).writer.close()
    last = sum(each.count for each in BATCHES)
    for first in list_segments(disk):
        disk.remove(segment_name(first))
    assert verify(disk).faults == (f"sequences up to {last} are missing: no segment is left",)


def test_a_journal_without_any_header_is_named(disk: ForgettingFiles) -> None:
    """Without a header or a seal no block can be read: every header is named, and at the end the reason."""
    firsts = list_segments(disk)
    disk.remove("seal")
    for first in firsts:
        disk.overwrite(segment_name(first), flipped(seen_of(disk, first), 0))
    found = verify(disk)
    assert found[:3] == (0, 0, len(firsts))
    assert found.faults[:-1] == tuple(f"{segment_name(first)}: its header is damaged" for first in firsts)
    assert found.faults[-1].startswith("no segment has a readable header")


def test_expired_segments_are_no_fault(disk: ForgettingFiles) -> None:
    """A journal that begins with the oldest kept segment has no fault."""
    disk.remove(segment_name(1))
    assert verify(disk).faults == ()


def test_a_segment_under_a_wrong_name_is_named(disk: ForgettingFiles) -> None:
    """A segment whose name differs from the first sequence in its header is a fault."""
    last = list_segments(disk)[-1]
    disk.rename(segment_name(last), segment_name(last + 1))
    assert fault_of(disk) == f"{segment_name(last + 1)}: its header says {last}"


def test_entries_that_are_no_msgpack_are_named() -> None:
    """A whole block whose entries are not msgpack is a fault."""
    disk = ForgettingFiles()
    Life(disk).append(own("a", 1, 2), Batch(b"t", b"\xdd\0\0\0\2\xc0", 2))
    assert verify(disk) == Verified(4, 2, 1, ("sequence 3: entries are not msgpack",))


def test_no_entry_that_a_hub_accepts_is_a_fault() -> None:
    """Not even a deeply nested one with bytes that look like an overflowing length."""
    disk = ForgettingFiles()
    bytes_in_it = b"\x92\x01\x82\xa1b\xc4\x05" + entries.OVERFLOW + b"\xa1a"
    packed = entries.join((bytes_in_it + b"\x91" * (entries.NESTING_MAX - 3) + b"\xc0",), 1)
    assert check(packed, entries.ARRAY_HEADER_BYTES).objects == 1
    Life(disk).append(Batch(b"t", packed, 1))
    assert verify(disk).faults == ()


def with_positions() -> ForgettingFiles:
    """A journal with blocks without messages, at its end as well, that was closed in order."""
    disk = ForgettingFiles()
    life = Life(disk)
    for each in (own("a", 1), at({b"x": 1}), at({b"x": 2}, "x"), at({b"x": 3}), at({b"y": 1})):
        life.append(each)
    life.writer.close()
    return disk


def test_positions_are_whole() -> None:
    """Blocks without messages are no fault, and no batches."""
    assert verify(with_positions()) == Verified(2, 2, 1)


@pytest.mark.parametrize(("index", "place"), [(1, "before offset"), (3, "before offset"), (4, "at the end")])
def test_a_damaged_block_without_messages_is_named(index: int, place: str) -> None:
    """No message is missing; the fault says that positions are."""
    disk = with_positions()
    block = blocks_of(disk, 1)[index]
    for bit in range(8 * block.offset, 8 * block.end, 5):
        damaged = disk.after_kill()
        damaged.overwrite(segment_name(1), flipped(seen_of(disk, 1), bit))
        messages, batches, _, (fault,), _ = verify(damaged)
        assert (messages, batches) == (2, 2)
        assert fault.startswith(f"before sequence {block.sequence}: positions are missing: damaged, ")
        assert place in fault


def test_a_block_with_nothing_in_it_is_named() -> None:
    """A block has messages or positions."""
    disk = ForgettingFiles()
    life = Life(disk)
    life.writer._commit([batch("nothing", 0)], life.writer._clock.read())
    assert verify(disk).faults == ("before sequence 1: a block with neither messages nor positions",)


@pytest.mark.parametrize("snapshot", [b"", b"\x92\x92\x90\x90\x91\x01"])
def test_positions_that_cannot_be_read_are_named(snapshot: bytes) -> None:
    """They are not those of a hub."""
    disk = with_positions()
    with Segment(disk, 1) as segment:
        header = segment.header
        assert header is not None
    disk.overwrite(segment_name(1), pack_segment_header(header._replace(snapshot=snapshot)))
    faults = verify(disk).faults
    named = f"{segment_name(1)}: its positions cannot be read"
    assert faults[0] == named


def test_time_that_goes_back_is_named() -> None:
    """A segment whose times are before those of the previous one is a fault."""
    disk = ForgettingFiles()
    times = [5]
    life = Life(disk, clock=lambda: times[-1])
    life.append(own("a", 1))
    life.append(own("a", 2))
    times.append(9)
    life.append(own("a", 3))
    times.append(3)
    life.writer._clock._received._last = 0
    life.append(own("a", 4))
    assert fault_of(disk) == "sequence 4: received goes back"


def test_a_newer_format_is_refused(disk: ForgettingFiles) -> None:
    """A newer format is reported as such, not as damage."""
    last = list_segments(disk)[-1]
    disk.overwrite(segment_name(last), pack_segment_header(SegmentHeader(VERSION + 1, bytes(16), last, 0, 0, b"")))
    with pytest.raises(JournalTooNew):
        verify(disk)


def test_progress_is_reported(disk: ForgettingFiles) -> None:
    """Progress is reported every thousand batches, with the messages checked."""
    Life(disk).append(*(batch("p", 2) for _ in range(2500)))
    reported: list[int] = []
    verified = verify(disk, progress=reported.append)
    before = sum(each.count for each in BATCHES)
    assert reported == [before + 2 * (1000 - len(BATCHES)), before + 2 * (2000 - len(BATCHES))]
    assert verified.messages == before + 5000


def test_a_segment_that_expires_meanwhile_is_no_fault(disk: ForgettingFiles) -> None:
    """A segment that a hub deletes between listing and opening is no fault."""

    class Expiring(ForgettingFiles):
        def open(self, name: str) -> int:
            if name == segment_name(1) and name in self.list():
                self.remove(name)
            return super().open(name)

    expiring = Expiring()
    for first in list_segments(disk):
        expiring.overwrite(segment_name(first), seen_of(disk, first))
    verified = verify(expiring)
    assert verified.faults == ()
    assert 0 < verified.batches < len(BATCHES)
    assert expiring.open_files == 0


def test_verifying_changes_nothing(disk: ForgettingFiles) -> None:
    """Verifying makes no step on the disk, and leaves no file open."""
    before = disk.open_files
    steps: list[str] = []
    disk.watch = steps.append
    verify(disk)
    assert (steps, disk.open_files) == ([], before)
