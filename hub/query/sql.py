"""
SQL over the messages of a journal: a database in memory with the view `messages`. Needs DuckDB and arro3-core.

For each query the view is made anew. What the query reads is streamed from the journal (or from files of Parquet, for
segments that are in a cache); the other columns are NULL, and nothing of them is decoded.

Always true:
- the journal is only read, and all scans of one query see the same time (``now()``);
- Ctrl-C ends a query at once: DuckDB works on a thread, because the main thread would not hear of it;
- nothing is downloaded: extensions are neither installed nor loaded by themselves.

Not here: what a query needs (hub.query.sqlplan), rows (hub.query.sqlrows), the cache (hub.query.sqlcache).
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, TypeVar

import duckdb

from hub.query import parquet
from hub.query.arrow import Stream
from hub.query.columns import COLUMNS
from hub.query.level import LEVELS
from hub.query.sqlplan import EVERYTHING, Needs, needs_of, with_levels
from hub.query.sqlrows import Cached, MayRead, Progress, Stretch, parts

MEMORY_MAX = "1GB"
"""Memory of a query; beyond it, sorting and grouping use files in a temporary folder."""
INTERRUPT_S = 0.1
"""How often a query that does not end is interrupted again."""
VIEW = "messages"
DESCRIBE = "DESCRIBE "
_LIVE = "live_messages"
_FETCHED = 1_000
_PLANNING = "planning"  # the schema with the empty table that queries are planned with
_OPTIMIZERS_OFF = "statistics_propagation"  # it would plan for a table that is empty
SqlError = duckdb.Error
_T = TypeVar("_T")


class Database:
    """
    Runs statements over the journal in *folder*. Use it in a ``with``.

    *cached* finds the files of the cache before each query. *report* is called while messages are read, with the number
    of new rows. *is_locked*: a statement can read and write no file, and change no setting. *zone* is the time zone, if
    it is not that of this host. *may_read* returns whether messages under a tag are rows.
    """

    def __init__(
        self,
        folder: str,
        *,
        cached: Callable[[], Cached] = Cached,
        report: Callable[[int], None] = lambda _rows: None,
        settings: dict[str, Any] | None = None,
        is_locked: bool = False,
        zone: str = "",
        may_read: MayRead | None = None,
    ) -> None:
        self._folder = folder
        self._may_read = may_read
        self._is_locked = is_locked
        self._cached = cached
        self._report = report
        self.progress = Progress(report)
        self._stream: Stream | None = None
        self.needs: Needs = EVERYTHING
        """What the last query has read."""
        self._scratch = None if is_locked else tempfile.TemporaryDirectory(prefix="mpsr-sql-")
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mpsr-sql")
        config = {
            "memory_limit": MEMORY_MAX,
            "temp_directory": "" if self._scratch is None else self._scratch.name,
            "python_enable_replacements": False,  # a table is never a variable of ours
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            **(settings or {}),
        }
        self.connection = duckdb.connect(config=config)
        self._set_up(zone)

    def _set_up(self, zone: str) -> None:
        if zone:
            self.connection.execute(f"SET TimeZone = {parquet.quoted(zone)}")
        self.connection.execute(f"CREATE TYPE level AS ENUM ({', '.join(map(repr, LEVELS))})")
        columns = ", ".join(f'"{name}" {kind.type}' for name, kind in COLUMNS.items())
        self.connection.execute(f"CREATE SCHEMA {_PLANNING}")
        self.connection.execute(f"CREATE TABLE {_PLANNING}.{VIEW} ({columns})")
        self._planner = self.connection.cursor()
        self._planner.execute(f"SET search_path = '{_PLANNING},main'")
        self._show(EVERYTHING, Cached((), ()))
        if self._is_locked:
            self._planner.execute(f"SET disabled_optimizers = '{_OPTIMIZERS_OFF}'")
            self.connection.execute("SET enable_external_access = false")
            self.connection.execute("SET lock_configuration = true")

    def __enter__(self) -> Database:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown()
        self._planner.close()
        self.connection.close()
        if self._scratch is not None:
            self._scratch.cleanup()

    def statements(self, sql: str) -> list[str]:
        """Return the statements in *sql*, each without its semicolon. Raises SqlError."""
        return [each.query.strip().removesuffix(";") for each in self.connection.extract_statements(sql)]

    def is_query(self, sql: str) -> bool:
        """Return whether the statement *sql* only selects. Raises SqlError."""
        return self.connection.extract_statements(sql)[0].type == duckdb.StatementType.SELECT

    def describe(self, sql: str) -> list[tuple[str, str]]:
        """Return the name and the type of each column of the query *sql*. Raises SqlError, for `DESCRIBE` and *sql*."""
        return [(name, kind) for name, kind, *_ in self.connection.execute(DESCRIBE + sql).fetchall()]

    def execute(self, sql: str, around: str = "{}") -> duckdb.DuckDBPyConnection:
        """
        Run one statement and return what its rows are fetched from. If it is a query, *around* is the query around it.
        Raises SqlError.
        """
        with parquet.failures(None):
            is_query = self.is_query(sql)
            self.progress = Progress(self._report)
            query = self._with_levels(sql) if is_query else sql
            self.needs = self._plan(query) if is_query else EVERYTHING
            self._show(self.needs, self._cached())
        statement = around.format(f"({query}\n)") if is_query else query
        return self._interruptible(lambda: self.connection.execute(statement))

    def rows(self, result: duckdb.DuckDBPyConnection) -> Iterator[Sequence[Any]]:
        """Yield the rows of what `execute` has returned. Raises SqlError."""
        while True:
            rows: list[Any] = self._interruptible(lambda: result.fetchmany(_FETCHED))
            if not rows:
                return
            yield from rows

    def write_parquet(self, stretch: Stretch, path: str) -> bool:
        """Write the messages of a stretch of the journal to a file. Return whether there is no gap between them."""
        progress = Progress(self._report)
        stream = Stream(COLUMNS, lambda: parts(self._folder, EVERYTHING, progress, (stretch,)))
        with contextlib.closing(self.connection.cursor()) as connection:
            parquet.write(connection, stream, path)
        return not progress.gaps

    def _interruptible(self, work: Callable[[], _T]) -> _T:
        """Return what *work* returns on the thread. Raises SqlError, and what has ended the reading of messages."""
        with parquet.failures(self._stream):
            working = self._thread.submit(work)
            try:
                return working.result()
            except KeyboardInterrupt:
                while not working.done():  # the next query needs the connection; and this one may only begin now
                    self.connection.interrupt()
                    wait((working,), timeout=INTERRUPT_S)
                raise

    def _with_levels(self, sql: str) -> str:
        parsed = self.connection.execute("SELECT json_serialize_sql(?)", [sql]).fetchall()[0][0]
        return with_levels(sql, parsed)

    def _plan(self, query: str) -> Needs:
        """Return what *query* needs, which is planned with an empty table."""
        if not self._is_locked:
            self._planner.execute(f"SET disabled_optimizers = '{_OPTIMIZERS_OFF}'")
        try:
            plan = self._planner.execute("SELECT json_serialize_plan(?, optimize := true)", [query]).fetchall()[0][0]
        finally:
            if not self._is_locked:
                self._planner.execute("RESET disabled_optimizers")
        return needs_of(plan, VIEW)

    def _show(self, needs: Needs, cached: Cached) -> None:
        """Make the view for a query."""
        needs = needs if needs.columns else needs._replace(columns=("tag",))  # a row has a column at least
        kinds = {name: COLUMNS[name] for name in needs.columns}
        stretches, folder, progress, may_read = cached.stretches, self._folder, self.progress, self._may_read
        self._stream = Stream(kinds, lambda: parts(folder, needs, progress, stretches, may_read))
        self.connection.register(_LIVE, self._stream)
        sources = [f"SELECT {_selected(needs)} FROM {_LIVE}"]
        if cached.files:
            files = ", ".join(map(parquet.quoted, cached.files))
            sources.insert(0, f"SELECT {_selected(needs)} FROM read_parquet([{files}])")
        self.connection.execute(f"CREATE OR REPLACE VIEW {VIEW} AS {' UNION ALL '.join(sources)}")


def _selected(needs: Needs) -> str:
    """Return the columns of the view: those that are not needed are NULL."""
    return ", ".join(
        f'CAST({name if name in needs.columns else "NULL"} AS {kind.type}) AS "{name}"'
        for name, kind in COLUMNS.items()
    )


def is_wrong(error: SqlError) -> bool:
    """Return whether the query is wrong, and not what happened when it was run."""
    return isinstance(error, (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException))
