"""
Files of Parquet, which DuckDB writes from columns. Needs DuckDB and arro3-core.

Always true: memory is bounded; what ends the reading of the columns is raised as itself.

Not here: the columns (hub.query.columns), a file that appears in one step (its caller).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import duckdb

from hub.message import Message
from hub.query.arrow import Stream
from hub.query.columns import COLUMNS, OF_RECORD, Columns, Kind, Part, field_kind

OPTIONS = "FORMAT parquet, COMPRESSION zstd"
_STREAM = "parquet_stream"


def quoted(text: str) -> str:
    """Return *text* as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


@contextlib.contextmanager
def failures(stream: Stream | None) -> Iterator[None]:
    """Raise what has ended the reading of *stream*, and not what DuckDB makes of it. Ctrl-C is a KeyboardInterrupt."""
    try:
        yield
    except (duckdb.Error, RuntimeError) as error:
        if stream is not None and stream.failure is not None:
            failure, stream.failure = stream.failure, None
            raise failure from error
        if isinstance(error, RuntimeError):  # DuckDB's word for Ctrl-C
            raise KeyboardInterrupt from error
        raise


def write(connection: duckdb.DuckDBPyConnection, stream: Stream, path: str) -> None:
    """Write the columns of *stream* to the file *path*."""
    with failures(stream):
        connection.register(_STREAM, stream)
        connection.execute(f"COPY (FROM {_STREAM}) TO {quoted(path)} ({OPTIONS})")


def kinds_of(fields: Sequence[str] | None) -> dict[str, Kind]:
    """Return the columns of an exported file. With *fields*, the columns of the record are these fields, as texts."""
    if fields is None:
        return COLUMNS
    kinds = {name: kind for name, kind in COLUMNS.items() if name not in OF_RECORD}
    for field in fields:
        name = field if field not in kinds else f"record.{field}"
        kinds[name] = field_kind(field)
    return kinds


def export(groups: Iterator[Iterable[Message]], kinds: Mapping[str, Kind], path: str) -> None:
    """Write the messages of *groups*, each of which is of one batch, to the file *path*."""
    with contextlib.closing(duckdb.connect(config={"threads": 2})) as connection:
        write(connection, Stream(kinds, lambda: _parts(groups, kinds)), path)


def _parts(groups: Iterator[Iterable[Message]], kinds: Mapping[str, Kind]) -> Iterator[Part]:
    columns = Columns([*kinds.values()])
    for group in groups:
        columns.add_messages(group)
        if columns.is_full:
            yield columns.take()
    yield columns.take()
