"""
`mpsr logs`: shows the messages of the journal, read from its files or asked of the hub.

Not here: lines (hub.cli.showing), numbers instead of lines (hub.cli.figures), the pager (hub.cli.pager), the cursor
file (hub.cli.cursorfile), options that contradict each other (hub.cli.together).
"""

from __future__ import annotations

import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import click

from hub.cli.options import (
    MOMENT,
    Named,
    Parsed,
    color_option,
    complete_level,
    complete_tag,
    journal_option,
    no_color_option,
    usage_error,
    whole,
)
from hub.cli.output import complain, discard_output, grey, renderer, wants_colours, write
from hub.cli.selected import ALL, COUNT_MAX, SEQUENCE_MAX, Selected, write_around, write_selected
from hub.cli.showing import Showing
from hub.cli.together import check_together
from hub.configfile import socket_path
from hub.paths import default_journal
from hub.quantities import MOMENTS

if TYPE_CHECKING:
    from hub.cli.cursorfile import CursorFile
    from hub.cli.stored import Stored
    from hub.message import Message
    from hub.query.query import Query

GC_OBJECTS = 100_000
"""New objects between two looks of the garbage collector. At its own 700, it took a tenth of the time."""
CONTEXT_MAX = 10_000
"""Messages before a match are kept in memory."""
HUB = "-"
"""The value of `--socket` if the option is given without one."""
OUTPUTS = Named(
    ["pretty", "json", "text"],
    {"cat": "text", "raw": "text", "short": "pretty", "short-iso": "pretty", "jsonl": "json", "ndjson": "json"},
)
_OF_WRITER = ("tag", "pid", "uid", "comm")


def _parse_count(text: str) -> int:
    if text.strip().lower() == "all":
        return ALL
    if text.startswith("+"):
        raise ValueError(f"{text!r} would be from that line on (of tail); N is the number of last messages")
    return whole(0, COUNT_MAX).parse(text)


def _parse_user(text: str) -> int:
    if text.isdecimal() or text.startswith(("-", "+")):
        return whole().parse(text)
    import pwd

    try:
        return pwd.getpwnam(text).pw_uid
    except KeyError:
        raise ValueError(f"no such user: {text!r} (a name or a number)") from None


