"""`mpsr export`: messages for other programs, as lines of JSON or rows of CSV, and the format file for lnav."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.query.level import LEVELS
from producers import Producer
from tests.support import PATIENCE_S, HubProcess, Running

Run = Callable[..., tuple[int, bytes, bytes]]
RECORDS: list[dict[str, Any]] = [
    {"message": 'a "b", c\nd', "level": "WARN", "n": 1},
    {"message": "=1+1", "http": {"status": 500}, "list": [1, None]},
    {"event": "done\x1b[31m", "n": "2", "ok": True},
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub with some messages."""
    with HubProcess(tmp_path_factory.mktemp("hub")) as hub:
        with Producer(hub.socket, tag="a", spool=False) as producer:
            for record in RECORDS:
                producer.send(record)
            producer.flush(PATIENCE_S)
        yield hub


@pytest.fixture
def run(run: Run, hub: HubProcess, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command that reads the journal of the hub."""
    monkeypatch.setenv("MPSR_JOURNAL", hub.journal)
    return run


@pytest.mark.parametrize(
    "options", ["", "-p warning", "--fields n,http.status", "--where n=2", "--after 2", "-g nothing"]
)
def test_ndjson_is_what_logs_shows(run: Run, options: str) -> None:
    """The bytes are those of `mpsr logs -o json`, with all filters."""
    expected = run("logs", "-o", "json", *options.split())
    assert run("export", *options.split()) == expected
    assert run("export", "--format", "JSON", *options.split()) == expected


def rows(output: bytes) -> list[list[str]]:
    return [*csv.reader(io.StringIO(output.decode(), newline=""))]


def test_csv(run: Run) -> None:
    """A header and a row for each message; every text comes back as it was sent."""
    header, *found = rows(run("export", "--format", "csv")[1])
    cells = [dict(zip(header, row, strict=True)) for row in found]
    assert [row["message"] for row in cells] == ['a "b", c\nd', "=1+1", "done\x1b[31m"]
    assert [row["level"] for row in cells] == ["warning", "", ""]
    assert [json.loads(row["record"]) for row in cells] == RECORDS
    assert {(row["tag"], row["uid"], row["host"]) for row in cells} == {("a", str(os.getuid()), "")}
    shown = [json.loads(line) for line in run("logs", "-o", "json")[1].splitlines()]
    for name in ("sequence", "time", "received", "pid", "gid", "comm"):
        assert [row[name] for row in cells] == [str(line[name]) for line in shown]


def test_csv_with_fields(run: Run) -> None:
    """A column for each field, empty where a record does not have it."""
    header, *found = rows(run("export", "--format", "csv", "--fields", "n, http.status,list,ok")[1])
    assert header[-5:] == ["host", "n", "http.status", "list", "ok"]
    assert [row[-4:] for row in found] == [["1", "", "", ""], ["", "500", "[1,null]", ""], ["2", "", "", "true"]]


def test_a_file(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is replaced in one step, with the mode that the umask allows; after an error the old one is there."""
    path = tmp_path / "out"
    path.write_text("old")
    assert run("export", "-o", str(path)) == (0, b"", b"")
    assert path.read_bytes() == run("export")[1]
    assert path.stat().st_mode & 0o777 == 0o644
    complete = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, errors = run("export", "-o", str(path), "-g", "nothing")
    assert (code, b"No space left" in errors, path.read_bytes()) == (1, True, complete)
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    assert run("export", "-o", "/dev/null") == (0, b"", b"")
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--output=", "--output: the name is empty"),
        ("-o /nowhere/out", "--output /nowhere/out: the folder does not exist"),
        ("--format xml", "Invalid value for '--format'"),
        ("-v", "-v needs --grep"),
        ("-g (", "--grep '('"),
    ],
)
def test_wrong_usage(run: Run, options: str, complaint: str) -> None:
    """It says what is wrong."""
    code, output, errors = run("export", *options.split())
    assert (code, output) == (2, b"")
    assert complaint in errors.decode()


def test_progress(hub: HubProcess, tmp_path: Path) -> None:
    """A terminal shows how many messages were written, and where."""
    ours, theirs = os.openpty()
    command = ["export", "--journal", hub.journal, "-o", str(tmp_path / "out")]
    with Running(*command, stdout=subprocess.DEVNULL, stderr=theirs) as running:
        assert running.wait(PATIENCE_S) == 0
    assert os.read(ours, 1000).decode().endswith(f"3 messages written to {tmp_path / 'out'}\r\n")
    os.close(ours)
    os.close(theirs)


def test_the_format_for_lnav(run: Run) -> None:
    """It is JSON, its fields are those of the lines, and each level of the hub has one of lnav."""
    code, output, _ = run("export", "--lnav-format")
    form = json.loads(output)["mpsr_log"]
    line = json.loads(run("export")[1].splitlines()[0])
    assert code == 0
    assert {name.partition("/")[0] for name in form["value"]} == {*line}
    patterns = form["level"].values()
    for level in LEVELS:
        assert sum(re.search(pattern, level.upper()) is not None for pattern in patterns) == 1


def test_parquet(run: Run, tmp_path: Path) -> None:
    """The file has the columns of SQL and the messages that match; with fields, these are columns."""
    duckdb = pytest.importorskip("duckdb", reason="the extra `sql` is not installed")
    path = tmp_path / "messages.parquet"
    assert run("export", "--format", "parquet", "-o", str(path), "--where", "message!=x") == (0, b"", b"")
    found = duckdb.read_parquet(str(path))
    shown = [json.loads(line) for line in run("export", "--where", "message!=x")[1].splitlines()]
    names = ["sequence", "tag", "pid", "uid", "record"]
    rows = found.project(", ".join(names)).fetchall()
    assert [(*row[:-1], json.loads(row[-1])) for row in rows] == [tuple(line[name] for name in names) for line in shown]
    assert found.project("level").fetchall() == [("warning",), (None,), (None,)]
    run("export", "--format", "parquet", "--fields", "n, http.status,tag", "-o", str(path))
    assert duckdb.read_parquet(str(path)).project('n, "http.status", tag, "record.tag"').fetchall() == [
        ("1", None, "a", None),
        (None, "500", "a", None),
        ("2", None, "a", None),
    ]
    assert run("export", "--format", "parquet")[1][:4] == path.read_bytes()[-4:] == b"PAR1"
