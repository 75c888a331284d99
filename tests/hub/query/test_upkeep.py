"""hub.query.upkeep: the process that packs and indexes sealed segments."""

from __future__ import annotations

import fnmatch
import io
import itertools
import os
import random
import subprocess
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
from hub.journal.tagrules import Retention, TagRule
from hub.journal.verify import verify
from hub.message import Batch
from hub.query import indexing, upkeep
from hub.query.holdings import holdings_of, last_holding, rows_of
from hub.query.indexing import make_indexes, missing
from hub.query.upkeep import ROOM, TAGS, Expiry, leave_out, pack_segments, work
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import RETAIN_BYTES, Life, Producers, batch, moments, read_all
from tests.support import PATIENCE_S


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
    work([str(tmp_path), "0"])
    assert (list_indexes(life.files.list()), said.getvalue()) == ([], "")

    monkeypatch.setattr(upkeep, "PACKED_BYTES_MIN", 0)
    monkeypatch.setattr(indexing, "SEGMENT_BYTES_MIN", 0)
    names: list[str] = []

    def tell(line: str) -> None:
        names.append(line)
        adopting(life)(line)

    pack_segments(life.files, tell)
    assert [first_of(name) for name in names[1::2]] == list_segments(life.files)[:-1]
    assert all(line.startswith(ROOM) for line in names[::2])
    assert are_packed(life) == [True] * count + [False]
    work([str(tmp_path), "0"])
    indexes = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.idx")}
    assert len(indexes) == count
    work([str(tmp_path), "0"])
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.idx")} == indexes
    assert said.getvalue() == ""
    assert read_all(life.files) == before


