"""`mpsr sources`: shows the ways into a running hub."""

from __future__ import annotations

from typing import Any

import click

from hub.cli.options import Named, socket_option
from hub.cli.output import show_rows
from producers import call as ask

_COLUMNS = ("type", "path", "state", "messages", "bytes", "losses")
_UNITS = {"bytes": "bytes", "messages": "messages", "seconds": "s"}


@click.command()
@socket_option
@click.option(
    "-o", "--output", type=Named(["text", "json"]), default="text", show_default=True, help="json: one object per line."
)
def sources(socket: str | None, output: str) -> None:
    """Show the sources, what each has accepted, and their errors.

    The first row is the hub's socket. The lag is what a source that reads by itself (log files, the systemd
    journal) still has to read, and the age of the oldest part; other sources have a dash. The error is the last
    one, even if the source works again.

    \b
    Examples:
      mpsr sources
      mpsr sources --output json
    """
    rows: list[dict[str, Any]] = ask("sources", path=socket)["sources"]
    show_rows(rows, (*_COLUMNS, "lag", "error"), _cells, as_json=output == "json")


def _cells(row: dict[str, Any]) -> list[str]:
    lag = row.get("lag") or {}  # an older hub has none
    known = (f"{lag[unit]:.0f} {short}" for unit, short in _UNITS.items() if lag.get(unit) is not None)
    return [*(str(row[name]) for name in _COLUMNS), ", ".join(known) or "-", row["last_error"] or ""]
