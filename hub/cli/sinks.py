"""`mpsr sinks`: shows where messages go besides the journal, and pauses, resumes and rewinds a sink."""

from __future__ import annotations

from typing import Any

import click

from hub.cli.options import Named, socket_option
from hub.cli.output import show_rows
from producers import call as ask

_COLUMNS = ("name", "type", "path", "state", "sequence", "messages", "rate", "retries", "dead", "lost")
_UNITS = {"messages": "messages", "bytes": "bytes", "seconds": "s"}


@click.command()
@click.argument("action", type=click.Choice(["pause", "resume", "rewind"]), required=False)
@click.argument("name", required=False)
@click.option("--to", metavar="SEQ|TIME", help="With rewind: where to continue (the oldest message).")
@socket_option
@click.option(
    "-o", "--output", type=Named(["text", "json"]), default="text", show_default=True, help="json: one object per line."
)
def sinks(action: str | None, name: str | None, to: str | None, socket: str | None, output: str) -> None:
    """Show the sinks, their progress and their errors, or change one.

    The lag is what a sink still has to deliver: messages, bytes (approximate), and the age of the oldest message.
    The rate is in messages per second. The error is the last one, even if the sink works again.

    pause stops a sink until resume, even across a restart of the hub. rewind continues at a sequence number, or at
    the first message received at or after a time (10m, 14:30, now); messages that are delivered again arrive twice.

    \b
    Examples:
      mpsr sinks
      mpsr sinks pause archive
      mpsr sinks rewind archive --to 10m
    """
    if action is None:
        show_rows(ask("sinks", path=socket)["sinks"], (*_COLUMNS, "lag", "error"), _cells, as_json=output == "json")
        return
    if name is None:
        raise click.UsageError(f"{action} needs the NAME of a sink")
    if to is not None and action != "rewind":
        raise click.UsageError(f"--to is for rewind, not for {action}")
    params: dict[str, Any] = {"name": name} if to is None else {"name": name, "to": to}
    answer = ask(f"sink_{action}", params, path=socket)
    if action == "rewind":
        click.echo(f"mpsr: {name} continues with sequence {answer['sequence']}")


def _cells(row: dict[str, Any]) -> list[str]:
    lag = ", ".join(f"{row['lag'][unit]:.0f} {short}" for unit, short in _UNITS.items())
    return [*(str(row[name]) for name in _COLUMNS), lag if row["lag"]["messages"] else "-", row["last_error"] or ""]
