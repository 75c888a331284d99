"""
This hub and a tokio program that stores nothing, in one sitting, in turn.

    .venv/bin/python -m tests.benchmarks.against_tokio --folder /var/tmp --rounds 5

The tokio program (`tokio-mpsr`, beside this file) takes length-prefixed messages from five producer threads into one
`mpsc` channel: one send for each message, or one for each read. Ours takes them from five producer processes, checks,
orders, stores, syncs and acknowledges them. The tables show medians, and ratios round by round, because the machine's
speed changes from minute to minute.

It is built with cargo, from the crates that Debian packages (librust-tokio-dev) if they are installed, otherwise from
the crate registry.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

TOKIO = Path(__file__).parent / "tokio-mpsr"
PACKAGED_CRATES = Path("/usr/share/cargo/registry")
OURS = {
    "chunks of 1000, acknowledged": ["--chunk", "1000"],
    "chunks of 100, acknowledged": ["--chunk", "100"],
    "unbatched Message frames": ["--chunk", "1", "--no-ack"],
}


def build_tokio(crates: Path = PACKAGED_CRATES) -> str:
    """Build the tokio program, and return the path of the binary. Ends this program with one line if it cannot."""
    command = ["cargo", "build", "--quiet", "--release", "--manifest-path", str(TOKIO / "Cargo.toml")]
    if any(crates.glob("tokio-1.*")):
        command += ["--offline", "--config", "source.crates-io.replace-with='packaged'"]
        command += ["--config", f"source.packaged.directory='{crates}'"]
    try:
        subprocess.run(command, check=True)
    except FileNotFoundError:
        sys.exit("cargo is missing, so the tokio program cannot be built (install Rust, or name the program: --tokio)")
    except subprocess.CalledProcessError:
        sys.exit("the tokio program cannot be built (see above; Debian's package of the crate is librust-tokio-dev)")
    return str(TOKIO / "target" / "release" / "tokio-mpsr")


def tokio(binary: str, mode: str, size: int, messages: int) -> float:
    """Return the messages per second of one run of the tokio program."""
    done = subprocess.run([binary, mode, "5", str(messages // 5), str(size), "2"], capture_output=True, check=True)
    return float(json.loads(done.stdout)["messages_per_s"])


def ours(folder: str, size: int, seconds: float, *args: str) -> dict[str, Any]:
    """Return the report of one run of `mpsr bench`."""
    command = [sys.executable, "-c", "from hub.cli import main; main()", "bench", "--folder", folder, "--json"]
    command += ["--size", str(size), "--seconds", str(seconds), *args]
    report: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", default="/var/tmp", help="a folder on the disk to measure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--size", type=int, default=130)
    parser.add_argument("--tokio", help="the tokio program, if it is built already")
    options = parser.parse_args()
    binary = options.tokio or build_tokio()
    rows: dict[str, list[float]] = {name: [] for name in ("tokio message", "tokio read", *OURS)}
    reports: dict[str, list[dict[str, Any]]] = {name: [] for name in OURS}
    for number in range(options.rounds):
        rows["tokio message"].append(tokio(binary, "message", options.size, 20_000_000))
        rows["tokio read"].append(tokio(binary, "read", options.size, 20_000_000))
        for name, args in OURS.items():
            report = ours(options.folder, options.size, options.seconds, *args)
            rows[name].append(report["messages_per_s"])
            reports[name].append(report)
        print(f"round {number + 1} of {options.rounds}", file=sys.stderr)
    print_table(rows, reports, options.size)


def print_table(rows: dict[str, list[float]], reports: dict[str, list[dict[str, Any]]], size: int) -> None:
    """Print medians, and the median of the ratios round by round."""
    print("| | M messages/s | x tokio message | x disk, synced | CPU ns | memory MB | acknowledged, p50 and p99, ms |")
    print("|---|---|---|---|---|---|---|")
    for name, figures in rows.items():
        ratio = statistics.median(one / base for one, base in zip(figures, rows["tokio message"], strict=True))
        line = f"| {name} | {statistics.median(figures) / 1e6:.2f} | {ratio:.2f} |"
        if runs := reports.get(name):
            disk = statistics.median(run["mb_per_s"] / run["disk_mb_per_s_synced"] for run in runs)
            cpu = statistics.median(run["hub_cpu_ns_per_message"] for run in runs)
            line += f" {disk:.2f} | {cpu:.0f} | {max(run['hub_memory_max_bytes'] for run in runs) / 1e6:.0f} |"
            acknowledged = [[run[key] for run in runs if key in run] for key in ("ack_ms_p50", "ack_ms_p99")]
            line += f" {' and '.join(f'{statistics.median(times):.2f}' for times in acknowledged if times)} |"
        else:
            line += " | | | |"
        print(line)
    runs = [run for group in reports.values() for run in group]
    print(
        f"\ndisk in the same sitting: fdatasync {statistics.median(run['fdatasync_us_p50'] for run in runs):.0f} us, "
        f"{statistics.median(run['disk_mb_per_s_synced'] for run in runs):.0f} MB/s in large synced writes; "
        f"messages of {size} bytes"
    )


if __name__ == "__main__":
    main()
