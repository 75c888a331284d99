"""
Shared by the journal's tests: batches, a writer with small segments, a source that is read again, reading back, and the
invariants after a crash.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from hub import entries as codec
from hub.dedupe import Dedupe
from hub.journal.block import Block
from hub.journal.clock import Clock
from hub.journal.files import Files
from hub.journal.positions import Positions
from hub.journal.reader import Gap, Reader
from hub.journal.recovery import recover
from hub.journal.segment import Segment, segment_name
from hub.journal.writer import Commit, Durability, Writer
from hub.message import FORGET, Batch, Message, Peer, Position
from hub.wire import chunkid
from tests.hub.journal.forgetting import ForgettingFiles

NS = codec.NS
SEGMENT_BYTES = 2048
RETAIN_BYTES = 1 << 40
PEER = Peer(4321, 1000, 1000, "tests", True)


def batch(name: str, count: int = 1, *, chunk_id: bytes | None = None, size: int = 40, tag: bytes = b"app") -> Batch:
    """Return a batch of *count* messages of about *size* bytes. Each message contains its name."""
    records = [{"name": f"{name}/{number}", "pad": "." * size} for number in range(count)]
    parts = [codec.stamp(NS) + msgspec.msgpack.encode(record) for record in records]
    return Batch(tag, codec.join(parts, count), count, chunk_id, PEER)


def own(session: str, counter: int, count: int = 1, *, size: int = 40) -> Batch:
    """Return a batch of one of our own producers."""
    return batch(f"{session}{counter}", count, chunk_id=chunkid.pack_own(session.ljust(22, "_"), counter), size=size)


def foreign(name: str, count: int = 1, *, size: int = 40) -> Batch:
    """Return a batch of a client with chunk ids of its own kind."""
    return batch(name, count, chunk_id=chunkid.pack(name), size=size)


def at(positions: dict[bytes, int], name: str = "", count: int = 1, *, size: int = 40) -> Batch:
    """Return a batch of *count* messages that carries *positions*; of none without a *name*."""
    carried = tuple(Position(each, number, b"detail") for each, number in positions.items())
    return msgspec.structs.replace(batch(name, count if name else 0, size=size), positions=carried)


def rows_of(positions: Positions) -> dict[bytes, int]:
    """Return the number of each row."""
    return {each.name: each.number for each in positions.starting_with(b"")}


def rows_after(batches: Iterable[Batch]) -> dict[bytes, int]:
    """Return the number of each row after *batches*."""
    rows: dict[bytes, int] = {}
    for position in itertools.chain.from_iterable(each.positions for each in batches):
        rows[position.name] = position.number
        if position.number == FORGET:
            rows.pop(position.name)
    return rows


class Lines:
    """
    A source that can be read again: files that follow each other, without end, each with lines that are numbered.

    It goes on where the journal's positions say, and nowhere else.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._prefix = f"lines:{name}."
        self.place = (1, 0)  # number of the file, and of the next line
        self._left_out: set[tuple[int, int]] = set()

    def go_on(self, positions: Positions) -> None:
        """Begin where *positions* say; at the beginning if they say nothing."""
        found = positions.starting_with(self._prefix.encode())
        assert len(found) < 2, "the old file is forgotten when the new one is known"
        self.place = (int(found[0].name.decode().removeprefix(self._prefix)), found[0].number) if found else (1, 0)

    def read(self, rng: random.Random) -> Batch:
        """Return the next batch: some lines, or a step without a line that is stored."""
        (file, line), count = self.place, rng.choice([1, 1, 2, 5])
        positions: tuple[Position, ...] = ()
        match rng.randrange(6):
            case 0:  # a rotation
                self.place, count = (file + 1, 0), 0
                positions = (Position(self._row(file), FORGET),)
            case 1:  # lines that a rate limit drops
                self._left_out.update((file, line + number) for number in range(count))
                self.place, count = (file, line + count), 0
            case _:
                self.place = (file, line + count)
        pad = "." * rng.choice([0, 30, 300, 1200])
        records = [{"lines": self._name, "file": file, "line": line + number, "pad": pad} for number in range(count)]
        parts = [codec.stamp(NS) + msgspec.msgpack.encode(record) for record in records]
        positions = (*positions, Position(self._row(self.place[0]), self.place[1], pad.encode()[:100]))
        return Batch(b"lines", codec.join(parts, count), count, None, PEER, positions=positions)

    def check(self, messages: Iterable[Message], positions: Positions) -> None:
        """Assert that of the lines before the position each is stored once, and none after it."""
        self.go_on(positions)
        records = [each.record for each in messages if each.record.get("lines") == self._name]
        places = [(record["file"], record["line"]) for record in records]
        assert places == sorted(set(places)), "once, and in order"
        assert not places or places[-1] < self.place
        for before, after in itertools.pairwise((*places, self.place)):
            first = before[1] + 1 if before[0] == after[0] else 0
            missing = {(after[0], line) for line in range(first, after[1])}
            assert missing <= self._left_out, (before, after)

    def _row(self, file: int) -> bytes:
        return f"{self._prefix}{file}".encode()


