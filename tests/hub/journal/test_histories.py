"""
The journal as a whole: random histories, compared with a list.

Producers send and resend, sources are read and read again, sealed segments are packed; the disk fails, fills up, and
the process is killed or loses power at any step, also during recovery.

Environment: MPSR_HISTORIES is the number of histories (300), MPSR_HISTORY the number of the first one (0).
"""

import itertools
import os
import random

import pytest

from hub.dedupe import Dedupe
from hub.errors import JournalError, JournalUnavailable
from hub.journal import rewriting
from hub.journal import segment as segment_module
from hub.journal.reader import Reader
from hub.journal.recovery import Recovered, recover
from hub.journal.rewriting import rewrite
from hub.journal.segment import list_segments
from hub.journal.verify import verify
from hub.message import Batch
from hub.wire import chunkid
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import (
    Life,
    Lines,
    batch,
    check_order,
    counted,
    expected,
    foreign,
    own,
    read_all,
    rows_after,
    rows_of,
    stored,
)

FIRST = int(os.environ.get("MPSR_HISTORY", "0"))
COUNT = int(os.environ.get("MPSR_HISTORIES", "300"))
GROUPS = 10
STEPS = ["create", "page", "sync", "sync_all", "sync_folder", "truncate", "truncate_sync", "rename", "remove"]


class Died(BaseException):
    """The process is dead."""


