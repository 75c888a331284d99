"""`mpsr config`: shows the hub's configuration and the origin of each value."""

from __future__ import annotations

import json
from typing import Any

import click

from hub.cli.options import config_option
from hub.service.keys import BY_NAME, example
from hub.service.settings import Value, load


@click.command()
@config_option
@click.option("--example", "as_example", is_flag=True, help="Print a complete file with a comment for every key.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def config(config: str | None, as_example: bool, as_json: bool) -> None:
    """Show the configuration and the origin of each value.

    \b
    Examples:
      mpsr config
      mpsr config --example > /etc/mpsr/hub.toml
    """
    if as_example:
        click.echo(example(), nl=False)
        return
    settings = load(file=config)
    if as_json:
        values: dict[str, Any] = {
            name: {"value": value.given if name in (*_TABLES, _WEB) else value.text, "from": value.origin}
            for name, value in settings.values.items()
        }
        click.echo(json.dumps({"file": settings.file, "values": values}))
        return
    rows = [(name, _shown(name, value), value.origin) for name, value in settings.values.items()]
    name_width, text_width = (max(len(row[column]) for row in rows) for column in (0, 1))
    for name, text, origin in rows:
        click.echo(f"{name:<{name_width}}  {text:<{text_width}}  {origin}")


_TABLES = ("sources", "sinks", "alerts", "limits", "access", "retain")
"""Keys that are lists of tables."""
_WEB = "web"
"""The key that is one table."""


def _shown(name: str, value: Value) -> str:
    """Return the value as text; a default that is empty in words."""
    if name in _TABLES or (name == _WEB and value.given):
        tables = [value.given] if name == _WEB else value.given
        text = ", ".join(" ".join(map(str, table.values())) for table in tables)
    else:
        text = value.text if isinstance(value.text, str) else ", ".join(value.text)
    return text or (value.origin == "default" and name in BY_NAME and BY_NAME[name].default) or "-"
