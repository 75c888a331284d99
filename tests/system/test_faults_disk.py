"""
Faults of the disk and the clock under a hub, in real processes: no space, failed syncs, slow syncs, a smaller journal,
a flipped bit, a clock that goes back.

Where the kernel cannot produce a fault, strace makes a call of the hub fail, or a script that starts the hub replaces
the journal's file functions or the clock.

Not here: kills and readers (tests.system.test_faults), power cuts (tests.system.test_power_cut).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hub.journal.block import BLOCK_BYTES, unpack_block
from hub.journal.files import DiskFiles
from hub.journal.segment import Segment, list_segments, segment_name
from producers import Producer
from tests import support
from tests.hub.clients import chunk, connect, read_acks
from tests.support import MPSR, HubProcess, Worker, eventually, mpsr, read_messages
from tests.system.test_faults import LOSS, SMALL, fill, is_whole, numbers_of

pytestmark = pytest.mark.durability

FILLING = "x" * 10_000
NS = 1_000_000_000


def _events(hub: HubProcess, name: str) -> int:
    return sum(event.get("event") == name for event in hub.log)


def _script(text: str) -> tuple[str, ...]:
    """Return the command of a hub that runs *text* before it starts."""
    return (sys.executable, "-c", f"{text}\nfrom hub.cli import main\nmain()")


# No space.

_SMALL_DISKS = {
    "tmpfs": ("-rm", "mount -t tmpfs -o size=6m tmpfs {disk} && head -c 4m /dev/zero > {disk}/filler"),
    "ext4": (
        "-m",
        "truncate -s 24M {disk}.img && mkfs.ext4 -q -m 0 {disk}.img && mount -o loop {disk}.img {disk}"
        " && fallocate -l $(( $(stat -f -c '%a * %S' {disk}) - (2 << 20) )) {disk}/filler",
    ),
}


def small_disk(kind: str, disk: Path) -> tuple[str, ...]:
    """Return a command prefix that mounts a file system with 2 MiB free on *disk*, visible to that command only."""
    flags, mount = _SMALL_DISKS[kind]
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    if os.geteuid():  # in a name space of their own, users could mount a tmpfs, but / would not be root's there
        pytest.skip("needs root: a file system is mounted")
    if kind == "ext4" and shutil.which("mkfs.ext4") is None:
        pytest.skip("mkfs.ext4 is not installed")
    command = ("unshare", flags, "sh", "-c", f'{mount.format(disk=disk)} && exec "$@"', "sh")
    tried = subprocess.run([*command, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no file system can be mounted: {tried.stderr.strip()}")
    return command


@pytest.mark.parametrize("kind", _SMALL_DISKS)
def test_a_full_disk_makes_producers_wait_and_loses_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without space the hub logs it once and retries; with space again, all is stored once, in order."""
    disk = tmp_path / "journal"
    disk.mkdir()
    monkeypatch.setattr(support, "MPSR", (*small_disk(kind, disk), *MPSR))
    with HubProcess(tmp_path, *SMALL) as hub, Producer(hub.socket, tag="app", chunk_bytes_max=400_000) as producer:
        inside = f"/proc/{hub.process.pid}/root{disk}"  # the mount is visible only to the hub
        for number in range(300):
            producer.send({"n": number, "x": FILLING})
        eventually(lambda: _events(hub, "journal.unavailable"), "it says so")
        stuck = hub.stats()
        acknowledged = stuck["messages"]
        assert acknowledged < 300
        eventually(lambda: hub.stats()["uptime_s"] > stuck["uptime_s"] + 1.2, "one more try")
        assert hub.stats()["messages"] == acknowledged
        assert numbers_of(read_messages(inside))[:acknowledged] == list(range(acknowledged))
        os.unlink(f"{inside}/filler")
        producer.flush(timeout=60)
        assert numbers_of(read_messages(inside)) == list(range(300))
        assert hub.stats()["losses"] == 0
        eventually(lambda: _events(hub, "journal.available"), "it says so, too")
        assert _events(hub, "journal.unavailable") == _events(hub, "journal.available") == 1
        assert hub.stop() == 0


# Failing calls.

