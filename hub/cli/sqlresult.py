"""
The results of `mpsr sql`, on standard output: a table, CSV, JSON, Parquet.

Always true: memory is bounded, whatever the number of rows; a table cannot control the terminal; CSV, JSON and Parquet
hold values as they are.

Not here: the database (hub.query.sql).
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from hub.cli.options import usage_error
from hub.cli.output import Encoded, Lines, write
from hub.escaping import escape
from hub.quantities import counted
from hub.query.parquet import OPTIONS, quoted
from hub.query.sql import SqlError, is_wrong

if TYPE_CHECKING:
    from hub.cli.progress import Progress
    from hub.query.sql import Database

SAMPLED_ROWS = 1_000
"""The rows that decide how wide the columns of a table are. No more are held at once."""
COLUMN_MIN = 6
"""Columns of a table get no narrower. If they do not fit then, each row is shown as lines, one for each column."""
NULL = "NULL"
_GAP = "  "
_AS_TEXTS = "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {}"
_AS_JSON = "SELECT CAST(to_json(r) AS VARCHAR) FROM {} AS r"
_NUMBER_FIRST = frozenset("-0123456789")
Rows = Iterator[Sequence[Any]]


class Results:
    """Runs statements and shows their results in the form *output*."""

    def __init__(self, database: Database, progress: Progress, output: str) -> None:
        self.database = database
        self.output = output
        self._progress = progress

    def show_all(self, sql: str) -> None:
        """Run all statements in *sql*. A wrong one is a usage error."""
        with self.errors():
            for statement in self.database.statements(sql):
                self.show(statement)

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Translate the errors of DuckDB: what is wrong with a query is a usage error."""
        try:
            yield
        except SqlError as error:
            self._progress.clear()
            text = " ".join(str(error).partition("\n\nLINE ")[0].split("\n")).strip()
            if is_wrong(error):
                raise click.UsageError(text, click.get_current_context(silent=True)) from error
            raise click.ClickException(text) from error
        except KeyboardInterrupt:
            self._progress.clear()
            raise

    def show(self, statement: str) -> None:
        """Run one statement and show its result. Raises SqlError."""
        is_query = self.database.is_query(statement)
        if self.output == "parquet":
            if not is_query:
                raise usage_error("--output parquet: only a query has a result to write")
            self._write_parquet(statement)
        else:
            around = "{}" if not is_query else _AS_JSON if self.output == "json" else _AS_TEXTS
            result = self.database.execute(statement, around)
            names = [each[0] for each in result.description or ()]
            rows = self._rows(result)
            if self.output == "json" and is_query:
                write(_json_lines(rows))
            elif self.output != "table":
                write(_csv_rows(names, rows))
            elif is_query or statement.split(None, 1)[0].lower() in _SHOWN:
                write(table(names, rows, shutil.get_terminal_size().columns if sys.stdout.isatty() else None))
            else:
                all(rows)  # of a statement that changes something: their number
        self._progress.clear()
        _note_misfits(self.database.progress.misfits)

    def _rows(self, result: Any) -> Rows:
        rows = self.database.rows(result)
        first = next(rows, None)
        self._progress.clear()
        if first is not None:
            yield first
            yield from rows

    def _write_parquet(self, statement: str) -> None:
        """Write the file at once when it is complete: its end says what is in it."""
        with tempfile.TemporaryDirectory(prefix="mpsr-sql-") as folder:
            path = os.path.join(folder, "result.parquet")
            self.database.execute(
                statement, f"COPY {{}} TO {quoted(path).replace('{', '{{').replace('}', '}}')} ({OPTIONS})"
            )
            sys.stdout.flush()
            with open(path, "rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
            sys.stdout.flush()


_SHOWN = ("explain", "pragma", "call")


def _json_lines(rows: Rows) -> Iterator[Lines]:
    for some in _some(rows):
        yield Encoded(len(some), b"".join(_json_line(row[0]) for row in some))


def _json_line(text: str) -> bytes:
    if "NaN" in text or "Infinity" in text:  # a number may be one of them, which JSON does not know
        import json

        return msgspec.json.encode(json.loads(text)) + b"\n"
    return f"{text}\n".encode("utf-8", "replace")


def _csv_rows(names: Sequence[str], rows: Rows) -> Iterator[Lines]:
    for some in itertools.chain([[names]], _some(rows)):
        text = io.StringIO(newline="")
        csv.writer(text).writerows(some)
        yield Encoded(len(some), text.getvalue().encode("utf-8", "replace"))


def _some(rows: Rows) -> Iterator[list[Sequence[Any]]]:
    while some := list(itertools.islice(rows, SAMPLED_ROWS)):
        yield some


def table(names: Sequence[str], rows: Rows, width: int | None) -> Iterator[Iterable[str]]:
    """Yield the lines of a table that is at most *width* characters wide."""
    sample = _cells(itertools.islice(rows, SAMPLED_ROWS))
    header = [*map(escape, names)]
    wanted = [max(map(len, column)) for column in zip(header, *sample, strict=True)]
    widths = wanted if width is None else fitted(wanted, width - len(_GAP) * (len(header) - 1))
    if widths is None:
        yield from (_lines_of(header, some) for some in itertools.chain([sample], map(_cells, _some(rows))))
        return
    is_number = [all(_is_number(cell) for cell in column) for column in zip(*sample, strict=True)] or [False] * len(
        header
    )
    show = _shower(widths, is_number, is_cut=width is not None)
    yield [show(header), _GAP.join("─" * each for each in widths)]
    yield map(show, sample)
    yield from (map(show, _cells(some)) for some in _some(rows))


def _cells(rows: Iterable[Sequence[Any]]) -> list[list[str]]:
    return [[NULL if value is None else escape(str(value)) for value in row] for row in rows]


def fitted(wanted: Sequence[int], width: int) -> list[int] | None:
    """Return the widths of columns that want so much and get *width* together: the widest give way. None: too many."""
    least = sum(min(each, COLUMN_MIN) for each in wanted)
    if least > width:
        return None
    limit = max(wanted, default=0)
    low = COLUMN_MIN
    while low < limit:  # the largest limit that fits
        middle = (low + limit + 1) // 2
        if sum(min(each, middle) for each in wanted) <= width:
            low = middle
        else:
            limit = middle - 1
    return [min(each, limit) for each in wanted]


def _is_number(cell: str) -> bool:
    return cell == NULL or (cell[:1] in _NUMBER_FIRST and cell.replace(".", "", 1).lstrip("-").isdecimal())


def _shower(widths: Sequence[int], is_number: Sequence[bool], *, is_cut: bool) -> Callable[[Sequence[str]], str]:
    def show(cells: Sequence[str]) -> str:
        shown = []
        for cell, width, to_the_right in zip(cells, widths, is_number, strict=True):
            text = f"{cell[: width - 1]}…" if is_cut and len(cell) > width else cell
            shown.append(f"{text:>{width}}" if to_the_right else f"{text:<{width}}")
        return _GAP.join(shown).rstrip()

    return show


def _lines_of(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    width = max(map(len, header))
    for row in rows:
        yield from (f"{name:<{width}}{_GAP}{cell}" for name, cell in zip(header, row, strict=True))
        yield ""


def _note_misfits(misfits: int) -> None:
    """Report on standard error how many values did not fit, if there were any."""
    if misfits:
        text = counted(misfits, "value")
        click.echo(f"mpsr: {text} did not fit the column and became NULL; see the column record", err=True)
