"""hub.query.indexing: makes the indexes of a journal, over kills and power cuts too."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import Counter

import pytest

from hub.journal.indexfile import VERSION, index_name, index_size, list_indexes, open_index
from hub.journal.reader import Reader
from hub.journal.segment import list_segments, segment_name
from hub.message import Message
from hub.query import indexing, level
from hub.query.index import ALL_TAGS, SegmentIndex
from hub.query.indexing import make_indexes, missing, sections_of
from hub.query.level import NO_RANK, rank_of
from hub.query.query import Query
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import NS, Life, at
from tests.hub.query.test_query import batch_of


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small segments have indexes, too, of several groups."""
    monkeypatch.setattr(indexing, "SEGMENT_BYTES_MIN", 0)
    monkeypatch.setattr(indexing, "_GROUP_BYTES_MIN", 100)


def fill(life: Life, rng: random.Random, count: int = 30) -> None:
    """Append messages of several tags and levels, readable or not, and blocks without messages."""
    for number in range(count):
        levels = [rng.choice(["info", "WARN", 3, None, "none"]) for _ in range(rng.randrange(1, 6))]
        records = [{"level": each, "n": number, "message": rng.choice(["pear", "plum"])} for each in levels]
        life.append(batch_of(rng.choice([b"app.web", b"app.db", b"\xff"]), *records, *rng.choice([(), (7,), ([],)])))
        if rng.random() < 0.2:
            life.append(at({b"x": number}))


def messages_of(files: ForgettingFiles, first: int, following: int) -> list[Message]:
    found = Query().messages(Reader(files, after=first - 1).read())
    return [message for message in found if first <= message.sequence < following]


def indexes(files: ForgettingFiles) -> list[SegmentIndex]:
    firsts = list_segments(files)
    return [SegmentIndex(files, *pair) for pair in itertools.pairwise(firsts)]


