"""
One sitting: every peer and the hub in turn, round by round, and the page with what was measured.

    make bench                       everything; about 25 minutes; writes docs/performance.md and its plots
    make bench ARGS=--quick          fewer points, once; about 3 minutes; writes build/bench/quick/
    make bench ARGS="--only NAME"    one part; writes build/bench/NAME/

A sitting that was stopped goes on where it was: what is measured is in build/bench/, after each measurement. A peer
that is missing, or fails, is named on the page, and the sitting goes on. After the time that it may take, no
measurement is begun; the page names the rounds that are missing.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import os
import platform
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hub.bench.disk import file_system
from tests.benchmarks import page, parts
from tests.benchmarks.peer import PEERS, ROOT, Missing, environment
from tests.benchmarks.peers.tokio import rust_version
from tests.benchmarks.results import Point, Results, Unit
from tests.speed import slowness

BUILD = ROOT / "build" / "bench"
STALE_S = 6 * 3600
"""A sitting that was stopped longer ago is begun anew."""
DESCRIPTORS = 1 << 16


def main() -> None:
    options = _options()
    if file_system(options.folder) in ("tmpfs", "ramfs"):
        sys.exit(f"{options.folder} is in memory: name a folder on a disk with --folder")
    extent = parts.QUICK if options.quick else parts.FULL
    rounds = options.rounds or (1 if options.quick else 3)
    name = "-".join((["quick"] if options.quick else []) + options.only) or "full"
    place = BUILD / name
    wanted = [unit for unit in parts.units(extent) if unit.part in (options.only or parts.PARTS)]
    raise_descriptors()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    asked = {"rounds": rounds, "quick": options.quick, "only": options.only, "sources": sources()}
    results = _resumed(place / "results.json", asked)
    if not results.machine:
        results.machine = machine(options.folder)
    results.peers = versions()
    for series, peer in results.peers.items():
        if "missing" in peer:
            print(f"missing: {series}: {peer['missing']}", flush=True)
    plan = [(number, unit) for number in range(rounds) for unit in wanted if number < (unit.rounds or rounds)]
    Sitting(results, place, options.folder, options.minutes * 60).run(plan)
    results.finished = True
    results.save(place / "results.json")
    publish(results, place, is_whole=name == "full")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer points, once")
    parser.add_argument("--only", action="append", default=[], choices=parts.PARTS, help="one part; repeatable")
    parser.add_argument("--rounds", type=int, default=0, help="how often everything is measured (3, quick: 1)")
    parser.add_argument("--minutes", type=float, default=24, help="when the last measurement begins (24)")
    parser.add_argument("--folder", default="/var/tmp", help="a folder on the disk to measure (/var/tmp)")
    return parser.parse_args()


def _resumed(path: Path, options: dict[str, object]) -> Results:
    """Return the results of a sitting that was stopped, if it had the same options and is not old; else none."""
    if path.exists() and time.time() - path.stat().st_mtime < STALE_S:
        try:
            results = Results.load(path)
        except (ValueError, TypeError):
            return Results(options=options)
        if results.options == options and not results.finished:
            print(f"going on after {len(results.points)} measurements ({path})", flush=True)
            now = datetime.datetime.now(datetime.UTC).strftime("%H:%M UTC")
            results.machine["stopped"] = f"after {len(results.points)} measurements; continued at {now}"
            return results
    return Results(options=options)


class Sitting:
    """Measures what is planned and not measured yet, and prints its progress."""

    def __init__(self, results: Results, place: Path, folder: str, seconds: float) -> None:
        self._results = results
        self._place = place
        self._folder = folder
        self._seconds = seconds

    def run(self, plan: Sequence[tuple[int, Unit]]) -> None:
        """Go through the plan until its end, or until the time is over."""
        done = {point.key for point in self._results.points if not point.error}
        left = [(number, unit) for number, unit in plan if (unit.part, unit.series, unit.x, number) not in done]
        self._results.points = [point for point in self._results.points if not point.error]
        begun, latest = time.monotonic(), -1
        for index, (number, unit) in enumerate(left):
            passed = time.monotonic() - begun
            if passed > self._seconds:
                print(f"the time is over; not measured: {len(left) - index} of {len(plan)}", flush=True)
                break
            if number != latest:
                latest = number
                self.note_slowness()
            rest = f", about {passed / index * (len(left) - index) / 60:.0f} min left" if index else ""
            label = f"{unit.part}: {unit.series}" + (f", {unit.x:g}" if unit.x else "")
            print(f"[{index + 1}/{len(left)} {passed / 60:.0f} min{rest}] {label}: ", end="", flush=True)
            for point in self.measure(unit, number):
                self._results.points.append(point)
                print(point.error or page.one_line(point), flush=True)
            self._results.save(self._place / "results.json")
        self.note_slowness()

    def note_slowness(self) -> None:
        self._results.slowness.append(round(slowness(), 2))

    def measure(self, unit: Unit, number: int) -> Iterator[Point]:
        """Measure one unit in a folder of its own. What fails becomes the error of the point."""
        missing = [self._results.peers.get(name, {}).get("missing") for name in unit.needs]
        if any(missing):
            yield Point(unit.part, unit.series, unit.x, number, error="missing")
            return
        folder = Path(tempfile.mkdtemp(prefix="mpsr-sitting-", dir=self._folder))
        begun, figures, failure = time.monotonic(), dict[str, Any](), ""
        try:
            figures = unit.run(folder)
        except Exception as error:  # noqa: BLE001  whatever it is, the others can be measured
            failure = f"{type(error).__name__}: {error}"[:500]
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        took_s = round(time.monotonic() - begun, 1)
        yield Point(unit.part, unit.series, unit.x, number, figures, failure, took_s)


def raise_descriptors() -> None:
    """Let this process and its children have as many descriptors as 10,000 connections need, if that is permitted."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for wanted in (max(limit, DESCRIPTORS), limit):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
            return


