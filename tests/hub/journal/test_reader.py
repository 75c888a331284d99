"""
hub.journal.reader: reading forward, beside a writer that does everything a writer can do.
"""

import itertools
import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from hub.errors import JournalTooNew, JournalUnusable
from hub.journal import segment as segment_module
from hub.journal.block import VERSION, SegmentHeader, pack_block, pack_segment_header, seed_of
from hub.journal.files import DiskFiles
from hub.journal.reader import Gap, Reader, has_journal, last_sequence_of, open_reader, sequence_before
from hub.journal.segment import list_segments, segment_name
from hub.message import LOSS_TAG, Batch, Home, Peer
from hub.wire import chunkid
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import (
    Life,
    Stored,
    at,
    batch,
    blocks_of,
    expected,
    flipped,
    foreign,
    own,
    read_all,
    seen_of,
    stored,
)

BATCHES = [own("a", 1, 3), foreign("x"), batch("empty", 0, chunk_id=chunkid.pack("e")), own("a", 2, 2), batch("p", 4)]
BATCHES += [own("a", number, number % 3 + 1, size=300) for number in range(3, 12)]


@pytest.fixture
def disk() -> ForgettingFiles:
    """A journal of several segments, with one batch per commit."""
    disk = ForgettingFiles()
    life = Life(disk)
    for each in BATCHES:
        life.append(each)
    assert len(list_segments(disk)) > 3
    return disk


def rest(reader: Reader, *, follow: bool = False) -> list[Stored]:
    return [stored(item) for item in reader.read(follow=follow)]


def test_everything_is_read_in_order(disk: ForgettingFiles) -> None:
    """Every batch with messages is read once, and the reader reports its last sequence."""
    reader = Reader(disk)
    assert rest(reader) == expected(BATCHES)
    assert reader.last_sequence == sum(each.count for each in BATCHES)
    assert rest(reader) == []
    reader.close()
    assert rest(reader) == []  # a closed reader continues
    reader.close()


def test_reading_begins_after_any_sequence(disk: ForgettingFiles) -> None:
    """Reading begins with the batch whose last message is after the sequence, anywhere in the journal."""
    everything = expected(BATCHES)
    last = everything[-1].sequence + everything[-1].messages - 1
    for after in range(last + 3):
        following = [item for item in everything if item.sequence + item.messages - 1 > after]
        reader = Reader(disk, after=after)
        assert rest(reader) == following
        assert reader.last_sequence == max(last, after)
        reader.close()


def test_reading_can_be_broken_off_anywhere(disk: ForgettingFiles) -> None:
    """A caller that stops after a batch or a gap gets the next one later: nothing twice, nothing skipped."""
    block = blocks_of(disk, list_segments(disk)[1])[1]
    name = segment_name(list_segments(disk)[1])
    disk.overwrite(name, flipped(seen_of(disk, list_segments(disk)[1]), 8 * block.offset))
    whole = read_all(disk)
    assert [item for item in whole if item.entries is None]
    reader, items = Reader(disk), []
    while (item := next(reader.read(), None)) is not None:
        items.append(stored(item))
    assert items == whole
    reader.close()


def test_a_reader_in_the_hub_gets_committed_messages_only(disk: ForgettingFiles) -> None:
    """A batch is returned only when all of its messages are within the bound."""
    everything = expected(BATCHES)
    committed = 0
    reader, items = Reader(disk, committed=lambda: committed), []
    for committed in range(everything[-1].sequence + everything[-1].messages):
        items += rest(reader, follow=bool(committed % 2))
        assert items == [item for item in everything if item.sequence + item.messages - 1 <= committed]
    reader.close()


def test_blocks_without_messages_are_passed_over() -> None:
    """Wherever they are, readers see the messages alone; with *with_empty* also what carries only positions."""
    disk = ForgettingFiles()
    life, batches = Life(disk), list[Batch]()
    for number in range(30):
        batches += [own("a", number, size=200), at({b"x": number}), at({b"y": number}, "y", number % 3)]
        life.append(*batches[-3:])
    assert len(list_segments(disk)) > 3
    everything = expected(batches)
    for after in range(life.writer.last_sequence):
        reader = Reader(disk, after=after, committed=lambda: life.writer.last_sequence)
        assert rest(reader) == [item for item in everything if item.sequence + item.messages - 1 > after]
        assert rest(reader) == []
        reader.close()
    reader = Reader(disk, with_empty=True)
    found = [(each.count, each.positions) for each in reader.read() if isinstance(each, Batch)]
    assert found == [(each.count, each.positions) for each in batches]
    reader.close()