def test_counts_are_those_of_the_messages() -> None:
    """By tag, level and time, unreadable entries included; those of all tags together are the same."""
    rng, disk = random.Random(2), ForgettingFiles()
    fill(Life(disk, segment_bytes=1500), rng)
    make_indexes(disk)
    assert len(indexes(disk)) > 3
    for index in indexes(disk):
        counts = index.counts()
        assert counts is not None
        messages = messages_of(disk, index.first, index.following)
        expected, found, together = Counter[object](), Counter[object](), Counter[object]()
        for message in messages:
            rank = rank_of(message.record)
            expected[message.tag, NO_RANK if rank is None else rank, message.received // NS // counts.step_s] += 1
        for series in counts.series:
            for step, count in series.each():
                moment = counts.begin_s // counts.step_s + step
                if series.tag == ALL_TAGS:
                    together[series.rank, moment] += count
                else:
                    found[counts.tags[series.tag], series.rank, moment] += count
        assert found == expected
        assert sum(together.values()) == len(messages)
        assert (counts.first_received, counts.last_received) == (messages[0].received, messages[-1].received)


@pytest.mark.parametrize(("hours", "step"), [(0, 1), (0.2, 5), (0.9, 15), (2, 60), (100, 60)])
def test_steps_become_longer(hours: float, step: int) -> None:
    """A segment that covers a long time has longer steps."""
    disk, now = ForgettingFiles(), 1_700_000_000 * NS
    life = Life(disk, segment_bytes=2000, clock=lambda: now)
    for _ in range(11):
        life.append(batch_of(b"app", {"pad": "x" * 30}))
        now += int(hours * 3600 * NS) // 10
    life.append(batch_of(b"app", {"pad": "x" * 3000}))
    (index,) = indexes(disk)
    make_indexes(disk)
    counts = index.counts()
    assert counts is not None
    assert (counts.step_s, sum(series.messages for series in counts.series)) == (step, 22)


def test_damage_is_not_indexed() -> None:
    """A segment with a damaged block or header, or that lacks messages at its end, is read itself."""
    for damage in range(4):
        disk = ForgettingFiles()
        fill(Life(disk, segment_bytes=1500), random.Random(3))
        first, second, third = list_segments(disk)[:3]
        assert sections_of(disk, first, second) is not None
        if damage == 3:
            disk.remove(segment_name(second))
            assert sections_of(disk, first, third) is None
            continue
        data = disk.read(fd := disk.open(segment_name(first)), 0, 1 << 20)
        disk.close(fd)
        at_byte = (20, len(data) // 2, len(data) - 1)[damage]
        disk.remove(segment_name(first))
        fd = disk.create(segment_name(first), len(data))
        disk.write(fd, 0, (data[:at_byte] + bytes([data[at_byte] ^ 255]) + data[at_byte + 1 :],))
        disk.close(fd)
        assert sections_of(disk, first, second) is None


def test_a_kill_or_a_power_cut_at_any_step() -> None:
    """What is found afterwards counts only if it is complete; the next run makes what is missing, and only that."""
    disk = ForgettingFiles()
    fill(Life(disk, segment_bytes=1500), random.Random(4))
    right = {index.first: sections_of(disk, index.first, index.following) for index in indexes(disk)}
    steps: list[ForgettingFiles] = []
    working = disk.after_kill()
    working.watch = lambda step: steps.append(working.after_kill())
    make_indexes(working)
    assert len(steps) >= 3 * len(right) > 9
    rng = random.Random(5)
    cuts = [cut for step in steps[::7] for cut in step.power_cuts(rng, 5)]
    for left in [*steps, *cuts]:
        for index in indexes(left):
            opened = open_index(left, index.first, index.following)
            if opened is not None:
                with opened:
                    found = [opened.section(number) for number in range(3)]
                assert all(each in (None, same) for each, same in zip(found, right[index.first] or [], strict=True))
    for left in steps[::5]:
        make_indexes(left)
        assert {first for _, first in list_indexes(left.list())} == {*right}
        assert all(index.counts() is not None for index in indexes(left))
        assert missing(left) == []


def test_indexes_without_a_segment_are_removed() -> None:
    """So are those that do not count, which are made again."""
    disk = ForgettingFiles()
    fill(Life(disk, segment_bytes=1500), random.Random(6))
    make_indexes(disk)
    first, second, third = list_segments(disk)[:3]
    disk.remove(segment_name(first))
    disk.remove(index_name(second))
    disk.close(disk.create(index_name(second), 5))
    disk.close(disk.create(f"{index_name(third)}.tmp", 5))
    damaged = disk.open(index_name(third))
    disk.write(damaged, index_size(disk, third) - 1, (b"?",))
    disk.close(damaged)
    make_indexes(disk)
    names = [name for name, _ in list_indexes(disk.list())]
    assert sorted(names) == [index_name(each) for each in list_segments(disk)[:-1]]
    for index in indexes(disk):
        assert index.counts() is not None
        assert index.wanted(Query(grep="pear")) is not None


def test_levels_have_a_version() -> None:
    """Indexes hold ranks: if the names of levels change, the version of the index has to change, and this test."""
    meaning = repr((level.LEVELS, level._NAMES, level.KEYS, level._SYSLOG, level._PYTHON, level._PINO, level._OTEL))
    assert (VERSION, hashlib.sha256(meaning.encode()).hexdigest()[:16]) == (3, "bc98a78d28365eb1")


def test_a_segment_that_expires_while_it_is_indexed() -> None:
    """Its index does not stay behind."""
    disk = ForgettingFiles()
    fill(Life(disk, segment_bytes=1500), random.Random(9))
    newest = list_segments(disk)[-2]

    def expire(step: str) -> None:
        if step == "rename" and segment_name(newest) in disk.list():
            disk.remove(segment_name(newest))

    disk.watch = expire
    make_indexes(disk)
    assert newest not in [first for _, first in list_indexes(disk.list())]
