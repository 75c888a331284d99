"""
`mpsr uninstall`: removes the systemd service and its files.

Always true: only files written by `mpsr install` are removed, and never the journal.
"""

from __future__ import annotations

import contextlib
import os

import click

from hub.cli.systemctl import chosen, content, folder_of, journal_of, manage, need_root, scope_options
from hub.service.units import HEADING, RIGHTS, SYSTEM_USER, unit_files

_END = (
    ("disable", "mpsr.socket", "mpsr.service"),
    # The socket first, alone: its path is removed, and the hub serves the clients in its backlog before it ends.
    ("stop", "--job-mode=ignore-dependencies", "mpsr.socket"),
    ("stop", "mpsr.service"),
)


@click.command()
@scope_options
def uninstall(user: bool, system: bool) -> None:
    """Stop the service and remove its files. The journal is kept, and its folder is printed.

    \b
    Examples:
      mpsr uninstall --user
      sudo mpsr uninstall --system
    """
    scope = chosen(user=user, system=system)
    need_root(scope, "uninstall")
    files = unit_files(scope, folder=folder_of(scope), command=(), journal="", rights=RIGHTS)
    paths = [path for path in files if _is_ours(path)]
    manage(scope, _END if paths else ())
    for path in paths:
        os.unlink(path)
        click.echo(f"removed    {path}")
        with contextlib.suppress(OSError):  # what `systemctl edit` wrote is in it, too
            if os.path.dirname(path).endswith(".d"):
                os.rmdir(os.path.dirname(path))
    for path in paths:
        if os.path.isdir(f"{path}.d"):
            click.echo(f"left alone {path}.d: it was written by systemctl edit")
    manage(scope, [["daemon-reload"]] if paths else ())
    if not paths:
        click.echo("nothing is installed")
    click.echo(f"the journal stays in {journal_of(scope)}")
    if scope == "system":
        click.echo(f"the user {SYSTEM_USER} stays: userdel {SYSTEM_USER}")


def _is_ours(path: str) -> bool:
    text = content(path)
    if text is not None and not text.startswith(HEADING):
        click.echo(f"left alone {path}: it was not written by mpsr install")
    return (text or "").startswith(HEADING)