def test_a_reader_in_the_hub_waits_before_a_block_without_messages() -> None:
    """It may be withdrawn, so nothing is read beyond it before the next message is committed."""
    disk = ForgettingFiles()
    life = Life(disk)
    life.append(own("a", 1))
    life.append(at({b"x": 1}))
    reader = Reader(disk, committed=lambda: life.writer.last_sequence)
    assert rest(reader) == expected([own("a", 1)])
    assert reader._place.offset == blocks_of(disk, 1)[1].offset
    life.append(own("a", 2))
    assert rest(reader, follow=True) == expected([own("a", 2)], 2)
    reader.close()


def test_a_commit_taken_back_is_never_given_in_the_hub() -> None:
    """An uncommitted block is read again, because other bytes may have replaced it."""
    disk = ForgettingFiles()
    life = Life(disk)
    reader = Reader(disk, committed=lambda: life.writer.last_sequence)
    life.append(own("a", 1))
    assert len(rest(reader)) == 1

    def look(step: str) -> None:
        if step == "sync":  # written, not committed
            disk.watch = lambda step: None
            assert rest(reader) == []

    disk.watch = look
    disk.fail("sync")
    disk.fail("create")
    with pytest.raises(Exception, match="Input/output error"):
        life.append(own("b", 1))
    life.append(own("c", 1))
    assert rest(reader) == expected([own("a", 1), own("c", 1)])[1:]
    reader.close()


# Gaps.


def test_messages_that_expired_before_a_reader_began_are_no_gap(disk: ForgettingFiles) -> None:
    """A new reader begins with the oldest message kept, without a gap."""
    first, second = list_segments(disk)[:2]
    disk.remove(segment_name(first))
    assert read_all(disk) == [item for item in expected(BATCHES) if item.sequence >= second]


@pytest.mark.parametrize("after", [1, 5, 9])
def test_messages_that_expire_during_reading_are_a_gap(disk: ForgettingFiles, after: int) -> None:
    """A reader with a place gets the number of messages it missed; it reads its open segment to the end."""
    everything, firsts = expected(BATCHES), list_segments(disk)
    resumed, opened = Reader(disk, after=after), Reader(disk)
    begun = [stored(next(opened.read()))]
    for first in firsts[:3]:
        disk.remove(segment_name(first))
    kept = [item for item in everything if item.sequence >= firsts[3]]
    assert rest(resumed) == [Stored(after + 1, firsts[3] - after - 1, None), *kept]
    begun += rest(opened)
    there = [item for item in everything if item.sequence < firsts[1]]
    assert begun == [*there, Stored(firsts[1], firsts[3] - firsts[1], None), *kept]
    resumed.close()
    opened.close()


def test_when_the_messages_of_a_gap_were_received(disk: ForgettingFiles) -> None:
    """Not before the message that was read before them; a reader that has read none does not know."""
    firsts = list_segments(disk)
    resumed, opened = Reader(disk, after=firsts[1] - 1), Reader(disk)
    begun = opened.read()
    last = next(found for found in begun if found.sequence + found.count == firsts[1])
    for first in firsts[:3]:
        disk.remove(segment_name(first))
    for reading, earliest in ((resumed.read(), 0), (begun, last.received)):
        gap, following = itertools.islice(reading, 2)
        assert isinstance(gap, Gap)
        assert gap.earliest == earliest
        assert last.received < gap.received <= following.received
    resumed.close()
    opened.close()


def test_the_last_sequence_of_a_message(disk: ForgettingFiles) -> None:
    """Of a gap, it is that of the last missing message. A loss that is stored stands for itself only."""
    second = list_segments(disk)[1]
    disk.remove(segment_name(second))
    everything = [*Reader(disk).read()]
    assert any(isinstance(found, Gap) and found.count > 1 for found in everything)
    others: list[dict[str, Any]]
    others = [{"tag": "mpsr.loss.client"}, {"peer": Peer(1, 0)}, {"home": Home("h", b"", 1, 1)}, {"record": {}}]
    for found in everything:
        each = found.as_batch() if isinstance(found, Gap) else found
        *_, message = each.messages()
        assert last_sequence_of(message) == found.sequence + found.count - 1
        for other in others:
            assert last_sequence_of(msgspec.structs.replace(message, **other)) == message.sequence


