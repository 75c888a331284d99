"""The prompt of `mpsr sql`: statements of several lines, commands, errors, Ctrl-C, and what was typed before."""

from __future__ import annotations

import random
import readline
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.cli import sqlprompt
from hub.cli.progress import Progress
from hub.cli.sqlresult import Results
from hub.query.columns import COLUMNS
from hub.query.sql import Database
from tests.hub.query.test_sql import a_journal

Typed = Callable[..., tuple[str, str]]


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    folder = tmp_path_factory.mktemp("journal")
    a_journal(folder, random.Random(2), batches=8)
    with Database(str(folder)) as database:
        yield database


@pytest.fixture
def typed(
    database: Database, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> Typed:
    """Type lines, or what is raised instead; return output and errors. It ends with the end of the input."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))

    def typed(*lines: str | type[BaseException]) -> tuple[str, str]:
        waiting = iter(lines)

        def read(_prompt: str) -> str:
            line = next(waiting, EOFError)
            if isinstance(line, str):
                readline.add_history(line)
                return line
            raise line

        monkeypatch.setattr("builtins.input", read)
        sqlprompt.prompt(Results(database, Progress(), "csv"))
        return capfd.readouterr()

    return typed


def test_statements(typed: Typed) -> None:
    """A statement ends with a semicolon, on whatever line; what it creates stays."""
    output, errors = typed(
        "", "create table t as", "  select 1 as n;", "select n + 1 as m", "from t", ";", "drop table t;"
    )
    assert ("m\r\n2\r\n" in output.replace("\n", "\r\n").replace("\r\r", "\r"), errors) == (True, "")


def test_errors_and_interrupts_lead_back(typed: Typed) -> None:
    """After an error, or Ctrl-C, the next statement runs; what was typed before Ctrl-C is forgotten."""
    output, errors = typed("selec 1;", "select", KeyboardInterrupt, "select 5 as five;", ".nothing", ".output pdf")
    assert "five" in output
    assert [line.partition(" (")[0] for line in errors.splitlines()] == [
        'mpsr: Parser Error: syntax error at or near "selec"',
        "mpsr: no such command: .nothing",
        "mpsr: no such command: .output pdf",
    ]


def test_ctrl_c_while_a_query_runs(typed: Typed, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops the query only."""
    with monkeypatch.context() as patch:

        def interrupted(*_args: object) -> None:
            patch.undo()
            raise KeyboardInterrupt

        patch.setattr(database, "execute", interrupted)
        assert "7" in typed("select 6;", "select 7;")[0]


def test_commands(typed: Typed) -> None:
    """They show the columns and help, change the output, and end."""
    output, errors = typed(".schema", ".help", ".output json", "select 1 as a;", ".quit", "select 2 as b;")
    assert all(name in output for name in COLUMNS)
    assert (".schema " in output, '{"a":1}' in output, "b" in output.split('{"a":1}')[1], errors) == (
        True,
        True,
        False,
        "",
    )


def test_history(typed: Typed, tmp_path: Path) -> None:
    """What was typed is kept, for its owner alone."""
    readline.clear_history()
    typed("select 1 as one;")
    path = tmp_path / "mpsr" / "sql_history"
    assert "select 1 as one;" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    readline.clear_history()
    typed()
    assert readline.get_history_item(readline.get_current_history_length()) == "select 1 as one;"
