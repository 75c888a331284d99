"""
One query in SQL, in a process of its own, for callers that are not trusted with the hub's files, memory and time.

The process gets the query as JSON on standard input and writes lines of JSON: first the columns, then rows, and last
how the query ended; in between, how many messages it has read. It ends after one query.

Always true:
- only a query is run: nothing that changes, and nothing that reads or writes a file except the journal;
- the query sees only messages under tags that its caller may read;
- its memory, its threads, its time and its result are bounded by `Limits`. Without the bounds, it is not run.

Not here: the database (hub.query.sql), the method, which starts the process (hub.control.sql).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from hub.access import TagRights

if TYPE_CHECKING:
    from hub.query.sql import Database

LINE_BYTES = 64 << 10
"""A line exceeds this by at most its last row."""
ROW_BYTES_MAX = 128 << 10
"""The values of a longer row are cut off: with a line it still fits into a reply."""
LINE_S = 0.5
"""
Rows are written after this time, also if they are few, so that a caller whose query runs into a limit has them; and how
many messages were read, as often.
"""
COLUMNS_MAX = 1_000
_CHAR_BYTES_MAX = 12
"""A character outside the basic plane, escaped in JSON."""
_ADDRESSES_BYTES = 1 << 30
"""Address space beyond the memory of DuckDB: the interpreter, the libraries, what is read of the journal."""
_OOM_SCORE = "1000"


class Limits(msgspec.Struct, frozen=True):
    """Limits of a query."""

    memory_bytes: int = 256 << 20
    """Of DuckDB, which writes no temporary files: sorting and grouping of more fails."""
    cpu_s: int = 30
    """Of the processor: on a busy host, a query may have to wait for it."""
    seconds: float = 300.0
    """Until the end, on the clock."""
    rows: int = 10_000
    result_bytes: int = 8 << 20
    """Of the rows as JSON; rows beyond it are left out."""
    niceness: int = 10
    """By how much others go first."""


class Asked(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A query over the journal in *folder*. *allow* and *deny* are globs of the tags whose messages its caller may read;
    *zone* is the time zone of the texts of times, such as ``Europe/Berlin``. *progress*: write what was read.
    """

    folder: str
    sql: str
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    zone: str = "UTC"
    progress: bool = False
    limits: Limits = Limits()


class Columns(msgspec.Struct, frozen=True):
    """The name and the type of each column."""

    columns: Sequence[tuple[str, str]]


class Rows(msgspec.Struct, frozen=True):
    """Some rows, their values as texts."""

    rows: Sequence[Sequence[str | None]]


class Read(msgspec.Struct, frozen=True):
    """How many messages were read until now."""

    read: int


class End(msgspec.Struct, frozen=True):
    """
    The end of a result. *is_cut*: there were more rows. *cut_values*: values of which only the beginning is there.
    *misfits*: values of messages that do not fit their column and are NULL there.
    """

    is_final: bool
    is_cut: bool = False
    cut_values: int = 0
    misfits: int = 0


class Failed(msgspec.Struct, frozen=True, omit_defaults=True):
    """The *error* that ended a query, and *at* which characters of the query it is, from one to before another."""

    error: str = ""
    at: tuple[int, int] | None = None


Line: TypeAlias = Columns | Rows | Read | End | Failed


def run(asked: Asked, report: Callable[[int], None] = lambda _rows: None) -> Iterator[Line]:
    """
    Run a query in this process, and yield what it writes. *report* is called while messages are read, on a thread, with
    the number of new ones.
    """
    from hub.query.sql import DESCRIBE, Database, SqlError

    settings = {
        "memory_limit": f"{asked.limits.memory_bytes}B",
        "threads": 1,
        "max_temp_directory_size": "0B",
        "errors_as_json": True,
    }
    rights = TagRights(asked.allow, asked.deny)
    shift: int | None = 0  # from a place that an error names to one in the query; None: errors are about another text
    try:
        with Database(
            asked.folder,
            report=report,
            settings=settings,
            is_locked=True,
            zone=asked.zone,
            may_read=rights.may_read,
        ) as database:
            statements = database.statements(asked.sql)
            if len(statements) != 1 or not database.is_query(statements[0]):
                yield Failed("not one query: SELECT, or another statement that only reads")
                return
            shift = len(DESCRIBE)
            columns = database.describe(asked.sql)
            shift = None
            if len(columns) > COLUMNS_MAX:
                yield Failed(f"a result of {len(columns)} columns, more than {COLUMNS_MAX}")
                return
            yield Columns([(name, "ENUM" if kind.startswith("ENUM(") else kind) for name, kind in columns])
            yield from _rows(database, statements[0], asked.limits)
    except SqlError as error:
        yield _failure(str(error), asked, shift)
    except OSError as error:
        yield Failed(str(error))