def test_all_that_a_reader_waited_for_may_expire(disk: ForgettingFiles) -> None:
    """If only an empty segment is left, the gap is reported at once."""
    Life(disk)
    firsts = list_segments(disk)
    reader = Reader(disk, after=2)
    for first in firsts[:-1]:
        disk.remove(segment_name(first))
    assert rest(reader) == [Stored(3, firsts[-1] - 3, None)]
    assert rest(reader) == []
    reader.close()


@pytest.mark.costly
@pytest.mark.parametrize("follow", [False, True])
def test_any_flip_in_a_sealed_segment_is_one_gap_of_one_block(disk: ForgettingFiles, follow: bool) -> None:
    """A bit flip costs exactly the messages of the damaged block, and in a header none."""
    everything = expected(BATCHES)
    first = list_segments(disk)[0]
    data, blocks = seen_of(disk, first), blocks_of(disk, first)
    assert [block.count for block in blocks][:3] == [3, 1, 2]
    for bit in range(0, 8 * len(data), 7):
        disk.overwrite(segment_name(first), flipped(data, bit))
        hit = [block.sequence for block in blocks if block.offset <= bit // 8 < block.end and block.count]
        reader = Reader(disk)
        assert rest(reader, follow=follow) == [
            Stored(item.sequence, item.messages, None) if item.sequence in hit else item for item in everything
        ]
        reader.close()


def test_what_is_read_together_is_what_is_read_block_by_block(disk: ForgettingFiles) -> None:
    """With damage anywhere, blocks without messages, a missing segment and any end of what is committed."""
    rng = random.Random(28)
    firsts = list_segments(disk)
    whole = {first: seen_of(disk, first) for first in firsts}
    gaps = together = 0
    for _ in range(150):
        for first in firsts:
            data = whole[first]
            if rng.random() < 0.3:
                data = flipped(data, rng.randrange(8 * len(data)))
            disk.overwrite(segment_name(first), data)
        after, committed = rng.choice([0, 0, rng.randrange(40)]), rng.choice([None, rng.randrange(50)])
        with_empty, follow = rng.random() < 0.3, rng.random() < 0.3
        found = []
        for is_together in (True, False):
            with pytest.MonkeyPatch.context() as patch:
                if not is_together:
                    patch.setattr(segment_module.Segment, "run", lambda *_: iter(()))
                bound = None if committed is None else lambda committed=committed: committed
                reader = Reader(disk, after=after, committed=bound, with_empty=with_empty)
                items = [*reader.read(follow=follow), *reader.read(follow=follow)]
                found.append((list(map(described, items)), reader.last_sequence, reader._place, reader._received))
                reader.close()
        assert found[0] == found[1]
        gaps += sum(isinstance(item, Gap) for item in items)
        together += len(items)
    assert gaps > 100
    assert together > 1000


def described(item: Batch | Gap) -> object:
    """Return all that is known about *item*."""
    if isinstance(item, Gap):
        return item
    return [bytes(value) if name == "entries" else value for name, value in msgspec.structs.asdict(item).items()]


def test_a_flip_in_the_active_segment_is_a_gap_once_there_is_more(disk: ForgettingFiles) -> None:
    """While no later commit follows, a damaged block may be a commit being written; then it is a gap."""
    disk = ForgettingFiles()
    life = Life(disk)
    life.append(own("a", 1))
    life.append(own("a", 2, 2))
    block = blocks_of(disk, 1)[1]
    reader, following = Reader(disk), Reader(disk)
    disk._seen(segment_name(1)).data[block.offset + 20] ^= 4
    assert rest(reader) == rest(following, follow=True) == expected([own("a", 1)])
    life.append(own("a", 3))
    later = [Stored(2, 2, None), expected([own("a", 3)], 4)[0]]
    assert rest(reader) == rest(following, follow=True) == later
    reader.close()
    following.close()


def test_a_damaged_end_of_a_sealed_segment_is_reported_at_once() -> None:
    """The name of an empty successor is enough to report the missing messages."""
    disk = ForgettingFiles()
    batches = [own("a", 1), own("a", 2, 2)]
    Life(disk).append(*batches)
    Life(disk)
    block = blocks_of(disk, 1)[1]
    disk.overwrite(segment_name(1), flipped(seen_of(disk, 1), 8 * block.end - 1))
    assert read_all(disk) == [expected(batches)[0], Stored(2, 2, None)]


def test_a_missing_segment_is_a_gap(disk: ForgettingFiles) -> None:
    """A file deleted from the middle costs its messages, and no others."""
    firsts = list_segments(disk)
    disk.remove(segment_name(firsts[1]))
    kept = [item for item in expected(BATCHES) if not firsts[1] <= item.sequence < firsts[2]]
    gap = Stored(firsts[1], firsts[2] - firsts[1], None)
    assert read_all(disk) == sorted([*kept, gap])


def test_a_header_that_cannot_be_read_is_a_gap_of_its_batch() -> None:
    """A whole block whose header cannot be decoded is missing like a damaged one."""
    disk = ForgettingFiles()
    life = Life(disk)
    life.append(own("a", 1))
    hub_id = life.recovered.hub_id
    block = blocks_of(disk, 1)[0]
    odd = Batch(b"app", b"\xdd\0\0\0\2\xc0\xc0", 2)
    front, _ = pack_block(odd, sequence=2, received=0, commit_offset=block.end, seed=seed_of(hub_id))
    header = bytearray(front[:48]) + b"\xc1" * (len(front) - 48)
    header[4:8] = zlib.crc32(header[8:], seed_of(hub_id)).to_bytes(4, "little")
    disk._seen(segment_name(1)).data[block.end : block.end + len(header) + 7] = header + bytes(odd.entries)
    assert read_all(disk) == [*expected([own("a", 1)]), Stored(2, 2, None)]


def test_a_disk_that_fails_while_a_time_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the folder and the reason."""
    (tmp_path / segment_name(1)).touch()
    monkeypatch.setattr("hub.journal.reader.has_journal", lambda _: True)
    monkeypatch.setattr("hub.journal.reader.sequence_before", lambda *_: os.open(tmp_path / "nothing", os.O_RDONLY))
    with pytest.raises(JournalUnusable, match=f"{tmp_path}.* cannot be read: No such file"):
        open_reader(str(tmp_path), since=1)


def test_a_gap_is_read_as_a_loss_message() -> None:
    """The loss has count, reason and place, at the first missing sequence."""
    (message,) = Gap(5, 3, "gone", "there", 77).as_batch().messages()
    assert (message.tag, message.sequence, message.received, message.time) == (LOSS_TAG.decode(), 5, 77, 77)
    assert message.record["count"] == 3
    assert message.record["reason"] == "gone (there)"
    assert not message.peer.verified


# Beside a writer.


class State(NamedTuple):
    """The visible state of the folder at one moment."""

    names: dict[str, int]
    files: dict[int, bytes]
    committed: int


class Replay(ForgettingFiles):
    """A history of a folder for a reader: time may advance at each of its operations."""

    def __init__(self, states: list[State], passes: Callable[[], int]) -> None:
        super().__init__()
        self._states = states
        self._passes = passes
        self._now = 0
        self._opened: dict[int, int] = {}

    def go_on(self) -> State:
        self._now = min(self._now + self._passes(), len(self._states) - 1)
        return self._states[self._now]

    @property
    def is_over(self) -> bool:
        return self._now == len(self._states) - 1

    def committed(self) -> int:
        return self.go_on().committed

    def list(self) -> list[str]:
        return [*self.go_on().names]

    def open(self, name: str) -> int:
        names = self.go_on().names
        if name not in names:
            raise FileNotFoundError(name)
        fd = len(self._opened)
        self._opened[fd] = names[name]
        return fd

    def read(self, fd: int, offset: int, size: int) -> bytes:
        return self.go_on().files[self._opened[fd]][offset : offset + size]

    def size(self, fd: int) -> int:
        return len(self.go_on().files[self._opened[fd]])

    def close(self, fd: int) -> None:
        assert fd in self._opened

    def is_named(self, fd: int, name: str) -> bool:
        return self.go_on().names.get(name, self._opened[fd]) == self._opened[fd]


class Recorder:
    """Records a history, state by state."""

    def __init__(self) -> None:
        self.disk = ForgettingFiles()
        self.states: list[State] = []
        self.batches: list[Batch] = []
        self.begin()

    def begin(self, **options: int) -> None:
        self.disk.watch = self._note
        self.committed = sum(each.count for each in self.batches)
        self.life = Life(self.disk, **options)  # type: ignore[arg-type]
        self._note("")

    def append(self, *batches: Batch) -> None:
        self.batches += batches
        self.committed = self.life.append(*batches).last_sequence
        self._note("")

    def _note(self, step: str) -> None:
        names, files = self.disk.contents()
        before = self.states[-1].files if self.states else {}
        kept = {number: before[number] if before.get(number) == data else data for number, data in files.items()}
        self.states.append(State(names, {**before, **kept}, self.committed))


def steady() -> Recorder:
    """
    One run: commits of one page and of many, new segments, failures in new and older segments, a segment replaced
    twice.
    """
    recorder = Recorder()
    append, fail = recorder.append, recorder.disk.fail
    fail("sync", times=2)
    with pytest.raises(Exception, match="Input/output error"):
        recorder.life.append(own("a", 1), foreign("x"))
    append(own("a", 1), foreign("x"))
    fail("sync")
    append(own("a", 2, 2), own("b", 1, size=600), batch("plain"), at({b"x": 1}))
    append(at({b"x": 2}))
    append(batch("empty", 0, chunk_id=chunkid.pack("e")))
    for number in range(3, 9):
        append(own("a", number, size=250), at({b"x": number}), own("b", number, 2))
        append(at({b"x": number}))
    fail("page", after=2)
    append(own("a", 9, size=900), own("b", 9))
    append(own("a", 10))
    recorder.life.writer.close()
    return recorder


def restarts() -> Recorder:
    """Several runs, ended in order or not; the same empty segment is replaced again and again."""
    recorder = Recorder()
    for number in range(1, 5):
        recorder.append(own("a", number), own("b", number, 2, size=200 * number))
        recorder.append(at({b"x": number}))
        if number % 2:
            recorder.life.writer.close()
        recorder.begin()
        recorder.append(at({b"x": 0}))
        recorder.begin()
    for number in range(5, 12):
        recorder.append(own("a", number, size=400))
    return recorder


def run_beside(recorder: Recorder, seed: int, *, in_hub: bool) -> list[Stored]:
    """Return the items of a reader that reads at moments of the history chosen by *seed*."""
    rng = random.Random(seed)
    pace = rng.choice([1, 3, 10, 40])
    files = Replay(recorder.states, lambda: rng.randrange(pace + 1) if rng.random() < 0.5 else 0)
    reader, items = Reader(files, committed=files.committed if in_hub else None), []
    for _ in range(100_000):
        over = files.is_over
        items += rest(reader, follow=rng.random() < 0.5 and not over)
        if over:
            return items
        files.go_on()
    raise AssertionError("time stood still")


@pytest.mark.parametrize("window_bytes", [1 << 20, 64])
@pytest.mark.parametrize(("history", "in_hub"), [(steady, False), (steady, True), (restarts, False)])
def test_beside_a_writer_nothing_is_missed_or_returned_twice(
    history: Callable[[], Recorder], in_hub: bool, window_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However its reads fall between the writer's steps, a reader has each batch once, in order, without a gap."""
    recorder = history()
    monkeypatch.setattr(segment_module, "_WINDOW_BYTES", window_bytes)
    for seed in range(200):
        assert run_beside(recorder, seed, in_hub=in_hub) == expected(recorder.batches), seed


@pytest.mark.costly
def test_a_reader_that_sleeps_once_misses_nothing() -> None:
    """A reader that pauses once, anywhere and for any time, continues where it was."""
    recorder = Recorder()
    fail = recorder.disk.fail
    fail("sync")
    recorder.append(own("a", 1), own("a", 2))
    recorder.append(own("a", 3, size=900))
    fail("page", after=1)
    recorder.append(own("a", 4, size=900), own("a", 5))
    recorder.append(own("a", 6, size=900))
    for start in range(0, len(recorder.states), 3):
        for asleep_at in range(25):
            for slept in range(1, len(recorder.states) - start, 2):
                asked = iter([*[0] * asleep_at, slept])
                files = Replay(recorder.states[start:], lambda asked=asked: next(asked, 0))  # type: ignore[misc]
                reader = Reader(files)
                items = rest(reader)
                files._passes = lambda: 1 << 30
                items += rest(reader)
                assert items == expected(recorder.batches), (start, asleep_at, slept)


def test_beside_a_writer_that_lets_segments_expire_every_gap_is_true() -> None:
    """A slow reader gets exact gaps for what it missed, and all other messages."""
    recorder = Recorder()
    recorder.begin(retain_bytes=3000, segment_bytes=1000)
    for number in range(1, 30):
        recorder.append(own("a", number, number % 3 + 1, size=60))
    oldest = min(list_segments(recorder.disk))
    everything = expected(recorder.batches)
    gaps = 0
    for seed in range(400):
        items = run_beside(recorder, seed, in_hub=bool(seed % 2))
        gaps += len([item for item in items if item.entries is None])
        sequence = items[0].sequence
        for item in items:
            assert item.sequence == sequence
            sequence += item.messages
            assert item in everything or (item.entries is None and sequence <= oldest)
        assert sequence == recorder.committed + 1
        assert items[0].entries is not None
    assert gaps > 50


def test_a_follower_does_not_search_the_rest_of_the_segment(disk: ForgettingFiles) -> None:
    """Without new blocks, a following reader reads one place, not the whole preallocated space."""
    asked = []

    class Counting(ForgettingFiles):
        def read(self, fd: int, offset: int, size: int) -> bytes:
            asked.append(offset)
            return super().read(fd, offset, size)

    files = Counting()
    life = Life(files, segment_bytes=5 << 20)
    life.append(own("a", 1))
    reader = Reader(files)
    assert len(rest(reader, follow=True)) == 1
    asked.clear()
    assert rest(reader, follow=True) == []
    assert len(set(asked)) == 1
    reader.close()


def test_a_follower_waits_for_the_rest_of_a_block() -> None:
    """Half a block at the end is a commit being written. A second look finds it, or searches for what follows."""
    whole = ForgettingFiles()
    life = Life(whole, segment_bytes=5 << 20)
    for number in (1, 2, 3):
        life.append(own("a", number))
    data, blocks = seen_of(whole, 1), blocks_of(whole, 1)
    asked = []

    class Counting(ForgettingFiles):
        def read(self, fd: int, offset: int, size: int) -> bytes:
            asked.append(offset)
            return super().read(fd, offset, size)

    half = data[: blocks[1].end - 1] + bytes(len(data) - blocks[1].end + 1)
    for after, expected_items in (
        (data, expected([own("a", 1), own("a", 2), own("a", 3)])[1:]),
        (half, []),
        (flipped(data, 8 * blocks[1].end - 1), [Stored(2, 1, None), expected([own("a", 3)], 3)[0]]),
    ):
        files = Counting()
        files.overwrite(segment_name(1), half)
        reader = Reader(files)
        assert rest(reader, follow=True) == expected([own("a", 1)])
        assert len(set(asked)) <= 3  # the header, and two places
        asked.clear()
        files.overwrite(segment_name(1), after)
        assert rest(reader, follow=True) == expected_items
        reader.close()
        asked.clear()


# The real folder.


@pytest.mark.parametrize("kind", ["nothing", "file"])
def test_where_no_journal_is(kind: str, tmp_path: Path) -> None:
    """A missing folder, or something else in its place, is an error in one sentence."""
    path = tmp_path / "journal"
    if kind == "file":
        path.write_bytes(b"")
    with pytest.raises(JournalUnusable, match="there is no journal here" if kind == "nothing" else "cannot be read"):
        open_reader(str(path))


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ((), "there is no journal here"),
        (("lock", "new.tmp", "lost+found"), "there is no journal here"),
        (("passwd", "lock"), "other files and no journal"),
        ((segment_name(1)[1:],), "other files and no journal"),
    ],
)
def test_a_folder_that_is_no_journal(names: tuple[str, ...], says: str, tmp_path: Path) -> None:
    """A folder without a segment is no journal; with files of others, none can begin there unnoticed."""
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(JournalUnusable, match=says):
        open_reader(str(tmp_path))
    if "other files" not in says:
        assert not has_journal(str(tmp_path))
    (tmp_path / segment_name(1)).touch()
    assert has_journal(str(tmp_path))


