"""`mpsr logs`: shows the messages of the journal, read from its files or asked of the hub."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from typing import TYPE_CHECKING, Any, NoReturn

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
from hub.cli.output import Encoded, Lines, complain, discard_output, renderer, write
from hub.configfile import socket_path
from hub.paths import default_journal
from hub.quantities import MOMENTS

if TYPE_CHECKING:
    from hub.cli.stored import Stored
    from hub.message import Message
    from hub.query.query import Query

GC_OBJECTS = 100_000
"""New objects between two looks of the garbage collector. At its own 700, it took a tenth of the time."""
COUNT_MAX, SEQUENCE_MAX = 1 << 31, 1 << 62
ALL = COUNT_MAX + 1
"""The number of lines that `-n all` stands for."""
LAST = 10
"""The number of stored messages that a follower shows first."""
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
@click.option("--count", "only_count", is_flag=True, help="Show only the number of messages that match.")
@click.option("--utc", is_flag=True, help="Show times in UTC.")
@color_option
@no_color_option
@click.option("-a", "-q", "--no-pager", "--no-hostname", "no_effect", is_flag=True, hidden=True)  # it is so anyway
def logs(  # noqa: PLR0913, PLR0917  one for each option
    journal: str | None,
    socket: str | None,
    follow: bool,
    count: int | None,
    reverse: bool,
    after: int,
    output: str | None,
    fields: str | None,
    only_count: bool,
    utc: bool,
    color: str,
    no_color: bool,
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
    _check_follow(follow, {"-r": reverse, "--count": only_count, "--until": filters["until"] is not None})
    _check_place(socket)
    if filters["invert_match"] and filters["grep"] is None:
        raise usage_error("-v needs --grep: it shows what that does not find")
    query, render = _query(filters), renderer(output, color="never" if no_color else color, utc=utc)
    if fields is not None:
        render = _only(fields.split(","), render)
    if count == ALL and not follow:
        count = None
    try:
        stored = _stored(journal, socket, query, filters, waits=follow)
        if only_count:
            found = sum(map(_length, stored.groups(after)))
            click.echo(found if count is None else min(found, count))
            return
        if follow:
            _follow(stored, render, LAST if count is None else count, after, began)
        elif reverse:
            newest = (message for stretch in stored.backward(after) for message in reversed(stretch))
            written = write([map(render, itertools.islice(newest, count))])
        elif count is None:
            written = _write_all(stored.groups(after), render)
        else:
            written = write([map(render, stored.last(count, after))])
        if not written and count != 0 and sys.stderr.isatty():
            complain(f"no message matches{_about_where(filters['where'])}")
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        discard_output()


def _length(group: Iterable[Message]) -> int:
    return len(group) if isinstance(group, Sized) else sum(1 for _ in group)


def _check_place(socket: str | None) -> None:
    """Raise a usage error if both `--journal` and `--socket` are options of the command."""
    source = click.get_current_context().get_parameter_source("journal")
    if socket is not None and source is click.core.ParameterSource.COMMANDLINE:
        raise usage_error("--journal reads files and --socket asks a hub: give one of them")
    if socket == "":
        raise usage_error("--socket: an empty text is no path (leave it out for the default)")


def _stored(
    journal: str | None, socket: str | None, query: Query, filters: Mapping[str, Any], *, waits: bool
) -> Stored:
    """Return the messages that match, in files or at a hub."""
    if socket is None:
        from hub.cli.stored import InFiles

        return InFiles(journal or default_journal(), query, waits=waits)
    from hub.cli.athub import AtHub

    return AtHub(socket_path() if socket == HUB else socket, filters)


def _check_follow(follow: bool, others: Mapping[str, bool]) -> None:
    for option, is_given in others.items():
        if follow and is_given:
            raise usage_error(f"-f does not end, so {option} cannot be used with it")


def _about_where(conditions: Sequence[str]) -> str:
    """Return what may have been meant by conditions whose keys are properties of the message, not of its record."""
    from hub.query.condition import Condition

    keys = [key for text in conditions if (key := Condition(text).key) in _OF_WRITER]
    return "".join(f" (--where {key}: a field of the record; --{key} selects messages)" for key in keys[:1])


def _follow(stored: Stored, render: Callable[[Message], str], count: int, after: int, began: int) -> NoReturn:
    """Write the last *count* messages before the time *began*, then all since, until the reader of the output ends."""
    end = after
    if count != ALL:
        end = max(stored.end_before(began), after)
        write([map(render, stored.last(count, after, end + 1))])
    for groups in stored.follow(end):
        _write_all(groups, render)
    raise AssertionError("a follower does not end")


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


def _write_all(groups: Iterator[Iterable[Message]], render: Callable[[Message], str]) -> int:
    from hub.query.found import Found
    from hub.query.rendering import json_of, render_json, render_text, texts_of

    def shown(group: Iterable[Message]) -> Lines:
        if isinstance(group, Found) and render is render_json:
            return Encoded(len(group), json_of(group))
        return texts_of(group) if isinstance(group, Found) and render is render_text else map(render, group)

    return write(map(shown, groups))
