"""hub.query.upkeep: the process that packs and indexes sealed segments."""

from __future__ import annotations

import fnmatch
import functools
import io
import itertools
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from hub.entries import NS
from hub.journal import rewriting
from hub.journal.files import DiskFiles, Files
from hub.journal.indexfile import list_indexes
from hub.journal.retention import NOTHING_NEEDED
from hub.journal.rewriting import blocks_of, first_of, rewrite
from hub.journal.segment import SEQUENCE_MAX, Segment, list_segments
from hub.journal.tagrules import TagRule
from hub.journal.verify import verify
from hub.message import Batch
from hub.query import indexing, upkeep
from hub.query.holdings import holdings_of, last_holding, rows_of
from hub.query.indexing import make_indexes, missing
from hub.query.upkeep import TAGS, Expiry, leave_out, main, pack_segments
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import Life, Producers, batch, moments, read_all


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


class Model:
    """What was stored, in plain lists, and which of it the rules of retention let go."""

    def __init__(self, rules: Sequence[TagRule]) -> None:
        self.rules = rules
        self.messages: list[tuple[int, str, int]] = []  # first sequence of a batch, tag, time of receipt
        self.ends: dict[int, int] = {}
        self.sizes: dict[int, int] = {}
        self.gone = set[int]()

    def add(self, sequence: int, each: Batch, received: int, size: int) -> None:
        self.messages.append((sequence, each.tag.decode(), received))
        self.ends[sequence] = sequence + each.count
        self.sizes[sequence] = size

    def expire(self, files: Files, now: int, needed_from: int) -> None:
        """Let go what the rules allow, segment by segment, the newest first."""
        taken = [0] * len(self.rules)
        for first, following in reversed([*itertools.pairwise(list_segments(files))]):
            with Segment(files, first) as segment:
                disk = segment.file.disk_size
            here = [row for row in self.messages if first <= row[0] < following and row[0] not in self.gone]
            whole = sum(self.sizes[row[0]] for row in here)
            for number, rule in enumerate(self.rules):
                mine = [row for row in here if self._rule_of(row[1]) == number]
                if not mine:
                    continue
                taken[number] += sum(self.sizes[row[0]] for row in mine) * disk // whole
                is_old = rule.age_s is not None and max(row[2] for row in mine) < now - rule.age_s * NS
                is_over = rule.size is not None and taken[number] > rule.size
                if (is_old or is_over) and following <= needed_from:
                    self.gone.update(row[0] for row in mine)

    def _rule_of(self, tag: str) -> int | None:
        found = [number for number, rule in enumerate(self.rules) if fnmatch.fnmatchcase(tag, rule.tag)]
        return None if tag == "mpsr.loss" or not found else found[0]

    def left(self) -> list[int]:
        return [sequence for sequence, _, _ in self.messages if sequence not in self.gone]


def adopting(life: Life) -> Callable[[str], bool]:
    """Return what puts each file in place that is handed over, and answers."""
    return lambda name: life.writer.adopt(name) or True


def check_model(files: Files, model: Model, *, may_lack: set[int]) -> None:
    """Assert that everything is there once, in order, except what is gone, and at most *may_lack* in addition."""
    sequences = [item.sequence for item in read_all(files)]
    assert sequences == [sequence for sequence in model.left() if sequence in sequences]
    assert {*model.left()} - {*sequences} <= may_lack
    found = verify(files)
    assert found.faults == ()
    everything = sum(model.ends[sequence] - sequence for sequence, _, _ in model.messages)
    assert found.messages + found.expired == everything


