"""
The figures that have no axis: latencies, the cost of a call, stalls, following. Each is compared with something that is
measured in the same minute: the disk's own `fdatasync`, a log call to a file, a Python program that only answers.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvloop

from hub.bench.disk import measure as measure_disk
from hub.service.service import Service
from hub.service.settings import load
from hub.wire.chunkid import pack_own
from producers import Producer
from tests.benchmarks import calls
from tests.benchmarks.following import beside_pages
from tests.benchmarks.peer import START_S, Failed, Peer, Process, Work
from tests.benchmarks.peers.hub import Journal
from tests.benchmarks.results import Unit
from tests.hub.clients import connect, frame_of, read_acks
from tests.support import eventually

MPSR = (sys.executable, "-P", "-c", "from hub.cli import main; main()")
SENDS, PINGS, LONE = 8, 2000, 100
REASON_CHARS = 300
SPAWN_S = 6.0
"""Half a million lines for each second: several times as long as the start of the command."""
PAUSE_S = 0.01
BEAT_S = 0.001
FOLLOWED_PER_S = 100_000
PROBES_PER_S = 200
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":["%s"]}\n' % (b"x" * 960)
ANSWERING = """
import asyncio, sys
import uvloop

async def answer(reader, writer):
    while await reader.readline():
        writer.write(sys.argv[2].encode())

async def serve():
    async with await asyncio.start_unix_server(answer, sys.argv[1]) as server:
        print("ready", flush=True)
        await server.serve_forever()

uvloop.run(serve())
"""
"""Sends the same reply to each line, on the same event loop as the hub."""


ONCE = ("spawn", "send", "stalls, chunks", "stalls, frames")
"""Compared with nothing, and each is already the middle of many."""


def units(seconds: float) -> Iterator[Unit]:
    """Yield a unit for each figure."""
    measured: dict[str, Callable[[Path], dict[str, Any]]] = {
        "disk": disk,
        "acknowledged": idle_latencies,
        "connect": lambda folder: bench(folder, seconds, "--pattern", "connect"),
        "HubHandler": lambda folder: bench(folder, seconds, "--client", "logging"),
        "structlog": lambda folder: bench(folder, seconds, "--client", "structlog"),
        "Producer": lambda folder: bench(folder, seconds, "--client", "producer", "--producers", "1"),
        "AsyncProducer": lambda folder: bench(folder, seconds, "--client", "async", "--producers", "1"),
        "spawn": spawned,
        "calls": calls.measure,
        "send": sends,
        "ping": pings,
        "stalls, chunks": lambda folder: stalls(folder, seconds, "chunks"),
        "stalls, frames": lambda folder: stalls(folder, seconds, "frames"),
        "follow": lambda folder: follow(folder, seconds),
        "pages, ingest": lambda folder: beside_pages(folder, seconds),
    }
    for name, run in measured.items():
        yield Unit("figures", name, run, rounds=1 if name in ONCE else 0)


def bench(folder: Path, seconds: float, *args: str) -> dict[str, Any]:
    """Return the report of one run of `mpsr bench`. Raises Failed with what it says if its check finds a fault."""
    command = [*MPSR, "bench", "--folder", str(folder), "--json", "--seconds", str(seconds), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"mpsr bench {' '.join(args)}: {(done.stderr or done.stdout).strip()[-REASON_CHARS:]}")
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def spawned(folder: Path) -> dict[str, Any]:
    """Lines through `mpsr spawn`. Raises Failed if the time of a run with one line is not far below that of all."""
    report = bench(folder, SPAWN_S, "--client", "spawn")
    if not 0 < report["lines_per_s"] < report["messages_per_s"] * 4:
        raise Failed("most of the time of `mpsr spawn` was its start")
    return report


def disk(folder: Path) -> dict[str, Any]:
    """The disk's own figures: an upper limit for any hub on it."""
    return measure_disk(str(folder))._asdict()


@contextlib.contextmanager
def hub_in(folder: Path) -> Iterator[tuple[Journal, str]]:
    """Run a hub in *folder*; give it and its socket."""
    hub = Journal()
    try:
        hub.start(folder, Work())
        yield hub, f"{folder}/s"
    finally:
        hub.stop()


