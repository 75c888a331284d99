"""hub.journal.positions: the rows of repeatable sources."""

from __future__ import annotations

import itertools

import pytest

from hub.entries import NS, join
from hub.journal.positions import AGE_S, BYTES_MAX, DAY_S, GRACE_S, IMPORT_AGE_S, IMPORTS_MAX, Positions, Row
from hub.message import DETAIL_BYTES_MAX, FORGET, NAME_BYTES_MAX, Batch, Position

NOW = 1_700_000_000 * NS
DAY = DAY_S * NS


def rows_of(positions: Positions) -> dict[bytes, int]:
    return {each.name: each.number for each in positions.starting_with(b"")}


def test_the_newest_row_counts() -> None:
    """A row is replaced by the next one with its name, whatever its number, and removed by FORGET."""
    positions = Positions()
    assert positions.get(b"files:1") is None
    positions.put([Position(b"files:1", 70, b"path"), Position(b"files:2", 1)], NOW)
    assert positions.get(b"files:1") == Position(b"files:1", 70, b"path")
    positions.put([Position(b"files:1", 0)], NOW + 1)
    assert positions.get(b"files:1") == Position(b"files:1", 0)
    positions.put([Position(b"files:1", FORGET), Position(b"files:3", FORGET)], NOW + 2)
    assert rows_of(positions) == {b"files:2": 1}
    assert len(positions) == 1


def test_rows_are_found_by_prefix() -> None:
    """A source finds its own rows, and no others."""
    positions = Positions()
    positions.put([Position(b"files:1", 1), Position(b"kmsg:1", 2), Position(b"files:2", 3)], NOW)
    assert positions.starting_with(b"files:") == [Position(b"files:1", 1), Position(b"files:2", 3)]
    assert positions.starting_with(b"journald:") == []


def test_a_snapshot_restores_all() -> None:
    """What is restored is the same, with its times and its size; what was there before is gone."""
    positions, again = Positions(), Positions()
    positions.put([Position(b"files:1", 2**63 - 1, b"\x00\xff"), Position(b"import:2", 0)], NOW)
    again.put([Position(b"kmsg:1", 1)], NOW)
    again.restore(positions.snapshot())
    assert rows_of(again) == rows_of(positions)
    assert again.snapshot() == positions.snapshot()
    assert again.size_bytes == positions.size_bytes


@pytest.mark.parametrize(
    "snapshot", [b"", b"\x90\x90", b"\x01", b"\x91\x91\xc4\x01x", b"\x91\x94\xc4\x00\x01\xc4\x00\x01"]
)
def test_other_bytes_are_no_snapshot(snapshot: bytes) -> None:
    """They are refused, and nothing changes."""
    positions = Positions()
    positions.put([Position(b"files:1", 1)], NOW)
    with pytest.raises(ValueError, match="not a snapshot"):
        positions.restore(snapshot)
    assert rows_of(positions) == {b"files:1": 1}


def test_old_rows_are_dropped() -> None:
    """A row lives for AGE_S since it was last written, that of an import for IMPORT_AGE_S."""
    positions = Positions()
    positions.put([Position(b"files:old", 1), Position(b"import:1", 2)], NOW)
    positions.put([Position(b"files:1", 3)], NOW + DAY)
    assert positions.drop(NOW + AGE_S * NS) == 0
    assert set(rows_of(positions)) == {b"files:old", b"files:1", b"import:1"}
    assert positions.drop(NOW + AGE_S * NS + 1) == 0
    assert set(rows_of(positions)) == {b"files:1", b"import:1"}
    positions.drop(NOW + IMPORT_AGE_S * NS)
    assert set(rows_of(positions)) == {b"import:1"}
    positions.drop(NOW + IMPORT_AGE_S * NS + 1)
    assert len(positions) == positions.size_bytes == 0


def test_after_a_start_every_row_has_a_day() -> None:
    """No age drops a row within GRACE_S after the start; younger rows keep their time."""
    positions = Positions()
    positions.put([Position(b"files:1", 1), Position(b"import:1", 2)], NOW)
    later = NOW + 1000 * DAY
    positions.put([Position(b"files:2", 3)], later - DAY)
    positions.keep_until(later)
    positions.drop(later + GRACE_S * NS)
    assert set(rows_of(positions)) == {b"files:1", b"files:2", b"import:1"}
    positions.drop(later + GRACE_S * NS + 1)
    assert set(rows_of(positions)) == {b"files:2"}