def sources() -> str:
    """Return a digest of the packages, so that a sitting does not go on with other code than it began with."""
    digest = hashlib.sha256()
    for path in sorted(path for package in ("hub", "producers") for path in (ROOT / package).rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def machine(folder: str) -> dict[str, str]:
    """Return what the figures depend on besides the versions of the peers."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "?")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        rust = rust_version()
    except Missing:
        rust = "not installed"
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": f"{len(os.sched_getaffinity(0))} cores, {model}",
        "memory": f"{memory / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "file system": file_system(folder),
        "Python": platform.python_version(),
        "Rust": rust,
        "load before": " ".join(f"{value:.1f}" for value in os.getloadavg()),
    }


def versions() -> dict[str, dict[str, str]]:
    """Return for each series of the table of peers its version and promises, or what is missing."""
    found = {}
    print("looking for the peers; the tokio program is built", flush=True)
    for name, peer in parts.made_peers().items():
        try:
            found[name] = {"version": peer.version(), "durable": peer.durable, "counts": peer.counts}
        except Missing as missing:
            found[name] = {"missing": str(missing), "package": peer.package}
    return found


def publish(results: Results, place: Path, *, is_whole: bool) -> None:
    """Write the page, its plots and the results: to docs/ if the sitting was whole, else beside the results."""
    target = ROOT / "docs" if is_whole else place
    plots = target / "performance"
    results.save(plots / "results.json")
    python = PEERS / "bin" / "python"
    command = [str(python), "-P", "-m", "tests.benchmarks.plots", str(plots / "results.json"), str(plots)]
    done = subprocess.run(command, env=environment(command), check=False) if python.exists() else None
    if done is None or done.returncode:
        print("no plots: matplotlib is missing or failed (make bench installs it into .venv-bench)", flush=True)
    (target / "performance.md").write_text(page.render(results), encoding="utf-8")
    print(target / "performance.md")


if __name__ == "__main__":
    main()
