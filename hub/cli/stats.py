"""`mpsr stats`: shows the counters of a running hub."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import click

from hub.cli.options import socket_option
from hub.cli.output import complain, discard_output
from hub.escaping import escape
from producers import NotConnected
from producers import call as ask

WATCH_S = 1.0


@click.command()
@socket_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object; with --watch, one each second.")
@click.option("--watch", is_flag=True, help="Repeat every second, with the rate of each counter.")
def stats(socket: str | None, as_json: bool, watch: bool) -> None:
    """Show the counters of the running hub.

    \b
    Examples:
      mpsr stats
      mpsr stats --watch
    """
    before: dict[str, Any] = {}
    try:
        while True:
            try:
                counters = ask("stats", path=socket)
            except NotConnected as error:
                if not before:
                    raise
                complain(error)  # the hub may come back
                time.sleep(WATCH_S)
                continue
            if before and not as_json and sys.stdout.isatty():
                click.clear()
            click.echo(json.dumps(counters) if as_json else _table(counters, before))
            if not watch:
                return
            before = counters
            time.sleep(WATCH_S)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        discard_output()


def _table(counters: dict[str, Any], before: dict[str, Any]) -> str:
    """Return one line per counter, with its gain per second since *before*, and one per source, sink and tag."""
    width = max(map(len, counters))
    seconds = (counters["uptime_s"] - before.get("uptime_s", 0.0)) or WATCH_S
    lines = []
    for name, value in counters.items():
        if name in ("sources", "sinks", "tags"):
            continue
        line = escape(f"{name:<{width}}  {value}")
        if before and name != "uptime_s" and (gained := value - before.get(name, 0)):
            line += f"  ({gained / seconds:+,.0f}/s)"
        lines.append(line)
    for source in counters.get("sources", ()):
        lines.append(escape("{type} {path}: {state}, {messages} messages, {losses} lost".format_map(source)))
    for sink in counters.get("sinks", ()):
        lag = f"{sink['lag']['messages']} to deliver"
        lines.append(escape("sink {name}: {state}, {messages} messages, {lost} lost, ".format_map(sink) + lag))
    for row in counters.get("tags", ()):
        tag = "all other tags" if row["tag"] is None else f"tag {row['tag']}"
        since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row["since"] / 1e9))
        lines.append(escape(f"{tag}: {row['messages']} messages, {row['bytes']} bytes, since {since}"))
    return "\n".join(lines)