def test_without_an_answer(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub has ended: nothing more is done, and the next process removes the file that is left."""
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    said = answered(monkeypatch, 1)
    work([str(tmp_path), "0"])
    room, name = said.getvalue().splitlines()
    assert (first_of(name), room) == (list_segments(life.files)[0], f"{ROOM}{(tmp_path / name).stat().st_size}")
    assert {name for name in life.files.list() if name.endswith(".tmp")} == {name}
    assert list_indexes(life.files.list()) == []
    newest = list_segments(life.files)[-2]
    said = answered(monkeypatch, 1)
    work([str(tmp_path), str(newest)])
    _, name = said.getvalue().splitlines()
    assert {name for name in life.files.list() if name.endswith(".tmp")} == {name}
    assert first_of(name) == newest
    said = answered(monkeypatch, 0)
    work([str(tmp_path), "0"])
    assert said.getvalue().startswith(ROOM), "there may be no room"
    assert not [name for name in life.files.list() if name.endswith(".tmp")]


WITHOUT_END = "u.make_indexes = lambda *_: (print('begun', flush=True), time.sleep(1000)); "


@pytest.mark.parametrize("ends", ["never", "before", "meanwhile"])
def test_it_ends_with_the_hub(life: Life, tmp_path: Path, ends: str) -> None:
    """Without a hub the process ends at once, although it has nothing to hand over yet, also in a step without end."""
    patches = "import time; import hub.query.indexing as i, hub.query.upkeep as u; i.SEGMENT_BYTES_MIN = 0; "
    patches += WITHOUT_END if ends == "meanwhile" else "i._GROUP_BYTES_MIN = 100; "
    command = [sys.executable, "-c", f"{patches}u.main()", str(tmp_path), "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        if ends == "meanwhile":
            assert process.stdout.readline() == b"begun\n"
        if ends != "never":
            process.stdin.close()
            process.stdin = None
        assert process.wait(PATIENCE_S) == 0
        assert process.stdout.read() == b""
    count = len(list_segments(life.files)) - 1
    assert len(list_indexes(life.files.list())) == (count if ends == "never" else 0)


def test_a_hub_that_is_gone(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process ends without an error."""

    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    monkeypatch.setattr(sys, "stdout", Broken())
    work([str(tmp_path), "0"])
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
    work([str(tmp_path), "0"])
    assert len(slept) > 10
    assert slept == [pytest.approx(3 * 0.012)] * len(slept)
    assert missing(life.files) == []


class Model:
    """What was stored, in plain lists, and which of it the rules of retention let go."""

    def __init__(self, rules: Sequence[TagRule], age_s: float | None) -> None:
        self.rules = rules
        self.age_s = age_s
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
            mine = {number: [row for row in here if self._rule_of(row[1]) == number] for number in {*self._numbers()}}
            for number, rows in mine.items():
                if not rows:
                    continue
                age_s, size = self.age_s, None
                if number is not None:
                    taken[number] += sum(self.sizes[row[0]] for row in rows) * disk // whole
                    age_s, size = self.rules[number].age_s or self.age_s, self.rules[number].size
                is_old = age_s is not None and max(row[2] for row in rows) < now - age_s * NS
                is_over = size is not None and number is not None and taken[number] > size
                if (is_old or is_over) and following <= needed_from:
                    self.gone.update(row[0] for row in rows)

    def _numbers(self) -> set[int | None]:
        """Return the rules; None is that of all other messages."""
        return {None, *range(len(self.rules))}

    def _rule_of(self, tag: str) -> int | None:
        found = [number for number, rule in enumerate(self.rules) if fnmatch.fnmatchcase(tag, rule.tag)]
        return None if tag == "mpsr.loss" or not found else found[0]

    def left(self) -> list[int]:
        return [sequence for sequence, _, _ in self.messages if sequence not in self.gone]


def adopting(life: Life) -> Callable[[str], object]:
    """Return what does for the process what the hub does: make room, and put each file in place."""

    def tell(line: str) -> None:
        if line.startswith(ROOM):
            life.writer.make_room(int(line.removeprefix(ROOM)))
        else:
            assert life.writer.adopt(line)

    return tell


def check_model(files: Files, model: Model, *, may_lack: set[int]) -> None:
    """Assert that everything is there once, in order, except what is gone, and at most *may_lack* in addition."""
    sequences = [item.sequence for item in read_all(files)]
    assert sequences == [sequence for sequence in model.left() if sequence in sequences]
    assert {*model.left()} - {*sequences} <= may_lack
    found = verify(files)
    assert found.faults == ()
    first = list_segments(files)[0]
    everything = sum(model.ends[sequence] - sequence for sequence, _, _ in model.messages if sequence >= first)
    assert found.messages + found.expired == everything


def random_retention(rng: random.Random, *, is_longer: bool) -> Retention:
    """Return rules. If *is_longer*, the last one keeps the audit log longer than other messages are kept."""
    rules = [
        TagRule("debug.b", age_s=rng.choice([0.3, 0.6]), size=rng.choice([None, 500])),
        TagRule("debug.*", size=rng.choice([200, 400])),
        TagRule("*", age_s=rng.choice([0.8, 1.2])),
    ][rng.randrange(2) :]
    return Retention((*rules[:-1], TagRule("audit", age_s=1.1)), 0.4) if is_longer else Retention((*rules,))


@pytest.mark.parametrize("seed", range(4))
def test_rules_against_a_model(seed: int) -> None:
    """
    In random histories, exactly what the rules let go is left out, again and again. When the hub is killed at a step of
    it, everything else is there once.
    """
    rng = random.Random(seed)
    tags = [b"debug.a", b"debug.b", b"audit", b"app", b"mpsr.loss"]
    retention = random_retention(rng, is_longer=seed % 2 > 0)
    disk, model, now = ForgettingFiles(), Model(retention.rules, retention.age_s), 1_700_000_000 * NS

    def clock() -> int:
        return now

    def living(disk: ForgettingFiles) -> Life:
        life = Life(disk, clock=clock, segment_bytes=2500)
        life.writer.retain(RETAIN_BYTES, retention.longest_s)
        life.writer._segment_bytes = 2500
        return life

    life = living(disk)
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
        expiry = Expiry(retention, now, needed_from)

        def expire(life: Life = life, disk: ForgettingFiles = disk, expiry: Expiry = expiry) -> None:
            leave_out(disk, adopting(life), expiry)
            life.writer.look_for_indexes()

        found = moments(disk, Producers(), expire)
        for moment in rng.sample(found, min(len(found), 12)):
            check_model(moment.disk, model, may_lack=fresh)
            again = living(moment.disk)
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
            life = living(disk)
    assert model.gone
    assert not retention.is_longer or "audit" in {
        tag for sequence, tag, _ in model.messages if sequence not in model.gone
    }
    assert kills > 20


def test_there_is_room_for_what_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """At no step of packing and leaving out do segments, old and new, take more than the journal may."""
    disk = ForgettingFiles()
    life = Life(disk, segment_bytes=2500, retain_bytes=20_000)
    for number in range(80):
        life.append(batch(str(number), 3, size=100, tag=(b"app", b"debug")[number % 2]))
    assert list_segments(disk)[0] > 1, "it is full"
    taken: list[int] = []

    def note(step: str) -> None:
        names, files = disk.contents()
        taken.append(sum(len(files[number]) for name, number in names.items() if ".seg" in name))

    disk.watch = note
    monkeypatch.setattr(rewriting, "SHRINK", 100)
    pack_segments(disk, adopting(life))
    expiry = Expiry(Retention((TagRule("debug", size=1),)), 0, NOTHING_NEEDED)
    leave_out(disk, adopting(life), expiry)
    assert sum(are_packed(life)) > 4
    assert verify(disk).expired > 0
    assert max(taken) <= 20_000


def test_the_process_expires(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With rules it leaves out, and says what each tag takes at the end."""
    monkeypatch.setattr(os, "sched_setscheduler", lambda *_: None)
    said = answered(monkeypatch, 100)
    work([str(tmp_path), str(SEQUENCE_MAX), msgspec.json.encode(Expiry(Retention(), 0, 0)).decode()])
    rows = msgspec.json.decode(said.getvalue().removeprefix(TAGS))
    assert [(row["tag"], row["messages"]) for row in rows] == [("app", 90)]
    expiry = Expiry(Retention((TagRule("app", size=1),)), 0, list_segments(life.files)[3])
    said = answered(monkeypatch, 100)
    work([str(tmp_path), str(SEQUENCE_MAX), msgspec.json.encode(expiry).decode()])
    names = [line for line in said.getvalue().splitlines()[:-1] if not line.startswith(ROOM)]
    assert [first_of(name) for name in names] == list_segments(life.files)[:3]
    said = answered(monkeypatch, 0)
    work([str(tmp_path), str(SEQUENCE_MAX), msgspec.json.encode(expiry).decode()])
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
