"""
Everything that can go wrong beside honest load, at random, for as long as one likes, checked all the while.

    python -m tests.soak --minutes 60 --seed 7

Three producers send without a pause, a reader checks every message as it comes: sequences without holes, except where
the oldest segments have expired before they were read; each producer's numbers once and in order, one loss for each
fault of a client and no other. Meanwhile, one after the other:
the hub is killed or stopped for a while, its disk takes nothing for a while, a bit of a sealed segment is flipped, and
back again, producers are killed, readers are killed or stand still, clients send garbage, half a frame, or never read.
The last kill of the hub is after a quarter of the time, its tables are filled then, and each thing is done a few times.
From half of the time on its memory (RssAnon and RssShmem) is sampled. It goes up and down by large pages of 2 MiB, with
what is on the way just then, to a mark that it keeps; so the first third of the samples is still warm-up, and the
median of the last third must be at most 5 % above that of the second. All three are said in the one line at the end,
with what was done and how it went; the exit code is 0 or 1.

`tests/system/test_soak.py` runs a short one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from hub.dedupe import ROWS_MAX
from hub.journal.files import DiskFiles
from hub.journal.reader import Gap, open_reader
from hub.journal.segment import Segment, list_segments, segment_name
from hub.message import LOSS_TAG, Message
from hub.query.query import Query
from tests import onward
from tests.hub.clients import chunk, connect, read_to_end
from tests.support import HubProcess, Running, Worker, eventually, mpsr
from tests.system.test_faults import Logs
from tests.system.test_faults_clients import GARBAGE
from tests.system.test_faults_disk import flip_a_bit

JOURNAL_SIZE = "1GiB"
GROWTH_MAX = 0.05
SAMPLE_S = 0.2
DISK_FULL_S = 3.0
PRODUCERS = 3


class Watcher:
    """Reads the journal as it grows and checks it; *failed* says what was wrong first."""

    def __init__(self, journal: str) -> None:
        self.failed: str | None = None
        self.messages = self.losses = self.missed = 0
        self.next_number: dict[str, int] = {}
        self._unknown: set[str] = set()  # after something has expired unread: where each producer stands
        self._sequence = 0
        self._files = DiskFiles(journal)
        self._reader = open_reader(journal)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def last_sequence(self) -> int:
        """How far the journal was read."""
        return self._sequence

    def end(self) -> None:
        """Read what is left."""
        self._stop.set()
        self._thread.join()
        if self.failed is None:
            self._take()
        self._reader.close()

    def has_read(self, tag: str, count: int) -> bool:
        """Return whether the first *count* messages of a producer were read, or may have expired unread."""
        may_be_gone = tag in self._unknown or (self.missed > 0 and tag not in self.next_number)
        return may_be_gone or self.next_number.get(tag, 0) >= count

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            try:
                self._take()
            except Exception as error:  # noqa: BLE001  said at the end
                self._fail(repr(error))
                return

    def _take(self) -> None:
        for batch in self._reader.read(follow=True):
            if isinstance(batch, Gap):
                self._miss(batch)
            else:
                for message in Query().messages(iter((batch,))):
                    self._check(message)

    def _miss(self, gap: Gap) -> None:
        """Accept what has expired unread: what lies before the oldest segment. Any other gap is a failure."""
        oldest = list_segments(self._files)[0]
        if gap.sequence + gap.count > oldest:
            self._fail(f"{gap.count} messages from {gap.sequence} on are missing, the oldest segment has {oldest}")
        self.missed += gap.count
        self._sequence = gap.sequence + gap.count - 1
        self._unknown = set(self.next_number)

    def _check(self, message: Message) -> None:
        self.messages += 1
        if message.sequence != self._sequence + 1:
            self._fail(f"sequence {message.sequence} behind {self._sequence}")
        self._sequence = message.sequence
        if message.tag.startswith(LOSS_TAG.decode()):  # the hub's, or a producer's
            self.losses += 1
        elif message.tag.startswith("worker."):
            number, expected = message.record["n"], self.next_number.get(message.tag, 0)
            if message.tag in self._unknown and number >= expected:
                self._unknown.discard(message.tag)
            elif number != expected and not (self.missed and message.tag not in self.next_number):
                self._fail(f"{message.tag}: {number} where {expected} was expected")
            self.next_number[message.tag] = number + 1

    def _fail(self, reason: str) -> None:
        self.failed = self.failed or f"at sequence {self._sequence}: {reason}"


@contextlib.contextmanager
def _flipped(journal: str, first: int, following: int, dice: random.Random) -> Iterator[tuple[int, int]]:
    """
    Flip a bit of a sealed segment for a while. Yield from which sequence on how many messages cannot be read: those of
    a batch, or of a frame if the segment is packed.
    """
    with Segment(DiskFiles(journal), first) as segment:
        directory = segment.file.directory
        if directory is None or directory.head.frames < 2:
            flipped = flip_a_bit(journal, first, dice.randrange(3))
            yield flipped
            flip_a_bit(journal, first, sequence=flipped[0])
            return
        number = dice.randrange(1, directory.head.frames)
        row = directory.row(number)
        end = directory.row(number + 1).sequence if number + 1 < directory.head.frames else following
        with open(os.path.join(journal, segment_name(first)), "r+b", buffering=0) as file:
            at = row.at + row.packed // 2
            byte = os.pread(file.fileno(), 1, at)[0]
            os.pwrite(file.fileno(), bytes([byte ^ 0x10]), at)
            yield row.sequence, end - row.sequence
            os.pwrite(file.fileno(), bytes([byte]), at)


class Soak:
    """One run: the hub, the honest load, and what is done to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.dice = random.Random(seed)
        self.done: Counter[str] = Counter()
        self.faults = 0  # each is to be one loss
        self.disk_full = self.flips = 0
        self.hub = HubProcess(folder, "--journal-size", JOURNAL_SIZE)
        self.watcher = Watcher(self.hub.journal)
        self.ended: list[Worker] = []
        self.workers: list[Worker] = []
        self._pause = threading.Event()
        for _ in range(PRODUCERS):
            self._begin_worker()

    def run(self, seconds: float, *, warm_ups: int = 5) -> list[int]:
        """
        Do things at random; return how much memory the hub had, from the end of the warm-up on.

        The warm-up does each thing *warm_ups* times, so that what it costs at its worst is no growth later.
        """
        begun = time.monotonic()
        self._until(begun + seconds / 4, [*ACTIONS, Soak.kill_hub])
        self.fill_tables()
        for action in ACTIONS * warm_ups:
            self.done[action.__name__] += 1
            action(self)
        self._until(begun + seconds / 2, ACTIONS)
        samples: list[int] = []
        self._until(time.monotonic() + seconds / 2, ACTIONS, samples)
        return samples

    def end(self) -> str | None:
        """Stop everything; return what is wrong, if something is."""
        for worker in self.workers:
            worker.end()
        code = self.hub.stop()
        self.watcher.end()
        if self.watcher.failed:
            return self.watcher.failed
        verified = mpsr("verify", "--journal", self.hub.journal, timeout=600)
        if code or verified.returncode:
            return f"exit code {code}, verify: {verified.stderr.decode().strip()}"
        for worker in (*self.ended, *self.workers):
            if not self.watcher.has_read(worker.tag, worker.acknowledged):
                return f"{worker.tag}: {worker.acknowledged} acknowledged, not all are there"
        if not self.watcher.losses <= self.faults <= self.watcher.losses + self.watcher.missed:
            return f"{self.faults} faults, but {self.watcher.losses} losses"
        return None

    def __enter__(self) -> Soak:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:
            worker.kill()
        self.hub.__exit__()

    def _until(self, deadline: float, actions: list[Callable[[Soak], None]], samples: list[int] | None = None) -> None:
        while time.monotonic() < deadline and self.watcher.failed is None:
            action = self.dice.choice(actions)
            self.done[action.__name__] += 1
            action(self)
            for _ in range(self.dice.randint(1, 5)):
                self._pause.wait(SAMPLE_S)
                if samples is not None:
                    samples.append(self.hub.stats()["rss_bytes"])

    # What is done.

    def kill_hub(self) -> None:
        self.hub.kill()
        self.hub.start()

    def let_the_disk_take_nothing_for_a_while(self) -> None:
        """Let every write of the hub that makes a file larger than 1 MiB fail, and so every new segment too."""
        hub, event = self.hub, "journal.unavailable"
        said = self._said(event)
        unlimited = resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, (1 << 20, unlimited[1]))
        try:
            with contextlib.suppress(AssertionError):  # nothing has reached 1 MiB of a segment
                eventually(lambda: self._said(event) > said, timeout=DISK_FULL_S)
        finally:
            resource.prlimit(hub.process.pid, resource.RLIMIT_FSIZE, unlimited)
        eventually(lambda: self._said("journal.available") == self._said(event), "the hub goes on")
        self.disk_full += self._said(event) - said

    def _said(self, name: str) -> int:
        return sum(event.get("event") == name for event in self.hub.log)

    def flip_a_bit_and_back(self) -> None:
        """See that a reader shows a flipped bit as one loss, of one batch or of one frame, and nothing else."""
        firsts = [first for first in list_segments(DiskFiles(self.hub.journal)) if first <= self.watcher.last_sequence]
        if len(firsts) < 5:
            return
        index = self.dice.randrange(2, len(firsts) - 1)  # not one that expires this moment
        first, following = firsts[index : index + 2]
        gaps = []
        with _flipped(self.hub.journal, first, following, self.dice) as flipped:
            reader = open_reader(self.hub.journal, after=first - 1)
            for batch in reader.read():
                if batch.sequence >= following:
                    break
                if isinstance(batch, Gap):
                    gaps.append((batch.sequence, batch.count))
            reader.close()
        assert gaps == [flipped], f"{gaps} where {flipped} was flipped"
        self.flips += 1

    def stop_hub_for_a_while(self) -> None:
        self.hub.process.send_signal(signal.SIGSTOP)
        self._pause.wait(self.dice.uniform(0.1, 1.0))
        self.hub.process.send_signal(signal.SIGCONT)

    def kill_a_producer(self) -> None:
        victim = self.workers.pop(self.dice.randrange(len(self.workers)))
        victim.kill()
        self.ended.append(victim)
        self._begin_worker()

    def kill_a_reader(self) -> None:
        command = ["logs", "--journal", self.hub.journal, "-f"]
        with Running(*command, stdout=subprocess.PIPE) as reader:
            reader.stdout.read(1)
            reader.kill()

    def stop_a_reader_for_a_while(self) -> None:
        logs = Logs(self.hub.journal, "-f", "-n", "10")
        eventually(lambda: logs.lines, "the reader reads")
        logs.process.send_signal(signal.SIGSTOP)
        eventually(logs.is_stopped)
        self._pause.wait(self.dice.uniform(0.1, 1.0))
        logs.process.send_signal(signal.SIGCONT)
        last = logs.lines[-1]["sequence"]
        eventually(lambda: logs.lines[-1]["sequence"] > last, "it goes on")
        logs.end()

    def send_garbage(self) -> None:
        self._send_fault(self.dice.choice(list(GARBAGE.values())))

    def send_half_frames(self) -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(connect(self.hub.socket, b"\x93\xa3ha")) for _ in range(100)]
            self.faults += len(clients)
            for client in clients:
                client.shutdown(socket.SHUT_WR)
            for client in clients:
                read_to_end(client)

    def never_read(self) -> None:
        with connect(self.hub.socket) as client:
            self._send_chunks(client, self.dice.randrange(20_000))

    def fill_tables(self) -> None:
        """Let the hub remember as many foreign chunk ids as it ever will, so that this is no growth later."""
        with connect(self.hub.socket) as client:
            self._send_chunks(client, ROWS_MAX + 1000)

    def read_the_last(self) -> None:
        shown = mpsr("logs", "--journal", self.hub.journal, "-n", "1", "--output", "json")
        assert shown.returncode == 0, shown.stderr

    def _send_chunks(self, client: socket.socket, count: int) -> None:
        for first in range(0, count, 1000):
            names = (self.dice.randbytes(8).hex() for _ in range(first, min(first + 1000, count)))
            client.sendall(b"".join(chunk(name, tag=b"foreign") for name in names))

    def _send_fault(self, data: bytes) -> None:
        self.faults += 1
        with connect(self.hub.socket) as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            read_to_end(client)

    def _begin_worker(self) -> None:
        number = len(self.ended) + len(self.workers)
        self.workers.append(Worker(self.hub.socket, f"worker.{number}", self.dice.random()))


