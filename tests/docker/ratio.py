"""
`python -m tests.docker.ratio IMAGE`: `mpsr bench` in a container against `mpsr bench` on the host, in turn.

Everything of the container's run is in the container, producers too; its journal is in a named volume. The host's
lies in --folder: name one on the disk that Docker's data is on. Prints one line a run, and the ratio of the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import sys
from collections.abc import Sequence

from tests.docker.engine import docker, run


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description="mpsr bench in a container against the host's")
    parser.add_argument("image")
    parser.add_argument("--folder", default="/var/tmp")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=10)
    asked = parser.parse_args()
    bench = ("bench", "--json", "--seconds", str(asked.seconds), "--folder")
    volume, timeout_s = f"mpsr-ratio-{secrets.token_hex(4)}", asked.seconds * 4 + 60
    host: list[int] = []
    inside: list[int] = []
    code = "from hub.cli import main; main()"
    try:
        for _ in range(asked.runs):
            done = run([sys.executable, "-c", code, *bench, asked.folder], timeout=timeout_s)
            host.append(_figure("host", done))
            mount = f"{volume}:/var/lib/mpsr/journal"
            container: Sequence[str] = ("run", "--rm", "--network", "none", "--volume", mount, asked.image)
            inside.append(_figure("container", docker(*container, *bench, "/var/lib/mpsr/journal", timeout=timeout_s)))
    finally:
        docker("volume", "rm", "--force", volume)
    ratio = statistics.median(inside) / statistics.median(host)
    print(f"ratio {ratio:.2f}, load average {os.getloadavg()[0]:.1f}")


def _figure(where: str, report: str) -> int:
    figures = json.loads(report)
    print(f"{where}: {figures['messages_per_s']:,} messages/s, {figures['hub_cpu_ns_per_message']} ns of hub CPU each")
    return int(figures["messages_per_s"])


if __name__ == "__main__":
    main()