def test_above_the_limit_the_oldest_rows_are_dropped() -> None:
    """As many as needed, and their number is returned; a row that was written again is no longer old."""
    positions = Positions(bytes_max=3 * Row(Position(b"files:1", 1), 0).size_bytes)
    for number in range(1, 6):
        positions.put([Position(b"files:%d" % number, number)], NOW + number)
    positions.put([Position(b"files:1", 10)], NOW + 6)
    assert positions.drop(NOW + 7) == 2
    assert rows_of(positions) == {b"files:4": 4, b"files:5": 5, b"files:1": 10}
    assert positions.drop(NOW + 7) == 0


def test_the_size_is_never_less_than_that_of_the_snapshot() -> None:
    """The limit holds for the bytes of the snapshot, however rows are replaced and removed."""
    positions = Positions()
    for number in range(300):
        name = b"x" * (1 + number * 7 % NAME_BYTES_MAX)
        positions.put([Position(name, 2**63 - 1 - number, b"d" * (number * 13 % DETAIL_BYTES_MAX))], 2**63 - 1)
        positions.put([Position(b"x" * (1 + number % 5), FORGET)], NOW)
        assert len(positions.snapshot()) <= positions.size_bytes + 5


def test_20_000_rows_of_any_length_are_kept() -> None:
    """The limit has room for 20,000 rows, each as long as it may be."""
    assert 20_000 * Row(Position(b"x" * NAME_BYTES_MAX, 0, b"d" * DETAIL_BYTES_MAX), 0).size_bytes < BYTES_MAX


def chunk(start: Position, end: Position) -> Batch:
    return Batch(b"t", join((), 0), 1, positions=(end,), continues=start)


def test_a_batch_counts_where_it_continues() -> None:
    """At the committed position of its name, or at that of a batch before it in the same commit; once."""
    positions = Positions()
    name = b"import:0:a"
    places = [Position(name, 0), *(Position(name, number, b"%d" % number) for number in (10, 20, 30))]
    one, two, three = (chunk(start, end) for start, end in itertools.pairwise(places))
    plain, other = Batch(b"t", join((), 0), 1), chunk(Position(b"import:1:a", 0), Position(b"import:1:a", 5))
    foreign = chunk(Position(name, 10, b"x"), Position(name, 20, b"y"))
    assert positions.unseen([plain]) == [plain]
    assert positions.unseen([two, plain, one, one, foreign, other, two]) == [plain, one, other, two]
    positions.put([places[2]], NOW)
    assert positions.unseen([one, two, foreign, three]) == [three]


def test_users_share_the_rows_of_imports(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest rows of the users with the most are dropped. Those of others and of sources stay."""
    monkeypatch.setattr("hub.journal.positions.IMPORTS_MAX", 16)
    positions = Positions()
    positions.put([Position(b"files:%d" % number, 1) for number in range(40)], NOW)
    positions.put([Position(b"import:1:%d" % number, 1) for number in range(3)], NOW)
    for number in range(100):
        positions.put([Position(b"import:2:%03d" % number, 1)], NOW + number)
        positions.put([Position(b"import:3:%03d" % number, 1)], NOW + number)
        assert len(positions) <= 40 + 16 + 3
    positions.put([Position(b"import:2:%03d" % number, 2) for number in (80, 81)], NOW + 200)
    positions.drop(NOW + 300)
    rows = rows_of(positions)
    assert sum(name.startswith(b"files:") for name in rows) == 40
    assert sum(name.startswith(b"import:1:") for name in rows) == 3
    assert {name for name in rows if name.startswith(b"import:2:")} >= {b"import:2:099", b"import:2:098"}
    assert len(rows) == 40 + 16
    again = Positions()
    again.restore(positions.snapshot())
    again.put([Position(b"import:1:%d" % number, FORGET) for number in range(3)], NOW + 301)
    again.put([Position(b"import:4:%d" % number, 1) for number in range(9)], NOW + 302)
    again.drop(NOW + 303)
    assert sum(name.startswith(b"import:") for name in rows_of(again)) == 16


def test_the_rows_of_imports_are_few() -> None:
    """They leave room for those of sources."""
    assert IMPORTS_MAX * 2 * Row(Position(b"x" * NAME_BYTES_MAX, 0, b"d" * 32), 0).size_bytes < BYTES_MAX // 4