@pytest.mark.parametrize("seed", range(3))
def test_rules_against_a_model(seed: int) -> None:
    """
    In random histories, exactly what the rules let go is left out, again and again. When the hub is killed at a step of
    it, everything else is there once.
    """
    rng = random.Random(seed)
    tags = [b"debug.a", b"debug.b", b"audit", b"app", b"mpsr.loss"]
    rules = [
        TagRule("debug.b", age_s=rng.choice([0.3, 0.6]), size=rng.choice([None, 500])),
        TagRule("debug.*", size=rng.choice([200, 400])),
        TagRule("*", age_s=rng.choice([0.8, 1.2])),
    ][rng.randrange(2) :]
    disk, model, now = ForgettingFiles(), Model(rules), 1_700_000_000 * NS

    def clock() -> int:
        return now

    life = Life(disk, clock=clock, segment_bytes=2500)
    kills = 0
    for _ in range(5):
        for _ in range(rng.randrange(10, 25)):
            now += rng.randrange(NS // 50)
            each = batch(str(now), rng.randrange(1, 4), size=rng.randrange(20, 150), tag=rng.choice(tags))
            end = life.append(each).last_sequence + 1
            with Segment(disk, list_segments(disk)[-1]) as segment:
                block = [*blocks_of(segment, None)][-1]
            model.add(end - each.count, each, now, block.end - block.offset)
        needed_from = life.writer.needed_from = rng.choice([NOTHING_NEEDED, rng.randrange(1, end)])
        pack_segments(disk, adopting(life))
        make_indexes(disk)
        before = {*model.gone}
        model.expire(disk, now, needed_from)
        fresh = model.gone - before
        model.gone = before
        expiry = Expiry((*rules,), now, needed_from)
        found = moments(disk, Producers(), functools.partial(leave_out, disk, adopting(life), expiry))
        for moment in rng.sample(found, min(len(found), 12)):
            check_model(moment.disk, model, may_lack=fresh)
            again = Life(moment.disk, clock=clock, segment_bytes=2500)
            assert not [name for name in moment.disk.list() if ".seg." in name]
            check_model(again.files, model, may_lack=fresh)
            kills += 1
        model.gone |= fresh
        check_model(disk, model, may_lack=set())
        assert [item.sequence for item in read_all(disk)] == model.left()
        left = Counter[str]()
        for sequence, tag, _ in model.messages:
            left[tag] += 0 if sequence in model.gone else model.ends[sequence] - sequence
        assert {row["tag"]: row["messages"] for row in rows_of(holdings_of(disk), last_holding(disk))} == +left
        if rng.randrange(2):
            disk = disk.after_kill()
            life = Life(disk, clock=clock, segment_bytes=2500)
    assert model.gone
    assert kills > 20


def test_the_process_expires(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rules it leaves out, and says what each tag takes at the end."""
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    said = answered(monkeypatch, 100)
    main([str(tmp_path), str(SEQUENCE_MAX), msgspec.json.encode(Expiry((), 0, 0)).decode()])
    rows = msgspec.json.decode(said.getvalue().removeprefix(TAGS))
    assert [(row["tag"], row["messages"]) for row in rows] == [("app", 90)]
    expiry = Expiry((TagRule("app", size=1),), 0, list_segments(life.files)[3])
    said = answered(monkeypatch, 100)
    main([str(tmp_path), str(SEQUENCE_MAX), msgspec.json.encode(expiry).decode()])
    names = said.getvalue().splitlines()[:-1]
    assert [first_of(name) for name in names] == list_segments(life.files)[:3]
    said = answered(monkeypatch, 0)
    main([str(tmp_path), str(SEQUENCE_MAX), msgspec.json.encode(expiry).decode()])
    assert len(said.getvalue().splitlines()) == 1, "without an answer, it ends"


def test_what_a_reader_needs_now_is_not_left_out(life: Life) -> None:
    """The hub does not put in place what was made before it was needed."""
    first, following = list_segments(life.files)[:2]
    name = rewrite(life.files, first, following, has_expired=lambda _: True)
    assert name is not None
    life.writer.needed_from = following - 1
    before = read_all(life.files)
    assert not life.writer.adopt(name)
    assert (name in life.files.list(), read_all(life.files)) == (False, before)
    name = rewrite(life.files, first, following)
    assert name is not None
    assert life.writer.adopt(name), "packing leaves nothing out"
    name = rewrite(life.files, first, following, has_expired=lambda _: True)
    assert name is not None
    life.writer.needed_from = following
    assert life.writer.adopt(name)
