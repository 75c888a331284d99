"""`mpsr web`: opens the page of a running hub in a browser, until Ctrl-C."""

from __future__ import annotations

import os
import socket as sockets
import sys
from typing import Any

import click

from hub.cli.options import socket_option
from hub.cli.output import rest
from hub.wire.jsonrpc import METHOD_NOT_FOUND, NOT_CARRIED_OUT
from producers import AnswerLost, Client, CommandFailed
from producers import call as ask
from producers.stream import Stream

REST_S = 0.2
"""How often it looks whether the hub is still there."""


@click.command()
@socket_option
@click.option("--no-browser", is_flag=True, help="Print the address, but do not open a browser.")
def web(socket: str | None, no_browser: bool) -> None:
    """Open the page of the running hub in a browser.

    The page shows and searches messages, and shows the state of the hub. It is served on a free port that only this
    host can reach, and the printed address contains the secret that opens it. The page can read what you may read.
    Ctrl-C closes it.

    The hub's own user, root, and users in control_allow may open it. It needs the extra mpsr[http].

    \b
    Examples:
      mpsr web
      mpsr web --no-browser
    """
    ask("ping", path=socket)  # a hub that is away is an error, and not waited for
    try:
        with Client(socket) as client, client.stream("web") as stream:
            page = next(stream)
            _show(page, opens=not no_browser)
            _wait(stream)
    except KeyboardInterrupt:
        return
    except StopIteration:
        raise click.ClickException("the hub has closed the page") from None
    except AnswerLost:
        raise _hub_ended() from None
    except CommandFailed as failed:
        if failed.code == NOT_CARRIED_OUT:
            raise _hub_ended() from None
        if failed.code == METHOD_NOT_FOUND:
            raise click.ClickException("this hub has no page: it is older than this command (restart it)") from None
        raise


def _hub_ended() -> click.ClickException:
    return click.ClickException("the hub has ended, and the page with it (start the hub, then run mpsr web again)")


def _wait(stream: Stream) -> None:
    """Return when the hub ends the stream, or standard output has no reader any longer."""
    while True:
        if stream.wait(REST_S):
            next(stream)
        rest(0)


def _show(page: dict[str, Any], *, opens: bool) -> None:
    """Print where *page* is, and open it, if there is a screen."""
    click.echo(page["url"])
    if remote := os.environ.get("SSH_CONNECTION"):
        port, host = page["address"].rpartition(":")[2], remote.split()[2:3]
        name = host[0] if host else sockets.gethostname()
        click.echo(f"from where you sit: ssh -L {port}:127.0.0.1:{port} {name}, then open the address", err=True)
    if opens and has_screen():
        import webbrowser

        webbrowser.open(page["url"])
    if sys.stderr.isatty():
        click.echo("The page is open until Ctrl-C.", err=True)


def has_screen() -> bool:
    """Return whether a browser would have a window: one in the terminal would take it."""
    if sys.platform == "darwin":
        return "SSH_CONNECTION" not in os.environ
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
