"""
Faults around a hub, in real processes: stopped and killed readers, a hub killed at chosen system calls.

Not here: the disk and the clock (tests.system.test_faults_disk), clients (tests.system.test_faults_clients), kills of
producers (tests.system.test_kill), power cuts (tests.system.test_power_cut), everything at once (tests.soak), hostile
users (tests.adversaries).
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import termios
import threading
from array import array
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hub.journal.files import DiskFiles
from hub.journal.reader import Gap, open_reader
from hub.journal.segment import list_segments
from hub.message import LOSS_TAG, Message
from hub.query.query import Query
from producers import Producer
from tests.support import MPSR, HubProcess, Running, Worker, eventually, mpsr, progress

pytestmark = pytest.mark.durability

SMALL = ("--journal-size", "4MiB")
LOSS = LOSS_TAG.decode()
FILLING = "x" * 10_000


def fill(path: str, count: int, start: int = 0) -> None:
    """Send *count* messages of 10 kB and wait for their acknowledgements."""
    with Producer(path, tag="app", chunk_bytes_max=50_000) as producer:
        for number in range(start, start + count):
            producer.send({"n": number, "x": FILLING})
        producer.flush(timeout=60)


def numbers_of(messages: list[Message], tag: str = "app") -> list[int]:
    return [message.record["n"] for message in messages if message.tag == tag]


def is_whole(journal: str) -> bool:
    verified = mpsr("verify", "--journal", journal)
    assert verified.returncode == 0, verified.stderr
    return True


# Readers.


class Logs:
    """`mpsr logs` as a process, and the lines that it has written."""

    def __init__(self, journal: str, *args: str) -> None:
        command = ["logs", "--journal", journal, "--output", "json", *args]
        self.process = Running(*command, stdout=subprocess.PIPE)
        self.lines: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self._thread.join(30)
        self.process.stdout.close()

    def is_stopped(self) -> bool:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def _read(self) -> None:
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # the last one, if it was interrupted there, is not whole
                self.lines.append(json.loads(line))


def test_a_stopped_reader_goes_on_at_the_oldest_and_says_what_it_missed(tmp_path: Path) -> None:
    """`mpsr logs -f`, stopped while its segment expired, shows one loss for all it missed, then the rest."""
    with HubProcess(tmp_path, *SMALL) as hub:
        fill(hub.socket, 3)
        logs = Logs(hub.journal, "-f")
        eventually(lambda: len(logs.lines) == 3, "what is there")
        logs.process.send_signal(signal.SIGSTOP)
        eventually(logs.is_stopped, "the reader stands still")
        fill(hub.socket, 800, start=3)
        oldest = list_segments(DiskFiles(hub.journal))[0]
        assert oldest > 200, "what it read has expired"
        logs.process.send_signal(signal.SIGCONT)
        eventually(lambda: logs.lines[-1]["record"].get("n") == 802, "it goes on")
        logs.end()
    losses = [line for line in logs.lines if line["tag"] == LOSS]
    shown = [line["sequence"] for line in logs.lines if line["tag"] != LOSS]
    assert len(losses) == 1
    first = losses[0]["sequence"]
    assert losses[0]["record"]["count"] == oldest - first
    assert shown == [*range(1, first), *range(oldest, 804)]
    assert [line["record"]["n"] + 1 for line in logs.lines if line["tag"] != LOSS] == shown


def test_a_reader_interrupted_in_mid_output_repeats_nothing(tmp_path: Path) -> None:
    """Ctrl-C, while the pipe is full: what was written ends there, perhaps in the middle of a line."""
    with HubProcess(tmp_path) as hub:
        with Producer(hub.socket, tag="app") as producer:
            for number in range(5000):
                producer.send({"n": number})
        command = ["logs", "--journal", hub.journal, "-o", "json"]
        whole = subprocess.run([*MPSR, *command], stdout=subprocess.PIPE, check=True).stdout
        with Running(*command, stdout=subprocess.PIPE) as logs:
            pipe, held = logs.stdout.fileno(), array("i", [0])
            size = fcntl.fcntl(pipe, fcntl.F_GETPIPE_SZ)
            assert len(whole) > 2 * size

            def is_full() -> bool:
                fcntl.ioctl(pipe, termios.FIONREAD, held)
                return held[0] > size - 8192  # a page may not be filled up

            eventually(is_full, "a full pipe")
            logs.send_signal(signal.SIGINT)
            shown = logs.stdout.read()
    assert len(shown) > size - 8192
    assert whole.startswith(shown)


def test_a_reader_killed_in_mid_output_harms_nothing(tmp_path: Path) -> None:
    """A reader that dies while it writes does not affect the hub, the journal or other readers."""
    with HubProcess(tmp_path, *SMALL) as hub:
        fill(hub.socket, 200)
        command = ["logs", "--journal", hub.journal, "-f"]
        with Running(*command, stdout=subprocess.PIPE) as reader:
            assert reader.stdout.read(1)  # no more is read, so it blocks in mid-output
            reader.kill()
        assert reader.returncode == -signal.SIGKILL
        fill(hub.socket, 20, start=200)
        assert numbers_of(hub.messages()) == list(range(220))
        assert hub.stop() == 0
        assert is_whole(hub.journal)


# Kills of the hub at chosen moments.

_KILLS = [
    *(("ftruncate", when) for when in (1, 2)),  # of the lock, of recovery
    *(("fsync", when) for when in (1, 2, 3)),  # of recovery, of a header, of a name
    *(("fallocate", when) for when in (1, 2)),  # of the first segment, of one under load
    *(("rename", when) for when in (1, 2)),
    *(("unlink", when) for when in (1, 2, 3)),  # of expired segments
    *(("pwritev2", when) for when in (1, 2, 3, 9, 10)),  # of a header, of the seal, of commits
]


class _Follower:
    """All messages of the journal, read as they are committed, before they expire."""

    def __init__(self, journal: str) -> None:
        self.numbers: dict[str, list[int]] = {}
        self.sequences: list[int] = []
        self.missed = 0
        self.failed: BaseException | None = None
        self._reader = open_reader(journal)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self._stop.set()
        self._thread.join(30)
        self._take()
        self._reader.close()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self._take()

    def _take(self) -> None:
        for batch in self._reader.read(follow=True):
            if isinstance(batch, Gap):
                self.missed += batch.count
                continue
            for message in Query().messages(iter((batch,))):
                self.sequences.append(message.sequence)
                self.numbers.setdefault(message.tag, []).append(message.record["n"])


def _hub_killed_at(hub: HubProcess, call: str, when: int, size: tuple[str, str] = SMALL) -> None:
    """Run a hub that a kernel hook kills when a thread makes the system call *call* the *when*-th time."""
    hook = ("-f", "-o", os.devnull, "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={when}")
    command = ("hub", "--socket", hub.socket, "--journal", hub.journal, *size)
    with Running(*command, stderr=subprocess.DEVNULL, tracer=hook) as killed:
        assert killed.wait(60) == -signal.SIGKILL


def test_a_hub_killed_in_recovery_expiry_and_making_of_segments(tmp_path: Path) -> None:
    """Killed repeatedly at its system calls under load, the hub loses, duplicates and reorders nothing."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    kills = _KILLS[:]
    random.Random(1).shuffle(kills)
    with HubProcess(tmp_path, *SMALL) as hub:
        workers = [Worker(hub.socket, f"worker.{number}", number) for number in range(2)]
        follower = _Follower(hub.journal)
        progress(workers, 200)
        hub.kill()
        for call, when in kills:
            _hub_killed_at(hub, call, when)
        hub.start()
        progress(workers, 200)
        for worker in workers:
            worker.end()
        assert hub.stop() == 0
        follower.end()
        assert is_whole(hub.journal)
        messages = hub.messages()
    assert list_segments(DiskFiles(hub.journal))[0] > 1, "something has expired"
    assert all(one.sequence + 1 == two.sequence for one, two in pairwise(messages))
    assert follower.missed == 0, "the follower has kept up"
    assert follower.sequences == list(range(1, messages[-1].sequence + 1))
    for worker in workers:
        assert follower.numbers[worker.tag] == list(range(worker.acknowledged))
        kept = numbers_of(messages, worker.tag)
        assert kept == list(range(worker.acknowledged))[len(follower.numbers[worker.tag]) - len(kept) :]


def test_a_hub_killed_in_large_writes(tmp_path: Path) -> None:
    """Killed before, between and after its direct writes, the hub loses, duplicates and reorders nothing."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    size = ("--journal-size", "1GiB")
    with HubProcess(tmp_path, *size) as hub:
        worker = Worker(hub.socket, "worker", 1, chunk=500_000)
        progress([worker], 200)
        hub.kill()
        for call, when in (("pwrite64", 1), ("pwrite64", 3)):
            _hub_killed_at(hub, call, when, size)
        hub.start()
        progress([worker], 200)
        worker.end()
        assert hub.stop() == 0
        assert is_whole(hub.journal)
        messages = hub.messages()
    assert [message.sequence for message in messages] == list(range(1, worker.acknowledged + 1))
    assert numbers_of(messages, "worker") == list(range(worker.acknowledged))
