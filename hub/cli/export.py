"""
`mpsr export`: writes messages to a file or to standard output, for other programs.

Always true: a file has its name only when it is complete; what was there before stays until then.

Not here: filters (hub.cli.filtering), lines of JSON (hub.query.rendering), rows of CSV (hub.cli.csvrows), Parquet
(hub.query.parquet).
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TYPE_CHECKING, Any

import click

from hub.cli.filtering import filter_options, query_of, stored_in
from hub.cli.options import Named, journal_option, usage_error
from hub.cli.output import encoded
from hub.cli.progress import Progress
from hub.cli.replacing import replacing
from hub.extras import without_extra
from hub.quantities import counted
from hub.writeall import write_all

if TYPE_CHECKING:
    from hub.cli.output import Lines
    from hub.cli.stored import Stored
    from hub.message import Message

FORMATS = Named(["ndjson", "csv", "parquet"], {"json": "ndjson", "jsonl": "ndjson"})
_MODE = 0o666
_COPIED_BYTES = 1 << 20


@click.command()
@journal_option
@filter_options
@click.option(
    "--format", "form", type=FORMATS, default="ndjson", show_default=True,
    help="ndjson: the lines of `mpsr logs -o json`. csv: a header, and a row for each message. "
    "parquet: a file of columns.",
)  # fmt: skip
@click.option(
    "--fields", metavar="KEYS",
    help="Only these fields of the record, as in level,http.status. For csv and parquet: a column for each.",
)  # fmt: skip
@click.option(
    "-o",
    "--output",
    metavar="FILE",
    help="Write to this file, which appears when it is complete.  [default: standard output]",
)
@click.option("--lnav-format", is_flag=True, help="Print the format file that lets lnav read ndjson, and exit.")
def export(
    journal: str | None,
    form: str,
    fields: str | None,
    output: str | None,
    after: int,
    lnav_format: bool,
    **filters: Any,
) -> None:
    """Write messages to a file, for other programs. All filters that are given must match.

    \b
    Examples:
      mpsr export --since yesterday -o messages.ndjson
      mpsr export --tag 'shop.*' --format csv --fields level,order,total -o orders.csv
      mpsr export --lnav-format > ~/.lnav/formats/installed/mpsr_log.json
    """
    if lnav_format:
        from hub.cli.lnavformat import text

        click.echo(text())
        return
    if output == "":
        raise usage_error("--output: the name is empty (leave the option out for standard output)")
    if output is not None and not os.path.isdir(os.path.dirname(os.path.realpath(output))):
        raise usage_error(f"--output {output}: the folder does not exist")
    query = query_of(filters)
    keys = None if fields is None else [key.strip() for key in fields.split(",")]
    stored = stored_in(journal, None, query, filters, waits=False)
    progress = Progress()
    if form == "parquet":
        if fault := without_extra("Parquet", "sql"):
            raise click.ClickException(fault)
        with _written(output) as fd:
            _write_parquet(fd, stored, after, keys, progress)
        progress.clear()
        return
    show, header = _show(form, keys)
    with _written(output) as fd:
        write_all(fd, header)
        for lines in stored.shown(after, show):
            part = encoded([lines])
            write_all(fd, part.data)
            progress.add(part.lines)
        progress.clear()
    if output is not None and sys.stderr.isatty():
        click.echo(f"{counted(progress.messages, 'message')} written to {output}", err=True)


def _show(form: str, fields: list[str] | None) -> tuple[Callable[[Iterable[Message]], Lines], bytes]:
    """Return the function that shows messages together, and what stands before them."""
    if form == "csv":
        from hub.cli.csvrows import CsvRows

        rows = CsvRows(fields)
        return rows.show, rows.header
    from hub.cli.showing import only, show_together
    from hub.query.rendering import render_json

    render = render_json if fields is None else only(fields, render_json)
    return (lambda group: show_together(group, render)), b""


def _write_parquet(fd: int, stored: Stored, after: int, fields: list[str] | None, progress: Progress) -> None:
    """Write the file to *fd* when it is complete: its end says what is in it."""
    from hub.query.parquet import export as write_file
    from hub.query.parquet import kinds_of

    if os.isatty(fd):
        raise usage_error("--format parquet: a terminal cannot show it (-o FILE writes it)")

    def groups() -> Iterator[Iterable[Message]]:
        for group in stored.groups(after):
            some = group if isinstance(group, Sized) else [*group]
            yield some
            progress.add(len(some))

    with tempfile.TemporaryDirectory(prefix="mpsr-export-") as folder:
        path = os.path.join(folder, "messages.parquet")
        write_file(groups(), kinds_of(fields), path)
        with open(path, "rb") as file:
            while data := file.read(_COPIED_BYTES):
                write_all(fd, data)


@contextlib.contextmanager
def _written(path: str | None) -> Iterator[int]:
    """Give the descriptor to write to. A file with *path* is complete at the end of the ``with``, or is not there."""
    if path is None:
        sys.stdout.flush()
        yield sys.stdout.fileno()
        return
    path = os.path.realpath(path)
    if os.path.exists(path) and not os.path.isfile(path):  # /dev/stdout, a pipe
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            yield fd
        finally:
            os.close(fd)
        return
    with replacing(path, _MODE) as fd:
        yield fd
