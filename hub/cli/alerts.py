"""`mpsr alerts`: shows the alerts, silences one, tests it, or shows when each would have fired."""

from __future__ import annotations

from typing import Any

import click

from hub.cli.options import MOMENT, Named, config_option, journal_option, socket_option, usage_error
from hub.cli.output import show_rows
from producers import call as ask

_COLUMNS = ("name", "by", "state", "firings", "last fired", "matches", "silenced until", "error")
_DRY_COLUMNS = ("alert", "fired", "sequence", "count", "matches", "last message")
_TEST_S = 310.0
"""A report may take up to the timeout of its alert."""
_TEXT_CHARS = 100


@click.command()
@click.argument("action", type=click.Choice(["silence", "test"]), required=False)
@click.argument("name", required=False)
@click.argument("duration", required=False)
@click.option("--dry-run", is_flag=True, help="Show when each alert would have fired. Reports nothing; needs no hub.")
@click.option("-S", "--since", type=MOMENT, help="With --dry-run: begin with what was received at TIME (1d).")
@config_option
@journal_option
@socket_option
@click.option(
    "-o", "--output", type=Named(["text", "json"]), default="text", show_default=True, help="json: one object per line."
)
def alerts(  # noqa: PLR0913  one for each option
    action: str | None,
    name: str | None,
    duration: str | None,
    *,
    dry_run: bool,
    since: int | None,
    config: str | None,
    journal: str | None,
    socket: str | None,
    output: str,
) -> None:
    """Show the alerts and what they counted; silence or test one.

    Matches are counted since the alert last fired. silence keeps an alert quiet for DURATION, even across a restart
    of the hub; 0s ends the silence. test reports a firing that is marked as a test.

    --dry-run shows when each alert in the configuration file would have fired, according to the journal. Use it to
    try a rule before you give it to a hub.

    \b
    Examples:
      mpsr alerts
      mpsr alerts silence disk 2h
      mpsr alerts test disk
      mpsr alerts --dry-run --since 1d --config new.toml
    """
    if dry_run:
        if action is not None:
            raise usage_error(f"--dry-run is not for {action}")
        _show_firings(config, journal, since, as_json=output == "json")
        return
    for value, option in ((since, "--since"), (config, "--config")):
        if value is not None:
            raise usage_error(f"{option} is for --dry-run")
    if action is None:
        rows = ask("alerts", path=socket)["alerts"]
        show_rows(rows, _COLUMNS, _cells, as_json=output == "json")
        return
    if name is None:
        raise usage_error(f"{action} needs the NAME of an alert")
    if action == "silence":
        _silence(name, duration, socket)
    elif duration is not None:
        raise usage_error("a DURATION is for silence")
    else:
        answer = ask("alert_test", {"name": name}, path=socket, timeout=_TEST_S)
        click.echo(f"mpsr: {name} has reported the test {answer['id']}")


def _silence(name: str, duration: str | None, socket: str | None) -> None:
    if duration is None:
        raise usage_error("silence needs a DURATION, such as 2h (0s ends a silence)")
    until = ask("alert_silence", {"name": name, "duration": duration}, path=socket)["until"]
    click.echo(f"mpsr: {name} is not silenced" if until is None else f"mpsr: {name} is silenced until {_moment(until)}")


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        row["name"],
        row["by"],
        row["state"],
        str(row["firings"]),
        _moment(row["last_fired"]),
        str(row["matches"]),
        _moment(row["silenced_until"]),
        row["last_error"] or "",
    ]


def _moment(given: str | None) -> str:
    """Return a time of an answer, to the second; ``-`` for none."""
    return "-" if given is None else given.partition(".")[0].replace("T", " ") + "Z"


def _show_firings(config: str | None, journal: str | None, since: int | None, *, as_json: bool) -> None:
    from hub.alerts.replay import replay
    from hub.paths import default_journal
    from hub.quantities import parse_moment
    from hub.query.rendering import render_text, rfc3339
    from hub.service.settings import load

    settings = load(file=config)
    if not settings.config.alerts:
        raise usage_error(f"there are no alerts in {settings.file or 'the configuration: there is no file'}")
    if since is None:
        import time

        since = parse_moment("1d", time.time_ns())
    rows = [
        {
            "alert": str(alert.name),
            "fired": rfc3339(fired.last.received),
            "sequence": fired.last.sequence,
            "count": fired.count,
            "matches": fired.matches,
            "first_sequence": fired.first.sequence,
            "text": render_text(message)[:_TEXT_CHARS].encode("utf-8", "replace").decode(),
        }
        for alert in settings.config.alerts
        for fired, message in replay(alert, journal or default_journal(), since)
    ]
    show_rows(rows, _DRY_COLUMNS, _dry_cells, as_json=as_json)


def _dry_cells(row: dict[str, Any]) -> list[str]:
    text = row["text"].splitlines()[0] if row["text"] else ""
    return [row["alert"], _moment(row["fired"]), *(str(row[name]) for name in ("sequence", "count", "matches")), text]