def idle_latencies(folder: Path) -> dict[str, Any]:
    """Until one message is acknowledged, and until as many bytes are synced, in turn; a pause before each."""
    acknowledged, synced = [], []
    with hub_in(folder) as (_, path), open(folder / "synced", "wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, 200 * LONE)
        os.fsync(file.fileno())
        with connect(path, timeout=60) as client:
            for number in range(LONE):
                frame = frame_of(pack_own("lone" + secrets.token_hex(9), number + 1), {"n": number, "x": "x" * 90})
                time.sleep(PAUSE_S)
                begun = time.perf_counter()
                client.sendall(frame)
                read_acks(client, 1)
                acknowledged.append(time.perf_counter() - begun)
                time.sleep(PAUSE_S)
                begun = time.perf_counter()
                file.write(b"x" * 200)
                os.fdatasync(file.fileno())
                synced.append(time.perf_counter() - begun)
    ack, sync = (round(statistics.median(times) * 1e3, 4) for times in (acknowledged, synced))
    return {"ack_ms": ack, "fdatasync_ms": sync, "ratio": round(ack / sync, 3)}


def sends(folder: Path) -> dict[str, Any]:
    """`mpsr send x`, the whole process."""
    times = []
    with hub_in(folder) as (_, path):
        for _ in range(SENDS):
            begun = time.perf_counter()
            subprocess.run([*MPSR, "send", "--socket", path, "x"], check=True)
            times.append(time.perf_counter() - begun)
    return {"ms": round(statistics.median(times) * 1e3, 1)}


def pings(folder: Path) -> dict[str, Any]:
    """A command of 1 KB and its reply, against a Python program that sends the same reply to each line."""
    with hub_in(folder) as (_, path):
        with connect(path, PING) as client:
            reply = client.makefile().readline()
        answering = f"{folder}/answering"
        other = Process(folder, [sys.executable, "-c", ANSWERING, answering, reply], "answering")
        try:
            other.line(START_S)
            base, own = (statistics.median(round_trips(where)) * 1e6 for where in (answering, path))
        finally:
            other.end()
    return {"us": round(own, 1), "answering_us": round(base, 1), "ratio": round(own / base, 3)}


def round_trips(path: str) -> list[float]:
    """Return the seconds of each ping."""
    times = []
    with connect(path) as client:
        for _ in range(PINGS):
            begun = time.perf_counter()
            client.sendall(PING)
            while not client.recv(1 << 16).endswith(b"\n"):
                pass
            times.append(time.perf_counter() - begun)
    return times


def stalls(folder: Path, seconds: float, dialect: str) -> dict[str, Any]:
    """How late the hub's event loop runs what is due, looked at each millisecond, while five producers load it."""
    config = load({"socket": f"{folder}/s", "journal": f"{folder}/journal"}, file=os.devnull).config
    late = uvloop.run(_loaded(Service(config), folder, Work(seconds=seconds), dialect))
    return {f"ms_{name}": round(late_for(late, part) * 1e3, 3) for name, part in (("p50", 0.5), ("p999", 0.999))}


def late_for(late: list[float], part: float) -> float:
    """
    Return by how many seconds the loop was late at most during *part* of the time. A long stall is one look, but it is
    met by everything that comes due during it.
    """
    ordered = sorted(late)
    left = part * sum(each + BEAT_S for each in ordered)
    for each in ordered:
        left -= each + BEAT_S
        if left <= 0:
            return each
    return ordered[-1]


async def _loaded(service: Service, folder: Path, work: Work, dialect: str) -> list[float]:
    """Run the service under load; return by how many seconds the loop was late."""
    serving = asyncio.create_task(service.run())
    working = asyncio.create_task(asyncio.to_thread(_load, folder, work, dialect))
    late: list[float] = []
    while not working.done():
        due = time.perf_counter() + BEAT_S  # the loop's own time is in whole milliseconds
        await asyncio.sleep(BEAT_S)
        late.append(max(time.perf_counter() - due, 0.0))
    service.stop()
    await serving
    await working
    return late


def _load(folder: Path, work: Work, dialect: str) -> None:
    """Let producers send to a hub that runs in this process."""
    eventually((folder / "s").exists, "the hub accepts")
    peer = Journal(dialect=dialect)
    peer.folder = folder
    sending = Peer.send(peer, work)
    try:
        sending.ready()
        sending.go()
        sending.results(work.seconds)
    finally:
        sending.end()


def follow(folder: Path, seconds: float) -> dict[str, Any]:
    """
    From `send` to the line that `logs -f` prints, while others send 100,000 messages per second, which it prints too.

    A message with a number is due 200 times a second. Its time runs from when it was due, so a `send` that waits is not
    excused, and ends when a process that does nothing else has read its line.
    """
    count = int(seconds * PROBES_PER_S)
    with hub_in(folder) as (hub, path), Producer(path, tag="probe") as probe, contextlib.ExitStack() as stack:
        sending = hub.send(Work(seconds=seconds, rate=FOLLOWED_PER_S, chunk=20))
        stack.callback(sending.end)
        command = [*MPSR, "logs", "--journal", f"{folder}/journal", "-f", "--output", "json"]
        follower = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE))
        stack.callback(follower.kill)
        reading = Process(folder, [sys.executable, "-c", READING, str(count)], "reading", stdin=follower.stdout)
        stack.callback(reading.end)
        sending.ready()
        _await_follower(probe, reading)
        sending.go()
        begun = time.perf_counter()
        for number in range(1, count + 1):
            due = begun + number / PROBES_PER_S
            time.sleep(max(due - time.perf_counter(), 0.0))
            probe.send({"probe": number, "due": int(due * 1e9)})
        sent = sending.results(seconds).messages
        while (line := reading.line(START_S)) == BEGUN:
            pass
    late: list[float] = json.loads(line)
    if len(late) < count:
        raise Failed(f"logs -f printed {len(late)} of {count} messages")
    figures = {f"ms_{name}": round(late[int(count * part)] * 1e3, 3) for name, part in PARTS.items()}
    return {**figures, "messages_per_s": round(sent / seconds)}


PARTS = {"p50": 0.5, "p99": 0.99}
BEGUN = "begun"
READING = """
import json, os, re, sys, time

count, late, rest = int(sys.argv[1]), {}, b""
while len(late) < count and (data := os.read(0, 1 << 16)):
    now = time.perf_counter_ns()
    data = rest + data
    end = data.rfind(b"\\n") + 1
    for number, due in re.findall(rb'"probe":(\\d+),"due":(\\d+)', data[:end]):
        if number == b"0":
            print("begun", flush=True)
        else:
            late[number] = (now - int(due)) / 1e9
    rest = data[end:]
print(json.dumps(sorted(late.values())), flush=True)
while os.read(0, 1 << 16):
    pass
"""
"""Prints ``begun`` for each message with the number 0; when all others are there, for each how long it took."""


def _await_follower(probe: Producer, reading: Process) -> None:
    """Send messages until the follower has printed one."""
    deadline = time.monotonic() + START_S
    while True:
        probe.send({"probe": 0, "due": 0})
        with contextlib.suppress(Failed):
            reading.line(0.05)
            return
        if time.monotonic() > deadline or not reading.is_running():
            raise reading.failed("got nothing from logs -f")
