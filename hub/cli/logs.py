"""`mpsr logs`: reads the journal in its own process, without the hub."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from hub.cli.options import MOMENT, complete_level, complete_tag, journal_option, usage_error, whole
from hub.cli.output import complain, discard_output, renderer, write
from hub.paths import default_journal

if TYPE_CHECKING:
    from hub.journal.reader import Gap
    from hub.message import Batch, Message
    from hub.query.query import Query

COUNT_MAX, SEQUENCE_MAX = 1 << 31, 1 << 62
LAST = 10
"""With what a follower begins."""
FOLLOW_S = 0.1
"""Seconds between two reads of a follower: half of the promised delay."""
NOTICE_S = 1.0
"""How long a follower waits for a journal without a word."""


@click.command()
@journal_option
@click.option(
    "-f", "--follow", is_flag=True, help="Show the last 10 messages, or those of -n, and continue with new ones."
)
@click.option(
    "-n",
    "--lines",
    "--tail",
    "count",
    type=whole(0, COUNT_MAX),
    metavar="N",
    help="Only the last N messages that match.",
)
@click.option("-r", "--reverse", is_flag=True, help="Show the newest message first.")
@click.option(
    "-t", "-u", "--tag", multiple=True, metavar="GLOB", shell_complete=complete_tag,
    help="Only tags that match, as in 'app.*'; with ! in front, only tags that do not match. Repeatable.",
)  # fmt: skip
@click.option("-g", "--grep", metavar="REGEX", help="Only records with a string in which REGEX is found.")
@click.option("-i", "--ignore-case", is_flag=True, help="--grep ignores the difference between upper and lower case.")
@click.option(
    "--where", multiple=True, metavar="COND", help="Only records where KEY=VALUE; also !=, <, <=, >, >=. Repeatable."
)
@click.option(
    "-p", "--level", metavar="L", shell_complete=complete_level,
    help="Only records of level L (debug, info, warning, error, ...) or worse.",
)  # fmt: skip
@click.option("--pid", type=whole(), metavar="N", help="Only messages of this process.")
@click.option("--uid", type=whole(), metavar="N", help="Only messages of this user.")
@click.option("--comm", metavar="GLOB", help="Only messages of commands with this name, as in 'python*'.")
@click.option(
    "-S", "--since", type=MOMENT, help="Only messages received since TIME: 10m, yesterday, 14:30, 2026-11-20, @epoch."
)
@click.option("-U", "--until", type=MOMENT, help="Only messages received until TIME.")
@click.option(
    "--after",
    type=whole(0, SEQUENCE_MAX),
    default=0,
    metavar="SEQ",
    help="Only messages with a higher sequence number.",
)
@click.option(
    "-o", "--output", type=click.Choice(["pretty", "json", "text"]),
    help="pretty: with tracebacks. json: one object per line. text: the bare text.  [default: pretty]",
)  # fmt: skip
@click.option("--fields", metavar="KEYS", help="Show only these fields of the record, as in level,http.status.")
@click.option("--count", "only_count", is_flag=True, help="Show only the number of messages that match.")
@click.option("--utc", is_flag=True, help="Show times in UTC.")
@click.option(
    "--color", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True,
    help="auto: colours on a terminal, always with $FORCE_COLOR, never with $NO_COLOR.",
)  # fmt: skip
@click.option("--no-pager", is_flag=True, hidden=True)  # there is none
def logs(  # noqa: PLR0913, PLR0917  one for each option
    journal: str | None,
    follow: bool,
    count: int | None,
    reverse: bool,
    after: int,
    output: str | None,
    fields: str | None,
    only_count: bool,
    utc: bool,
    color: str,
    no_pager: bool,
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
    from hub.journal.reader import open_reader

    if follow and (reverse or only_count):
        raise usage_error(f"-f does not end, so {'-r' if reverse else '--count'} cannot be used with it")
    folder = journal or default_journal()
    query, render = _query(filters), renderer(output, color=color, utc=utc)
    if fields is not None:
        render = _only(fields.split(","), render)
    try:
        if follow:
            _wait_for_journal(folder)
        reader = open_reader(folder, after=after, since=query.since)
        if only_count:
            groups = query.groups(reader.read())
            click.echo(sum(message.sequence > after for group in groups for message in group))
        elif reverse:
            _write_backward(folder, query, render, count, after)
        elif count is None and not follow:
            _write_all(reader.read(), query, render, after)
        else:
            _write_end(folder, query, render, LAST if count is None else count, after, began if follow else None)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        discard_output()


def _wait_for_journal(folder: str) -> None:
    """Return when a hub has begun a journal in *folder*. Report after `NOTICE_S` that there is none."""
    from hub.journal.reader import has_journal

    notice_at: float | None = time.monotonic() + NOTICE_S
    while not has_journal(folder):
        if notice_at is not None and time.monotonic() >= notice_at:
            notice_at = None
            complain(f"journal {folder}: there is none yet; waiting for a hub (is --journal right?)")
        time.sleep(FOLLOW_S)


def _write_backward(folder: str, query: Query, render: Callable[[Message], str], count: int | None, after: int) -> None:
    """Write the last *count* messages, or all, the newest first."""
    from hub.query.backward import backward

    stretches = backward(folder, query, after=after)
    newest = (message for stretch in stretches for message in reversed(stretch))
    write([map(render, itertools.islice(newest, count))])


def _write_end(
    folder: str, query: Query, render: Callable[[Message], str], count: int, after: int, began: int | None
) -> None:
    """Write the last *count* messages. With *began*, a time: those before it, then all since, for ever."""
    from hub.journal.reader import open_reader
    from hub.journal.segment import SEQUENCE_MAX
    from hub.query.backward import last, last_sequence_before

    if began is None:
        write([map(render, last(folder, query, count, after=after))])
        return
    end = max(last_sequence_before(folder, began), after)
    write([map(render, last(folder, query, count, after=after, below=min(end + 1, SEQUENCE_MAX)))])
    reader = open_reader(folder, after=end)
    while True:
        _write_all(reader.read(follow=True), query, render, end)
        time.sleep(FOLLOW_S)


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
    interpreter takes a while to start. Where the kernel does not say it, that is now.
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


def _write_all(batches: Iterator[Batch | Gap], query: Query, render: Callable[[Message], str], after: int) -> None:
    write((render(message) for message in group if message.sequence > after) for group in query.groups(batches))
