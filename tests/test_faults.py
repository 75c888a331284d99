"""
Faults of the world around a hub, in real processes: stopped and killed readers, a hub killed at chosen system calls, a
full disk, a smaller journal, a flipped bit, clients that do everything wrong.

Not here: kills of producers (tests.test_kill), power cuts (tests.test_power_cut), all of it at once (tests.soak).
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hub.journal.block import Block, seed_of
from hub.journal.files import DiskFiles
from hub.journal.query import Query
from hub.journal.reader import Gap, open_reader
from hub.journal.segment import Segment, list_segments, segment_name
from hub.message import LOSS_TAG, Message
from producers import Producer
from tests import support
from tests.hub.clients import chunk, connect, read_acks, read_to_end
from tests.support import MPSR, HubProcess, eventually, mpsr, read_messages
from tests.test_kill import Worker

SMALL = ("--journal-size", "4MiB")
LOSS = LOSS_TAG.decode()
FILLING = "x" * 10_000


def _fill(path: str, count: int, start: int = 0) -> None:
    """Send so many messages of 10 kB, and see them acknowledged."""
    with Producer(path, tag="app", chunk_bytes_max=50_000) as producer:
        for number in range(start, start + count):
            producer.send({"n": number, "x": FILLING})
        producer.flush(timeout=60)


def _numbers(messages: list[Message], tag: str = "app") -> list[int]:
    return [message.record["n"] for message in messages if message.tag == tag]


def _is_whole(journal: str) -> bool:
    verified = mpsr("verify", "--journal", journal)
    assert verified.returncode == 0, verified.stderr
    return True


# Readers.


class Logs:
    """`mpsr logs` as a process, and the lines it has written."""

    def __init__(self, journal: str, *args: str) -> None:
        command = [*MPSR, "logs", "--journal", journal, "--output", "json", *args]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.lines: list[dict[str, Any]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def end(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)
        self._thread.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def is_stopped(self) -> bool:
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))


def test_a_stopped_reader_goes_on_at_the_oldest_and_says_what_it_missed(tmp_path: Path) -> None:
    """`mpsr logs -f` that slept while its segment expired shows one loss, of all it missed, and what is there."""
    with HubProcess(tmp_path, *SMALL) as hub:
        _fill(hub.socket, 3)
        logs = Logs(hub.journal, "-f")
        eventually(lambda: len(logs.lines) == 3, "what is there")
        logs.process.send_signal(signal.SIGSTOP)
        eventually(logs.is_stopped, "the reader stands still")
        _fill(hub.socket, 800, start=3)
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


def test_a_reader_killed_in_mid_output_harms_nothing(tmp_path: Path) -> None:
    """A reader that dies while it writes leaves hub, journal and other readers as they were."""
    with HubProcess(tmp_path, *SMALL) as hub:
        _fill(hub.socket, 200)
        command = [*MPSR, "logs", "--journal", hub.journal, "-f"]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.read(1)  # and no more: it stands in mid-output
            reader.kill()
        assert reader.returncode == -signal.SIGKILL
        _fill(hub.socket, 20, start=200)
        assert _numbers(hub.messages()) == list(range(220))
        assert hub.stop() == 0
        assert _is_whole(hub.journal)


# Kills of the hub at chosen moments.

_KILLS = [
    *(("ftruncate", when) for when in (1, 2)),  # the lock's, recovery's
    *(("fsync", when) for when in (1, 2, 3)),  # recovery's, a header's, a name's
    *(("fallocate", when) for when in (1, 2)),  # the first segment, and one under load
    *(("rename", when) for when in (1, 2)),
    *(("unlink", when) for when in (1, 2, 3)),  # what is expired
    *(("pwritev2", when) for when in (1, 2, 9)),  # a header, commits
    *(("fdatasync", when) for when in (1, 9)),
]


class _Follower:
    """Everything that the journal shows, read as it comes, so that expiry takes nothing from it."""

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


def _hub_killed_at(hub: HubProcess, call: str, when: int) -> None:
    """Run a hub that a kernel hook kills when one of its threads makes the call for the *when*-th time."""
    hook = (
        "strace",
        "-D",
        "-f",
        "-o",
        os.devnull,
        "-e",
        f"trace={call}",
        "-e",
        f"inject={call}:signal=KILL:when={when}",
    )
    command = [*hook, *MPSR, "hub", "--socket", hub.socket, "--journal", hub.journal, *SMALL]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, timeout=60, check=False).returncode == -signal.SIGKILL


def test_a_hub_killed_in_recovery_expiry_and_making_of_segments(tmp_path: Path) -> None:
    """Killed at its system calls, again and again, under load, it loses, doubles and reorders nothing."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    kills = _KILLS[:]
    random.Random(1).shuffle(kills)
    with HubProcess(tmp_path, *SMALL) as hub:
        workers = [Worker(hub.socket, f"worker.{number}", number) for number in range(2)]
        follower = _Follower(hub.journal)
        _wait_for_progress(workers)
        hub.kill()
        for call, when in kills:
            _hub_killed_at(hub, call, when)
        hub.start()
        _wait_for_progress(workers)
        for worker in workers:
            worker.end(kill=False)
        assert hub.stop() == 0
        follower.end()
        assert _is_whole(hub.journal)
        messages = hub.messages()
    assert list_segments(DiskFiles(hub.journal))[0] > 1, "something has expired"
    assert all(one.sequence + 1 == two.sequence for one, two in pairwise(messages))
    assert follower.missed == 0, "the follower has kept up"
    assert follower.sequences == list(range(1, messages[-1].sequence + 1))
    for worker in workers:
        assert follower.numbers[worker.tag] == list(range(worker.acknowledged))
        kept = _numbers(messages, worker.tag)
        assert kept == list(range(worker.acknowledged))[len(follower.numbers[worker.tag]) - len(kept) :]