def test_a_journal_without_segments_is_read(tmp_path: Path) -> None:
    """A folder without segments yields nothing, and later messages are read."""
    reader = Reader(DiskFiles(str(tmp_path)))
    assert rest(reader) == []
    life = Life(DiskFiles(str(tmp_path)))
    assert rest(reader) == []
    life.append(own("a", 1))
    assert rest(reader) == expected([own("a", 1)])
    life.writer.close()
    reader.close()


def test_reading_needs_read_permission_and_nothing_else(tmp_path: Path) -> None:
    """Reading creates, changes and locks no file."""
    life = Life(DiskFiles(str(tmp_path)))
    life.append(own("a", 1))
    life.writer.close()
    before = {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()}
    for path in tmp_path.iterdir():
        path.chmod(0o400)
    tmp_path.chmod(0o500)
    reader = open_reader(str(tmp_path))
    assert rest(reader) == expected([own("a", 1)])
    reader.close()
    assert {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in tmp_path.iterdir()} == before
    tmp_path.chmod(0o700)


def test_a_segment_that_is_no_file_is_reported(tmp_path: Path) -> None:
    """An error of the system is reported with the journal's name."""
    os.symlink(segment_name(1), tmp_path / segment_name(1))
    with pytest.raises(JournalUnusable, match="cannot be read: Too many levels"):
        rest(open_reader(str(tmp_path)))