ACTIONS: list[Callable[[Soak], None]] = [
    Soak.stop_hub_for_a_while,
    Soak.let_the_disk_take_nothing_for_a_while,
    Soak.flip_a_bit_and_back,
    Soak.kill_a_producer,
    Soak.kill_a_reader,
    Soak.stop_a_reader_for_a_while,
    Soak.send_garbage,
    Soak.send_half_frames,
    Soak.never_read,
    Soak.read_the_last,
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--samples", help="a file for the samples of memory, a line each")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="a folder on the disk to use")
    parser.add_argument("--onward", action="store_true", help="all sources and sinks (tests.onward)")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background job, and its children, ignore
    if options.onward:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            sys.exit(onward.soak(Path(folder), options.seed, options.minutes, options.samples) is not None)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder, Soak(Path(folder), options.seed) as soak:
        samples = soak.run(options.minutes * 60)
        fault = soak.end()
    if options.samples:
        Path(options.samples).write_text("".join(f"{sample}\n" for sample in samples))
    third = len(samples) // 3
    first, second, last = (statistics.median(samples[third * n : third * (n + 1)]) for n in range(3))
    growth = last / second - 1
    if fault is None and growth > GROWTH_MAX:
        fault = "memory grows"
    actions = " ".join(f"{name}={count}" for name, count in sorted(soak.done.items()))
    watcher = soak.watcher
    print(
        f"soak {'ok' if fault is None else 'FAILED: ' + fault} seed={options.seed} minutes={options.minutes:g}"
        f" messages={watcher.messages} losses={watcher.losses} expired_unread={watcher.missed}"
        f" memory_mib={'/'.join(f'{median / (1 << 20):.1f}' for median in (first, second, last))} growth={growth:+.1%}"
        f" disk_full={soak.disk_full} flips={soak.flips} {actions}"
    )
    sys.exit(fault is not None)


if __name__ == "__main__":
    main()