def _rows(database: Database, statement: str, limits: Limits) -> Iterator[Line]:
    result = database.execute(statement, "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {}")
    pages = _Pages(limits.result_bytes)
    found = database.rows(result)
    for row in itertools.islice(found, limits.rows):
        if (page := pages.add(row)) is not None:
            yield page
        if pages.is_full:
            break
    yield Rows(pages.take())
    is_cut = pages.is_full or next(found, None) is not None
    yield End(is_final=True, is_cut=is_cut, cut_values=pages.cut_values, misfits=database.progress.misfits)


class _Pages:
    """Collects rows into lines, up to *bytes_max*."""

    def __init__(self, bytes_max: int) -> None:
        self.cut_values = 0
        self._left = bytes_max
        self._rows: list[Sequence[str | None]] = []
        self._size = 0
        self._due_at = time.monotonic() + LINE_S

    @property
    def is_full(self) -> bool:
        """Whether a row was left out."""
        return self._left < 0

    def add(self, row: Sequence[str | None]) -> Rows | None:
        """Add a row. Return a line if there are enough, or the last one was long ago."""
        size = len(msgspec.json.encode(row))
        if size > ROW_BYTES_MAX:
            row = self._cut(row)
            size = len(msgspec.json.encode(row))
        self._left -= size
        if self.is_full:
            return None
        self._rows.append(row)
        self._size += size
        return Rows(self.take()) if self._size >= LINE_BYTES or time.monotonic() >= self._due_at else None

    def take(self) -> Sequence[Sequence[str | None]]:
        """Return the rows, and begin again."""
        rows, self._rows, self._size = self._rows, [], 0
        self._due_at = time.monotonic() + LINE_S
        return rows

    def _cut(self, row: Sequence[str | None]) -> Sequence[str | None]:
        most = max(ROW_BYTES_MAX // (_CHAR_BYTES_MAX * len(row)), 1)
        self.cut_values += sum(text is not None and len(text) > most for text in row)
        return [text if text is None else text[:most] for text in row]


class _Reading:
    """Writes how many messages were read."""

    def __init__(self) -> None:
        self._rows = 0
        self._due_at = time.monotonic() + LINE_S

    def report(self, rows: int) -> None:
        """Take note of *rows* more."""
        self._rows += rows
        if time.monotonic() >= self._due_at:
            _write(Read(self._rows))
            self._due_at = time.monotonic() + LINE_S


class _Error(msgspec.Struct):
    """An error as DuckDB writes it with ``errors_as_json``; *location* is ``[begin,length]``, in bytes."""

    exception_type: str
    exception_message: str
    location: str = ""


def _failure(text: str, asked: Asked, shift: int | None) -> Failed:
    """Return what an error says, and where in the query it is: *shift* bytes before what the error names."""
    try:
        error = msgspec.json.decode(text[text.index("{") :], type=_Error)
    except (ValueError, msgspec.DecodeError):
        return Failed(text)
    if error.exception_type == "Out of Memory":
        most = asked.limits.memory_bytes >> 20
        return Failed(f"the query needs more than {most} MiB of memory: let it sort or group less")
    message = " ".join(error.exception_message.split("\n"))  # one line, as all errors
    return Failed(message, None if shift is None else _place(error.location, asked.sql.encode(), shift))


def _place(location: str, sql: bytes, shift: int) -> tuple[int, int] | None:
    try:
        begin, length = msgspec.json.decode(location, type=tuple[int, int])
    except msgspec.DecodeError:
        return None
    begin -= shift
    if not 0 <= begin < len(sql):
        return None
    first = len(sql[:begin].decode(errors="replace"))
    return first, first + max(len(sql[begin : begin + length].decode(errors="replace")), 1)


def main() -> None:
    """Answer the request on standard input."""
    asked = msgspec.json.decode(sys.stdin.buffer.read(), type=Asked)
    try:
        _bound(asked.limits)
    except OSError as error:
        _write(Failed(f"the system does not let the hub bound a query: {error}"))
        return
    reports = (_Reading().report,) if asked.progress else ()
    try:
        for line in run(asked, *reports):
            _write(line)
    except MemoryError:
        _write(Failed("the query took more memory than it may"))


def _write(line: Line) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")  # at once: another thread may write too
    sys.stdout.buffer.flush()


def _bound(limits: Limits) -> None:
    """Bound this process."""
    memory_bytes = limits.memory_bytes + _ADDRESSES_BYTES
    bounds = {
        resource.RLIMIT_AS: (memory_bytes, memory_bytes),
        resource.RLIMIT_CPU: (limits.cpu_s, limits.cpu_s + 1),  # the first ends it by SIGXCPU, which the hub sees
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_FSIZE: (0, 0),
    }
    for kind, wanted in bounds.items():
        _, hard = resource.getrlimit(kind)
        soft, hard = (most if hard == resource.RLIM_INFINITY else min(most, hard) for most in wanted)
        resource.setrlimit(kind, (soft, hard))
    os.nice(limits.niceness)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:  # Linux
        score.write(_OOM_SCORE)


if __name__ == "__main__":
    main()