# Calls are counted in each thread. The one that opens the journal makes 5 fsync, 2 rename, 2 fallocate and 2 pwritev2
# calls. Only a large commit is synced with fdatasync.
_FAILURES = {
    "one synced write": ("pwritev2", "EIO", "3", 0),
    "a synced write and the next segment": ("pwritev2", "EIO", "3..4", 1),
    "one sync": ("fdatasync", "EIO", "3", 0),
    "a sync and the next": ("fdatasync", "EIO", "3..4", 1),
    "a large write": ("pwrite64", "EIO", "2", 0),
    "no space for two large writes": ("pwrite64", "ENOSPC", "2..3", 1),
    "a header's sync": ("fsync", "EIO", "8", 0),
    "a folder's sync": ("fsync", "EIO", "9", 0),
    "syncs of two segments": ("fsync", "EIO", "8..9", 1),
    "no space for two segments": ("fallocate", "ENOSPC", "3..4", 1),
    "a name": ("rename", "EIO", "3", 0),
    "sealing": ("ftruncate", "EIO", "1", 0),
}


@pytest.mark.parametrize("failure", _FAILURES)
def test_what_fails_once_or_for_a_while_loses_nothing(failure: str, tmp_path: Path) -> None:
    """A failing call of the journal costs at most a segment and a wait, logged once; nothing is lost."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    call, error, when, said = _FAILURES[failure]
    trace = tmp_path / "trace"
    options = ("-e", f"trace={call},rename", "-e", f"inject={call}:error={error}:when={when}")
    hub = HubProcess(tmp_path, "--journal-size", "8MiB", tracer=("-f", "-y", "-o", str(trace), *options))
    with hub, Producer(hub.socket, tag="app", chunk_bytes_max=400_000) as producer:
        for number in range(400):
            producer.send({"n": number, "x": FILLING})
            if number % 50 == 49 or "synced write" in failure:  # alone, a message makes a small commit
                producer.flush(timeout=60)
        lines = [line for line in trace.read_text().splitlines() if "(" in line]
        failed = next((index for index, line in enumerate(lines) if "(INJECTED)" in line), None)
        assert failed is not None, "it has not failed: this proves nothing"
        assert ("RWF_DSYNC" in lines[failed]) == ("synced write" in failure)
        if failure in ("one synced write", "one sync", "a large write"):
            following = lines[failed + 1 :]
            renamed = next(index for index, line in enumerate(following) if "rename(" in line)
            assert all("new.tmp" in line for line in following[: renamed + 1]), "only another segment is written"
        assert _events(hub, "journal.unavailable") == _events(hub, "journal.available") == said
        messages = hub.messages()
        assert numbers_of(messages) == list(range(400))
        assert [message.sequence for message in messages] == list(range(1, 401))
        stats = hub.stats()
        assert (stats["losses"], stats["duplicates"], stats["connections_accepted"] < 60) == (0, 0, True)
        hub.kill()
        hub.start()
        assert [event["missing"] for event in hub.log if event["event"] == "hub.listening"][-1] == 0
        assert numbers_of(hub.messages()) == list(range(400))
        assert hub.stop() == 0
        assert is_whole(hub.journal)


# Slow syncs.

SLOW = """
import threading, time
from hub.journal.files import DiskFiles
def slow(real):
    def call(*args):
        if threading.current_thread().name == "mpsr-journal":
            time.sleep(0.2)
        return real(*args)
    return call
for name in ("_write_synced", "sync", "sync_all", "sync_folder", "truncate"):
    setattr(DiskFiles, name, slow(getattr(DiskFiles, name)))