class History:
    """One history, generated from one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.segment_bytes = self.rng.choice([600, 1500, 4000])
        self.retain_bytes = self.rng.choice([1 << 40, 1 << 40, 5 * self.segment_bytes])
        self.disk = ForgettingFiles()
        self.names = itertools.count(1)
        self.stored: list[Batch] = []  # by sequence: acknowledged, or found after a crash
        self.sent: list[Batch] = []  # not acknowledged
        self.sources = [Lines("x"), Lines("y")]
        self.cursor = 0
        self.packed = set[int]()  # segments that were put in place
        self.life = self.open()
        self.reader = self.new_reader()

    @property
    def last_sequence(self) -> int:
        return sum(each.count for each in self.stored)

    def run(self) -> None:
        for _ in range(self.rng.randrange(5, 25)):
            action = self.rng.choice(
                [self.send, self.send, self.send, self.pack, self.trouble, self.crash, self.reopen, self.look]
            )
            action()
        self.settle()
        self.look()
        assert self.life.append(*(each for each in self.stored if each.chunk_id)).stored == 0
        self.check_sources(self.disk)
        for after in self.disk.power_cuts(self.rng, 5):
            self.check_kept(after)
            self.check_sources(after)
        self.life.writer.close()
        self.reader.close()
        assert verify(self.disk).faults == ()
        assert self.disk.open_files == 0

    # Events.

    def send(self) -> None:
        """Send a new batch, the unacknowledged ones, and sometimes an acknowledged one."""
        self.sent += [self.new_batch() for _ in range(self.rng.choice([1, 1, 2, 5]))]
        repeats = [each for each in self.rng.sample(self.stored, min(len(self.stored), 2)) if each.chunk_id]
        commit = self.life.append(*repeats, *self.sent)
        assert commit.stored == sum(each.count for each in self.sent)
        assert commit.duplicates >= sum(1 for each in repeats if each.count)  # without messages: never a duplicate
        self.stored += self.sent
        self.sent = []
        assert commit.last_sequence == self.last_sequence
        assert rows_of(self.life.writer.positions) == rows_after(self.stored)

    def pack(self) -> None:
        """A sealed segment is packed; sometimes its journal goes on before it is put in place."""
        pairs = [*itertools.pairwise(list_segments(self.disk))]
        if not pairs:
            return
        first, following = self.rng.choice(pairs)
        name = rewrite(self.disk, first, following)
        if name is None:
            return
        if self.rng.random() < 0.3:
            self.send()
        if self.life.writer.adopt(name):
            self.packed.add(first)
        assert name not in self.disk.list()

    def trouble(self) -> None:
        """A step fails, once or several times."""
        step = self.rng.choice(STEPS)
        self.disk.fail(step, after=self.rng.randrange(4), times=self.rng.choice([1, 1, 2, 6]))
        try:
            self.rng.choice([self.send, self.send, self.pack])()
        except (JournalUnavailable, OSError):
            self.look()
            assert rows_of(self.life.writer.positions) == rows_after(self.stored)
        self.disk.fail(step, times=0)

    def look(self) -> None:
        """The hub's own reader returns exactly the committed messages after its last place."""
        everything = {item for item in expected(self.stored) if item.sequence > self.cursor}
        oldest = min(list_segments(self.disk))
        for item in map(stored, self.reader.read(follow=self.rng.random() < 0.5)):
            if self.cursor == 0 and item.sequence <= oldest:
                self.cursor = item.sequence - 1  # it begins at the beginning of the journal
            assert item.sequence == self.cursor + 1
            self.cursor += item.messages
            assert item in everything or (item.entries is None and self.cursor < oldest)
        assert self.cursor == self.last_sequence or (self.cursor == 0 and oldest > 1)

    def reopen(self) -> None:
        """The hub is stopped in order and started again."""
        self.settle()
        self.look()
        self.reader.close()
        self.life.writer.close()
        self.life = self.open()
        self.reader = self.new_reader()
        assert rows_of(self.life.writer.positions) == rows_after(self.stored)
        self.check_kept(self.disk)

    def crash(self) -> None:
        """The process dies at some step; the next process may die too."""
        oldest = self.die_at(self.rng.choice([self.send, self.send, self.pack]), self.rng.randrange(12))
        while True:
            if self.rng.random() < 0.5 and not self.disk.is_lying:
                self.disk = self.disk.after_kill()
            else:
                self.disk = self.disk.after_power_cut(self.rng.randrange, tear_at=self.rng.randrange(512))
            if self.rng.random() < 0.6:
                break
            oldest = max(oldest, self.die_at(self.open, self.rng.randrange(10)))
        self.life = self.open()
        self.find(max(oldest, min(list_segments(self.disk))))
        self.reader = self.new_reader()

    def die_at(self, run: object, step: int) -> int:
        """Call *run*, and let the process die at or just after step *step*. Return the oldest sequence at that time."""
        steps = itertools.count()

        def watch(name: str) -> None:
            if next(steps) == step:
                raise Died

        self.disk.watch = watch
        try:
            assert callable(run)
            run()
        except Died:
            pass
        self.disk.watch = lambda name: None
        return min(list_segments(self.disk), default=1)

    # Invariants.

    def find(self, oldest: int) -> None:
        """After a crash, everything acknowledged exists, and of the pending batches a prefix of a commit."""
        items = read_all(self.disk)
        check_order(items)
        first = items[0].sequence if items else self.life.writer.last_sequence + 1
        assert first <= oldest
        safe = [item for item in expected(self.stored) if item.sequence >= first]
        assert items[: len(safe)] == safe
        kept = items[len(safe) :]
        under_way = [each for each in self.sent if each.count]
        assert kept == expected(under_way, self.last_sequence + 1)[: len(kept)]
        rows = rows_of(self.life.writer.positions)
        self.stored += counted(self.sent, len(kept), lambda found: rows_after([*self.stored, *found]) == rows)
        for source in self.sources:
            source.go_on(self.life.writer.positions)
        assert self.life.writer.last_sequence == self.last_sequence
        self.sent = [each for each in self.sent if each.chunk_id and each not in under_way[: len(kept)]]

    def check_sources(self, disk: ForgettingFiles) -> None:
        """Another hub finds the same positions, and each line before them once."""
        positions = self.recovered(disk).positions
        assert rows_of(positions) == rows_after(self.stored)
        reader = Reader(disk)
        messages = [message for each in reader.read() if isinstance(each, Batch) for message in each.messages()]
        reader.close()
        for source in self.sources:
            source.check(messages, positions)

    def check_kept(self, disk: ForgettingFiles) -> None:
        items = read_all(disk)
        check_order(items)
        assert items == [item for item in expected(self.stored) if not items or item.sequence >= items[0].sequence]

    def settle(self) -> None:
        if self.sent:
            self.life.append(*self.sent)
            self.stored += self.sent
            self.sent = []

    # Participants.

    def open(self) -> Life:
        return Life(self.disk, segment_bytes=self.segment_bytes, retain_bytes=self.retain_bytes)

    def recovered(self, disk: ForgettingFiles) -> Recovered:
        return recover(disk.after_kill(), Dedupe(), now=0)

    def new_reader(self) -> Reader:
        return Reader(self.disk, after=self.cursor, committed=lambda: self.life.writer.last_sequence)

    def new_batch(self) -> Batch:
        number = next(self.names)
        count, size = self.rng.choice([1, 1, 2, 7]), self.rng.choice([0, 30, 30, 300, 1200])
        match self.rng.randrange(9):
            case 0:
                return foreign(f"x{number}", count, size=size)
            case 1:
                return batch(f"plain{number}", count, size=size)
            case 2:
                return batch("empty", 0, chunk_id=chunkid.pack(f"empty{number}"))
            case 3 | 4 | 5:
                return self.rng.choice(self.sources).read(self.rng)
            case session:
                return own("abc"[session - 6], number, count, size=size)


@pytest.mark.parametrize("group", range(GROUPS))
def test_histories(group: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    In any history, acknowledged messages are stored once and in order, and unacknowledged ones are stored when resent.
    """
    monkeypatch.setattr(rewriting, "FRAME_BYTES", 300)
    packed = 0
    for seed in range(FIRST + group, FIRST + COUNT, GROUPS):
        monkeypatch.setattr(segment_module, "_WINDOW_BYTES", (1 << 20, 300, 64)[seed % 3])
        try:
            history = History(seed)
            history.run()
            packed += len(history.packed)
        except (AssertionError, JournalError, OSError, LookupError, ValueError) as error:
            error.add_note(f"history {seed}: again with MPSR_HISTORY={seed} MPSR_HISTORIES=1")
            raise
    assert packed or COUNT < 300
