"""hub.query.sql, sqlrows, arrow: what SQL finds is what a slow and obvious reference finds in Python."""

from __future__ import annotations

import json
import math
import random
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import entries as codec
from hub.journal.files import DiskFiles
from hub.journal.reader import open_reader
from hub.message import Batch, Home, Message, Peer
from hub.query import columns, indexing, sql
from hub.query.columns import COLUMNS
from hub.query.index import Counts, Group, Words, pack_sections
from hub.query.indexing import make_indexes
from hub.query.level import LEVELS, rank_of
from hub.query.rendering import record_json, text_in
from hub.query.sql import Database, SqlError
from hub.query.sqlrows import query_of
from hub.wire.sysloglines import encode_entry
from tests.hub.journal.world import Life, at

SEEDS = (0,)
TEXTS = [
    "",
    "timeout",
    "a\0b",
    "stra\u00dfe \U0001f600",
    "\u202e'; drop table messages; --",
    '{"a": 1}',
    "x" * 300,
    "\n",
]
VALUES = [*TEXTS, None, True, 0, -1, 7, 2**63, -(2**63), 1.5, math.nan, math.inf, b"\xff\0", [1, "a"], {"status": 500}]
PEERS = [
    Peer(1, 0, 0, "init"),
    Peer(4_000_000, 1000, 1000, "py thon", cgroup="/system.slice/nginx.service"),
    Peer(0, -7, -1, "192.0.2.1", verified=False),
]
Reference = Sequence[dict[str, Any]]


def a_record(rng: random.Random) -> dict[Any, Any]:
    record: dict[Any, Any] = {}
    for key in ("level", "message", "event", "severity", "n", "http", "log", "v"):
        if rng.random() < 0.4:
            record[key] = rng.choice(VALUES)
    if rng.random() < 0.7:
        record["level"] = rng.choice(["info", "WARN", "error", 40, "3", "no level", "\x1b[31mfatal\x1b[0m", *LEVELS])
    if rng.random() < 0.7:
        record["message"] = rng.choice(TEXTS)
    if rng.random() < 0.05:
        record[7] = "a key that is no text"
    return record


def an_entry(rng: random.Random) -> bytes:
    """Return an entry: most are as they should be, a few have another time, or cannot be read."""
    kind = rng.random()
    if kind < 0.02:
        return msgspec.msgpack.encode(["no time", {}])
    if kind < 0.04:
        return encode_entry(b"<11>Oct 11 22:14:15 host su[7]: failed")
    if kind < 0.06:
        return b"\x92\x01\x81\xa1a\xa1\xff"  # invalid UTF-8
    if kind < 0.08:
        return msgspec.msgpack.encode([rng.choice([0, 1.5, 1e300, -1e11, 1_700_000_000]), a_record(rng)])
    seconds = 1_700_000_000 + rng.randrange(100_000)
    return (
        b"\x92\xd7\0" + seconds.to_bytes(4) + rng.randrange(10**9).to_bytes(4) + msgspec.msgpack.encode(a_record(rng))
    )


def a_journal(folder: Path, rng: random.Random, batches: int = 60) -> None:
    """Make a journal of several segments, all with an index except one that is damaged."""
    files = DiskFiles(str(folder))
    life = Life(files, segment_bytes=4_000)
    for number in range(batches):
        entries = [an_entry(rng) for _ in range(rng.choice([1, 3, 12]))]
        tag = rng.choice([b"app.web", b"app.db", b"[x]", b"!no", b"*"])
        home = Home("far", b"h" * 16, 5, 17) if rng.random() < 0.1 else None
        life.append(Batch(tag, codec.join(entries, len(entries)), len(entries), peer=rng.choice(PEERS), home=home))
        if rng.random() < 0.1:
            life.append(at({b"x": number}))
    life.writer.close()
    damaged = sorted(folder.glob("*.seg"))[1]
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)
    make_indexes(files)


def reference(folder: Path) -> Reference:
    """Read everything, one message after the other."""
    reader = open_reader(str(folder))
    found = (each if isinstance(each, Batch) else each.as_batch() for each in reader.read())
    rows = [row_of(message) for batch in found for message in batch.messages()]
    reader.close()
    return rows