def ticking(step: int = 1000) -> Callable[[], int]:
    """Return a clock that advances by *step* nanoseconds at each call."""
    return itertools.count(1_700_000_000 * NS, step).__next__


def clock_of(now: Callable[[], int]) -> Callable[[int], Clock]:
    """Return a constructor of a journal's clock whose times all advance together."""
    return lambda last: Clock(last, wall=now, steady=now)


class Life:
    """One run of a hub's writing side: recover, begin, append."""

    def __init__(
        self,
        files: Files,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        retain_bytes: int = RETAIN_BYTES,
        durability: Durability = "fsync",
        clock: Callable[[], int] | None = None,
        is_ours: Callable[[], bool] = lambda: True,
    ) -> None:
        self.files = files
        self.dedupe = Dedupe()
        self.clock = clock or ticking()
        self.recovered = recover(files, self.dedupe, now=self.clock())
        self.writer = Writer(
            files,
            self.recovered,
            self.dedupe,
            retain_bytes=retain_bytes,
            durability=durability,
            clock=clock_of(self.clock),
            is_ours=is_ours,
        )
        self.writer._segment_bytes = segment_bytes
        self.writer.begin()

    def append(self, *batches: Batch) -> Commit:
        return self.writer.append(batches)


class Stored(NamedTuple):
    """A batch that was read back, or a gap."""

    sequence: int
    messages: int
    entries: bytes | None  # None: a gap
    chunk_id: bytes | None = None


def stored(item: Batch | Gap) -> Stored:
    if isinstance(item, Gap):
        return Stored(item.sequence, item.count, None)
    return Stored(item.sequence, item.count, bytes(item.entries), item.chunk_id)


def expected(batches: Iterable[Batch], sequence: int = 1) -> list[Stored]:
    """
    Return *batches* as they are read back if the first message has *sequence*. Batches without messages are left out.
    """
    result = []
    for each in batches:
        if each.count:
            result.append(Stored(sequence, each.count, bytes(each.entries), each.chunk_id))
        sequence += each.count
    return result


def read_all(files: Files, *, after: int = 0, committed: Callable[[], int] | None = None) -> list[Stored]:
    """Read the journal from beginning to end."""
    reader = Reader(files, after=after, committed=committed)
    try:
        return [stored(item) for item in reader.read()]
    finally:
        reader.close()


def check_order(items: Sequence[Stored]) -> None:
    """Assert that sequences have no holes, repeats or gaps."""
    for item, following in itertools.pairwise(items):
        assert following.sequence == item.sequence + item.messages, (item, following)
    assert not [item for item in items if item.entries is None]


class Producers:
    """The knowledge of the senders: acknowledged batches in commit order, and pending ones."""

    def __init__(self) -> None:
        self.acknowledged: list[Batch] = []
        self.sent: tuple[Batch, ...] = ()

    @property
    def last_sequence(self) -> int:
        return sum(batch.count for batch in self.acknowledged)

    def send(self, life: Life, *batches: Batch) -> None:
        """Send new batches, and record their acknowledgement."""
        self.sent = batches
        commit = life.append(*batches)
        self.acknowledged += batches
        self.sent = ()
        assert commit.last_sequence == self.last_sequence

    def copy(self) -> Producers:
        copy = Producers()
        copy.acknowledged, copy.sent = self.acknowledged[:], self.sent
        return copy


