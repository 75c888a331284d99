"""hub.control.counting: the same numbers as reading everything, in short steps."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from hub.access import TagRights
from hub.control import reading
from hub.control.counting import Counted, Counting
from hub.journal.files import DiskFiles
from hub.journal.segment import list_segments
from hub.message import Message
from hub.query import indexed, indexing
from hub.query.counting import Table, Tables
from hub.query.indexing import make_indexes
from hub.query.query import Query
from hub.query.timeline import Timeline
from tests.hub.query.test_indexed import a_journal, filters_of, index_small, journals, needles_in, plain

RIGHTS = [TagRights(("*",)), TagRights(("app.web",)), TagRights(("*",), ("app.db", "mpsr.*")), TagRights()]
APART = (["tag", "level"], ["comm", "pid", "host"], ["tag", "level", "comm", "record.http.status", "record.n"])
NAMES = (["tag"], ["tag", "level"], ["comm"], ["pid", "tag"], ["level", "record.http.status"])


def counted(folder: Path, tally: Any, rights: TagRights, **filters: Any) -> int:
    """Count to the end; return the number of steps."""
    work = Counting(str(folder), Counted(rights=rights, **filters), tally)
    steps = 1
    while not work.step():
        steps += 1
    work.close()
    return steps


def readable(messages: list[Message], batches: dict[int, str], rights: TagRights) -> list[Message]:
    """Return those of *messages* whose own tag, and that of whose batch, may be read."""
    return [each for each in messages if rights.may_read(each.tag) and rights.may_read(batches[each.sequence])]


def test_the_same_as_reading_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On random journals, for random filters and rights: by level and time, by writer, by fields."""
    monkeypatch.setattr(indexing, "SEGMENT_BYTES_MIN", 0)
    monkeypatch.setattr(reading, "REST_S", 1.0)
    rng, compared = random.Random(16), 0
    for folder, times in journals(tmp_path, rng, 8):
        tags = {
            sequence: found.tag.decode() if hasattr(found, "tag") else "mpsr.loss"
            for found in indexed.batches(str(folder), Query(), 0)
            for sequence in range(found.sequence, found.sequence + found.count)
        }
        for _ in range(6):
            filters, rights = filters_of(rng, times), rng.choice(RIGHTS)
            expected = readable(plain(folder, Query(**filters), 0), tags, rights)
            for names in NAMES:
                table, whole = Table(names), Table(names)
                counted(folder, table, rights, **filters)
                whole.add(expected)
                got, wanted = ({row.values: row.messages for row in each.rows()} for each in (table, whole))
                _without_unreadable(names, got, wanted)
                assert got == wanted, (filters, rights.allow, names)
                compared += len(wanted)
            for names in APART:
                tables, apart = Tables([Table([name]) for name in names]), [Table([name]) for name in names]
                counted(folder, tables, rights, **filters)
                for one, other in zip(tables.tables, apart, strict=True):
                    other.add(expected)
                    got, wanted = ({row.values: row.messages for row in each.rows()} for each in (one, other))
                    _without_unreadable([*one.names], got, wanted)
                    assert got == wanted, (filters, rights.allow, names, one.names)
            timeline, bars = Timeline(), Timeline()
            counted(folder, timeline, rights, **filters)
            bars.add(expected)
            if rights.allow == ("*",) and not rights.deny:
                assert timeline.bars(40) == bars.bars(40)
    assert compared > 100


def test_what_is_stored_later_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it is in a segment that was sealed and indexed before the counting began."""
    index_small(monkeypatch)
    make_indexes(needles_in(tmp_path))
    for before in (1, 2, 20, 21, 60, 61):
        table, timeline = Table(["tag"]), Timeline()
        for tally in (table, timeline):
            counted(tmp_path, tally, RIGHTS[0], before=before)
        assert sum(row.messages for row in table.rows()) == before - 1
        assert sum(bar.messages for bar in timeline.bars(100)) == before - 1


def _without_unreadable(names: list[str], *tables: dict[Any, int]) -> None:
    """Leave out entries that cannot be read where an index counts them for a reader of their batch."""
    if names[0] == "tag":
        for table in tables:
            for values in [each for each in table if each[0] == "mpsr.loss.client"]:
                del table[values]


def test_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step ends when its time is over, after a batch at the latest."""
    rng = random.Random(3)
    folder = tmp_path / "j"
    folder.mkdir()
    while not list_segments(DiskFiles(str(folder))) or len(plain(folder, Query(), 0)) < 5:
        a_journal(folder, rng)
    monkeypatch.setattr(reading, "STEP_S", 0.0)
    one, all_at_once = Table(["pid"]), Table(["pid"])
    assert counted(folder, one, RIGHTS[0]) > 1
    monkeypatch.setattr(reading, "STEP_S", 100.0)
    assert counted(folder, all_at_once, RIGHTS[0]) == 1
    assert one.rows() == all_at_once.rows()
    for first in (plain(folder, Query(), 0)[0].received,):
        until = Table(["pid"])
        counted(folder, until, RIGHTS[0], until=first - 1)
        assert until.rows() == []
