"""
Shared by the journal's tests: batches, a writer with small segments, reading back, and the invariants after a crash.
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
from hub.journal.reader import Gap, Reader
from hub.journal.recovery import recover
from hub.journal.segment import Segment, segment_name
from hub.journal.writer import Commit, Durability, Writer
from hub.message import Batch, Peer
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
    producers.acknowledged += under_way[: len(kept)]
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
