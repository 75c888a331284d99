"""`mpsr bench`: measures a hub on this machine."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from hub.cli.options import SECONDS, SIZE, whole

APPLICATIONS = ["logging", "structlog", "spawn"]
CLIENTS = ["raw", "producer", "async", *APPLICATIONS]


@click.command()
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, writable=True),
    metavar="DIR",
    default=".",
    help="Folder for the journal, on a disk.  [default: the current folder]",
)
@click.option(
    "--producers",
    type=whole(1),
    metavar="N",
    help="Number of producer processes.  [default: 5; logging, structlog, spawn: 1]",
)
@click.option("--messages", type=whole(1), metavar="N", help="Stop after N messages of all producers together.")
@click.option(
    "--seconds",
    type=SECONDS,
    default="10",
    show_default=True,
    metavar="S",
    help="Without --messages: stop after S seconds.",
)
@click.option(
    "--size",
    type=whole(100, 1 << 20),
    default=130,
    show_default=True,
    metavar="N",
    help="Bytes per message.",
)
@click.option("--chunk", type=whole(1), default=1000, show_default=True, metavar="N", help="Messages per chunk.")
@click.option("--ack/--no-ack", default=True, show_default=True, help="Whether producers ask for acknowledgements.")
@click.option(
    "--durability",
    type=click.Choice(["fsync", "relaxed"]),
    default="fsync",
    show_default=True,
    help="Durability of the hub, as explained by `mpsr hub --help`.",
)
@click.option(
    "--client",
    type=click.Choice(CLIENTS),
    default="raw",
    show_default=True,
    help="Kind of producer. logging, structlog: the cost of a log call, compared with one to a file. "
    "spawn: `mpsr spawn`.",
)
@click.option(
    "--pattern",
    type=click.Choice(["load", "connect", "ping"]),
    default="load",
    show_default=True,
    help="load: messages. connect: connect, send one line, close. ping: a request and its reply.",
)
@click.option(
    "--journal-size",
    type=SIZE,
    metavar="SIZE",
    help="Size of the journal; older messages expire.  [default: half of the free disk, 1GiB with --full]",
)
@click.option(
    "--config",
    type=click.Path(exists=True, dir_okay=False),
    metavar="FILE",
    help="Configuration file of the hub, such as one with rules of retention.",
)
@click.option(
    "--kill",
    type=whole(0),
    default=0,
    metavar="N",
    help="Kill the hub with SIGKILL N times during the measurement and start it again. For --client producer or async.",
)
@click.option("--full", is_flag=True, help="Fill the journal first, so that messages expire during the measurement.")
@click.option("--json", "as_json", is_flag=True, help="Print one line of JSON.")
def bench(
    folder: str,
    producers: int | None,
    messages: int | None,
    client: str,
    pattern: str,
    as_json: bool,
    journal_size: int | None,
    config: str | None,
    **settings: Any,
) -> int:
    """Measure a hub on this machine.

    Hub and producers run as separate processes, and the disk is real. All messages are read back from the journal
    and checked for loss, duplicates, order and damage; with --pattern ping and --client spawn they are not checked
    (null). With --chunk 1 --no-ack, unbatched Message frames are sent.

    \b
    Examples:
      mpsr bench --folder /var/tmp
      mpsr bench --chunk 100 --seconds 30 --json
      mpsr bench --full --client producer --seconds 300 --kill 20
    """
    from hub.bench.bench import FAULTS, RESENDING, BenchSettings, run

    if settings["seconds"] == 0 and not messages:
        raise click.BadParameter("a measurement takes more than 0 seconds", param_hint="'--seconds'")
    if settings["kill"] and (client not in RESENDING or messages):
        raise click.UsageError("--kill is for --client producer or async, and for --seconds, not --messages")
    if pattern != "load" and client != "raw":
        raise click.UsageError(f"--client {client} is for --pattern load; leave out one of them")
    if pattern != "load":
        client = pattern
    producers = producers or (1 if client in APPLICATIONS else 5)
    asked = BenchSettings(
        folder=os.path.abspath(folder),
        producers=producers,
        messages=messages or 0,
        client=client,
        journal_size=journal_size or 0,
        config=os.path.abspath(config) if config else "",
        **settings,
    )
    report = run(asked, progress=_show_progress)
    click.echo(json.dumps(report) if as_json else _table(report))
    return 1 if any(report[name] for name in FAULTS) else 0


def _table(report: Mapping[str, Any]) -> str:
    """Return one line for each figure."""
    width = max(map(len, report))
    lines = []
    for name, value in report.items():
        shown = f"{value:,}" if isinstance(value, (int, float)) else "not checked" if value is None else value
        if isinstance(value, dict):
            shown = ", ".join(f"{tag} {messages:,}" for tag, messages in value.items()) or "nothing"
        lines.append(f"{name:<{width}}  {shown}")
    return "\n".join(lines)


def _show_progress(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"mpsr: {text}", err=True)
