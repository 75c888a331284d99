"""
The prompt of `mpsr sql`: a statement may have several lines, and ends with a semicolon. What was typed is kept.

Always true: an error, or Ctrl-C while a query runs, leads back to the prompt.

Not here: results (hub.cli.sqlresult).
"""

from __future__ import annotations

import contextlib
import os
import readline
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from hub.cli.output import complain
from hub.paths import default_history
from hub.query.columns import COLUMNS
from hub.query.sqlcache import private_files

if TYPE_CHECKING:
    from hub.cli.sqlresult import Results

HISTORY_LINES = 1_000
PROMPT, MORE = "mpsr> ", "  ... "
HELP = """\
Type a query, and end it with a semicolon: select level, count(*) from messages group by 1;
.schema          the columns of messages
.output FORMAT   table, csv, json
.quit            the end; so is Ctrl-D
Ctrl-C           stop the query, or forget what is typed"""


def prompt(results: Results) -> None:
    """Run what is typed, until its end."""
    click.echo("The messages are the rows of `messages`. Type .help for help.")
    with _history():
        for command in _typed():
            try:
                with results.errors():
                    if not command.startswith("."):
                        results.show_all(command)
                    elif not _obey(results, *command.rstrip(";").split()):
                        return
            except click.ClickException as error:
                complain(error.format_message())
            except KeyboardInterrupt:
                click.echo("", err=True)


def _typed() -> Iterator[str]:
    """Yield what is typed: commands, and statements up to a semicolon."""
    lines: list[str] = []
    while True:
        try:
            line = input(MORE if lines else PROMPT)
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            click.echo()
            lines.clear()
            continue
        if not lines and not line.strip():
            continue
        lines.append(line)
        if line.rstrip().endswith(";") or (len(lines) == 1 and line.startswith(".")):
            yield "\n".join(lines)
            lines.clear()


def _obey(results: Results, command: str, *arguments: str) -> bool:
    """Carry out a command of the prompt. Return whether there are more."""
    if command in (".quit", ".exit"):
        return False
    if command == ".output" and arguments in [("table",), ("csv",), ("json",)]:
        results.output = arguments[0]
    elif (show := _SHOWN.get(command)) and not arguments:
        click.echo(show())
    else:
        complain(f"no such command: {' '.join((command, *arguments))} (.help shows them)")
    return True


def _schema() -> str:
    return "\n".join(f"{name:<10} {kind.type}" for name, kind in COLUMNS.items())


_SHOWN: dict[str, Callable[[], str]] = {".help": lambda: HELP, ".schema": _schema}


@contextlib.contextmanager
def _history() -> Iterator[None]:
    """Have what was typed before, and keep what is typed inside the ``with``, as far as files can be written."""
    path = default_history("sql")
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with private_files():
                readline.write_history_file(path)
