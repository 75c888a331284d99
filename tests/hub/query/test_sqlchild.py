"""hub.query.sqlchild: a query in a process that can read no file and is bounded in memory, time and result."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest

from hub.query.sqlchild import Answer, Limits, Request, answer, run
from tests.hub.query.test_sql import a_journal, reference


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journal")
    a_journal(folder, random.Random(5), batches=20)
    return folder


def test_a_query(journal: Path) -> None:
    """The rows are those of the journal, as texts."""
    query = "SELECT sequence, tag, host FROM messages ORDER BY 1"
    found = asyncio.run(answer(Request(str(journal), query)))
    rows = [[str(row["sequence"]), row["tag"], row["host"]] for row in reference(journal)]
    assert found == Answer(["sequence", "tag", "host"], rows)


def test_only_so_much(journal: Path) -> None:
    """The result is cut at the number of rows and at its size."""
    query = "SELECT repeat('x', 100) FROM range(50)"
    assert len(run(Request(str(journal), query)).rows) == 50
    found = run(Request(str(journal), query, Limits(rows=7)))
    assert (len(found.rows), found.is_cut) == (7, True)
    found = run(Request(str(journal), query, Limits(result_bytes=1000)))
    assert (len(found.rows), found.is_cut) == (10, True)


def test_time_and_memory_are_bounded(journal: Path) -> None:
    """A query that takes more ends with an error."""
    endless = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b"
    found = asyncio.run(answer(Request(str(journal), endless, Limits(seconds=0.5))))
    assert found.error == "the query took more than 0.5 s"
    large = "SELECT count(*) FROM (SELECT DISTINCT repeat(range::VARCHAR, 100) FROM range(10000000))"
    found = run(Request(str(journal), large, Limits(memory_bytes=20 << 20)))
    assert "Out of Memory" in found.error


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
        "SELECT * FROM request",
        "EXPORT DATABASE '{file}.new'",
        "",
    ],
)
def test_nothing_else_is_allowed(journal: Path, tmp_path: Path, query: str) -> None:
    """Neither files nor settings nor several statements; a variable of the program is no table."""
    file = tmp_path / "secret.csv"
    file.write_text("secret\n1\n")
    found = run(Request(str(journal), query.format(file=file)))
    assert found.error
    assert not found.rows
    assert [*tmp_path.iterdir()] == [file]
