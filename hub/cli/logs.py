"""`mpsr logs`: reads the journal in its own process, without the hub."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from hub.cli.options import MOMENT, discard_output, journal_option, renderer, usage_error, write
from hub.paths import default_journal

if TYPE_CHECKING:
    from hub.journal.reader import Gap
    from hub.message import Batch, Message
    from hub.query.query import Query

COUNT_MAX, SEQUENCE_MAX = 1 << 31, 1 << 62
FOLLOW_S = 0.1
"""Seconds between two reads of a follower: half of the promised delay."""


@click.command()
@journal_option
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes.")
@click.option(
    "-n", "count", type=click.IntRange(0, COUNT_MAX), metavar="N", help="The last N that match; else everything."
)
@click.option("--tag", multiple=True, metavar="GLOB", help="Only tags that match, as in 'app.*'. Repeatable: any.")
@click.option("--grep", metavar="REGEX", help="Only records with a string in which REGEX is found.")
@click.option(
    "--where", multiple=True, metavar="COND", help="Only records where KEY=VALUE, !=, <, <=, > or >=. Repeatable: all."
)
@click.option("--level", metavar="L", help="Only records whose level is L (debug, info, warning, error, ...) or worse.")
@click.option("--pid", type=int, metavar="N", help="Only what this process wrote.")
@click.option("--since", type=MOMENT, help="Only what arrived since: 10m, 2026-11-20, RFC 3339.")
@click.option("--until", type=MOMENT, help="Only what arrived until then.")
@click.option(
    "--after", type=click.IntRange(0, SEQUENCE_MAX), default=0, metavar="SEQ", help="Only behind this sequence."
)
@click.option("--output", type=click.Choice(["pretty", "json", "text"]), help="[default: pretty]")
def logs(journal: str | None, follow: bool, count: int | None, after: int, output: str | None, **filters: Any) -> None:
    """Read the journal, whether a hub is running or not.

    \b
    Examples:
      mpsr logs -f --tag 'app.*' --level warning
      mpsr logs -n 100 --grep 'timeout|refused' --output json
      mpsr logs --since 2h --where http.status=500 --where 'duration_ms>100'
    """
    from hub.journal.reader import open_reader
    from hub.query.query import last

    folder = journal or default_journal()
    query, render = _query(filters), renderer(output)
    try:
        while follow and not os.path.exists(folder):  # no hub has run yet, so no journal exists
            time.sleep(FOLLOW_S)
        reader = open_reader(folder, after=after, since=query.since)
        if count is not None:
            messages, end = last(folder, query, count, after=after)
            write([map(render, messages)])
            if not follow:
                return
            reader = open_reader(folder, after=end)
        _write_all(reader.read(follow=follow), query, render, after)
        while follow:
            time.sleep(FOLLOW_S)
            _write_all(reader.read(follow=True), query, render, after)
    except KeyboardInterrupt:
        return
    except BrokenPipeError:
        discard_output()


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
