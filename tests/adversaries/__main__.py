"""
Attack a hub beside ordinary producers, in every way of the table, and print what came of it.

    python -m tests.adversaries --minutes 30 --seed 7
    python -m tests.adversaries --only half_frames drips

Needs root: attackers and producers are users of their own. Each attack has a hub of its own and takes ten seconds, or
its part of --minutes. The exit code is 1 if something that must hold did not (tests.adversaries.rig).
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import sys

from tests.adversaries.attacks import ATTACKS
from tests.adversaries.rig import Result, run_alone

DEFAULT_S = 10.0
HEADINGS = (
    "attack",
    "share",
    "worst",
    "ping p50/p99 ms",
    "new p50/p99 ms",
    "wake p99 ms",
    "MiB",
    "back s",
    "adopt s",
    "cpu",
    "log",
    "loss",
)
WIDTHS = (19, 5, 5, 16, 16, 11, 6, 6, 7, 5, 7, 8)


def row(result: Result) -> str:
    """Return one line of the table, followed by the faults."""
    cells = (
        result.name,
        f"{result.share:.2f}",
        f"{result.worst_share:.2f}",
        f"{result.ping_ms[0]:.1f}/{result.ping_ms[1]:.1f}",
        f"{result.arrival_ms[0]:.1f}/{result.arrival_ms[1]:.1f}",
        f"{result.waking_ms[1]:.1f}",
        f"{result.memory_mib:.0f}",
        f"{result.recovery_s:.2f}",
        f"{result.adoption_s:.2f}",
        f"{result.hub_cpu:.0%}",
        str(result.log_lines),
        str(result.losses),
    )
    did = " ".join(f"{what}={number}" for what, number in sorted(result.did.items()))
    return "\n".join([_line(cells), f"    did: {did}", *(f"    FAILED: {fault}" for fault in result.faults)])


def _line(cells: tuple[str, ...]) -> str:
    first, *rest = (f"{cell:{'<' if at == 0 else '>'}{WIDTHS[at]}}" for at, cell in enumerate(cells))
    return "  ".join([first, *rest])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, help="for all attacks together")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30))
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), metavar="NAME")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("attackers are other users: run this as root")
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores SIGINT
    seconds = DEFAULT_S if options.minutes is None else options.minutes * 60 / len(options.only)
    print(f"seed={options.seed} seconds={seconds:g} each")
    print(_line(HEADINGS), flush=True)
    failed = 0
    for name in options.only:
        result = run_alone(name, seconds=seconds, seed=options.seed)
        failed += bool(result.faults)
        print(row(result), flush=True)
    print(f"{len(options.only) - failed} held, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
