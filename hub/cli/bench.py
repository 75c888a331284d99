"""`mpsr bench`: measures a hub on this machine."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import click

from hub.cli.options import SECONDS

APPLICATIONS = ["logging", "structlog", "spawn"]
CLIENTS = ["raw", "producer", "async", *APPLICATIONS]


@click.command()
@click.option(
    "--folder", metavar="DIR", default=".", help="Where the journal lies: a folder on a disk.  [default: here]"
)
@click.option(
    "--producers", type=click.IntRange(min=1), help="Producer processes.  [default: 5; logging, structlog, spawn: 1]"
)
@click.option("--messages", type=click.IntRange(min=1), metavar="N", help="So many, all producers together.")
@click.option("--seconds", type=SECONDS, default="10", show_default=True, help="Or so long.")
@click.option(
    "--size", type=click.IntRange(min=100, max=1 << 20), default=130, show_default=True, help="Bytes a message."
)
@click.option("--chunk", type=click.IntRange(min=1), default=1000, show_default=True, help="Messages a chunk.")
@click.option("--ack/--no-ack", default=True, show_default=True, help="Whether chunks are acknowledged.")
@click.option("--durability", type=click.Choice(["fsync", "relaxed"]), default="fsync", show_default=True)
@click.option("--client", type=click.Choice(CLIENTS), default="raw", show_default=True,
              help="logging, structlog: what a log call costs, beside one to a file. spawn: `mpsr spawn`.")  # fmt: skip
@click.option("--pattern", type=click.Choice(["load", "connect", "ping"]), default="load", show_default=True,
              help="connect: connect, one line, close. ping: a command and its reply.")  # fmt: skip
@click.option("--full", is_flag=True, help="With a journal that is full and expires.")
@click.option("--json", "as_json", is_flag=True, help="One JSON line.")
def bench(
    folder: str,
    producers: int | None,
    messages: int | None,
    client: str,
    pattern: str,
    as_json: bool,
    **settings: Any,
) -> int:
    """Measure a hub on this machine: a real hub, real producer processes, a real disk.

    Everything is read back from the journal and checked. --chunk 1 --no-ack sends unbatched Message frames.

    \b
    Examples:
      mpsr bench --folder /var/tmp
      mpsr bench --chunk 100 --seconds 30 --json
    """
    from hub.bench.bench import BenchSettings, run

    if pattern != "load":
        client = pattern
    producers = producers or (1 if client in APPLICATIONS else 5)
    asked = BenchSettings(
        folder=os.path.abspath(folder), producers=producers, messages=messages or 0, client=client, **settings
    )
    report = run(asked, say=_say)
    if as_json:
        click.echo(json.dumps(report))
    else:
        width = max(map(len, report))
        for name, value in report.items():
            click.echo(
                f"{name:<{width}}  {value:,}" if isinstance(value, (int, float)) else f"{name:<{width}}  {value}"
            )
    return 1 if report["lost"] or report["duplicated"] or report["disordered"] else 0


def _say(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"mpsr: {text}", err=True)
