"""
How long the commands take that read a journal, against its size; starts on a journal, and what is found in it.

Each command is timed as a whole, with the start of its process, from a journal that no hub serves. Where that is
permitted, nothing of the journal is in memory before the first run of a command (`cold`); the figure without that word
is the median of the runs after it.
"""

from __future__ import annotations

import functools
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.peer import Failed, Work
from tests.benchmarks.peers.hub import RING_BYTES, Journal
from tests.benchmarks.results import Unit

MPSR = (sys.executable, "-P", "-c", "from hub.cli import main; main()")
RUNS = 3
MESSAGE_BYTES = 130
SEARCHED = 10_000_000
"""How many of the last messages are searched for a rate, at most."""
SPARE = 1.25
"""A journal has that much room, and the disk again that much more, or the size is left out."""
QUERIES = {
    "`logs -n 100`": ("-n", "100"),
    "`logs --since 1h -n 100`": ("--since", "1h", "-n", "100"),
    "`logs --tag bench.4 -n 100`": ("--tag", "bench.4", "-n", "100"),
}
SEARCHES = {
    "--grep, a literal in every message": ("--grep", "finished"),
    "--grep, a literal in none": ("--grep", "nowhere"),
    "--grep, a regex in none": ("--grep", "fin[a-h]z+x"),
    "--grep, a regex of two literals": ("--grep", "timeout|refused"),
    "--where, in every message": ("--where", "status=200"),
    "--where, in none": ("--where", "status=500"),
}
ALL = "everything"
"""The series of the units; their figures are named after the queries."""


def units(sizes_gib: Sequence[float], searched_gib: float) -> Iterator[Unit]:
    """Yield a unit for each size of a journal, and one for searches in a journal of *searched_gib*."""
    for size in sizes_gib:
        yield Unit("queries", ALL, functools.partial(against_size, gib=size), size, rounds=1)
    yield Unit("queries", "searches", functools.partial(searches, gib=searched_gib), rounds=1)


def against_size(folder: Path, gib: float) -> dict[str, Any]:
    """Fill a journal, ask, and start a hub on it."""
    journal = fill(folder, gib)
    found: dict[str, Any] = {}
    for name, options in QUERIES.items():
        is_cold = drop_caches()
        first, *others = [timed(journal, *options) for _ in range(RUNS)]
        found[f"{name}, s"] = statistics.median(others)
        if is_cold:
            found[f"{name}, cold, s"] = first
    is_cold = drop_caches()
    found["start of the hub, cold, s" if is_cold else "start of the hub, s"] = start_s(folder)
    return found


def searches(folder: Path, gib: float) -> dict[str, Any]:
    """
    Return for each search millions of messages per second, from the page cache; the number of messages that are
    searched; and how long the command takes that prints one message, which is part of each search.
    """
    journal = fill(folder, gib)
    stored = int(
        subprocess.run([*MPSR, "logs", "--journal", journal, "--count"], check=True, capture_output=True).stdout
    )
    searched = min(SEARCHED, stored)
    found: dict[str, Any] = {}
    for name, options in SEARCHES.items():
        seconds = timed(journal, "--after", str(stored - searched), "--output", "json", *options)
        found[f"{name}, M/s"] = round(searched / seconds / 1e6, 3)
    return {
        **found,
        "searched": searched,
        "start, s": statistics.median(timed(journal, "-n", "1") for _ in range(RUNS)),
    }


def fill(folder: Path, gib: float) -> str:
    """Let a hub write a journal of about *gib* GiB, stop it, and return the journal's folder."""
    size = int(gib * 2**30)
    if shutil.disk_usage(folder).free < size * SPARE * SPARE:
        raise Failed(f"the disk has no room for a journal of {gib:g} GiB")
    work = Work(messages=size // MESSAGE_BYTES, size=MESSAGE_BYTES)
    hub = Journal("mpsr", room_bytes=max(int(size * SPARE), RING_BYTES))
    try:
        hub.start(folder, work)
        hub.store(work)
    finally:
        hub.stop()
    return f"{folder}/journal"


def timed(journal: str, *options: str) -> float:
    """Return the seconds of one `mpsr logs`."""
    begun = time.perf_counter()
    subprocess.run([*MPSR, "logs", "--journal", journal, *options], check=True, stdout=subprocess.DEVNULL)
    return round(time.perf_counter() - begun, 4)


def start_s(folder: Path) -> float:
    """Return the seconds from the start of a hub until it has made its socket."""
    hub = Journal("mpsr")
    begun = time.perf_counter()
    try:
        hub.start(folder, Work())
        return round(time.perf_counter() - begun, 4)
    finally:
        hub.stop()


def drop_caches() -> bool:
    """Let nothing of any file be in memory; return whether that was permitted."""
    try:
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    except OSError:
        return False
    return True