def test_a_newer_format_is_refused(disk: ForgettingFiles) -> None:
    """Segments before one of a newer format are read; the newer one raises an error."""
    last = list_segments(disk)[-1]
    disk.overwrite(segment_name(last), pack_segment_header(SegmentHeader(VERSION + 1, bytes(16), last, 0, 0, b"")))
    reader = Reader(disk, path="/the/journal")
    for item in expected(BATCHES):
        if item.sequence < last:
            assert stored(next(reader.read())) == item
    with pytest.raises(JournalTooNew, match="/the/journal: its format is version 3"):
        next(reader.read())
    reader.close()


# By time.


def by_brute_force(disk: ForgettingFiles, received: int) -> list[Stored]:
    """Return the messages received at *received* or later, found by reading everything."""
    reader = Reader(disk)
    try:
        return [stored(item) for item in reader.read() if isinstance(item, Gap) or item.received >= received]
    finally:
        reader.close()


DAMAGED = [(), (0,), (1,), (2,), (1, 2), (0, 1, 2, 3), "last", "all but one"]


@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_search_by_time_begins_in_the_last_segment_that_it_can(damaged: tuple[int, ...] | str) -> None:
    """
    It begins in the last segment that was begun before the time; a damaged header has the time of the next one.

    The segments are begun at equal times in twos and threes.
    """
    begun = [1000, 1000, 1007, 1007, 1007, 1200, 1300, 1300]
    firsts = [1 + 10 * index for index in range(len(begun))]
    hit = {"last": (len(firsts) - 1,), "all but one": tuple(range(len(firsts) - 1))}
    unreadable = hit[damaged] if isinstance(damaged, str) else damaged
    disk = ForgettingFiles()
    for index, (first, received) in enumerate(zip(firsts, begun, strict=True)):
        header = pack_segment_header(SegmentHeader(1, bytes(16), first, received, 0, b""))
        disk.overwrite(segment_name(first), flipped(header, 8 * 40) if index in unreadable else header)
    readable = [index for index in range(len(begun)) if index not in unreadable]
    for moment in sorted({time + delta for time in begun for delta in (-1, 0, 1)}):
        times = [next((begun[later] for later in readable if later >= index), 1 << 63) for index in range(len(begun))]
        before = [index for index, time in enumerate(times) if time < moment]
        assert sequence_before(disk, moment) == (firsts[before[-1]] - 1 if before else 0), moment


@pytest.mark.costly
@pytest.mark.parametrize("damaged", DAMAGED)
def test_a_search_by_time_agrees_with_reading_everything(damaged: tuple[int, ...] | str) -> None:
    """A search by time equals reading everything, at any moment, with damaged headers and equal times."""
    disk, times = ForgettingFiles(), [1000]
    life = Life(disk, clock=lambda: times[-1])
    for number in range(1, 60):
        times.append(times[-1] + (0, 0, 0, 7, 100)[number % 5])
        life.append(own("a", number, size=200))
    firsts = list_segments(disk)
    assert len(firsts) > 6
    hit = {"last": (len(firsts) - 1,), "all but one": tuple(range(len(firsts) - 1))}
    for index in hit[damaged] if isinstance(damaged, str) else damaged:
        disk.overwrite(segment_name(firsts[index]), flipped(seen_of(disk, firsts[index]), 8 * 40))
    for moment in sorted({time + delta for time in times for delta in (-1, 0, 1)}):
        found = read_all(disk, after=sequence_before(disk, moment))
        wanted = by_brute_force(disk, moment)
        assert found[len(found) - len(wanted) :] == wanted, moment
