"""
The figures that are no race with tokio (that is against_tokio.py): latency, idle connections, stalls, starts, reading.

    .venv/bin/python -m tests.benchmarks.figures --folder /var/tmp

Each line has a figure and what it is compared with, taken in the same sitting: the disk's own `fdatasync`, a Python
program that only answers, an empty journal.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import uvloop

from hub.bench.load import Orders
from hub.service.service import Service
from hub.service.settings import load
from hub.wire.chunkid import pack_own
from producers import call
from tests.benchmarks.against_tokio import ours
from tests.hub.clients import connect, frame_of, read_acks
from tests.support import eventually

MPSR = (sys.executable, "-P", "-c", "from hub.cli import main; main()")
SENDS, PINGS, IDLE, LONE = 20, 5000, 10_000, 300
PAUSE_S = 0.01
STORED, READ = 9_000_000, 2_000_000
"""Messages in a full journal, and how many of them are searched."""
BEAT_S = 0.001
Load = subprocess.Popen[bytes]
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping","params":["%s"]}\n' % (b"x" * 960)
ANSWERING = """
import asyncio, sys
import uvloop

async def answer(reader, writer):
    while await reader.readline():
        writer.write(sys.argv[2].encode())

async def serve():
    async with await asyncio.start_unix_server(answer, sys.argv[1]) as server:
        await server.serve_forever()

