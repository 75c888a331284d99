"""`mpsr sql`: queries on the command line, their results, the prompt, the cache."""

from __future__ import annotations

import csv
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from hub import extras
from hub.cli import sqlresult
from hub.cli.sqlresult import fitted
from tests.hub.query.test_sql import a_journal, reference

Run = Callable[..., tuple[int, bytes, bytes]]
CONTROL = re.compile(rb"[\x00-\x09\x0b-\x1f\x7f]|\xe2\x80\xae")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journal")
    a_journal(folder, random.Random(1))
    return folder


@pytest.fixture
def run(run: Run, journal: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command that reads the journal."""
    monkeypatch.setenv("MPSR_JOURNAL", str(journal))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return run


def test_table(run: Run, journal: Path) -> None:
    """Numbers stand on the right, NULL is shown, and nothing controls the terminal."""
    code, output, errors = run(
        "sql", "select 7 as n, null as nothing, 'a' as t union all select 12345, null, 'ü' order by 1"
    )
    assert (code, errors) == (0, b"")
    lines = output.decode().splitlines()
    assert lines == ["    n  nothing  t", "─────  ───────  ─", "    7     NULL  a", "12345     NULL  ü"]
    code, output, errors = run("sql", "select * from messages")
    assert code == 0
    assert len(output.splitlines()) == 2 + len(reference(journal))
    assert not CONTROL.search(output)
    assert re.fullmatch(rb"mpsr: \d+ values did not fit the column and became NULL; see the column record\n", errors)


def test_csv_and_json(run: Run, journal: Path) -> None:
    """Every value comes back as it was, also texts with quotes, line feeds and null characters."""
    rows = reference(journal)
    query = "select sequence, message, level, record from messages order by sequence"
    header, *cells = csv.reader(io.StringIO(run("sql", query, "-o", "csv")[1].decode(), newline=""))
    assert header == ["sequence", "message", "level", "record"]
    assert [(int(each[0]), each[1]) for each in cells] == [(row["sequence"], row["message"] or "") for row in rows]
    found = [json.loads(line) for line in run("sql", query, "--output", "json")[1].splitlines()]
    assert [each["message"] for each in found] == [row["message"] for row in rows]
    assert [each["record"] for each in found] == [json.loads(row["record"]) for row in rows]
    assert run("sql", "select 'nan'::float as a, 'NaN' as b", "-o", "json")[1] == b'{"a":null,"b":"NaN"}\n'


def test_parquet(run: Run, journal: Path, tmp_path: Path) -> None:
    """The file on standard output has the types of the view."""
    code, output, _ = run("sql", "select * from messages", "-o", "parquet")
    path = tmp_path / "it's {a} file.parquet"
    path.write_bytes(output)
    assert code == 0
    found = duckdb.read_parquet(str(path))
    assert found.aggregate("count(*)").fetchall() == [(len(reference(journal)),)]
    assert [str(each) for each in found.types][:4] == ["BIGINT", *["TIMESTAMP WITH TIME ZONE"] * 2, "VARCHAR"]


def test_several_statements_on_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Standard input has the statements if the command line has none; tables last until the end."""
    text = "create table t as select tag from messages; select count(*) > 0 as ok from t; select 'a;b' as text"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    code, output, _ = run("sql", "-o", "csv")
    assert (code, output.decode().splitlines()[-4:]) == (0, ["ok", "true", "text", "a;b"])


@pytest.mark.parametrize(
    ("query", "code", "expected"),
    [
        ("selec 1", 2, 'mpsr: Parser Error: syntax error at or near "selec" (see `mpsr sql --help`)'),
        ("select nothing from messages", 2, 'mpsr: Binder Error: Referenced column "nothing" not found'),
        ("select 'a'::int", 1, "mpsr: Conversion Error: Could not convert string 'a' to INT32"),
        (" ", 2, "mpsr: the query is empty (leave it out for a prompt)"),
    ],
)
def test_errors(run: Run, query: str, code: int, expected: str) -> None:
    """An error is one line; a wrong query is wrong usage."""
    found, output, errors = run("sql", query)
    assert (found, output, errors.count(b"\n")) == (code, b"", 1)
    assert errors.decode().startswith(expected)


def test_without_the_extra_or_a_journal(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each is one line that says what to do."""
    code, _, errors = run("sql", "select 1", "--journal", str(tmp_path / "none"))
    assert (code, b"is --journal right?" in errors) == (1, True)
    monkeypatch.setitem(extras.MODULES, "sql", ("duckdb", "not_there"))
    code, _, errors = run("sql", "select 1")
    assert (code, errors) == (1, b"mpsr: SQL needs an extra that is not installed: pip install 'mpsr[sql]'\n")


def test_cache(run: Run, tmp_path: Path) -> None:
    """Results are the same with a cache, the first time and later; the files are their owner's."""
    query = "select level, count(*), min(received), max(message), max(record) from messages group by 1 order by 1"
    live = run("sql", query, "-o", "csv")
    assert [run("sql", query, "-o", "csv", "--cache")[:2] for _ in range(2)] == [live[:2]] * 2
    files = [*(tmp_path / "cache" / "mpsr" / "sql").rglob("*.parquet")]
    assert files
    assert {each.stat().st_mode & 0o777 for each in files} == {0o600}


@pytest.mark.parametrize(
    ("wanted", "width", "expected"),
    [
        ([3, 4], 80, [3, 4]),
        ([10, 100, 3], 53, [10, 40, 3]),
        ([100, 100], 41, [20, 20]),
        ([6, 6, 6], 17, None),
        ([2, 2], 3, None),
        ([], 10, []),
    ],
)
def test_the_widest_columns_give_way(wanted: list[int], width: int, expected: list[int] | None) -> None:
    """Columns share the width; the narrow ones keep theirs; too many do not fit."""
    assert fitted(wanted, width) == expected


def test_narrow_terminals() -> None:
    """On a terminal a row has one line, cut to the width; with too many columns, a line for each."""
    rows = [("a" * 50, "1"), ("b", None)]
    lines = [line for some in sqlresult.table(["text", "n"], iter(rows), 20) for line in some]
    assert lines == ["text               n", "─" * 14 + "  " + "─" * 4, "a" * 13 + "…     1", f"b{'':13}  NULL"]
    lines = [line for some in sqlresult.table(["first", "n"], iter(rows), 9) for line in some]
    assert lines == ["first  " + "a" * 50, "n      1", "", "first  b", "n      NULL", ""]
