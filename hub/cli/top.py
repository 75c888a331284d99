"""
`mpsr top`: messages as they arrive, and the producers, on a terminal.

Not here: the viewer itself (hub.viewer).
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from hub.cli.options import journal_option, socket_option, usage_error
from hub.extras import without_extra
from hub.paths import default_journal

if TYPE_CHECKING:
    from hub.viewer.store import Store


@click.command()
@click.argument("query", metavar="[FILTER]...", nargs=-1)
@socket_option
@journal_option
@click.option("--utc", is_flag=True, help="Show times in UTC.")
def top(query: tuple[str, ...], socket: str | None, journal: str | None, utc: bool) -> None:
    """Watch messages and producers on the terminal.

    It asks the running hub, and shows what you may read; without one, or with --journal, it reads the journal's files.
    FILTER is what you would write in the search box of the page: text, tag:app.*, level:warning, status>=500, since:2h.
    All parts must match. The key ? shows all keys. It needs mpsr[tui].

    \b
    Examples:
      mpsr top
      mpsr top level:warning 'tag:app.*'
      mpsr top 'pool exhausted' since:2h
    """
    if fault := without_extra("mpsr top", "tui"):
        raise click.ClickException(fault)
    if not all(each.isatty() for each in (sys.stdin, sys.stdout, sys.stderr)):  # it draws on standard error
        raise usage_error("it needs a terminal (mpsr logs prints lines)")
    ctx = click.get_current_context()
    given = {name for name in ("socket", "journal") if _is_given(ctx, name)}
    if len(given) == 2:
        raise usage_error("--journal reads files and --socket asks a hub: give one of them")
    from hub.viewer.app import Viewer

    viewer = Viewer(_store(socket, journal, given), query=" ".join(query), utc=utc)
    viewer.run()
    if viewer.return_code:
        ctx.exit(viewer.return_code)


def _is_given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _store(socket: str | None, journal: str | None, given: set[str]) -> Store:
    """Return the hub that runs, else the journal. Raises an error if there is neither."""
    from hub.cli.stored import InFiles as Stored
    from hub.configfile import socket_path
    from hub.query.query import Query
    from hub.viewer.athub import AtHub
    from hub.viewer.infiles import InFiles
    from producers import NotConnected
    from producers import call as ask

    path, folder = socket or socket_path(), journal or default_journal()
    if "journal" not in given:
        try:
            ask("ping", path=path)
            return AtHub(path)
        except NotConnected:
            from hub.journal.reader import has_journal

            if "socket" in given or not has_journal(folder):
                raise
    Stored(folder, Query(), waits=False)  # raises an error if there is no journal that can be read
    return InFiles(folder)
