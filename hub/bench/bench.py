"""
`mpsr bench`: measures this machine.

It starts a hub process and producer processes, with a temporary journal on the disk that the user names. The disk's own
figures are measured in the same session, before the run. Afterwards the journal is read back and checked, except with
the clients ping and spawn: there, what was lost or duplicated is None, not 0. Of a run that outgrew its journal, or
with rules of retention, the messages that have not expired are checked. A hub can be killed during the run and started
again; then `mpsr verify` looks at its journal as well.

Not here: a producer process (hub.bench.load), the check (hub.bench.check), the disk (hub.bench.disk).
"""

from __future__ import annotations

import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec

from hub.bench.check import Checked, check, left_out
from hub.bench.disk import DiskFigures, file_system, measure
from hub.bench.orders import Orders
from hub.journal.files import DiskFiles
from hub.journal.verify import verify
from hub.wire.frame import FRAME_BYTES_MAX
from producers.client import call
from producers.errors import NotConnected, ProducerError

MEMORY_FILE_SYSTEMS = {"tmpfs", "ramfs", "devtmpfs"}
START_TIMEOUT_S = 30.0
FULL_JOURNAL_BYTES = 1 << 30
CHUNK_BYTES_MAX = FRAME_BYTES_MAX - (64 << 10)
RESENDING = ("producer", "async")
"""The clients that outlive their hub: they connect again, and send what was not acknowledged."""
HUB = ("-P", "-m", "hub")
KILL_WITHIN_S = 0.05
"""A hub is killed within this time after it has answered: some commits."""

FAULTS = ("lost", "duplicated", "disordered", "damaged")
"""Numbers of messages in the report; None if they were not checked."""


class BenchError(ProducerError):
    """The benchmark cannot be run with these settings, or failed."""


class BenchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a measurement; see `mpsr bench --help`."""

    folder: str
    producers: int = 5
    messages: int = 0
    seconds: float = 10.0
    size: int = 130
    chunk: int = 1000
    ack: bool = True
    durability: str = "fsync"
    client: str = "raw"
    full: bool = False
    journal_size: int = 0
    """In bytes; 0: half of the free disk, or `FULL_JOURNAL_BYTES` if *full*."""
    config: str = ""
    """The configuration file of the hub; empty for the one that `mpsr hub` would read."""
    kill: int = 0
    """How often the hub is killed and started again, evenly over the *seconds*. For `RESENDING` clients."""


def run(settings: BenchSettings, *, progress: Callable[[str], None]) -> dict[str, Any]:
    """Run the benchmark and return its report. *progress* is called with each stage of the work. Raises BenchError."""
    if settings.size * settings.chunk > CHUNK_BYTES_MAX:
        raise BenchError(f"chunks of {settings.size * settings.chunk} bytes are over the limit ({CHUNK_BYTES_MAX})")
    kind = file_system(settings.folder)
    if kind in MEMORY_FILE_SYSTEMS:
        raise BenchError(f"{settings.folder} is {kind}, which is memory: name a folder on a disk with --folder")
    folder = tempfile.mkdtemp(prefix="mpsr-bench-", dir=settings.folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folder is removed
    try:
        progress("measuring the disk")
        disk = measure(folder)
        with _Hub(folder, settings) as hub:
            if settings.full:
                progress("filling the journal")
                hub.fill(settings)
            figures, orders, sent = _load(hub, settings, progress)
        checked = None
        if settings.client not in ("ping", "spawn"):
            progress("checking the journal")
            checked = check(hub.journal, orders, sent, after=figures["after"])
            if settings.kill:
                faults = verify(DiskFiles(hub.journal)).faults
                checked = checked._replace(damaged=checked.damaged + len(faults))
        figures["expired_by_rule"] = _expired_by_rule(hub.journal, figures["after"])
        return _report(settings, figures, checked, disk)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Hub:
    """The hub process that is measured."""

    def __init__(self, folder: str, settings: BenchSettings) -> None:
        self.socket = os.path.join(folder, "hub.sock")
        self.journal = os.path.join(folder, "journal")
        free = shutil.disk_usage(folder).free
        size = FULL_JOURNAL_BYTES if settings.full else max(free // 2, FULL_JOURNAL_BYTES)
        size = self.journal_bytes = settings.journal_size or size
        self._command = [sys.executable, *HUB, "--socket", self.socket, "--journal", self.journal]
        self._command += ["--journal-size", str(size), "--durability", settings.durability]
        self._command += ["--config", settings.config] if settings.config else []
        self._cpu_s, self._memory_bytes, self._commits = 0.0, 0, 0  # of the processes that were killed
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.process = subprocess.Popen(self._command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        self._await_start()
        return self.process

    def kill(self) -> None:
        """Kill the hub with SIGKILL, whatever it is doing, and start it again."""
        self._commits = self.commits()
        time.sleep(random.uniform(0, KILL_WITHIN_S))
        self._cpu_s, self._memory_bytes = self.cpu_s(), self.memory_bytes()
        self.process.kill()
        self.process.communicate()
        self._start()

    def __enter__(self) -> _Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=60)

    def stats(self) -> dict[str, Any]:
        """Return the hub's counters. On a busy machine, it may have thousands of connections to serve first."""
        counters: dict[str, Any] = call("stats", path=self.socket, timeout=START_TIMEOUT_S)
        return counters

    def commits(self) -> int:
        """Return the number of commits, without those between the last look at a hub and its end."""
        return self._commits + int(self.stats()["commits"])

    def cpu_s(self) -> float:
        """Return the processor time that the hub has used, in seconds."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rpartition(")")[2].split()
        return self._cpu_s + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Return the most memory that the hub has used since its start."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as status:
            most = next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:"))
        return max(self._memory_bytes, most)

    def fill(self, settings: BenchSettings) -> None:
        """Write one and a half times the journal's size, so that its oldest segments expire."""
        messages = self.journal_bytes * 3 // 2 // settings.size
        filling = BenchSettings(folder=settings.folder, messages=messages, size=settings.size)
        _load(self, filling, lambda text: None)

    def _await_start(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                call("ping", path=self.socket)
                return
            except NotConnected:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    _, output = self.process.communicate()
                    raise BenchError(f"the hub did not start: {output.decode(errors='replace').strip()}") from None
                time.sleep(0.02)


def _load(
    hub: _Hub, settings: BenchSettings, progress: Callable[[str], None]
) -> tuple[dict[str, Any], list[Orders], dict[int, int]]:
    """Run all producers. Return the figures, the orders of each producer, and how many messages each sent."""
    each = -(-settings.messages // settings.producers)
    fields = (settings.size, settings.chunk, settings.ack, secrets.token_hex(4))
    orders = [
        Orders(hub.socket, number, settings.client, each, settings.seconds, *fields)
        for number in range(settings.producers)
    ]
    command = [sys.executable, "-P", "-m", "hub.bench.load"]
    before, commits = hub.stats(), hub.commits()
    processes = [
        subprocess.Popen([*command, msgspec.json.encode(one).decode()], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for one in orders
    ]
    try:
        for process in processes:
            _line(process)
        cpu, begun = hub.cpu_s(), time.perf_counter()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
        progress(f"{settings.producers} producers are sending")
        for number in range(settings.kill):
            time.sleep(max(begun + settings.seconds * (number + 1) / (settings.kill + 1) - time.perf_counter(), 0.0))
            hub.kill()
        results = [json.loads(_line(process)) for process in processes]
        sent = {result["number"]: result["messages"] for result in results}
        total = sum(sent.values())
        if settings.client != "ping" and not settings.kill:  # else the hub counts anew, and all is acknowledged
            _await_messages(hub, before["messages"] + total)
        seconds = time.perf_counter() - begun
        figures: dict[str, Any] = {
            "results": results,
            "seconds": seconds,
            "cpu_s": hub.cpu_s() - cpu,
            "memory_bytes": hub.memory_bytes(),
            "journal_bytes": hub.journal_bytes,
            "commits": hub.commits() - commits,
        }
        figures["after"] = before["last_sequence"]
        return figures, orders, sent
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise BenchError("a producer process failed; its output is above")
    return line


def _await_messages(hub: _Hub, total: int) -> None:
    """Wait until the hub has committed everything: messages sent without acknowledgements may still be on their way."""
    last, since = -1, time.monotonic()
    while (now := hub.stats()["messages"]) < total:
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > START_TIMEOUT_S:
            raise BenchError(f"the hub has {now} of {total} messages, and no more are coming")
        time.sleep(0.005)


def _expired_by_rule(journal: str, after: int) -> dict[str, int]:
    """Return how many messages after the sequence *after* have expired by rule, by tag."""
    found = Counter[str]()
    for each in left_out(journal, after):
        found[each.tag.decode()] += each.messages
    return dict(sorted(found.items()))


def _report(
    settings: BenchSettings, figures: dict[str, Any], checked: Checked | None, disk: DiskFigures
) -> dict[str, Any]:
    results, seconds = figures["results"], figures["seconds"]
    total = sum(result["messages"] for result in results)
    report: dict[str, Any] = {
        "producers": settings.producers,
        "client": settings.client,
        "chunk": settings.chunk,
        "ack": settings.ack,
        "durability": settings.durability,
        "size": settings.size,
        "full": settings.full,
        "kills": settings.kill,
        "journal_bytes": figures["journal_bytes"],
        "messages": total,
        "seconds": round(seconds, 3),
        "messages_per_s": round(total / seconds),
        "mb_per_s": round(total * settings.size / seconds / 1e6, 1),
        "hub_cpu_ns_per_message": round(figures["cpu_s"] / max(total, 1) * 1e9, 1),
    }
    for name in ("ack_ms_p50", "ack_ms_p99", "ack_ms_p999", "send_us", "file_us", "ratio", "lines_per_s"):
        if values := [result[name] for result in results if name in result]:
            report[name] = round(max(values), 4)  # the largest value of all producers
    return {
        **report,
        "hub_memory_max_bytes": figures["memory_bytes"],
        "commits": figures["commits"],
        "checked": None if checked is None else checked.messages,
        **{name: None if checked is None else getattr(checked, name) for name in FAULTS},
        "expired_by_rule": figures["expired_by_rule"],
        **disk._asdict(),
    }
