"""hub.query.holdings: what each tag takes is the same with an index and without."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from hub.journal.files import DiskFiles
from hub.journal.rewriting import rewrite
from hub.journal.segment import list_segments, segment_name
from hub.message import Batch
from hub.query import holdings, indexing
from hub.query.holdings import holdings_of, last_holding, rows_of
from hub.query.indexing import make_indexes
from tests.hub.journal.world import Life, batch, flipped


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexing, "SEGMENT_BYTES_MIN", 0)


@pytest.fixture
def life(tmp_path: Path) -> Life:
    life = Life(DiskFiles(str(tmp_path)), segment_bytes=3000)
    for number in range(60):
        life.append(batch(str(number), 3, size=60 + number % 7, tag=(b"app", b"debug", b"\xff")[number % 3]))
    return life


def test_with_indexes_and_without(life: Life, tmp_path: Path) -> None:
    """Both count all messages; a segment that is damaged is left out, and the last one is read up to its end."""
    found, last = holdings_of(life.files), last_holding(life.files)
    assert last is not None
    assert [each.first for each in (*found, last)] == list_segments(life.files)
    assert sum(held.messages for each in (*found, last) for held in each.tags.values()) == 180
    assert {tag for each in found for tag in each.tags} == {"app", "debug", "\ufffd"}
    for each in found:
        assert each.disk_bytes == (tmp_path / segment_name(each.first)).stat().st_size
        assert abs(sum(each.share(held.size) for held in each.tags.values()) - each.disk_bytes) < 3
    make_indexes(life.files)
    path = tmp_path / segment_name(found[1].first)
    path.write_bytes(flipped(path.read_bytes(), 8 * 2000))
    assert holdings_of(life.files) == found, "nothing that has an index is read"
    (tmp_path / segment_name(found[1].first).replace("seg", "idx")).unlink()
    assert holdings_of(life.files) == [found[0], *found[2:]]


def test_what_has_expired_does_not_count(life: Life) -> None:
    """With an index or without, also if nothing else is left."""
    make_indexes(life.files)
    before = holdings_of(life.files)

    def has_expired(each: Batch) -> bool:
        return each.tag == b"debug"

    for number, (first, following) in enumerate(itertools.pairwise(list_segments(life.files))):
        name = rewrite(life.files, first, following, has_expired=has_expired if number else lambda _: True)
        assert name is not None
        assert life.writer.adopt(name)
    left = [
        {tag: held for tag, held in each.tags.items() if tag != "debug" and number}
        for number, each in enumerate(before)
    ]
    assert [each.tags for each in holdings_of(life.files)] == left
    make_indexes(life.files)
    assert [each.tags for each in holdings_of(life.files)] == left


def test_the_rows(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest first; beyond the limit, all others are one row without a tag."""
    rows = rows_of(holdings_of(life.files), last_holding(life.files))
    assert [row["tag"] for row in rows] == [row["tag"] for row in sorted(rows, key=lambda row: -row["bytes"])]
    assert [row["messages"] for row in rows] == [60] * 3
    first = min(row["since"] for row in rows)
    monkeypatch.setattr(holdings, "TAGS_MAX", 1)
    assert [(row["tag"], row["messages"]) for row in rows_of(holdings_of(life.files), last_holding(life.files))] == [
        (rows[0]["tag"], 60),
        (None, 120),
    ]
    assert first == min(row["since"] for row in rows_of(holdings_of(life.files), last_holding(life.files)))
    assert rows_of([], None) == []
