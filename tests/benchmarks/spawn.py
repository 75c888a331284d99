"""
`mpsr spawn` against honcho: lines of 100 bytes of one child, passed through, in one run; each three times, in turn.

    python -m tests.benchmarks.spawn [--lines N] [--honcho COMMAND] [--folder DIR]

Both write what they show to /dev/null; mpsr's lines are on the hub's disk besides, which the hub is asked about. Timed
is the whole command, less the same with one line: honcho takes a child's output into memory and works it off later.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hub.bench.applications import PRINTING
from tests.support import MPSR, HubProcess


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=2_000_000)
    parser.add_argument("--honcho", default=shutil.which("honcho") or "")
    parser.add_argument("--folder", default=".")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        script = Path(folder, "child.py")
        script.write_text(PRINTING)
        for _ in range(options.rounds):
            for name, lines in (
                ("mpsr quiet", options.lines),
                ("mpsr shown", options.lines),
                ("honcho", options.lines // 8),
            ):
                if name != "honcho" or options.honcho:
                    figures.setdefault(name, []).append(measure(name, lines, folder, options.honcho))
    rates: dict[str, float] = {f"{name}_lines_s": round(statistics.median(rates)) for name, rates in figures.items()}
    if "honcho" in figures:
        rates["ratio"] = round(rates["mpsr shown_lines_s"] / rates["honcho_lines_s"], 1)
    print(json.dumps({name.replace(" ", "_"): rate for name, rate in rates.items()}))


def measure(name: str, lines: int, folder: str, honcho: str) -> float:
    """Return lines a second."""
    if name == "honcho":
        return lines / (with_honcho(lines, folder, honcho) - with_honcho(1, folder, honcho))
    return lines / (with_mpsr(name, lines, folder) - with_mpsr(name, 1, folder))


def with_honcho(lines: int, folder: str, honcho: str) -> float:
    """Return how many seconds it takes."""
    Path(folder, "Procfile").write_text(f"child: {' '.join(child(lines, folder))}\n")
    return run([honcho, "-f", str(Path(folder, "Procfile")), "start"], folder)


def with_mpsr(name: str, lines: int, folder: str) -> float:
    """Return how many seconds it takes until the hub has it all on its disk."""
    place = Path(tempfile.mkdtemp(dir=folder))
    with HubProcess(place, "--journal-size", "8GiB") as hub:
        shown = ["-q"] if name.endswith("quiet") else []
        command = [*MPSR, "spawn", "--socket", hub.socket, "--tag", "child", *shown, "--", *child(lines, folder)]
        seconds = run(command, folder)
        kept = hub.stats()["messages"]
        assert kept == lines + 2, (kept, lines)  # its start and its end
        assert hub.stop() == 0
    shutil.rmtree(place)
    return seconds


def child(lines: int, folder: str) -> list[str]:
    return [sys.executable, "-S", str(Path(folder, "child.py")), str(lines)]


def run(command: list[str], folder: str) -> float:
    begin = time.perf_counter()
    subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
