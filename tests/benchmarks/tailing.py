"""
How fast the source `files` is: lines from files that exist, stored and synced; and what idle files cost.

    .venv/bin/python -m tests.benchmarks.tailing --folder /var/tmp

The files are moved into the folder that a running hub watches, so that its start does not count. They are in the page
cache.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.support import HubProcess, eventually

LINES, FILES, SIZE, IDLE = 5_000_000, 4, 130, 20_000
QUIET_S = 60.0
"""A descriptor is closed after that time."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="/var/tmp", help="a folder on the disk to measure")
    parser.add_argument("--lines", type=int, default=LINES, help=f"of all files together ({LINES})")
    parser.add_argument("--files", type=int, default=FILES, help=f"how many files they are in ({FILES})")
    parser.add_argument("--size", type=int, default=SIZE, help=f"bytes of a line with its newline ({SIZE})")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle", type=int, default=IDLE, help=f"how many idle files; 0: none ({IDLE})")
    parser.add_argument("--seconds", type=float, default=30, help="how long idle files are watched")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="mpsr-tail-", dir=options.folder))
    try:
        ready = make_files(folder, options.lines, options.files, options.size)
        rounds = [tail(folder, ready) for _ in range(options.rounds)]
        print(json.dumps({name: statistics.median(one[name] for one in rounds) for name in rounds[0]}), flush=True)
        if options.idle:
            print(json.dumps(idle(folder, options.idle, options.seconds)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make_files(folder: Path, lines: int, files: int, size: int) -> Path:
    """Make *files* files with *lines* lines together; return their folder."""
    ready = folder / "ready"
    ready.mkdir()
    each = lines // files
    for number in range(files):
        with (ready / f"{number}.log").open("wb") as file:
            for start in range(0, each, 10_000):
                file.writelines(line(size, n) for n in range(start, min(start + 10_000, each)))
    return ready


def line(size: int, number: int) -> bytes:
    """Return a line like one of a web server, *size* bytes long."""
    text = b'192.0.2.%d - - [27/Nov/2026:10:%02d:%02d +0000] "GET /items/%d HTTP/1.1" 200 %d "-" "Mozilla/5.0" '
    text %= (number % 250, number // 60 % 60, number % 60, number, number * 7 % 9999)
    return (text + b"x" * size)[: size - 1] + b"\n"


def tail(folder: Path, ready: Path) -> dict[str, Any]:
    """Measure one hub on all files in *ready*."""
    watched, home = folder / "watched", folder / "home"
    watched.mkdir()
    home.mkdir()
    count = sum(path.read_bytes().count(b"\n") for path in ready.iterdir())
    with HubProcess(home, *from_start(home, f"{watched}/*.log"), "--journal-size", "20GiB") as hub:
        before, begun = cpu_s(hub.process.pid), time.perf_counter()
        for path in ready.iterdir():
            path.rename(watched / path.name)
        eventually(lambda: hub.stats()["messages"] >= count, "everything is stored", timeout=600)
        seconds, cpu = time.perf_counter() - begun, cpu_s(hub.process.pid) - before
        assert hub.stats()["messages"] == count
        rss = hub.stats()["rss_bytes"]
        hub.stop()
    for path in watched.iterdir():
        path.rename(ready / path.name)
    watched.rmdir()
    shutil.rmtree(home)
    return {
        "lines": count,
        "lines_per_s": round(count / seconds),
        "hub_cpu_ns_per_line": round(cpu / count * 1e9, 1),
        "hub_rss_bytes": rss,
    }


def idle(folder: Path, count: int, seconds: float) -> dict[str, Any]:
    """Measure a hub with *count* files to which nobody writes."""
    watched, home = folder / "idle", folder / "idle-home"
    watched.mkdir()
    home.mkdir()
    for number in range(count):
        (watched / f"{number}.log").write_bytes(line(SIZE, number))
    with HubProcess(home, "--files", f"{watched}/*.log") as hub:
        time.sleep(QUIET_S)  # a figure: what was opened to be looked at is closed after that time
        before, begun = cpu_s(hub.process.pid), time.perf_counter()
        time.sleep(seconds)
        cpu = (cpu_s(hub.process.pid) - before) / (time.perf_counter() - begun)
        return {
            "idle_files": count,
            "cpu_percent": round(cpu * 100, 2),
            "descriptors": len(os.listdir(f"/proc/{hub.process.pid}/fd")),
            "rss_bytes": hub.stats()["rss_bytes"],
        }


def from_start(folder: Path, glob: str) -> tuple[str, str]:
    """Return the options of a hub that reads the files of *glob* from their start."""
    config = folder / "mpsr.toml"
    config.write_text(f'[[sources]]\ntype = "files"\npaths = ["{glob}"]\nfrom = "start"\n')
    return "--config", str(config)


def cpu_s(pid: int) -> float:
    """Return the processor time that the process *pid* has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