uvloop.run(serve())
"""
"""Sends the same reply to each line, on the same event loop as the hub."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="/var/tmp", help="a folder on the disk to measure")
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="mpsr-figures-", dir=options.folder)
    try:
        latencies(folder, options.seconds)
        pings(folder)
        idle_connections(folder)
        stalls(folder, options.seconds)
        starts_and_reads(folder)
        full_journal(folder, options.seconds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def show(name: str, figure: str, against: str = "") -> None:
    print(f"{name:<52} {figure:>12}  {against}", flush=True)


@contextlib.contextmanager
def hub_at(journal: str, *options: str) -> Iterator[tuple[str, float]]:
    """Run a hub; give its socket and the seconds until it accepted."""
    path = os.path.join(tempfile.mkdtemp(dir=os.path.dirname(journal)), "s")
    begun = time.perf_counter()
    command = [*MPSR, "hub", "--socket", path, "--journal", journal, *options]
    hub = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        while not _accepts(path):
            assert hub.poll() is None
            time.sleep(0.001)  # a short one: this is a figure
        yield path, time.perf_counter() - begun
    finally:
        hub.terminate()
        hub.wait()


def _accepts(path: str) -> bool:
    try:
        connect(path).close()
    except OSError:
        return False
    return True


def loader(
    path: str, number: int, *, messages: int = 0, seconds: float = 0, chunk: int = 1000, ack: bool = True
) -> Load:
    """Start one of the bench's raw producers; it says that it is ready, and waits for a line."""
    orders = Orders(path, number, "raw", messages, seconds, 130, chunk, ack, secrets.token_hex(4))
    command = [sys.executable, "-P", "-m", "hub.bench.load", msgspec.json.encode(orders).decode()]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def latencies(folder: str, seconds: float) -> None:
    """One message acknowledged, connecting, sending from Python and from a shell."""
    acknowledged, synced = idle_latencies(folder)
    ratio = statistics.median(acknowledged) / statistics.median(synced)
    figure = f"{statistics.median(acknowledged) * 1e3:.3f} ms"
    show("one message sent to an idle hub and acknowledged, p50", figure, f"{ratio:.2f} x fdatasync")
    each = ours(folder, 130, seconds, "--pattern", "connect")
    show("connect, one line, close", f"{each['messages_per_s']:,} /s")
    sending = ours(folder, 130, seconds, "--client", "producer", "--producers", "1")
    show("Producer.send of a small dict", f"{sending['send_us']:.2f} us")
    times = []
    with hub_at(f"{folder}/sent") as (path, _):
        for _ in range(SENDS):
            begun = time.perf_counter()
            subprocess.run([*MPSR, "send", "--socket", path, "x"], check=True)
            times.append(time.perf_counter() - begun)
    show("mpsr send x, the whole process", f"{statistics.median(times) * 1e3:.0f} ms")


def idle_latencies(folder: str) -> tuple[list[float], list[float]]:
    """Return the seconds until a message is acknowledged, and until as many bytes are synced; a pause before each."""
    acknowledged, synced = [], []
    with hub_at(f"{folder}/idle-hub") as (path, _), open(f"{folder}/synced", "wb", buffering=0) as file:
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
    return acknowledged, synced


def pings(folder: str) -> None:
    """A command of 1 KB and its reply, against a Python program that sends the same reply to each line."""
    ratios, medians = [], []
    with hub_at(f"{folder}/pinged") as (path, _):
        with connect(path, PING) as client:
            reply = client.makefile().readline()
        answering = f"{folder}/answering"
        other = subprocess.Popen([sys.executable, "-c", ANSWERING, answering, reply])
        try:
            eventually(lambda: _accepts(answering), "the answering program accepts")
            for _ in range(5):
                base, own = (statistics.median(round_trips(where, PINGS)) for where in (answering, path))
                ratios.append(base / own)
                medians.append(own)
        finally:
            other.kill()
            other.wait()
    figure = f"{statistics.median(medians) * 1e6:.0f} us"
    show("1 KB ping and its reply, p50", figure, f"{statistics.median(ratios):.2f} x a program that only answers")


def round_trips(path: str, count: int) -> list[float]:
    """Return the seconds of *count* pings."""
    times = []
    with connect(path) as client:
        for _ in range(count):
            begun = time.perf_counter()
            client.sendall(PING)
            while not client.recv(1 << 16).endswith(b"\n"):
                pass
            times.append(time.perf_counter() - begun)
    return times


def idle_connections(folder: str) -> None:
    """Memory with many connections that have sent one line each."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    count = min(IDLE, limit) - 100
    with hub_at(f"{folder}/idle") as (path, _), contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(connect(path, b"hello\n", timeout=None))
        stats = eventually(lambda: (found := call("stats", path=path))["messages"] >= count and found)
        show(f"memory with {stats['connections']:,} idle connections", f"{stats['rss_bytes'] / 1e6:.0f} MB")


def stalls(folder: str, seconds: float) -> None:
    """How late the hub's event loop runs what is due, looked at each millisecond, while five producers load it."""
    for name, chunk, ack in (("chunks of 1000", 1000, True), ("Message frames", 1, False)):
        path, journal = f"{folder}/stalled-{chunk}.sock", f"{folder}/stalled-{chunk}"
        config = load({"socket": path, "journal": journal, "journal_size": "20GiB"}, file=os.devnull).config
        late, rate = uvloop.run(_loaded(Service(config), path, seconds, chunk, ack))
        middle, high = (late_for(late, part) * 1e3 for part in (0.5, 0.999))
        against = f"p50 {middle:.2f} ms, the worst {max(late) * 1e3:.1f}, beside {rate:.1f} M/s"
        show(f"event loop stall under full load ({name}), p99.9", f"{high:.1f} ms", against)


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


async def _loaded(service: Service, path: str, seconds: float, chunk: int, ack: bool) -> tuple[list[float], float]:
    """Run the service under load; return by how many seconds the loop was late, and millions of messages a second."""
    serving = asyncio.create_task(service.run())
    working = asyncio.create_task(asyncio.to_thread(_work, path, seconds, chunk, ack))
    late: list[float] = []
    while not working.done():
        due = time.perf_counter() + BEAT_S  # the loop's own time is in whole milliseconds
        await asyncio.sleep(BEAT_S)
        late.append(max(time.perf_counter() - due, 0.0))
    service.stop()
    await serving
    return late, working.result()


def _work(path: str, seconds: float, chunk: int, ack: bool) -> float:
    eventually(lambda: _accepts(path), "the hub accepts")
    processes = [loader(path, number, seconds=seconds, chunk=chunk, ack=ack) for number in range(5)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        process.stdin.write(b"go\n")
        process.stdin.flush()
    results = [json.loads(process.communicate()[0]) for process in processes]
    return float(sum(result["messages"] / result["seconds"] for result in results) / 1e6)


def starts_and_reads(folder: str) -> None:
    """Start on a full journal of 1 GiB; what is found in it."""
    journal = f"{folder}/full"
    with hub_at(journal) as (path, _):
        loader(path, 0, messages=STORED).communicate(b"go\n")
        last = call("stats", path=path)["last_sequence"]
    times, are_cold = [], True
    for _ in range(3):
        are_cold &= drop_caches()
        with hub_at(journal) as (_, seconds):
            times.append(seconds)
    cache = "nothing in the page cache" if are_cold else "from the page cache: only root can empty it"
    show("start on a full journal of 1 GiB until it accepts", f"{max(times):.2f} s", cache)
    asked = {
        "--grep, a literal that is nowhere": ("--grep", "nowhere"),
        "--grep, a literal in each message": ("--grep", "finished"),
        "--grep, a regex that fits nowhere": ("--grep", "fin[a-h]z+x"),
        "--grep, a regex of alternatives": ("--grep", "timeout|refused"),
        "--where, nowhere": ("--where", "status=500"),
        "--where, in each": ("--where", "status=200"),
    }
    for name, options in asked.items():
        command = [*MPSR, "logs", "--journal", journal, "--after", str(last - READ), "--output", "json", *options]
        begun = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        show(f"logs {name}", f"{READ / (time.perf_counter() - begun) / 1e6:.1f} M/s", "the whole command")


def drop_caches() -> bool:
    """Let nothing of any file be in memory; return whether that was permitted."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    except OSError:
        return False
    return True


def full_journal(folder: str, seconds: float) -> None:
    """A ring that is full and expires, against an empty journal, in turn."""
    ratios = []
    for _ in range(3):
        empty = ours(folder, 130, seconds)["messages_per_s"]
        ratios.append(ours(folder, 130, seconds, "--full")["messages_per_s"] / empty)
    spread = " ".join(f"{ratio:.2f}" for ratio in ratios)
    show("ring full and expiring, against an empty journal", f"{statistics.median(ratios):.2f} x", spread)


if __name__ == "__main__":
    main()