"""


@contextmanager
def _pouring(path: str, clients: int) -> Iterator[None]:
    """*clients* clients send without end, and wait only while the hub does not read."""
    stop, frames = threading.Event(), [chunk(None, 500, tag=b"poured", text="x" * 100)] * 10

    def pour() -> None:
        with connect(path, timeout=60) as client:
            while not stop.is_set():
                client.sendall(b"".join(frames))

    threads = [threading.Thread(target=pour) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)


def test_a_slow_disk_costs_throughput_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With syncs of 200 ms commits are rare and large; memory stays flat, and no client times out."""
    monkeypatch.setattr(support, "MPSR", _script(SLOW))
    with HubProcess(tmp_path) as hub:
        workers = [Worker(hub.socket, f"worker.{number}", number) for number in range(2)]
        with _pouring(hub.socket, 4):

            def after(commits: int) -> dict[str, Any]:
                stats: dict[str, Any] = eventually(lambda: (found := hub.stats())["commits"] >= commits and found)
                return stats

            eventually(lambda: hub.stats()["bytes"] > 20 << 20, "its memory is as full as it gets")
            first = last = after(5)
            samples: list[dict[str, Any]] = []
            while len(samples) < 7 or last["bytes"] - first["bytes"] <= 30 << 20:  # more than it may hold has to pass
                samples.append(last := after(last["commits"] + 1))
        assert (last["commits"] - first["commits"] - 1) * 0.2 <= last["uptime_s"] - first["uptime_s"]
        assert max(stats["rss_bytes"] for stats in samples) < first["rss_bytes"] + (11 << 20)
        assert max(stats["inbox_bytes"] for stats in samples) <= 24 << 20, "six connections' shares"
        assert last["rss_bytes"] < 100 << 20
        for worker in workers:
            assert worker.acknowledged, "it was served meanwhile"
            worker.end()
        stats = hub.stats()
        assert (stats["losses"], stats["duplicates"], stats["acks_dropped"]) == (0, 0, 0)
        assert hub.stop() == 0
        assert not any(event.get("level") in ("warning", "error") for event in hub.log), hub.log
        messages = hub.messages()
    assert all(one.sequence + 1 == two.sequence for one, two in pairwise(messages))
    for worker in workers:
        assert numbers_of(messages, worker.tag) == list(range(worker.acknowledged))


# Time.

CLOCK = """
import os, time
real = time.time_ns
time.time_ns = lambda: real() + int(open(os.environ["MPSR_TEST_CLOCK"]).read())
"""
HOUR = 3600 * NS


