"""hub.query.upkeep: the process that packs and indexes sealed segments."""

from __future__ import annotations

import io
import itertools
import os
import random
import sys
import time
from pathlib import Path

import pytest

from hub.journal import rewriting
from hub.journal.files import DiskFiles
from hub.journal.indexfile import list_indexes
from hub.journal.rewriting import first_of
from hub.journal.segment import Segment, list_segments
from hub.query import indexing, upkeep
from hub.query.indexing import missing
from hub.query.upkeep import main, pack_segments
from tests.hub.journal.world import Life, batch, read_all


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments are worth the work, too."""
    monkeypatch.setattr(indexing, "SEGMENT_BYTES_MIN", 0)
    monkeypatch.setattr(indexing, "_GROUP_BYTES_MIN", 100)
    monkeypatch.setattr(upkeep, "PACKED_BYTES_MIN", 0)
    monkeypatch.setattr(rewriting, "FRAME_BYTES", 500)


@pytest.fixture
def life(tmp_path: Path) -> Life:
    """A journal of several segments."""
    life = Life(DiskFiles(str(tmp_path)))
    for number in range(30):
        life.append(batch(str(number), 3, size=random.Random(number).randrange(60, 160)))
    return life


def answered(monkeypatch: pytest.MonkeyPatch, count: int) -> io.StringIO:
    """Answer the next process, which is this one, *count* times. Return what it says."""
    said = io.StringIO()
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n" * count))
    monkeypatch.setattr(sys, "stdout", said)
    return said


def are_packed(life: Life) -> list[bool]:
    found = []
    for first in list_segments(life.files):
        with Segment(life.files, first) as segment:
            found.append(segment.is_packed)
    return found


def test_the_process(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It packs and indexes what is sealed, once, and nothing small."""
    before = read_all(life.files)
    count = len(list_segments(life.files)) - 1
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    monkeypatch.setattr(upkeep, "PACKED_BYTES_MIN", 1 << 20)
    monkeypatch.setattr(indexing, "SEGMENT_BYTES_MIN", 1 << 20)
    said = answered(monkeypatch, count)
    main([str(tmp_path), "0"])
    assert (list_indexes(life.files.list()), said.getvalue()) == ([], "")

    monkeypatch.setattr(upkeep, "PACKED_BYTES_MIN", 0)
    monkeypatch.setattr(indexing, "SEGMENT_BYTES_MIN", 0)
    names: list[str] = []

    def adopt(name: str) -> bool:
        names.append(name)
        return life.writer.adopt(name)

    assert pack_segments(life.files, adopt)
    assert [first_of(name) for name in names] == list_segments(life.files)[:-1]
    assert are_packed(life) == [True] * count + [False]
    main([str(tmp_path), "0"])
    indexes = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.idx")}
    assert len(indexes) == count
    main([str(tmp_path), "0"])
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.idx")} == indexes
    assert said.getvalue() == ""
    assert read_all(life.files) == before


def test_without_an_answer(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub has ended: nothing more is done, and the next process removes the file that is left."""
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    said = answered(monkeypatch, 1)
    main([str(tmp_path), "0"])
    left = said.getvalue().split()
    assert [first_of(name) for name in left] == list_segments(life.files)[:2]
    assert {name for name in life.files.list() if name.endswith(".tmp")} == {*left}
    assert list_indexes(life.files.list()) == []
    newest = list_segments(life.files)[-2]
    said = answered(monkeypatch, 0)
    main([str(tmp_path), str(newest)])
    assert {name for name in life.files.list() if name.endswith(".tmp")} == {said.getvalue().strip()}
    assert first_of(said.getvalue().strip()) == newest


def test_a_hub_that_is_gone(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends without an error."""

    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", Broken())
    main([str(tmp_path), "0"])
    assert are_packed(life) == [False] * len(list_segments(life.files))


def test_a_process_that_may_not_be_idle(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It pauses three times as long as it works."""
    slept: list[float] = []

    def forbidden(*_: object) -> None:
        raise PermissionError

    answered(monkeypatch, 100)
    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    monkeypatch.setattr(time, "process_time", itertools.count(0.0, 0.006).__next__)
    monkeypatch.setattr(time, "sleep", slept.append)
    main([str(tmp_path), "0"])
    assert len(slept) > 10
    assert slept == [pytest.approx(3 * 0.012)] * len(slept)
    assert missing(life.files) == []