@click.command()
@journal_option
@click.option(
    "--socket", metavar="PATH", is_flag=False, flag_value=HUB,
    help="Ask the hub at this socket, or at the usual one, instead of reading the journal's files.",
)  # fmt: skip
@click.option(
    "-f", "--follow", is_flag=True, help="Show the last 10 messages, or those of -n, and continue with new ones."
)
@click.option(
    "-n",
    "--lines",
    "--tail",
    "count",
    type=Parsed("number", _parse_count),
    metavar="N",
    help="Only the last N messages that match, or all.",
)
@click.option("-r", "--reverse", is_flag=True, help="Show the newest message first.")
@click.option(
    "-t", "-u", "--tag", multiple=True, metavar="GLOB", shell_complete=complete_tag,
    help="Only tags that match, as in 'app.*'; with ! in front, only tags that do not match. Repeatable.",
)  # fmt: skip
@click.option("-g", "--grep", metavar="REGEX", help="Only records with a string in which REGEX is found.")
@click.option("-i", "--ignore-case", is_flag=True, help="--grep ignores the difference between upper and lower case.")
@click.option("-v", "--invert-match", is_flag=True, help="Only records in which --grep finds nothing.")
@click.option(
    "--where", multiple=True, metavar="COND", help="Only records where KEY=VALUE; also !=, <, <=, >, >=. Repeatable."
)
@click.option(
    "-p", "--level", metavar="L", shell_complete=complete_level,
    help="Only records of level L (debug, info, warning, error, ..., or 7 to 0 as in syslog) or worse.",
)  # fmt: skip
@click.option("--pid", type=whole(), metavar="N", help="Only messages of this process.")
@click.option(
    "--uid", type=Parsed("user", _parse_user), metavar="USER", help="Only messages of this user, by number or name."
)
@click.option("--comm", metavar="GLOB", help="Only messages of commands with this name, as in 'python*'.")
@click.option("--unit", metavar="GLOB", help="Only messages of processes of this systemd unit, as in 'nginx'.")
@click.option(
    "--container", metavar="ID", help="Only messages from this container, by the beginning of its id or by its name."
)
@click.option("--host", metavar="GLOB", help="Only messages from this host, which another hub has stored first.")
@click.option("-S", "--since", type=MOMENT, help=f"Only messages received since TIME: {MOMENTS}.")
@click.option("-U", "--until", type=MOMENT, help="Only messages received until TIME.")
@click.option(
    "--after",
    type=whole(0, SEQUENCE_MAX),
    default=0,
    metavar="SEQ",
    help="Only messages with a higher sequence number.",
)
@click.option(
    "-o", "--output", type=OUTPUTS,
    help="pretty: with tracebacks. json: one object per line. text: the bare text.  [default: pretty]",
)  # fmt: skip
@click.option("--fields", metavar="KEYS", help="Show only these fields of the record, as in level,http.status.")
@click.option(
    "-A", "--after-context", "behind", type=whole(0, CONTEXT_MAX), metavar="N",
    help="Show also N messages after each that --grep, --where and --level find.",
)  # fmt: skip
@click.option(
    "-B", "--before-context", "before", type=whole(0, CONTEXT_MAX), metavar="N",
    help="Show also N messages before each that they find.",
)  # fmt: skip
@click.option(
    "-C", "--context", type=whole(0, CONTEXT_MAX), metavar="N",
    help="Both. The context is of all tags and writers, unless --tag, --pid, ... select some.",
)  # fmt: skip
@click.option("--collapse", is_flag=True, help="Show a line that is repeated once, with its number.")
@click.option("--count", "only_count", is_flag=True, help="Show only the number of messages that match.")
@click.option(
    "--by", multiple=True, metavar="KEY",
    help="Show the number of messages for each tag, level, pid, uid, comm, unit, container, host, or value of a field "
    "of the record. Repeatable: for each combination.",
)  # fmt: skip
@click.option("--histogram", is_flag=True, help="Show the number of messages over time, as bars.")
@click.option(
    "--cursor-file", metavar="FILE",
    help="Show only messages after the last one shown with this FILE, and store there which is the last one now.",
)  # fmt: skip
@click.option("--utc", is_flag=True, help="Show times in UTC.")
@color_option
@no_color_option
@click.option(
    "--no-pager", is_flag=True, help="On a terminal, do not show the messages in $MPSR_PAGER, $PAGER or less."
)
@click.option("-a", "-q", "--no-hostname", "no_effect", is_flag=True, hidden=True)  # it is so anyway
def logs(  # noqa: PLR0913, PLR0917  one for each option
    journal: str | None,
    socket: str | None,
    follow: bool,
    count: int | None,
    reverse: bool,
    after: int,
    output: str | None,
    fields: str | None,
    before: int | None,
    behind: int | None,
    context: int | None,
    collapse: bool,
    only_count: bool,
    by: tuple[str, ...],
    histogram: bool,
    cursor_file: str | None,
    utc: bool,
    color: str,
    no_color: bool,
    no_pager: bool,
    no_effect: bool,
    **filters: Any,
) -> None:
    """Read the journal, whether a hub is running or not. All filters that are given must match.

    \b
    Examples:
      mpsr logs -f --tag 'app.*' --level warning
      mpsr logs -n 100 --grep 'timeout|refused' --output json
      mpsr logs --since 2h --where http.status=500 --where 'duration_ms>100'
    """
    began = _began()
    gc.freeze()
    gc.set_threshold(GC_OBJECTS)
    check_together(output)
    if filters["invert_match"] and filters["grep"] is None:
        raise usage_error("-v needs --grep: it shows what that does not find")
    before, behind = (context if each is None else each for each in (before, behind))
    if (before or behind) and not (filters["grep"] or filters["where"] or filters["level"]):
        raise usage_error("-A, -B and -C show what is around matches: give --grep, --where or --level, too")
    color = "never" if no_color else color
    query, render = _query(filters), _renderer(output, fields, color, utc=utc)
    if count == ALL and not follow:
        count = None
    try:
        stored = _stored(journal, socket, query, filters, waits=follow)
        if only_count:
            from hub.cli.figures import total

            click.echo(total(stored, Selected(count, after, began), query))
            return
        selected = Selected(count, after, began, is_followed=follow, is_reversed=reverse)
        with _paged(wanted=not (no_pager or follow)):
            if by or histogram:
                from hub.cli.figures import figures

                written = write(
                    [figures(stored, selected, query, by, output, is_coloured=wants_colours(color), is_utc=utc)]
                )
            else:
                cursor = None if cursor_file is None else _cursor_of(cursor_file, stored)
                showing = Showing(
                    render,
                    render_context=_renderer(output, fields, color, utc=utc, is_context=True),
                    has_breaks=output != "json",
                    is_collapsed=collapse,
                    cursor=cursor,
                )
                selected = selected if cursor is None else selected._replace(after=cursor.after)
                try:
                    if before or behind:
                        selection = _query({**filters, "grep": None, "where": (), "level": None, "invert_match": False})
                        written = write_around(stored, showing, selected, selection, (before or 0, behind or 0))
                    else:
                        written = write_selected(stored, showing, selected)
                finally:
                    showing.end()
        if not written and count != 0 and sys.stderr.isatty():
            complain(f"no message matches{_about_where(filters['where'])}")
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        discard_output()


