"""
How long it takes to look at a full journal: the commands, SQL, and the histogram and the first screen of the page.

The journal is made here, by the hub's own writer: a day of messages of eight applications, with levels and fields as
their log libraries write them, and a word that few of them have. All sealed segments have their indexes. It is the same
bytes each time, except for the id of its hub.

    python -m tests.benchmarks.looking FOLDER [GIB]     makes it in a new folder, and prints the figures

Not here: the rest of the page (tests.benchmarks.page), searches for a rate (tests.benchmarks.queries).
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from hub import entries as codec
from hub.dedupe import Dedupe
from hub.entries import NS
from hub.journal.clock import Clock
from hub.journal.files import DiskFiles
from hub.journal.recovery import recover
from hub.journal.retention import RETAIN_BYTES
from hub.journal.writer import Writer
from hub.message import Batch, Peer
from hub.query.indexing import make_indexes
from tests.benchmarks.peer import Failed
from tests.benchmarks.results import Results, Unit
from tests.benchmarks.tables import table

MPSR = (sys.executable, "-P", "-c", "from hub.cli import main; main()")
RUNS = 3
BATCH = 500
DAY_S = 86_400
BEGIN_S = 1_790_000_000
BATCH_BYTES = 67_000
"""About what a batch takes on the disk: this decides how many there are in a day."""
COMMITTED = 16
RARE, RARE_EACH = "thermal", 250_000
"""A word, and of how many messages one has it."""
FREQUENT = "checkout"
ID_BYTES = 8
_PLACE = "0" * (2 * ID_BYTES)
_encode = msgspec.msgpack.Encoder().encode
COUNT_BY_LEVEL = "select level, count(*) from messages group by 1 order by 1"
COMMANDS: dict[str, tuple[str, ...]] = {
    "logs -n 1": ("logs", "-n", "1"),
    "logs -n 100": ("logs", "-n", "100"),
    "logs --histogram": ("logs", "--histogram"),
    "logs --by level": ("logs", "--by", "level"),
    "logs --grep, a rare word": ("logs", "--grep", RARE),
    "logs --grep, a frequent word, -n 100": ("logs", "--grep", FREQUENT, "-n", "100"),
    "sql, count by level": ("sql", COUNT_BY_LEVEL, "-o", "csv"),
    "sql, count by tag and hour": (
        "sql", "select tag, date_trunc('hour', received), count(*) from messages group by all", "-o", "csv",
    ),
    "sql, average of a field": ("sql", "select avg((record->>'$.duration_ms')::double) from messages", "-o", "csv"),
}  # fmt: skip
EXPENSIVE = ("sql, average of a field",)
"""Run once."""
START, FILLING, CACHED = "python -c pass", "sql --cache, the first time", "sql --cache, count by level"
WHAT = ("s", "CPU s")
ALL = "everything"
SPARE = 1.5
"""The disk has that many times the room of the journal, or the size is left out: for the cache."""
TEXT = """\
## Looking at a full journal

Whole commands on a journal of {messages:,.0f} messages of eight applications, a day of them, which was in memory. Its
sealed segments had their indexes, the newest one none.