def _wait_for_progress(workers: list[Worker]) -> None:
    targets = [worker.acknowledged + 200 for worker in workers]
    eventually(
        lambda: all(worker.acknowledged >= target for worker, target in zip(workers, targets, strict=True)),
        "progress",
        timeout=60,
    )


# The disk.


def _why_no_small_disk() -> str | None:
    if shutil.which("unshare") is None:
        return "unshare is not installed"
    tried = subprocess.run(
        ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, text=True, check=False
    )
    return f"no file system can be mounted: {tried.stderr.strip()}" if tried.returncode else None


def test_a_full_disk_makes_producers_wait_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without space the hub says so once and keeps trying; when space returns all is there, once and in order."""
    if reason := _why_no_small_disk():
        pytest.skip(reason)
    disk = tmp_path / "journal"
    disk.mkdir()
    mount = f'mount -t tmpfs -o size=6m tmpfs {disk} && head -c 4m /dev/zero > {disk}/filler && exec "$@"'
    monkeypatch.setattr(support, "MPSR", ("unshare", "-rm", "sh", "-c", mount, "sh", *MPSR))
    with HubProcess(tmp_path, *SMALL) as hub, Producer(hub.socket, tag="app", chunk_bytes_max=50_000) as producer:
        inside = f"/proc/{hub.process.pid}/root{disk}"  # nobody else sees what is mounted there
        for number in range(300):
            producer.send({"n": number, "x": FILLING})
        eventually(lambda: _events(hub, "journal.unavailable"), "it says so")
        stuck = hub.stats()
        acknowledged = stuck["messages"]
        assert acknowledged < 300
        eventually(lambda: hub.stats()["uptime_s"] > stuck["uptime_s"] + 2.2, "two more tries")
        assert hub.stats()["messages"] == acknowledged
        assert _numbers(read_messages(inside))[:acknowledged] == list(range(acknowledged))
        os.unlink(f"{inside}/filler")
        producer.flush(timeout=60)
        assert _numbers(read_messages(inside)) == list(range(300))
        assert hub.stats()["losses"] == 0
        assert _events(hub, "journal.unavailable") == 1
        assert _events(hub, "journal.available") == 1
        assert hub.stop() == 0


def _events(hub: HubProcess, name: str) -> int:
    return sum(event.get("event") == name for event in hub.log)


def test_a_journal_made_smaller_expires_the_oldest_and_nothing_else(tmp_path: Path) -> None:
    """A hub told to keep less deletes the oldest segments when it opens the journal; the rest is whole."""
    with HubProcess(tmp_path, "--journal-size", "8MiB") as hub:
        _fill(hub.socket, 700)
        assert len(hub.messages()) == 700
        assert hub.stop() == 0
        sizes = _sizes(hub.journal)
    with HubProcess(tmp_path, *SMALL) as hub:
        listening = next(event for event in hub.log if event["event"] == "hub.listening")
        assert (listening["last_sequence"], listening["missing"], listening["cut_bytes"]) == (700, 0, 0)
        kept = _sizes(hub.journal)
        held = sum(kept.values())
        assert held == hub.stats()["journal_bytes"] <= 4 << 20
        gone = sorted(sizes.keys() - kept.keys())
        assert gone, "the oldest have expired"
        assert gone[-1] < min(kept)
        assert held + sizes[gone[-1]] > 4 << 20, "and no more of them than had to"
        _fill(hub.socket, 3, start=700)
        messages = hub.messages()
        assert hub.stop() == 0
    assert [message.sequence for message in messages] == list(range(min(kept), 704))
    assert _numbers(messages) == [message.sequence - 1 for message in messages]
    assert _is_whole(hub.journal)


def _sizes(journal: str) -> dict[int, int]:
    """Return how large each segment is, by its first sequence."""
    return {
        first: os.stat(os.path.join(journal, segment_name(first))).st_size
        for first in list_segments(DiskFiles(journal))
    }


def test_a_flipped_bit_costs_its_batch_and_no_other(tmp_path: Path) -> None:
    """`verify` names a damaged batch, `logs` shows one loss in its place, the hub opens the journal and goes on."""
    with HubProcess(tmp_path) as hub, Producer(hub.socket, tag="app") as producer:
        for number in range(0, 30, 3):
            for each in range(number, number + 3):
                producer.send({"n": each})
            producer.flush(timeout=30)
        producer.close()
        assert hub.stop() == 0
        sequence, count = _flip_a_bit(hub.journal)
        verified = mpsr("verify", "--journal", hub.journal)
        assert verified.returncode == 1
        assert f"sequences {sequence} to {sequence + count - 1} are missing".encode() in verified.stderr
        _check_loss(hub.journal, sequence, count, 30)
        hub.start()
        assert [event["missing"] for event in hub.log if event["event"] == "hub.listening"] == [0, count]
        _fill(hub.socket, 5, start=30)
        assert hub.stop() == 0
    _check_loss(hub.journal, sequence, count, 35)


def _flip_a_bit(journal: str) -> tuple[int, int]:
    """Flip a bit in the middle of the entries of the fourth batch; return its first sequence and its messages."""
    with Segment(DiskFiles(journal), 1) as segment:
        assert segment.header is not None
        seed, offset = seed_of(segment.header.hub_id), segment.header.bytes
        for _ in range(3):
            offset = _block(segment, offset, seed).end
        block = _block(segment, offset, seed)
    with open(os.path.join(journal, segment_name(1)), "r+b") as file:
        file.seek(block.end - block.entries_bytes // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x10]))
    return block.sequence, block.count


def _block(segment: Segment, offset: int, seed: int) -> Block:
    block = segment.block_at(offset, seed)
    assert block is not None
    return block


def _check_loss(journal: str, sequence: int, count: int, total: int) -> None:
    shown = mpsr("logs", "--journal", journal, "--output", "json")
    assert shown.returncode == 0
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    losses = [line for line in lines if line["tag"] == LOSS]
    assert [(line["sequence"], line["record"]["count"]) for line in losses] == [(sequence, count)]
    whole = [number for number in range(total) if not sequence <= number + 1 < sequence + count]
    assert [line["record"]["n"] for line in lines if line["tag"] != LOSS] == whole


# Clients.


@contextlib.contextmanager
def _honest(hub: HubProcess) -> Iterator[Producer]:
    """A producer that is served before, while and after the block runs."""
    with Producer(hub.socket, tag="honest") as producer:
        producer.send({"n": 0})
        producer.flush(timeout=30)
        yield producer
        producer.send({"n": "last"})
        producer.flush(timeout=30)


def test_a_client_that_reads_no_acks_and_a_thousand_in_mid_frame_hold_up_nobody(tmp_path: Path) -> None:
    """Honest clients are served beside one that never reads and a thousand that stop in the middle of a frame."""
    with HubProcess(tmp_path) as hub, contextlib.ExitStack() as stack, _honest(hub) as producer:
        greedy = stack.enter_context(connect(hub.socket))
        for first in range(0, 40_000, 1000):
            greedy.sendall(b"".join(chunk(f"greedy.{number}", tag=b"greedy") for number in range(first, first + 1000)))
        for _ in range(1000):
            stack.enter_context(connect(hub.socket, b"\x93\xa3ha"))
        eventually(lambda: hub.stats()["connections"] >= 1002, "all are connected")
        for number in range(1, 50):
            producer.send({"n": number})
            producer.flush(timeout=10)
        eventually(lambda: hub.stats()["messages"] == 40_050, "what the greedy one sent is kept")
        assert hub.stats()["losses"] == 0
        stack.close()
        eventually(lambda: hub.stats()["losses"] == 1000, "each half frame is a loss")
        assert hub.stats()["acks_dropped"] > 0
        assert hub.stats()["rss_bytes"] < 200 << 20
        producer.flush(timeout=10)
        assert _numbers(hub.messages("honest"), "honest") == list(range(50))


def _after_tag(rest: bytes) -> bytes:
    return b"\x93\xa3app" + rest


GARBAGE: dict[str, bytes] = {
    **{f"random bytes {seed}": b"\x93" + random.Random(seed).randbytes(5000) for seed in range(5)},
    "an array of integers": b"\x93\x01\x02\x03",
    "an array of none": b"\x90" * 10,
    "a map in place of entries": b"\x92\xa3app\x81\x01\x02",
    "options that are a text": _after_tag(b"\x91\x92\x01\x80\xa3abc"),
    "a byte that msgpack never uses": _after_tag(b"\xc1" * 10),
    "nested 100,000 deep": _after_tag(b"\x91" * 100_000),
    "nested 100,000 deep in a message": _after_tag(b"\x01\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"),
    "nested 100,000 deep in a payload": _after_tag(
        b"\xc6" + (100_000).to_bytes(4, "big") + b"\x91" * 100_000 + b"\x80"
    ),
    "4 GiB of payload": _after_tag(b"\xc6\xff\xff\xff\xff" + b"x" * 1000),
    "4 Gi entries": _after_tag(b"\xdd\xff\xff\xff\xff" + b"\x92\x01\x80" * 100),
    "an array of 4 Gi": b"\xdd\xff\xff\xff\xff\xa3app",
    "a tag of 4 GiB": b"\x93\xdb\xff\xff\xff\xff" + b"x" * 1000,
    "a record of 4 Gi keys": _after_tag(b"\x01\xdf\xff\xff\xff\xff" + b"\xa1x\x01" * 100),
    "options of 4 Gi keys": _after_tag(b"\xc4\x00\xdf\xff\xff\xff\xff" + b"\xa1x\x01" * 100),
}


def test_garbage_is_one_loss_each_and_costs_no_memory(tmp_path: Path) -> None:
    """Whatever a client sends, it is one loss and its connection's end, little memory, and nobody else's trouble."""
    with HubProcess(tmp_path) as hub, connect(hub.socket) as honest:
        honest.sendall(chunk("first"))
        assert read_acks(honest, 1) == ["first"]
        before = _peak_bytes(hub)
        for number, (name, data) in enumerate(GARBAGE.items(), 1):
            with connect(hub.socket) as client:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                assert read_to_end(client) == b"", name
            assert _losses(hub, number) == number, name
            honest.sendall(chunk(name))
            assert read_acks(honest, 1) == [name]
        assert _peak_bytes(hub) - before < 100 << 20
        messages = hub.messages()
    assert sum(message.tag == LOSS for message in messages) == len(GARBAGE)
    assert [message.record for message in messages if message.tag == "app" and message.record.get("text") == "x"] == [
        {"n": 0, "text": "x"}
    ] * (len(GARBAGE) + 1)


def _losses(hub: HubProcess, least: int) -> int:
    return int(eventually(lambda: (losses := hub.stats()["losses"]) >= least and losses, f"{least} losses"))


def _peak_bytes(hub: HubProcess) -> int:
    lines = Path(f"/proc/{hub.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))
