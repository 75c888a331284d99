"""
`mpsr sql`: queries of the journal in SQL.

Not here: the database (hub.query.sql), how results look (hub.cli.sqlresult), the prompt (hub.cli.sqlprompt).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from hub.cli.options import Named, journal_option, usage_error
from hub.cli.progress import Progress
from hub.extras import without_extra
from hub.paths import default_cache, default_journal

if TYPE_CHECKING:
    from hub.query.sql import Database
    from hub.query.sqlrows import Cached

OUTPUTS = Named(["table", "csv", "json", "parquet"], {"ndjson": "json", "jsonl": "json"})


@click.command()
@click.argument("query", required=False)
@journal_option
@click.option(
    "-o", "--output", type=OUTPUTS, default="table", show_default=True,
    help="table: fits the terminal. csv: a header, and one row per line. json: one object per line. parquet: a file.",
)  # fmt: skip
@click.option(
    "--cache", is_flag=True, help="Keep sealed segments as Parquet files in the user's cache folder, and query those."
)
def sql(query: str | None, journal: str | None, output: str, cache: bool) -> None:
    """Query the journal with SQL.

    Without QUERY, it opens a prompt, or reads queries from standard input. The view `messages` has a row for each
    message.

    \b
    Examples:
      mpsr sql "select level, count(*) from messages group by 1 order by 1"
      mpsr sql "select message from messages where tag = 'shop' and level >= 'warning'"
      mpsr sql "select record->>'$.http.status', count(*) from messages group by 1" -o csv
    """
    if fault := without_extra("SQL", "sql"):
        raise click.ClickException(fault)
    from hub.cli.sqlresult import Results

    if query is not None and not query.strip():
        raise usage_error("the query is empty (leave it out for a prompt)")
    if output == "parquet" and sys.stdout.isatty():
        raise usage_error("--output parquet: a terminal cannot show it (write it to a file, as in `> result.parquet`)")
    folder = journal or default_journal()
    with opened(folder, is_cached=cache) as (database, progress):
        results = Results(database, progress, output)
        if query is None and sys.stdin.isatty():
            from hub.cli.sqlprompt import prompt

            prompt(results)
            return
        results.show_all(sys.stdin.read() if query is None else query)


@contextlib.contextmanager
def opened(folder: str, *, is_cached: bool) -> Iterator[tuple[Database, Progress]]:
    """Give a database over the journal in *folder*, and the progress that it reports."""
    from hub.cli.stored import InFiles
    from hub.query.query import Query
    from hub.query.sql import Database
    from hub.query.sqlcache import Cache

    stored = InFiles(folder, Query(), waits=False)  # raises an error if there is no journal that can be read
    progress = Progress(shares_terminal=True)
    with contextlib.ExitStack() as stack:
        if not is_cached:
            yield stack.enter_context(Database(folder, report=progress.add)), progress
            return
        place = os.path.join(default_cache(), "sql", stored.hub_id())
        cache = stack.enter_context(contextlib.closing(Cache(place, folder)))

        def cached() -> Cached:
            return cache.bring_up(database.write_parquet)

        database = stack.enter_context(Database(folder, cached=cached, report=progress.add))
        yield database, progress
