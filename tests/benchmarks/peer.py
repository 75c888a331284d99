"""
The protocol between the runner and what it measures: start, send, counted, stop. One file for each peer is in peers/.

A peer is a receiver in a process of its own. Producers are other processes: they print ``ready``, wait for a line, send
for some seconds, and print their result as one line of JSON: the number of messages, and the acknowledgement times. The
clock runs from that line until the receiver has counted everything that was sent.

Always true:
- the producers of all peers send the same number of bytes per message, from the same prepared messages;
- what is counted is what the receiver has, and not what was sent;
- everything that a peer writes is in its folder, which the runner removes.

This module and the scripts of the peers need the standard library only: some run in the environment of the peers.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[2]
PEERS, DEBIAN = ROOT / ".venv-bench", ROOT / ".venv-debian"
"""The environment with the Python packages of the peers, and the folder into which Debian's packages are unpacked."""
PROCESSES_MAX = 5
"""Producer processes. If there are more producers, each process has several connections."""
START_S, END_S, STALL_S = 60.0, 60.0, 3.0


class Missing(Exception):
    """The peer cannot be had on this machine; the text says what is missing."""


class Failed(Exception):
    """The peer ended, did not answer, or did not do what was asked."""


@dataclasses.dataclass(frozen=True)
class Work:
    """What all producers together do."""

    producers: int = 5
    seconds: float = 2.0
    size: int = 130
    """Bytes per message."""
    chunk: int = 1000
    """Messages per chunk or pipeline, if the peer has such a thing."""
    ack: bool = True
    rate: int = 0
    """Messages per second of all producers together; 0: as many as possible."""
    window: int = 0
    """Maximum chunks of one producer without an acknowledgement; 0: what is usual for the peer."""
    messages: int = 0
    """Stop after that many messages of all producers together, instead of after some seconds."""


@dataclasses.dataclass
class Sent:
    """What the producers report."""

    messages: int
    by_producer: dict[int, int]
    ack_ms: dict[str, float]
    figures: dict[str, float] = dataclasses.field(default_factory=dict)


def environment(command: Sequence[str]) -> dict[str, str]:
    """Return the environment of a child: the checkout is importable, and an unpacked program finds its libraries."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if command[0].startswith(str(DEBIAN)):
        places = ("usr/lib/*-linux-gnu", "lib/*-linux-gnu", "usr/lib/syslog-ng")
        folders = [str(path) for place in places for path in DEBIAN.glob(place)]
        environment["LD_LIBRARY_PATH"] = ":".join(folders)
        environment["PATH"] = f"{DEBIAN}/usr/bin:{environment.get('PATH', '')}"  # cargo looks for rustc
    return environment


def module(name: str, *args: str, peers: bool = False) -> list[str]:
    """Return the command that runs a module of this project, with the Python of the peers if *peers*."""
    python = str(PEERS / "bin" / "python") if peers else sys.executable
    return [python, "-P", "-m", f"tests.benchmarks.{name}", *args]


def program(name: str) -> str:
    """Return the path of a program: on the PATH, in the environment of the peers, or unpacked."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:{PEERS}/bin:{DEBIAN}/usr/bin:{DEBIAN}/usr/sbin"
    found = shutil.which(name, path=path)
    if found is None:
        raise Missing(f"{name} is not installed")
    return found


def output_of(*command: str) -> str:
    """Return what a program prints, such as its version; empty if it fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=environment(command), timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout or done.stderr


class Process:
    """A child process that answers in lines. Its standard error is in a file; *Failed* quotes its end."""

    def __init__(
        self, folder: Path, command: Sequence[str], name: str, stdin: int | IO[bytes] | None = subprocess.PIPE
    ) -> None:
        self.name = name
        self._log = folder / (re.sub(r"\W+", "-", name) + ".err")
        self._lines = b""
        with self._log.open("ab") as log:
            pipe, env = subprocess.PIPE, environment(command)
            self._popen = subprocess.Popen(command, stdin=stdin, stdout=pipe, stderr=log, env=env)
        self.pid = self._popen.pid

    def tell(self, line: str = "") -> None:
        """Write a line to it."""
        assert self._popen.stdin is not None
        try:
            self._popen.stdin.write(line.encode() + b"\n")
            self._popen.stdin.flush()
        except BrokenPipeError:
            raise self.failed("has ended") from None

    def line(self, timeout: float) -> str:
        """Return its next line. Raises Failed if there is none in time."""
        assert self._popen.stdout is not None
        descriptor, deadline = self._popen.stdout.fileno(), time.monotonic() + timeout
        while b"\n" not in self._lines:
            ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                raise self.failed(f"did not answer in {timeout:g} s")
            data = os.read(descriptor, 1 << 16)
            if not data:
                raise self.failed("has ended")
            self._lines += data
        line, _, self._lines = self._lines.partition(b"\n")
        return line.decode()

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def failed(self, how: str) -> Failed:
        """Return the error that says how this process failed, with the end of its standard error."""
        log = self._log.read_text(errors="replace").strip().splitlines()[-3:]
        return Failed(": ".join([f"{self.name} {how}", *log]))

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it, with SIGKILL if it takes longer than 10 seconds."""
        if self.is_running():
            self._popen.send_signal(how)
        try:
            self._popen.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.communicate()


