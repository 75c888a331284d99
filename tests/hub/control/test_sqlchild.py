"""hub.control.sqlchild: a query in a process that can read no file and is bounded in memory, time and result."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.access import TagRights
from hub.control import sqlchild
from hub.control.counting import Counted
from hub.control.sqlchild import ROW_BYTES_MAX, Asked, Columns, End, Failed, Limits, Rows, run
from hub.query.indexed import batches
from tests.hub.query.test_sql import a_journal, reference


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journal")
    a_journal(folder, random.Random(5), batches=20)
    return folder


class Result(msgspec.Struct):
    """A whole result."""

    columns: Sequence[tuple[str, str]]
    rows: list[Sequence[str | None]]
    end: End
    lines: int


def asked(journal: Path, sql: str, **options: Any) -> Asked:
    return Asked(str(journal), sql, **{"allow": ("*",), **options})


def result(given: Asked) -> Result:
    """Return the result of a query that does not fail."""
    first, *parts, end = run(given)
    assert isinstance(first, Columns), first
    assert isinstance(end, End), end
    found = Result(first.columns, [], end, len(parts))
    for part in parts:
        assert isinstance(part, Rows)
        found.rows += part.rows
    return found


def failure(given: Asked) -> Failed:
    """Return how a query fails."""
    *_, last = run(given)
    assert isinstance(last, Failed), last
    return last


def test_a_query(journal: Path) -> None:
    """The rows are those of the journal, as texts, with the types of the columns; times are in the zone."""
    found = result(asked(journal, "SELECT sequence, tag, host FROM messages ORDER BY 1"))
    assert [*found.columns] == [("sequence", "BIGINT"), ("tag", "VARCHAR"), ("host", "VARCHAR")]
    assert found.rows == [(str(row["sequence"]), row["tag"], row["host"]) for row in reference(journal)]
    assert found.end == End(is_final=True)
    (row,) = result(asked(journal, "SELECT TIMESTAMPTZ '2026-01-01 12:00Z', 'error'::level", zone="Asia/Kolkata")).rows
    assert row == ("2026-01-01 17:30:00+05:30", "error")


@pytest.mark.parametrize(
    ("allow", "deny"),
    [(("*",), ()), (("app.*",), ()), (("*",), ("app.*",)), (("*",), ("mpsr.loss*",)), (("mpsr.*",), ()), ((), ())],
)
def test_only_what_may_be_read(journal: Path, allow: tuple[str, ...], deny: tuple[str, ...]) -> None:
    """No column, no count and no filter shows a message under a tag that the caller may not read."""
    rights = TagRights(allow, deny)
    query = Counted(rights=rights)
    query.begin_step()
    groups = query.groups(batches(str(journal), query, 0))
    wanted = [(str(message.sequence), message.tag) for group in groups for message in group]
    given = {"allow": allow, "deny": deny}
    found = result(asked(journal, "SELECT sequence, tag, record FROM messages ORDER BY 1", **given))
    assert [(row[0], row[1]) for row in found.rows] == wanted
    assert all(rights.may_read(tag) for _, tag in wanted)
    ((count,),) = result(asked(journal, "SELECT count(*) FROM messages WHERE record IS NOT NULL", **given)).rows
    assert count == str(len(wanted))


def test_the_result_is_bounded(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is cut at the number of rows and at its size, long values are cut off, and lines stay short."""
    monkeypatch.setattr(sqlchild, "LINE_S", 3600.0)
    query = "SELECT repeat('x', 100) FROM range(50)"
    assert len(result(asked(journal, query)).rows) == 50
    found = result(asked(journal, query, limits=Limits(rows=7)))
    assert (len(found.rows), found.end.is_cut) == (7, True)
    found = result(asked(journal, query, limits=Limits(rows=50)))
    assert (len(found.rows), found.end.is_cut) == (50, False)
    found = result(asked(journal, query, limits=Limits(result_bytes=1000)))
    assert (len(found.rows), found.end.is_cut) == (9, True)
    found = result(asked(journal, "SELECT repeat('😀', 100000), 'short', NULL"))
    assert len(msgspec.json.encode(found.rows)) < ROW_BYTES_MAX
    assert (tuple(found.rows[0][1:]), found.end.cut_values) == (("short", None), 1)
    found = result(asked(journal, "SELECT repeat('x', 1000) FROM range(200)"))
    assert (len(found.rows), found.lines) == (200, 4)
    assert "1001 columns" in failure(asked(journal, f"SELECT {', '.join(map(str, range(1001)))}")).error


def test_rows_are_there_before_the_end(journal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where rows come slowly, each is in a line of its own; meanwhile it is reported how many messages were read."""
    monkeypatch.setattr(sqlchild, "LINE_S", 0.0)
    read = list[int]()
    columns, *rows, last, end = run(asked(journal, "SELECT sequence FROM messages LIMIT 3"), read.append)
    assert isinstance(columns, Columns)
    assert [len(each.rows) for each in rows if isinstance(each, Rows)] == [1, 1, 1]
    assert (last, end) == (Rows([]), End(is_final=True))
    assert sum(read) >= 3


def test_memory_is_bounded(journal: Path) -> None:
    """A query that needs more ends with an error."""
    large = "SELECT count(*) FROM (SELECT DISTINCT repeat(range::VARCHAR, 100) FROM range(10000000))"
    assert "more than 20 MiB of memory" in failure(asked(journal, large, limits=Limits(memory_bytes=20 << 20))).error


@pytest.mark.parametrize(
    ("query", "wrong"),
    [
        ("SELCT 1", "SELCT"),
        ("SELECT 'ä€😀',\n nothing FROM messages", "nothing"),
        (" SELECT nothing(tag) FROM messages;", "nothing(tag)"),
        ("SELECT * FROM nowhere", "nowhere"),
        ("SELECT tga FROM messages", "tga"),
        ("SELECT message::INT FROM messages", None),
    ],
)
def test_errors_say_where(journal: Path, query: str, wrong: str | None) -> None:
    """An error about the text of the query names the characters; one about a message does not. Both are one line."""
    found = failure(asked(journal, query))
    assert "{" not in found.error
    assert "\n" not in found.error
    assert (None if found.at is None else query[slice(*found.at)]) == wrong


def test_a_zone_that_is_unknown(journal: Path) -> None:
    """A wrong zone is an error."""
    assert "Unknown TimeZone" in failure(asked(journal, "SELECT 1", zone="Moon")).error
    assert failure(asked(journal, "SELECT 1", zone="'; SELECT 1")).error


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('{file}')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "COPY (SELECT 1) TO '{file}.new'",
        "ATTACH '{file}.new'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SELECT 1; SELECT 2",
        "CREATE TABLE t AS SELECT 1",
        "SELECT * FROM asked",
        "EXPORT DATABASE '{file}.new'",
        "",
    ],
)
def test_nothing_else_is_allowed(journal: Path, tmp_path: Path, query: str) -> None:
    """Neither files nor settings nor several statements; a variable of the program is no table."""
    file = tmp_path / "secret.csv"
    file.write_text("secret\n1\n")
    assert failure(asked(journal, query.format(file=file))).error
    assert [*tmp_path.iterdir()] == [file]