def _renderer(
    output: str | None, fields: str | None, color: str, *, utc: bool, is_context: bool = False
) -> Callable[[Message], str]:
    """Return the function that shows a message; one that is only context is grey where others have colours."""
    render = renderer(output, color="never" if is_context else color, utc=utc)
    render = render if fields is None else _only(fields.split(","), render)
    if not is_context or output not in (None, "pretty") or not wants_colours(color):
        return render
    return lambda message: grey(render(message))


def _paged(*, wanted: bool) -> AbstractContextManager[None]:
    """Show standard output in a pager, if it is a terminal."""
    if not wanted or not sys.stdout.isatty():
        return nullcontext()
    from hub.cli.pager import paged

    return paged()


def _cursor_of(path: str, stored: Stored) -> CursorFile:
    from hub.cli.cursorfile import CursorFile

    return CursorFile(path, stored.hub_id())


def _stored(
    journal: str | None, socket: str | None, query: Query, filters: Mapping[str, Any], *, waits: bool
) -> Stored:
    """Return the messages that match, in files or at a hub."""
    if socket is None:
        from hub.cli.stored import InFiles

        return InFiles(journal or default_journal(), query, waits=waits)
    from hub.cli.athub import AtHub

    return AtHub(socket_path() if socket == HUB else socket, filters)


def _about_where(conditions: Sequence[str]) -> str:
    """Return what may have been meant by conditions whose keys are properties of the message, not of its record."""
    from hub.query.condition import Condition

    keys = [key for text in conditions if (key := Condition(text).key) in _OF_WRITER]
    return "".join(f" (--where {key}: a field of the record; --{key} selects messages)" for key in keys[:1])


def _only(keys: Sequence[str], render: Callable[[Message], str]) -> Callable[[Message], str]:
    """Return *render* for messages of whose records only *keys* are left, dotted keys as they are."""
    import msgspec

    from hub.query.condition import ABSENT, look_up

    paths = [(key.strip(), key.strip().split(".")) for key in keys]

    def show(message: Message) -> str:
        found = ((key, look_up(message.record, key, path)) for key, path in paths)
        record = {key: value for key, value in found if value is not ABSENT}
        return render(msgspec.structs.replace(message, record=record))

    return show


def _began() -> int:
    """
    Return when this process began, in nanoseconds since the epoch: a follower shows everything since then, although the
    interpreter takes a while to start. Where the kernel does not report it, that is now.
    """
    now = time.time_ns()
    try:
        with open("/proc/self/stat", "rb") as file:
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - ticks * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return now
    return now - max(age_ns, 0)


def _query(filters: dict[str, Any]) -> Query:
    import re

    from hub.query.condition import Condition
    from hub.query.query import Query

    try:
        return Query(**{**filters, "where": [Condition(text) for text in filters["where"]]})
    except re.error as error:
        raise usage_error(f"--grep {filters['grep']!r}: {error}") from None
    except ValueError as error:
        raise usage_error(str(error)) from None