"""


class Application(NamedTuple):
    """Its tag, how often it writes, and its records: each with the place of an id."""

    tag: bytes
    weight: int
    records: Callable[[random.Random], dict[str, Any]]


def _python(rng: random.Random, path: str = "") -> dict[str, Any]:
    level = _level(rng)
    text = f"{path or 'order'} {rng.choice(('finished', 'started', 'retried'))} after {rng.randrange(900)} ms"
    return {"level": level, "logger": "shop.orders", "message": text, "id": _PLACE}


def _access(rng: random.Random) -> dict[str, Any]:
    path, status = (
        rng.choice(("/", "/cart", "/checkout", "/api/items")),
        rng.choice((200, 200, 200, 200, 304, 404, 500)),
    )
    http = {"method": "GET", "path": path, "status": status}
    level = "error" if status == 500 else "warning" if status == 404 else "info"
    return {
        "message": f"GET {path} {status}",
        "http": http,
        "duration_ms": rng.randrange(800),
        "id": _PLACE,
        "level": level,
    }


def _pino(rng: random.Random) -> dict[str, Any]:
    level = {"debug": 20, "info": 30, "warning": 40, "error": 50}[_level(rng)]
    return {"level": level, "hostname": "web-3", "msg": f"session {rng.randrange(9000)} renewed", "id": _PLACE}


def _severity(rng: random.Random) -> dict[str, Any]:
    return {"severity": _level(rng).upper(), "message": f"query took {rng.randrange(4000)} rows", "id": _PLACE}


def _text(rng: random.Random) -> dict[str, Any]:
    return {"message": f"connection from 10.0.{rng.randrange(255)}.{rng.randrange(255)} port {rng.randrange(65536)}"}


def _level(rng: random.Random) -> str:
    return rng.choices(("debug", "info", "warning", "error"), (10, 80, 7, 3))[0]


APPLICATIONS = (
    Application(b"shop.web", 30, _access),
    Application(b"shop.orders", 20, _python),
    Application(b"shop.checkout", 10, functools.partial(_python, path="checkout")),
    Application(b"shop.sessions", 15, _pino),
    Application(b"db.primary", 10, _severity),
    Application(b"db.replica", 5, _severity),
    Application(b"sshd", 5, _text),
    Application(b"cron.jobs", 5, _python),
)
KINDS = 400
"""Different records of an application, apart from their ids."""


def make_journal(folder: str, gib: float) -> int:
    """Make the journal of about *gib* GiB in *folder*. Return the number of messages."""
    Path(folder).mkdir(parents=True)
    files, dedupe, now = DiskFiles(folder), Dedupe(), [BEGIN_S * NS]
    recovered = recover(files, dedupe, now=now[0])
    retain_bytes = max(int(gib * RETAIN_BYTES), RETAIN_BYTES)
    writer = Writer(
        files, recovered, dedupe, retain_bytes=retain_bytes, durability="relaxed",
        clock=lambda last: Clock(last, wall=lambda: now[0], steady=lambda: now[0]),
    )  # fmt: skip
    writer.begin()
    waiting: list[Batch] = []
    count = int(gib * 2**30 / BATCH_BYTES)
    for batch in batches(count, lambda: now[0]):
        waiting.append(batch)
        if len(waiting) == COMMITTED:
            writer.append(waiting)
            waiting = []
        now[0] += DAY_S * NS // count
    writer.append(waiting)
    last = writer.last_sequence
    writer.close()
    return last


def batches(count: int, now: Callable[[], int]) -> Iterator[Batch]:
    """Yield the batches of a day, each of one application."""
    rng = random.Random(1)
    kinds = {each: [_halves(each.records(rng)) for _ in range(KINDS)] for each in APPLICATIONS}
    weights, rare = [each.weight for each in APPLICATIONS], _halves({"level": "error", "message": f"{RARE} limit"})
    for number in range(count):
        application = rng.choices(APPLICATIONS, weights)[0]
        halves = rng.choices(kinds[application], k=BATCH)
        if number * BATCH % RARE_EACH < BATCH:
            halves[rng.randrange(BATCH)] = rare
        ids = rng.randbytes(BATCH * ID_BYTES).hex()
        time_ns, width = now(), len(_PLACE)
        parts = [
            codec.stamp(time_ns + index * 1_000_000) + head + ids[index * width : (index + 1) * width].encode() + tail
            if tail
            else codec.stamp(time_ns + index * 1_000_000) + head
            for index, (head, tail) in enumerate(halves)
        ]
        peer = Peer(1000 + application.weight, 1000, 1000, application.tag.decode(), True)
        yield Batch(application.tag, codec.join(parts, BATCH), BATCH, None, peer)


def _halves(record: dict[str, Any]) -> tuple[bytes, bytes]:
    """Return the packed record before and after the place of its id; nothing after it if it has none."""
    head, _, tail = _encode(record | {"thread": "worker-12", "version": "26.11"}).partition(_PLACE.encode())
    return head, tail


class Took(NamedTuple):
    """Seconds on the clock, and of the processor."""

    wall_s: float
    cpu_s: float


def timed(command: Sequence[str], environment: dict[str, str] | None = None) -> Took:
    """Run *command* and return what it took, with all its processes."""
    begun = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env={**os.environ, **(environment or {})})
    _, status, used = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Took(round(wall_s, 4), round(used.ru_utime + used.ru_stime, 4))


def median(runs: int, measure: Callable[[], Took]) -> Took:
    """Return the median of *runs* measurements."""
    taken = [measure() for _ in range(runs)]
    return Took(*(statistics.median(each) for each in zip(*taken, strict=True)))


def commands(journal: str, cache: str, runs: int) -> dict[str, Took]:
    """Return what each command takes, what the start of the interpreter alone, and SQL with a cache."""
    found = {START: median(runs, lambda: timed([sys.executable, "-c", "pass"]))}
    for name, (command, *options) in COMMANDS.items():
        whole = [*MPSR, command, *options, "--journal", journal]
        found[name] = median(1 if name in EXPENSIVE else runs, functools.partial(timed, whole))
    cached = [*MPSR, "sql", COUNT_BY_LEVEL, "-o", "csv", "--journal", journal, "--cache"]
    with_cache = functools.partial(timed, cached, {"XDG_CACHE_HOME": cache})
    found[FILLING] = with_cache()
    found[CACHED] = median(runs, with_cache)
    return found


def units(gib: float) -> Iterator[Unit]:
    """Yield the unit of a journal of *gib* GiB."""
    yield Unit("looking", ALL, functools.partial(looked, gib=gib), gib, rounds=1)


def looked(folder: Path, gib: float, runs: int = RUNS) -> dict[str, Any]:
    """Return the seconds of each command, on the clock and of the processor, and the number of messages."""
    journal = f"{folder}/journal"
    if shutil.disk_usage(folder).free < gib * 2**30 * SPARE:
        raise Failed(f"the disk has no room for a journal of {gib:g} GiB")
    begun = time.process_time()
    messages = make_journal(journal, gib)
    making_s = time.process_time() - begun
    begun = time.process_time()
    make_indexes(DiskFiles(journal))
    indexing_us = (time.process_time() - begun) / messages * 1e6
    found: dict[str, Any] = {"messages": messages, "making, CPU s": round(making_s, 1)}
    found["indexing, CPU us"] = round(indexing_us, 2)
    for name, took in commands(journal, f"{folder}/cache", runs).items():
        found |= {f"{name}, s": took.wall_s, f"{name}, CPU s": took.cpu_s}
    return found


def section(results: Results) -> str:
    """Return the section of the page; nothing if nothing was measured."""
    sizes = results.axis("looking")
    rows = [
        [f"`{name.partition(',')[0]}`{name[len(name.partition(',')[0]) :]}", *map("{:.2f}".format, values)]
        for name in (START, *COMMANDS, FILLING, CACHED)
        if None not in (values := [results.median("looking", ALL, f"{name}, {what}", sizes[-1]) for what in WHAT])
    ] if sizes else []  # fmt: skip
    messages = results.median("looking", ALL, "messages", sizes[-1]) if sizes else None
    return TEXT.format(messages=messages or 0) + table(("", "seconds", "of the processor"), rows) if rows else ""


def main() -> None:
    """Make a journal in a folder that does not exist yet, and print what everything takes."""
    folder = Path(sys.argv[1])
    folder.mkdir()
    for name, value in looked(folder, float(sys.argv[2]) if len(sys.argv) > 2 else 1.0).items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