class Peer:
    """
    A receiver that is measured. Subclasses have a `start`, a `counted`, and a command for their producers.

    *durable* says what is on disk when, and *counts* says what is counted, for the reader of the tables.
    """

    durable = "no"
    counts = "each message, in the receiver"
    package = ""
    """From where the harness installs it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.process: Process | None = None
        self.folder = Path()

    def version(self) -> str:
        """Return the version for the tables. Raises Missing if the peer cannot be had."""
        return ""

    def start(self, folder: Path, work: Work) -> None:
        """Start the receiver, and return when it accepts."""
        raise NotImplementedError

    def sender(self, work: Work, *, first: int, producers: int) -> list[str]:
        """Return the command of a producer process with *producers* producers, numbered from *first*."""
        raise NotImplementedError

    def send(self, work: Work) -> Sending:
        """Start the producers. They wait for `Sending.go`."""
        shares = share(work.producers)
        firsts = [sum(shares[:index]) for index in range(len(shares))]
        commands = [self.sender(work, first=first, producers=each) for first, each in zip(firsts, shares, strict=True)]
        return Sending([Process(self.folder, each, f"producer-{n}") for n, each in enumerate(commands)])

    def counted(self) -> int:
        """Return how many messages the receiver has now. By default the receiver answers to a line."""
        assert self.process is not None
        self.process.tell()
        return int(self.process.line(START_S))

    def check(self, work: Work, sent: Sent) -> dict[str, Any]:
        """Compare what was stored with what was sent, after the receiver has stopped; return further figures."""
        return {}

    def stop(self) -> None:
        """End the receiver."""
        if self.process is not None:
            self.process.end()

    def begin(self, folder: Path, command: Sequence[str]) -> Process:
        """Start the process of the receiver."""
        self.folder = folder
        self.process = Process(folder, command, self.name)
        return self.process

    def await_line(self) -> None:
        """Wait until the receiver prints that it is ready."""
        assert self.process is not None
        if (line := self.process.line(START_S)) != "ready":
            raise self.process.failed(f"answered {line!r}")

    def await_socket(self, path: Path) -> None:
        """Wait until the receiver has made its socket or file."""
        assert self.process is not None
        deadline = time.monotonic() + START_S
        while not path.exists():
            if not self.process.is_running():
                raise self.process.failed("has ended")
            if time.monotonic() > deadline:
                raise self.process.failed("did not start")
            time.sleep(0.005)


class Sending:
    """Producer processes that are ready to send, or send."""

    def __init__(self, processes: Sequence[Process]) -> None:
        self._processes = processes

    def ready(self) -> None:
        """Wait until all are connected."""
        for process in self._processes:
            if (line := process.line(START_S)) != "ready":
                raise process.failed(f"answered {line!r}")

    def go(self) -> None:
        """Let all of them send."""
        for process in self._processes:
            process.tell("go")

    def results(self, seconds: float) -> Sent:
        """Wait for what they report."""
        reports = [json.loads(process.line(seconds + END_S)) for process in self._processes]
        return sent_of(reports)

    def end(self) -> None:
        for process in self._processes:
            process.end(signal.SIGKILL)


def sent_of(reports: Iterable[dict[str, Any]]) -> Sent:
    """Return the sum of the reports of producer processes; of times the largest one counts."""
    sent = Sent(0, {}, {})
    for report in reports:
        sent.messages += report["messages"]
        sent.by_producer |= {int(number): count for number, count in report.get("by_producer", {}).items()}
        for name, value in report.get("ack_ms", {}).items():
            sent.ack_ms[name] = max(value, sent.ack_ms.get(name, 0.0))
        if "send_us" in report:
            sent.figures["send_us"] = max(report["send_us"], sent.figures.get("send_us", 0.0))
    return sent


def share(producers: int) -> list[int]:
    """Return how many producers each process has."""
    processes = min(producers, PROCESSES_MAX)
    return [producers // processes + (index < producers % processes) for index in range(processes)]


def cpu_s(pid: int) -> float:
    """Return the processor time that a process and its children that have ended have used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def memory_bytes(pid: int) -> int:
    """Return the most memory that a process has used since its start."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """Return p50, p99 and p99.9 in milliseconds."""
    ordered = sorted(seconds)
    parts = {"p50": 0.5, "p99": 0.99, "p999": 0.999} if ordered else {}
    at = {name: ordered[min(int(len(ordered) * part), len(ordered) - 1)] for name, part in parts.items()}
    return {name: round(value * 1e3, 4) for name, value in at.items()}


def measure(peer: Peer, work: Work, folder: Path) -> dict[str, Any]:
    """Run *peer* once in *folder*, and return its figures. Raises Failed."""
    sending: Sending | None = None
    try:
        peer.start(folder, work)
        sending = peer.send(work)
        sending.ready()
        assert peer.process is not None
        cpu, begun = cpu_s(peer.process.pid), time.perf_counter()
        sending.go()
        sent = sending.results(work.seconds)
        counted, seconds = _await_all(peer, sent.messages, begun)
        figures = {
            "messages": sent.messages,
            "counted": counted,
            "lost": max(sent.messages - counted, 0),
            "seconds": round(seconds, 4),
            "messages_per_s": round(counted / seconds),
            "cpu_ns": round((cpu_s(peer.process.pid) - cpu) / max(counted, 1) * 1e9, 1),
            "memory_bytes": memory_bytes(peer.process.pid),
            **{f"ack_ms_{name}": value for name, value in sent.ack_ms.items()},
            **sent.figures,
        }
        sending.end()
        peer.stop()
        return {**figures, **peer.check(work, sent)}
    finally:
        if sending is not None:
            sending.end()
        peer.stop()


def _await_all(peer: Peer, messages: int, begun: float) -> tuple[int, float]:
    """Wait until everything is counted, or no more comes. Return how many came, and the seconds until the last one."""
    last, since = -1, time.perf_counter()
    while (now := peer.counted()) < messages:
        if now != last:
            last, since = now, time.perf_counter()
        elif time.perf_counter() - since > STALL_S:
            return now, since - begun
        time.sleep(0.005)
    return now, time.perf_counter() - begun