def row_of(message: Message) -> dict[str, Any]:
    rank, peer, home = rank_of(message.record), message.peer, message.home
    return {
        "sequence": message.sequence,
        "received": moment(message.received),
        "time": moment(message.time),
        "tag": message.tag,
        "pid": peer.pid,
        "uid": peer.uid,
        "gid": peer.gid,
        "comm": peer.comm,
        "unit": peer.unit or None,
        "container": peer.container or None,
        "host": home and home.host,
        "level": None if rank is None else LEVELS[rank],
        "message": text_in(message.record),
        "record": record_json(message.record),
    }


def moment(time_ns: int) -> int:
    """Return microseconds, within the years 1 to 9999."""
    seconds, nanoseconds = divmod(time_ns, 10**9)
    return min(max(seconds, -62_135_596_800), 253_402_300_799) * 10**6 + nanoseconds // 1000


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "SEGMENT_BYTES_MIN", 0)
    monkeypatch.setattr(indexing, "_GROUP_BYTES_MIN", 300)
    monkeypatch.setattr(columns, "PART_ROWS", 50)


@pytest.fixture(scope="module", params=SEEDS)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("journal")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indexing, "SEGMENT_BYTES_MIN", 0)
        patch.setattr(indexing, "_GROUP_BYTES_MIN", 300)
        a_journal(folder, random.Random(request.param))
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> Reference:
    return reference(folder)


@pytest.fixture(scope="module")
def database(folder: Path) -> Iterator[Database]:
    with Database(str(folder)) as database:
        yield database


def run(database: Database, query: str) -> list[Any]:
    return [*database.rows(database.execute(query))]


AS_TEXTS = "SELECT CAST(COLUMNS(*) AS VARCHAR) FROM {}"
AS_NUMBERS = "* REPLACE (epoch_us(received) AS received, epoch_us(time) AS time)"


def test_every_row(database: Database, rows: Reference) -> None:
    """All columns of all messages, of losses and unreadable entries too, are those of the reference."""
    assert run(database, f"SELECT {AS_NUMBERS} FROM messages ORDER BY sequence") == [
        tuple(row.values()) for row in rows
    ]
    assert database.connection.execute("DESCRIBE messages").fetchall()[0][0] == "sequence"


@pytest.mark.parametrize("name", COLUMNS)
def test_one_column(database: Database, rows: Reference, name: str) -> None:
    """Each column is the same if only it is decoded."""
    shown = f"epoch_us({name})" if COLUMNS[name].type == "TIMESTAMPTZ" else name
    found = [value for (value,) in run(database, f"SELECT {shown} FROM messages")]
    assert sorted(map(str, found)) == sorted(str(row[name]) for row in rows)
    assert database.needs.columns == (name,)


