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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from hub.cli.filtering import HUB, filter_options, query_of, stored_in
from hub.cli.options import (
    Named,
    Parsed,
    color_option,
    journal_option,
    no_color_option,
    usage_error,
    whole,
)
from hub.cli.output import complain, discard_output, grey, renderer, wants_colours, write
from hub.cli.selected import ALL, COUNT_MAX, Selected, write_around, write_selected
from hub.cli.showing import Showing, only
from hub.cli.together import check_together

if TYPE_CHECKING:
    from hub.cli.cursorfile import CursorFile
    from hub.cli.stored import Stored
    from hub.message import Message
    from hub.query.query import Query

GC_OBJECTS = 100_000
"""New objects between two looks of the garbage collector. At its own 700, it took a tenth of the time."""
CONTEXT_MAX = 10_000
"""Messages before a match are kept in memory."""
OUTPUTS = Named(
    ["pretty", "json", "text"],
    {"cat": "text", "raw": "text", "short": "pretty", "short-iso": "pretty", "jsonl": "json", "ndjson": "json"},
)
_OF_WRITER = ("tag", "pid", "uid", "comm")


def _parse_count(text: str) -> int:
    if text.strip().lower() == "all":
        return ALL
    if text.startswith("+"):
        raise ValueError(f"{text!r} would mean from that line on, as in tail; N is the number of last messages")
    return whole(0, COUNT_MAX).parse(text)


@click.command()
@journal_option
@click.option(
    "--socket", metavar="PATH", is_flag=False, flag_value=HUB,
    help="Ask the hub at this socket (without PATH: at the default one) instead of reading the journal's files.",
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
@filter_options
@click.option(
    "-o", "--output", type=OUTPUTS,
    help="pretty: with tracebacks. json: one object per line. text: the bare text.  [default: pretty]",
)  # fmt: skip
@click.option("--fields", metavar="KEYS", help="Show only these fields of the record, as in level,http.status.")
@click.option(
    "-A", "--after-context", "behind", type=whole(0, CONTEXT_MAX), metavar="N",
    help="Also show N messages after each one that --grep, --where and --level find.",
)  # fmt: skip
@click.option(
    "-B", "--before-context", "before", type=whole(0, CONTEXT_MAX), metavar="N",
    help="Also show N messages before each one that they find.",
)  # fmt: skip
@click.option(
    "-C", "--context", type=whole(0, CONTEXT_MAX), metavar="N",
    help="Both. The context includes all tags and writers, unless --tag, --pid, ... select some.",
)  # fmt: skip
@click.option("--collapse", is_flag=True, help="Show repeated lines once, with their number.")
@click.option("--count", "only_count", is_flag=True, help="Show only the number of messages that match.")
@click.option(
    "--by", multiple=True, metavar="KEY",
    help="Show the number of messages for each tag, level, pid, uid, comm, unit, container, host, or value of a field "
    "of the record. Repeatable: for each combination.",
)  # fmt: skip
@click.option("--histogram", is_flag=True, help="Show the number of messages over time, as bars.")
@click.option(
    "--cursor-file", metavar="FILE",
    help="Continue after the last message that was shown with this FILE, and store the new last one there.",
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
    before, behind = (context if each is None else each for each in (before, behind))
    if (before or behind) and not (filters["grep"] or filters["where"] or filters["level"]):
        raise usage_error("-A, -B and -C show the messages around matches, so they need --grep, --where or --level")
    query, look = query_of(filters), _Look(output, fields, "never" if no_color else color, utc)
    render = look.renderer()
    if count == ALL and not follow:
        count = None
    try:
        stored = stored_in(journal, socket, query, filters, waits=follow)
        if only_count:
            from hub.cli.figures import total

            click.echo(total(stored, Selected(count, after, began), query))
            return
        selected = Selected(count, after, began, is_followed=follow, is_reversed=reverse)
        with _paged(wanted=not (no_pager or follow)):
            if by or histogram:
                written = _write_figures(stored, selected, query, by, look)
            else:
                cursor = None if cursor_file is None else _cursor_of(cursor_file, stored)
                selected = selected if cursor is None else selected._replace(after=cursor.after)
                with look.showing(render, cursor, is_collapsed=collapse) as showing:
                    if before or behind:
                        written = write_around(stored, showing, selected, _around(filters), (before or 0, behind or 0))
                    else:
                        written = write_selected(stored, showing, selected)
        if not written and count != 0 and sys.stderr.isatty():
            complain(f"no message matches{_about_where(filters['where'])}")
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        discard_output()


class _Look(NamedTuple):
    """How messages are shown: the values of --output, --fields, --color and --utc."""

    output: str | None
    fields: str | None
    color: str
    is_utc: bool

    def renderer(self, *, is_context: bool = False) -> Callable[[Message], str]:
        """Return the function that shows a message; one that is only context is grey where others have colours."""
        render = renderer(self.output, color="never" if is_context else self.color, utc=self.is_utc)
        render = render if self.fields is None else only(self.fields.split(","), render)
        if not is_context or self.output not in (None, "pretty") or not wants_colours(self.color):
            return render
        return lambda message: grey(render(message))

    @contextmanager
    def showing(
        self, render: Callable[[Message], str], cursor: CursorFile | None, *, is_collapsed: bool
    ) -> Iterator[Showing]:
        """Show messages as lines; the cursor is stored at the end."""
        showing = Showing(
            render,
            render_context=self.renderer(is_context=True),
            has_breaks=self.output != "json",
            is_collapsed=is_collapsed,
            cursor=cursor,
        )
        try:
            yield showing
        finally:
            showing.end()


def _write_figures(stored: Stored, selected: Selected, query: Query, by: Sequence[str], look: _Look) -> int:
    """Write the table of `--by` or the bars of `--histogram`. Return the number of lines."""
    from hub.cli.figures import figures

    is_coloured = wants_colours(look.color)
    return write([figures(stored, selected, query, by, look.output, is_coloured=is_coloured, is_utc=look.is_utc)])


def _around(filters: dict[str, Any]) -> Query:
    """Return what selects the context of matches: the filters that do not find, such as --tag."""
    return query_of({**filters, "grep": None, "where": (), "level": None, "invert_match": False})


def _paged(*, wanted: bool) -> AbstractContextManager[None]:
    """Show standard output in a pager, if it is a terminal."""
    if not wanted or not sys.stdout.isatty():
        return nullcontext()
    from hub.cli.pager import paged

    return paged()


def _cursor_of(path: str, stored: Stored) -> CursorFile:
    from hub.cli.cursorfile import CursorFile

    return CursorFile(path, stored.hub_id())


def _about_where(conditions: Sequence[str]) -> str:
    """Return what may have been meant by conditions whose keys are properties of the message, not of its record."""
    from hub.query.condition import Condition

    keys = [key for text in conditions if (key := Condition(text).key) in _OF_WRITER]
    return "".join(f" (--where {key}: a field of the record; --{key} selects messages)" for key in keys[:1])


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
