"""`mpsr call`: sends one request to a running hub."""

from __future__ import annotations

import json

import click

from hub.cli.options import socket_option, usage_error
from producers import call as ask


def _complete_method(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from hub.control.methods import RIGHT_OF

    return [method for method in ("ping", *RIGHT_OF) if method.startswith(incomplete)]


@click.command()
@socket_option
@click.argument("method", shell_complete=_complete_method)
@click.argument("params", required=False, metavar="[JSON]")
def call(socket: str | None, method: str, params: str | None) -> None:
    """Send a request to the hub and print its answer as JSON.

    METHOD is ping, stats, peers, sources, losses, query or reload. JSON is its parameters: an array or
    an object.

    \b
    Examples:
      mpsr call ping
      mpsr call peers '{"limit": 5}'    who is connected, and what each has sent
      mpsr call reload                  read the configuration again
    """
    value = None
    if params is not None:
        try:
            value = json.loads(params)
        except ValueError as error:
            raise usage_error(f"the parameters are not JSON: {error} (quote them: mpsr call {method} '{{}}')") from None
        if not isinstance(value, (list, dict)):
            raise usage_error("the parameters must be a JSON array or object")
    click.echo(json.dumps(ask(method, value, path=socket)))
