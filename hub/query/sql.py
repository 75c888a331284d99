"""
SQL over the messages of a journal: a database in memory with the view `messages`. Needs DuckDB and arro3-core.

For each query the view is made anew. What the query reads is streamed from the journal (or from files of Parquet, for
segments that are in a cache); the other columns are NULL, and nothing of them is decoded.

Always true:
- the journal is only read, and all scans of one query see the same time (``now()``);
- nothing is downloaded: extensions are neither installed nor loaded by themselves.

Not here: what a query needs (hub.query.sqlplan), rows (hub.query.sqlrows), the cache (hub.query.sqlcache).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any

import duckdb

from hub.query.arrow import Stream
from hub.query.columns import COLUMNS, Part
from hub.query.level import LEVELS
from hub.query.sqlplan import EVERYTHING, Needs, needs_of, with_levels
from hub.query.sqlrows import Cached, Progress, Stretch, parts

MEMORY_MAX = "1GB"
"""Memory of a query; beyond it, sorting and grouping use files in a temporary folder."""
VIEW = "messages"
_LIVE = "live_messages"
_FETCHED = 1_000
PARQUET = "FORMAT parquet, COMPRESSION zstd"
_PLANNING = "planning"  # the schema with the empty table that queries are planned with
_OPTIMIZERS_OFF = "statistics_propagation"  # it would plan for a table that is empty
SqlError = duckdb.Error


class Database:
    """
    Runs statements over the journal in *folder*. Use it in a ``with``. *cached* finds the files of the cache before
    each query. *report* is called while messages are read, with the number of new rows.
    """

    def __init__(
        self,
        folder: str,
        *,
        cached: Callable[[], Cached] = Cached,
        report: Callable[[int], None] = lambda _rows: None,
        settings: dict[str, Any] | None = None,
    ) -> None:
        self._folder = folder
        self._cached = cached
        self._report = report
        self.progress = Progress(report)
        self._failure: BaseException | None = None
        self.needs: Needs = EVERYTHING
        """What the last query has read."""
        self._scratch = tempfile.TemporaryDirectory(prefix="mpsr-sql-")
        config = {
            "memory_limit": MEMORY_MAX,
            "temp_directory": self._scratch.name,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            **(settings or {}),
        }
        self.connection = duckdb.connect(config=config)
        self._set_up()

    def _set_up(self) -> None:
        self.connection.execute(f"CREATE TYPE level AS ENUM ({', '.join(map(repr, LEVELS))})")
        columns = ", ".join(f'"{name}" {kind.type}' for name, kind in COLUMNS.items())
        self.connection.execute(f"CREATE SCHEMA {_PLANNING}")
        self.connection.execute(f"CREATE TABLE {_PLANNING}.{VIEW} ({columns})")
        self._planner = self.connection.cursor()
        self._planner.execute(f"SET search_path = '{_PLANNING},main'")
        self._show(EVERYTHING, Cached((), ()))

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._planner.close()
        self.connection.close()
        self._scratch.cleanup()

    def statements(self, sql: str) -> list[str]:
        """Return the statements in *sql*, each without its semicolon. Raises SqlError."""
        return [each.query.strip().removesuffix(";") for each in self.connection.extract_statements(sql)]

    def is_query(self, sql: str) -> bool:
        """Return whether the statement *sql* only selects. Raises SqlError."""
        return self.connection.extract_statements(sql)[0].type == duckdb.StatementType.SELECT

    def execute(self, sql: str, around: str = "{}") -> duckdb.DuckDBPyConnection:
        """
        Run one statement and return what its rows are fetched from. If it is a query, *around* is the query around it.
        Raises SqlError.
        """
        is_query = self.is_query(sql)
        self.progress = Progress(self._report)
        query = self._with_levels(sql) if is_query else sql
        self.needs = self._plan(query) if is_query else EVERYTHING
        self._show(self.needs, self._cached())
        with self._failures():
            return self.connection.execute(around.format(f"({query}\n)") if is_query else query)

    def rows(self, result: duckdb.DuckDBPyConnection) -> Iterator[Sequence[Any]]:
        """Yield the rows of what `execute` has returned. Raises SqlError."""
        while True:
            with self._failures():
                rows = result.fetchmany(_FETCHED)
            if not rows:
                return
            yield from rows

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        """Raise what has ended the reading of the journal, and not what DuckDB makes of it."""
        try:
            yield
        except (SqlError, RuntimeError) as error:
            if self._failure is None and isinstance(error, RuntimeError):  # DuckDB's word for Ctrl-C
                raise KeyboardInterrupt from error
            if self._failure is None:
                raise
            failure, self._failure = self._failure, None
            raise failure from error

    def _parts(self, needs: Needs, stretches: Sequence[Stretch], progress: Progress) -> Iterator[Part]:
        try:
            yield from parts(self._folder, needs, progress, stretches)
        except (Exception, KeyboardInterrupt) as failure:
            self._failure = failure
            raise

    def write_parquet(self, stretch: Stretch, path: str) -> bool:
        """Write the messages of a stretch of the journal to a file. Return whether there is no gap between them."""
        progress = Progress(self._report)
        with contextlib.closing(self.connection.cursor()) as connection, self._failures():
            connection.register(_LIVE, Stream(COLUMNS, lambda: self._parts(EVERYTHING, (stretch,), progress)))
            connection.execute(f"COPY (FROM {_LIVE}) TO {quoted(path)} ({PARQUET})")
        return not progress.gaps

    def _with_levels(self, sql: str) -> str:
        parsed = self.connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0]
        return with_levels(sql, parsed)

    def _plan(self, query: str) -> Needs:
        """Return what *query* needs, which is planned with an empty table."""
        self._planner.execute(f"SET disabled_optimizers = '{_OPTIMIZERS_OFF}'")
        try:
            plan = self._planner.execute("SELECT json_serialize_plan(?, optimize := true)", [query]).fetchall()[0][0]
        finally:
            self._planner.execute("RESET disabled_optimizers")
        return needs_of(plan, VIEW)

    def _show(self, needs: Needs, cached: Cached) -> None:
        """Make the view for a query."""
        needs = needs if needs.columns else needs._replace(columns=("sequence",))  # a row has a column at least
        kinds = {name: COLUMNS[name] for name in needs.columns}
        stretches, progress = cached.stretches, self.progress
        self.connection.register(_LIVE, Stream(kinds, lambda: self._parts(needs, stretches, progress)))
        sources = [f"SELECT {_selected(needs)} FROM {_LIVE}"]
        if cached.files:
            files = ", ".join(map(quoted, cached.files))
            sources.insert(0, f"SELECT {_selected(needs)} FROM read_parquet([{files}])")
        self.connection.execute(f"CREATE OR REPLACE VIEW {VIEW} AS {' UNION ALL '.join(sources)}")


def _selected(needs: Needs) -> str:
    """Return the columns of the view: those that are not needed are NULL."""
    return ", ".join(
        f'CAST({name if name in needs.columns else "NULL"} AS {kind.type}) AS "{name}"'
        for name, kind in COLUMNS.items()
    )


def quoted(text: str) -> str:
    """Return *text* as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def is_wrong(error: SqlError) -> bool:
    """Return whether the query is wrong, and not what happened when it was run."""
    return isinstance(error, (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException))