def test_a_limit_ends_the_reading(database: Database, rows: Reference, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query that wants a few rows, in no order, reads few: also through conditions and conversions around it."""
    monkeypatch.setattr(columns, "FIRST_ROWS", 10)
    monkeypatch.setattr(columns, "PART_ROWS", 1000)
    for condition in ("", "WHERE message IS NOT NULL"):
        result = database.execute(f"SELECT record FROM messages {condition} LIMIT 3", AS_TEXTS)
        assert len([*database.rows(result)]) == 3
        assert 3 <= database.progress.rows < len(rows) // 4
    run(database, "SELECT record FROM messages")
    assert database.progress.rows == len(rows)


def is_at_least(row: dict[str, Any], level: str) -> bool:
    return row["level"] is not None and LEVELS.index(row["level"]) >= LEVELS.index(level)


WHERE: dict[str, Callable[[dict[str, Any], Reference], bool]] = {
    "level >= 'warning'": lambda row, _: is_at_least(row, "warning"),
    "level >= 'warn' AND tag = 'app.db'": lambda row, _: is_at_least(row, "warning") and row["tag"] == "app.db",
    "'err' <= level": lambda row, _: is_at_least(row, "error"),
    "level IN ('warn', 'alert') OR level IS NULL": lambda row, _: row["level"] in ("warning", "alert", None),
    "level BETWEEN 'info' AND 'error'": lambda row, _: is_at_least(row, "info") and not is_at_least(row, "critical"),
    "level > 'notice' OR sequence < 20": lambda row, _: is_at_least(row, "warning") or row["sequence"] < 20,
    "tag = '[x]'": lambda row, _: row["tag"] == "[x]",
    "tag = '!no'": lambda row, _: row["tag"] == "!no",
    "tag = '*'": lambda row, _: row["tag"] == "*",
    "tag = 'mpsr.loss'": lambda row, _: row["tag"] == "mpsr.loss",
    "tag = 'mpsr.loss.client'": lambda row, _: row["tag"] == "mpsr.loss.client",
    "tag LIKE 'app.%'": lambda row, _: row["tag"].startswith("app."),
    "sequence BETWEEN 30 AND 60": lambda row, _: 30 <= row["sequence"] <= 60,
    "sequence = 41": lambda row, _: row["sequence"] == 41,
    "sequence < 0": lambda row, _: False,
    "received >= make_timestamptz({middle})": lambda row, rows: row["received"] >= middle(rows),
    "received < make_timestamptz({middle})": lambda row, rows: row["received"] < middle(rows),
    "received = make_timestamptz({middle})": lambda row, rows: row["received"] == middle(rows),
    "received > now() - INTERVAL 1 HOUR": lambda row, _: False,
    "host = 'far' OR uid = 1000": lambda row, _: row["host"] == "far" or row["uid"] == 1000,
    "message LIKE '%e%'": lambda row, _: "e" in (row["message"] or ""),
    "record->>'$.http.status' = '500'": lambda row, _: status_of(row) == 500,
    "'nan'::FLOAT > 1 AND pid = 1": lambda row, _: row["pid"] == 1,
}


def middle(rows: Reference) -> int:
    received: int = rows[len(rows) // 2]["received"]
    return received


def status_of(row: dict[str, Any]) -> Any:
    http = json.loads(row["record"]).get("http")
    return http.get("status") if isinstance(http, dict) else None


@pytest.mark.parametrize("condition", WHERE)
def test_conditions(database: Database, rows: Reference, condition: str) -> None:
    """A condition selects the messages of the reference, whatever blocks are passed over for it."""
    query = f"SELECT sequence FROM messages WHERE {condition}".format(middle=middle(rows))
    expected = [row["sequence"] for row in rows if WHERE[condition](row, rows)]
    assert sorted(each for (each,) in run(database, query)) == expected


def test_groups_joins_and_several_scans(database: Database, rows: Reference) -> None:
    """A query may scan the messages several times, each time with other conditions."""
    counts = Counter((row["tag"], row["level"]) for row in rows)
    found = run(database, "SELECT tag, level, count(*) FROM messages GROUP BY 1, 2")
    assert {(tag, level): count for tag, level, count in found} == counts
    assert run(database, "SELECT count(*) FROM messages") == [(len(rows),)]
    sequences = {row["sequence"] for row in rows if row["tag"] == "app.web"}
    pairs = run(
        database,
        "SELECT a.sequence, b.message FROM messages a JOIN messages b ON b.sequence = a.sequence + 1 "
        "WHERE a.tag = 'app.web' ORDER BY 1",
    )
    assert pairs == [(row["sequence"] - 1, row["message"]) for row in rows if row["sequence"] - 1 in sequences]
    either = run(
        database, "SELECT (SELECT count(*) FROM messages WHERE tag = '*'), (SELECT max(sequence) FROM messages)"
    )
    assert either == [(sum(row["tag"] == "*" for row in rows), rows[-1]["sequence"])]
    last = "SELECT *, row_number() OVER (PARTITION BY tag ORDER BY sequence DESC) AS n FROM messages"
    latest = {row["tag"]: row["sequence"] for row in rows}
    assert sorted(run(database, f"SELECT sequence FROM ({last}) WHERE n = 1")) == [
        (each,) for each in sorted(latest.values())
    ]


def test_only_what_is_needed_is_decoded(database: Database, rows: Reference) -> None:
    """Bounds pass over blocks, and a query without messages reads none."""
    run(database, "SELECT record FROM messages")
    everything = database.progress.decoded_bytes
    assert database.progress.rows == len(rows)
    for condition in ("sequence > 250", "tag = 'mpsr.loss.client' AND sequence < 99", "level >= 'emergency'"):
        run(database, f"SELECT record FROM messages WHERE {condition}")
        assert database.progress.decoded_bytes < everything, condition
    run(database, f"SELECT tag FROM messages WHERE received > make_timestamptz({rows[-1]['received']})")
    assert (database.needs.columns, database.progress.rows) == (("received", "tag"), 0)
    run(database, "SELECT 1")
    assert (database.needs.columns, database.progress.rows) == ((), 0)


def without_indexes(folder: Path, tmp_path: Path) -> Path:
    """Return a copy of the journal in which everything has to be read."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, ignore=shutil.ignore_patterns("*.idx"))
    return copy


COUNTED = ("level, count(*) FROM messages GROUP BY level", "tag, count(*) FROM messages GROUP BY tag",
           "count(*) FROM messages", "level, tag, count(*) FROM messages WHERE level > 'info' GROUP BY ALL",
           "count(*) FROM messages WHERE tag = 'app.db'")  # fmt: skip


@pytest.mark.parametrize("query", COUNTED)
def test_counts_come_from_indexes(database: Database, folder: Path, tmp_path: Path, query: str) -> None:
    """What is counted by tag and level is the same as without an index, and less is decoded for it."""
    counted, decoded = Counter(run(database, f"SELECT {query}")), database.progress.decoded_bytes
    misfits, rows = database.progress.misfits, database.progress.rows
    with Database(str(without_indexes(folder, tmp_path))) as read:
        assert counted == Counter(run(read, f"SELECT {query}"))
        assert decoded < 0.6 * read.progress.decoded_bytes
        if "WHERE" not in query:
            assert (rows, misfits) == (read.progress.rows, read.progress.misfits)


@pytest.mark.parametrize("hidden", ["app.db", "mpsr.loss.client", "mpsr.loss", "!no"])
def test_what_may_not_be_read_is_not_counted(folder: Path, tmp_path: Path, rows: Reference, hidden: str) -> None:
    """Counts of an index are those of a journal without one: nothing of a tag that may not be read."""
    copy = without_indexes(folder, tmp_path)
    for query in COUNTED:
        found = []
        for place in (folder, copy):
            with Database(str(place), may_read=lambda tag: tag != hidden) as database:
                counts = Counter(run(database, f"SELECT {query}"))
                found.append((counts, database.progress.misfits if "WHERE" not in query else 0))
        assert found[0] == found[1]
        if query.startswith("tag"):
            assert hidden in {row["tag"] for row in rows}
            assert hidden not in {tag for tag, _ in found[0][0]}


def test_an_index_does_not_count_outside_of_bounds(database: Database, rows: Reference) -> None:
    """A bound of another column is never lost."""
    bounds = ("sequence < 40", "sequence > 40", f"received < make_timestamptz({rows[60]['received']})")
    for bound in bounds:
        found = run(database, f"SELECT level, count(*) FROM messages WHERE {bound} GROUP BY ALL")
        passed = {
            bounds[0]: [row for row in rows if row["sequence"] < 40],
            bounds[1]: [row for row in rows if row["sequence"] > 40],
            bounds[2]: [row for row in rows if row["received"] < rows[60]["received"]],
        }
        assert dict(found) == Counter(row["level"] for row in passed[bound])


def test_an_older_index_is_not_enough(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not know how many levels are none says nothing about the column."""
    copy = without_indexes(folder, tmp_path)

    def pack_as_before(counts: Counts, groups: Sequence[Group], words: Words) -> list[bytes]:
        return pack_sections(msgspec.structs.replace(counts, misfits=None), groups, words)

    monkeypatch.setattr(indexing, "pack_sections", pack_as_before)
    make_indexes(DiskFiles(str(copy)))
    with Database(str(copy)) as database:
        run(database, "SELECT level FROM messages")
        assert database.progress.decoded_bytes > 0
        everything = database.progress.decoded_bytes
        run(database, "SELECT record FROM messages")
        assert database.progress.decoded_bytes == everything


def test_what_a_batch_has_in_common_is_not_decoded(tmp_path: Path) -> None:
    """In a segment whose index knows that all entries can be read, nothing is; in the others it is found out."""
    files = DiskFiles(str(tmp_path))
    life = Life(files, segment_bytes=4_000)
    good = codec.stamp(5) + msgspec.msgpack.encode({"pad": "x" * 100})
    for number in range(120):
        bad = b"\x07" if number > 100 else good
        life.append(Batch(b"t", codec.join((good, bad), 2), 2, peer=PEERS[number % len(PEERS)]))
    life.writer.close()
    make_indexes(files)
    names = ", ".join(name for name, kind in COLUMNS.items() if kind.of_batch)
    with Database(str(tmp_path)) as database:
        found = run(database, f"SELECT {names.replace('received', 'epoch_us(received)')} FROM messages")
        decoded = database.progress.decoded_bytes
        run(database, "SELECT record FROM messages")
        assert 0 < decoded < 0.5 * database.progress.decoded_bytes
    wanted = [name for name, kind in COLUMNS.items() if kind.of_batch]
    assert sorted(found) == [tuple(row[name] for name in wanted) for row in reference(tmp_path)]


def test_values_that_do_not_fit(tmp_path: Path) -> None:
    """A level that is none and a message that is no text are NULL, counted, and whole in the record."""
    life = Life(DiskFiles(str(tmp_path)), segment_bytes=1 << 20)
    records: list[dict[str, Any]] = [
        {"level": "loud", "message": 5},
        {"level": "info", "message": "fine"},
        {"event": [1]},
    ]
    entries = [b"\x92\xd7\0" + bytes(8) + msgspec.msgpack.encode(record) for record in records]
    life.append(Batch(b"t", codec.join(entries, 3), 3))
    life.writer.close()
    with Database(str(tmp_path)) as database:
        found = run(database, "SELECT level, message, record->>'$.level', record->'$.event' FROM messages")
        assert found == [(None, None, "loud", None), ("info", "fine", "info", None), (None, None, None, "[1]")]
        assert database.progress.misfits == 3
        run(database, "SELECT a.message FROM messages a JOIN messages b ON a.sequence = b.sequence")
        assert database.progress.misfits == 2  # the messages, counted once


def test_errors(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong query raises, also one whose level is none; an error of the journal is raised as itself."""
    for query in ("SELEC 1", "SELECT nothing FROM messages", "SELECT * FROM messages WHERE level > 'loud'::level"):
        with pytest.raises(SqlError):
            run(database, query)

    def failing(*_args: object) -> Iterator[Any]:
        raise OSError(5, "the disk has failed")
        yield

    monkeypatch.setattr(sql, "parts", failing)
    with pytest.raises(OSError, match="the disk has failed"):
        run(database, "SELECT tag FROM messages")
    monkeypatch.undo()
    assert run(database, "SELECT 1") == [(1,)]


def test_interrupts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends a query, while it reads and while it computes."""

    def interrupted(*_args: object) -> Iterator[Any]:
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(sql, "parts", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(database, "SELECT tag FROM messages")
    monkeypatch.undo()
    main = threading.main_thread().ident
    assert main is not None
    timer = threading.Timer(0.2, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        run(database, "SELECT sum(a.range * b.range) FROM range(10000000) a, range(1000000) b")
    timer.join()


def test_the_bounds_of_times_are_whole_microseconds(database: Database) -> None:
    """The filter for blocks covers all nanoseconds of the last microsecond."""
    run(database, "SELECT tag FROM messages WHERE received = TIMESTAMPTZ '1970-01-01 00:00:01+00'")
    query = query_of(database.needs)
    assert query.contains(10**9, 10**9 + 999)
    assert not query.overlaps(10**9 + 1000, 10**10)
    assert not query.overlaps(0, 10**9 - 1)