def test_a_clock_that_steps_back_an_hour_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`received` never decreases, even over a restart; nothing is lost, duplicated or expired; time resumes later."""
    monkeypatch.setattr(support, "MPSR", _script(CLOCK))
    clock = tmp_path / "clock"

    def step_to(offset: int) -> None:
        (tmp_path / "new").write_text(str(offset))
        (tmp_path / "new").replace(clock)

    step_to(0)
    with HubProcess(tmp_path, "--journal-age", "30m", env={"MPSR_TEST_CLOCK": str(clock)}) as hub:
        for step, offset in enumerate((0, -HOUR, -HOUR, 0, -2 * HOUR)):
            step_to(offset)
            fill(hub.socket, 20, start=20 * step)
            with connect(hub.socket, chunk("the same each time", tag=b"once")) as client:
                assert read_acks(client, 1) == ["the same each time"]
            if step == 1:
                hub.kill()
                hub.start()
        messages = hub.messages()
        stats = hub.stats()
        assert hub.stop() == 0
        assert is_whole(hub.journal)
    assert numbers_of(messages) == list(range(100))
    assert (sum(message.tag == "once" for message in messages), stats["losses"]) == (1, 0)
    assert all(one.sequence + 1 == two.sequence for one, two in pairwise(messages))
    assert all(one.received <= two.received for one, two in pairwise(messages))
    times = {message.record["n"]: message.received for message in messages if message.tag == "app"}
    assert times[20] <= times[59] < times[60], "it stood still, and went on"
    assert times[99] - times[0] < HOUR
    monkeypatch.undo()
    since = mpsr("logs", "--journal", hub.journal, "--since", "1h", "--output", "json")
    assert len(since.stdout.splitlines()) == 101, "and it is found by time"


# Expiry and damage.


def test_a_journal_made_smaller_expires_the_oldest_and_nothing_else(tmp_path: Path) -> None:
    """A hub with a smaller journal_size deletes the oldest segments when it opens the journal."""
    with HubProcess(tmp_path, "--journal-size", "8MiB") as hub:
        fill(hub.socket, 700)
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
        fill(hub.socket, 3, start=700)
        messages = hub.messages()
        assert hub.stop() == 0
    assert [message.sequence for message in messages] == list(range(min(kept), 704))
    assert numbers_of(messages) == [message.sequence - 1 for message in messages]
    assert is_whole(hub.journal)


def _sizes(journal: str) -> dict[int, int]:
    """Return the size of each segment, by its first sequence."""
    return {
        first: os.stat(os.path.join(journal, segment_name(first))).st_size
        for first in list_segments(DiskFiles(journal))
    }


def test_a_flipped_bit_costs_its_batch_and_no_other(tmp_path: Path) -> None:
    """`verify` names a damaged batch, `logs` shows one loss in its place, the hub opens the journal and continues."""
    with HubProcess(tmp_path) as hub, Producer(hub.socket, tag="app") as producer:
        for number in range(0, 30, 3):
            for each in range(number, number + 3):
                producer.send({"n": each})
            producer.flush(timeout=30)
        producer.close()
        assert hub.stop() == 0
        sequence, count = flip_a_bit(hub.journal, 1, 3)
        verified = mpsr("verify", "--journal", hub.journal)
        assert verified.returncode == 1
        assert f"sequences {sequence} to {sequence + count - 1} are missing".encode() in verified.stderr
        _check_loss(hub.journal, sequence, count, 30)
        hub.start()
        assert [event["missing"] for event in hub.log if event["event"] == "hub.listening"] == [0, count]
        fill(hub.socket, 5, start=30)
        assert hub.stop() == 0
    _check_loss(hub.journal, sequence, count, 35)


def flip_a_bit(journal: str, first: int, index: int = 0, *, sequence: int = 0) -> tuple[int, int]:
    """
    Flip a bit in the middle of the entries of a batch: number *index*, or the one with *sequence*, even if damaged.

    Returns the batch's first sequence and its number of messages.
    """
    with Segment(DiskFiles(journal), first) as segment, open(os.path.join(journal, segment_name(first)), "r+b") as file:
        assert segment.header is not None
        offset = segment.start.offset
        while True:
            file.seek(offset)
            block = segment.block_at(offset) or unpack_block(file.read(BLOCK_BYTES), 0, offset)
            assert block is not None
            if block.sequence == sequence or not (sequence or index):
                break
            offset, index = block.end, index - 1
        file.seek(block.end - block.entries_bytes // 2)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 0x10]))
    return block.sequence, block.count


def _check_loss(journal: str, sequence: int, count: int, total: int) -> None:
    shown = mpsr("logs", "--journal", journal, "--output", "json")
    assert shown.returncode == 0
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    losses = [line for line in lines if line["tag"] == LOSS]
    assert [(line["sequence"], line["record"]["count"]) for line in losses] == [(sequence, count)]
    whole = [number for number in range(total) if not sequence <= number + 1 < sequence + count]
    assert [line["record"]["n"] for line in lines if line["tag"] != LOSS] == whole


def test_a_clock_twenty_years_ahead_for_one_commit_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`received` is then hours ahead, not decades; the jump is logged; nothing expires or is stored twice."""
    monkeypatch.setattr(support, "MPSR", _script(CLOCK))
    clock = tmp_path / "clock"
    years = 20 * 365 * 24 * HOUR
    clock.write_text("0")
    with HubProcess(tmp_path, "--journal-age", "1d", env={"MPSR_TEST_CLOCK": str(clock)}) as hub:
        begun = time.time_ns()
        fill(hub.socket, 10)
        for offset in (years, 0):
            (tmp_path / "new").write_text(str(offset))
            (tmp_path / "new").replace(clock)
            with connect(hub.socket, chunk("the same each time", tag=b"once")) as client:
                assert read_acks(client, 1) == ["the same each time"]
            fill(hub.socket, 10, start=10 if offset else 20)
        hub.kill()
        hub.start()
        with connect(hub.socket, chunk("the same each time", tag=b"once")) as client:
            assert read_acks(client, 1) == ["the same each time"]
        fill(hub.socket, 10, start=30)
        messages = hub.messages()
        assert hub.stop() == 0
    assert numbers_of(messages) == list(range(40))
    assert sum(message.tag == "once" for message in messages) == 1
    assert max(message.received for message in messages) - begun < 31 * 24 * HOUR
    (logged,) = [event for event in hub.log if event["event"] == "clock.set" and event["ahead_s"] > 0]
    assert logged["ahead_s"] * NS > years - 31 * 24 * HOUR