class Moment(NamedTuple):
    """A disk just before one of its steps, and the senders' knowledge at that time."""

    disk: ForgettingFiles
    producers: Producers


def moments(disk: ForgettingFiles, producers: Producers, run: Callable[[], object]) -> list[Moment]:
    """Return each moment of *run*, its end included, at which the process may die."""
    found = []

    def note(step: str) -> None:
        found.append(Moment(disk.after_kill(), producers.copy()))

    disk.watch = note
    try:
        run()
    finally:
        disk.watch = lambda step: None
    note("end")
    return found


def check_recovery(disk: ForgettingFiles, producers: Producers, *, keeps_from: int = 1) -> list[Moment]:
    """
    Open the journal after a crash, let the producers resend what was not acknowledged, and check that all is stored
    once.

    *keeps_from* is the lowest sequence that had not expired. Returns the moments of the next crash.
    """
    again = producers.copy()
    return moments(disk, again, lambda: _check_recovery(disk, again, keeps_from))


def _check_recovery(disk: ForgettingFiles, producers: Producers, keeps_from: int) -> None:
    life = Life(disk)
    found = read_all(disk)
    check_order(found)
    acknowledged = expected(producers.acknowledged)
    first = found[0].sequence if found else life.writer.last_sequence + 1
    assert first <= keeps_from
    safe = [item for item in acknowledged if item.sequence >= first]
    assert found[: len(safe)] == safe
    kept = found[len(safe) :]
    under_way = [batch for batch in producers.sent if batch.count]
    assert kept == expected(under_way, producers.last_sequence + 1)[: len(kept)]

    # Pending batches that were kept are as durable as the rest from now on; the others are resent, with many more.
    missing = [batch for batch in producers.sent if batch.chunk_id and batch not in under_way[: len(kept)]]
    rows = rows_of(life.writer.positions)
    producers.acknowledged += counted(
        producers.sent, len(kept), lambda found: rows_after([*producers.acknowledged, *found]) == rows
    )
    producers.sent = tuple(missing)
    assert life.writer.last_sequence == producers.last_sequence
    commit = life.append(*(batch for batch in producers.acknowledged if batch.chunk_id), *missing)
    assert commit.stored == sum(batch.count for batch in missing)
    producers.acknowledged += missing
    producers.sent = ()
    everything = [item for item in expected(producers.acknowledged) if item.sequence >= first]
    assert read_all(disk) == everything
    for after in disk.power_cuts(random.Random(0), 4):
        assert read_all(after) == everything


def counted(sent: Iterable[Batch], kept: int, is_right: Callable[[list[Batch]], bool]) -> list[Batch]:
    """
    Return those of *sent* that count after a crash, of which *kept* have messages.

    Others count where one with messages follows. After the last of these, the positions tell how many count: as many as
    are needed until *is_right*.
    """
    found: list[Batch] = []
    for each in sent:
        if not kept and is_right(found):
            break
        kept -= bool(each.count)
        found.append(each)
    assert not kept
    assert is_right(found), "positions and messages disagree"
    return found


# Bytes on the disk.


def seen_of(disk: ForgettingFiles, first_sequence: int) -> bytes:
    """Return the bytes of a segment."""
    names, files = disk.contents()
    return files[names[segment_name(first_sequence)]]


def blocks_of(disk: ForgettingFiles, first_sequence: int) -> list[Block]:
    """Return the blocks of an undamaged segment."""
    blocks = []
    with Segment(disk, first_sequence) as segment:
        assert segment.header is not None
        offset = segment.start.offset
        while (block := segment.block_at(offset)) is not None:
            blocks.append(block)
            offset = block.end
    return blocks


def flipped(data: bytes, bit: int) -> bytes:
    """Return *data* with one bit flipped."""
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)
