"""`mpsr call`: sends one request to a running hub, and prints its answer, or the values of a stream."""

from __future__ import annotations

import json
from typing import Any

import click

from hub.cli.options import socket_option, usage_error
from hub.cli.output import rest, write
from hub.wire.jsonrpc import encode_request
from producers import Client
from producers import call as ask

STREAMS = ("tail", "subscribe", "timeline", "counts", "chart", "fields", "sql", "alert_dry_run", "web")
"""The methods of the service that stream."""
REST_S = 0.2
"""How often it looks whether the reader of the output is still there."""


def _complete_method(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from hub.control.methods import RIGHT_OF

    return [method for method in ("ping", *RIGHT_OF) if method.startswith(incomplete)]


@click.command()
@socket_option
@click.argument("method", shell_complete=_complete_method)
@click.argument("params", required=False, metavar="[JSON]")
@click.option(
    "-f",
    "--follow",
    is_flag=True,
    help="Print each value of a method that streams as a line, until the method ends or Ctrl-C.",
)
def call(socket: str | None, method: str, params: str | None, follow: bool) -> None:
    """Send a request to the hub and print its answer as JSON.

    METHOD is one of the hub's methods, such as ping, stats, peers, losses, query, tail, counts, sql, config, subscribe
    or reload. The answer to an unknown one lists all of them. JSON is its parameters: an array or an object. Methods
    that stream, such as tail, print each value as a line, until Ctrl-C.

    \b
    Examples:
      mpsr call ping
      mpsr call peers '{"limit": 5}'    who is connected, and what each has sent
      mpsr call subscribe               events, as they happen
      mpsr call reload                  read the configuration again
    """
    value = _parse(method, params)
    if not follow and method not in STREAMS:
        click.echo(json.dumps(ask(method, value, path=socket)))
        return
    ask("ping", path=socket)  # a hub that is away is an error, and not waited for
    try:
        with Client(socket) as client, client.stream(method, value) as stream:
            while True:
                if stream.wait(REST_S):
                    write(((json.dumps(next(stream)),),))
                rest(0)
    except StopIteration:
        if stream.result is not None:
            click.echo(json.dumps(stream.result))
    except KeyboardInterrupt:
        return


def _parse(method: str, params: str | None) -> list[Any] | dict[str, Any] | None:
    """Return the parameters for *method*. Raises UsageError if they are none that can be sent."""
    value = None
    if params is not None:
        try:
            value = json.loads(params)
        except RecursionError:
            raise usage_error("the parameters are nested too deeply") from None
        except ValueError as error:
            raise usage_error(f"the parameters are not JSON: {error} (quote them: mpsr call {method} '{{}}')") from None
        if not isinstance(value, (list, dict)):
            raise usage_error("the parameters must be a JSON array or object")
    try:
        encode_request(method, value, 1)
    except TypeError as error:  # half of a surrogate pair, for example
        raise usage_error(str(error)) from None
    return value
