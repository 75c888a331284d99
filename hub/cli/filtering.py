"""
The filters that `mpsr logs` and `mpsr export` have in common, and where both find the messages.

Always true: a wrong value is a usage error that says how to write it.

Not here: what a filter selects (hub.query.query), the messages themselves (hub.cli.stored, hub.cli.athub).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hub.cli.options import MOMENT, Parsed, complete_level, complete_tag, usage_error, whole
from hub.configfile import socket_path
from hub.paths import default_journal
from hub.quantities import MOMENTS

if TYPE_CHECKING:
    from hub.cli.stored import Stored
    from hub.query.query import Query

F = TypeVar("F", bound=Callable[..., Any])
SEQUENCE_MAX = 1 << 62
HUB = "-"
"""The value of `--socket` if the option is given without one."""


def _parse_user(text: str) -> int:
    if text.isdecimal() or text.startswith(("-", "+")):
        return whole().parse(text)
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"no such user: {text!r} (a name or a number)") from None


_OPTIONS = (
    click.option(
        "-t",
        "-u",
        "--tag",
        multiple=True,
        metavar="GLOB",
        shell_complete=complete_tag,
        help="Only tags that match, as in 'app.*'; with ! in front, only tags that do not match. Repeatable.",
    ),
    click.option("-g", "--grep", metavar="REGEX", help="Only records with a string in which REGEX is found."),
    click.option("-i", "--ignore-case", is_flag=True, help="Ignore case in --grep."),
    click.option("-v", "--invert-match", is_flag=True, help="Only records in which --grep finds nothing."),
    click.option(
        "--where",
        multiple=True,
        metavar="COND",
        help="Only records where KEY=VALUE; also !=, <, <=, >, >=. Repeatable.",
    ),
    click.option(
        "-p",
        "--level",
        metavar="L",
        shell_complete=complete_level,
        help="Only records of level L (debug, info, warning, error, ..., or 7 to 0 as in syslog) or worse.",
    ),
    click.option("--pid", type=whole(), metavar="N", help="Only messages of this process."),
    click.option(
        "--uid", type=Parsed("user", _parse_user), metavar="USER", help="Only messages of this user, by number or name."
    ),
    click.option("--comm", metavar="GLOB", help="Only messages of commands with this name, as in 'python*'."),
    click.option("--unit", metavar="GLOB", help="Only messages of processes of this systemd unit, as in 'nginx'."),
    click.option(
        "--container",
        metavar="ID",
        help="Only messages from this container, by the beginning of its id or by its name.",
    ),
    click.option("--host", metavar="GLOB", help="Only messages from this host, where another hub stored them first."),
    click.option("-S", "--since", type=MOMENT, help=f"Only messages received since TIME: {MOMENTS}."),
    click.option("-U", "--until", type=MOMENT, help="Only messages received until TIME."),
    click.option(
        "--after",
        type=whole(0, SEQUENCE_MAX),
        default=0,
        metavar="SEQ",
        help="Only messages with a higher sequence number.",
    ),
)


def filter_options(command: F) -> F:
    """Give *command* the options of all filters, and `--after`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def query_of(filters: Mapping[str, Any]) -> Query:
    """Return the query of the values of these options. A wrong one is a usage error."""
    import re

    from hub.query.condition import Condition
    from hub.query.query import Query

    if filters["invert_match"] and filters["grep"] is None:
        raise usage_error("-v needs --grep: it selects the messages in which --grep finds nothing")
    try:
        return Query(**{**filters, "where": [Condition(text) for text in filters["where"]]})
    except re.error as error:
        raise usage_error(f"--grep {filters['grep']!r}: {error}") from None
    except ValueError as error:
        raise usage_error(str(error)) from None


def stored_in(
    journal: str | None, socket: str | None, query: Query, filters: Mapping[str, Any], *, waits: bool
) -> Stored:
    """Return the messages that match, in files or at a hub."""
    if socket is None:
        from hub.cli.stored import InFiles

        return InFiles(journal or default_journal(), query, waits=waits)
    from hub.cli.athub import AtHub

    return AtHub(socket_path() if socket == HUB else socket, filters)
