"""hub.query.indexed, hub.query.index: what is found with indexes is what is found without."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub import entries as codec
from hub.journal.files import DiskFiles
from hub.journal.indexfile import index_name
from hub.journal.reader import open_reader
from hub.journal.rewriting import rewrite
from hub.journal.segment import SEQUENCE_MAX, list_segments, segment_name
from hub.message import Batch, Message
from hub.query import backward as backward_module
from hub.query import index as index_module
from hub.query import indexing
from hub.query.backward import backward
from hub.query.condition import Condition
from hub.query.counting import Table
from hub.query.index import Counts, SegmentIndex, Words, pack_numbers, words_of
from hub.query.indexed import batches, counted, stretches, wanted_after, wanted_ranges
from hub.query.indexing import make_indexes
from hub.query.query import Query
from hub.query.timeline import Timeline
from hub.wire.sysloglines import encode_entry
from tests.hub.journal.world import Life, at, flipped
from tests.hub.query.test_query import batch_of

WORDS = [
    "timeout",
    "refused",
    "REFUSED",
    "stra\u00dfe",
    "cla\u017f\u017f",
    "Kelvin",
    "a-b",
    "x1y2",
    "payment_id",
    "\u212aey",
]


def index_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let also small segments have an index, with small groups of blocks."""
    monkeypatch.setattr(indexing, "SEGMENT_BYTES_MIN", 0)
    monkeypatch.setattr(indexing, "_GROUP_BYTES_MIN", 150)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    index_small(monkeypatch)


def a_record(rng: random.Random) -> Any:
    """Return a record as they come: texts, numbers, nested, and some that cannot be read."""
    record: dict[str, Any] = {"message": " ".join(rng.choices(WORDS, k=rng.randrange(3)))}
    if rng.random() < 0.5:
        record["level"] = rng.choice(["info", "error", "warn", 3])
    if rng.random() < 0.3:
        record["http"] = {"status": rng.choice([200, "500", None, True]), "path": rng.choice(WORDS)}
    if rng.random() < 0.2:
        record["list"] = [rng.choice(WORDS), b"refused"]
    return record if rng.random() < 0.97 else 7


def a_journal(folder: Path, rng: random.Random) -> None:
    """Make a journal of several segments, with blocks without messages, lines of syslog and damage, and indexes."""
    files = DiskFiles(str(folder))
    life = Life(files, segment_bytes=rng.choice([600, 2500]))
    for number in range(rng.randrange(40)):
        tag = rng.choice([b"app.web", b"app.db", b"rare"] if rng.random() < 0.2 else [b"app.web"])
        life.append(batch_of(tag, *(a_record(rng) for _ in range(rng.randrange(1, 5)))))
        if rng.random() < 0.1:
            life.append(at({b"x": number}))
        if rng.random() < 0.1:
            line = encode_entry(f"<{rng.randrange(190)}>Oct 11 22:14:15 host su[7]: {rng.choice(WORDS)}".encode())
            life.append(Batch(b"syslog", codec.join([line], 1), 1))
    life.writer.close()
    make_indexes(files)
    for first in list_segments(files)[:-1]:
        path, chance = folder / segment_name(first), rng.random()
        if chance < 0.05:
            path.unlink()
        elif chance < 0.1:
            (folder / index_name(first)).unlink(missing_ok=True)
        elif chance < 0.2 and (folder / index_name(first)).exists():
            index = folder / index_name(first)
            index.write_bytes(flipped(index.read_bytes(), rng.randrange(8 * index.stat().st_size)))


def filters_of(rng: random.Random, times: list[int]) -> dict[str, Any]:
    """Return random filters."""
    filters: dict[str, Any] = {}
    if rng.random() < 0.4:
        filters["tag"] = rng.choice(["app.*", "rare", "!app.web", "mpsr.loss*", "syslog", "none"])
    if rng.random() < 0.3:
        filters["level"] = rng.choice(["info", "error", "critical"])
    if rng.random() < 0.5:
        needles = [
            *WORDS,
            "efus",
            "nowhere",
            "timeout|refused",
            "(pay|key)",
            "class",
            "kelvin",
            "ey",
            "refused.*x",
            "error",
        ]
        filters["grep"] = rng.choice(needles)
        filters["ignore_case"] = rng.random() < 0.5
        filters["invert_match"] = rng.random() < 0.2
    if rng.random() < 0.4:
        conditions = [
            "http.status=500",
            "http.status>300",
            "message=refused",
            "level=error",
            "none=1",
            "http.path!=x1y2",
        ]
        conditions += ["list=['a-b', b'refused']", "http.status=true", "facility=auth", "http.path=x1y2"]
        filters["where"] = [Condition(rng.choice(conditions))]
    if times and rng.random() < 0.3:
        filters[rng.choice(["since", "until"])] = rng.choice(times) + rng.randrange(-1, 2)
    return filters


def plain(folder: Path, query: Query, after: int) -> list[Message]:
    """Return what is found without indexes."""
    with closing(open_reader(str(folder), after=after, since=query.since)) as reader:
        return [message for message in query.messages(reader.read()) if message.sequence > after]


def journals(folder: Path, rng: random.Random, count: int) -> Iterator[tuple[Path, list[int]]]:
    """Make journals one after the other; yield those that are not empty, and when their messages were received."""
    for number in range(count):
        each = folder / str(number)
        each.mkdir()
        a_journal(each, rng)
        if list_segments(DiskFiles(str(each))):
            yield each, [message.received for message in plain(each, Query(), 0)]


def table(parts: Iterator[Any], query: Query) -> list[tuple[Any, ...]]:
    counts = Table(["tag", "level"])
    for part in parts:
        if isinstance(part, Counts):
            counts.add_counts(part, query)
        else:
            counts.add(part)
    return [(*row.values, row.messages) for row in counts.rows()]


def bars(parts: Iterator[Any], query: Query) -> list[Any]:
    timeline = Timeline()
    for part in parts:
        if isinstance(part, Counts):
            timeline.add_counts(part, query)
        else:
            timeline.add(part)
    return timeline.bars(40)


def decoded(parts: Iterator[Any]) -> list[Message]:
    """Return the messages of what was read."""
    return [message for part in parts if not isinstance(part, Counts) for message in part]


def test_the_same_as_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On random journals and for random filters, forward, backward and counted."""
    rng, indexed = random.Random(15), 0
    for folder, times in journals(tmp_path, rng, 12):
        for _ in range(10):
            query = Query(**filters_of(rng, times))
            after = rng.choice([0, 0, rng.randrange(len(times) + 2)])
            expected = plain(folder, query, after)
            found = wanted_after(query, batches(str(folder), query, after), after)
            assert [message for group in found for message in group] == expected
            stretches = [[*each] for each in backward(str(folder), query, after=after)][::-1]
            with monkeypatch.context() as without:
                without.setattr(backward_module, "wanted_ranges", lambda *given: [(given[2], SEQUENCE_MAX)])
                expected_stretches = [[*each] for each in backward(str(folder), query, after=after)][::-1]
            assert [*itertools.chain(*stretches)] == [*itertools.chain(*expected_stretches)]
            assert table(counted(str(folder), query, after), query) == table(iter([expected]), query)
            assert bars(counted(str(folder), query, after), query) == bars(iter([expected]), query)
            indexed += any(isinstance(part, Counts) for part in counted(str(folder), query, after))
    assert indexed > 5


def test_what_cannot_match_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Segments without the text, the tag or the level are not opened for reading, and groups are passed over."""
    files = DiskFiles(str(tmp_path))
    life = Life(files, segment_bytes=4000)
    for number in range(100):
        rare = {"message": "a needle", "level": "error"} if number == 30 else {"message": "hay", "level": "info"}
        life.append(batch_of(b"rare" if number == 30 else b"app", {"pad": "x" * 100, **rare}))
    life.writer.close()
    make_indexes(files)
    firsts = list_segments(files)
    assert len(firsts) > 3
    for query in (
        Query(grep="needle"),
        Query(level="error"),
        Query(tag="rare"),
        Query(where=[Condition("message=a needle")]),
    ):
        read = [each.sequence for each in batches(str(tmp_path), query, 0) if each.sequence < firsts[-1]]
        assert 31 in read
        assert len(read) < 5
    ranges = [wanted_ranges(files, Query(grep="needle"), *pair) for pair in itertools.pairwise(firsts)]
    ((begin, end),) = itertools.chain(*ranges)
    assert begin <= 31 < end <= begin + 5
    assert wanted_ranges(files, Query(), firsts[0], firsts[1]) == [(firsts[0], SEQUENCE_MAX)]
    assert wanted_ranges(files, Query(grep="needle"), firsts[-1], None) == [(firsts[-1], SEQUENCE_MAX)]


def test_a_period_reads_no_more_than_its_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index of a later segment is looked at either, and in the middle of a segment no earlier group is read."""
    files = needles_in(tmp_path)
    make_indexes(files)
    firsts, times = list_segments(files), [message.received for message in plain(tmp_path, Query(), 0)]
    asked: list[int] = []
    wanted = SegmentIndex.wanted

    def noted(index: SegmentIndex, query: Query) -> Any:
        asked.append(index.first)
        return wanted(index, query)

    monkeypatch.setattr(SegmentIndex, "wanted", noted)
    begin = firsts[3] + 3  # in the middle of a segment
    query = Query(since=times[begin - 1], until=times[begin])
    read = [*itertools.takewhile(lambda found: not query.is_after(found), batches(str(tmp_path), query, 0))]
    assert {begin, begin + 1} <= {found.sequence for found in read}
    assert len(read) < firsts[4] - firsts[3]
    assert asked == [firsts[3]]
    asked.clear()
    query = Query(grep="needle")
    assert next(batches(str(tmp_path), query, begin)).sequence == begin + 1
    assert asked == [firsts[3]]
    asked.clear()
    parts = [(each.end, [*each.batches]) for each in stretches(str(tmp_path), query, 0, below=firsts[2])]
    assert [found.sequence for _, some in parts for found in some] == [*range(1, firsts[2])]
    assert parts[-1][0] == firsts[2]
    assert asked == firsts[:2]


def needles_in(folder: Path) -> DiskFiles:
    """Make a journal of 60 messages in several segments, without indexes."""
    files = DiskFiles(str(folder))
    life = Life(files, segment_bytes=1000)
    for number in range(60):
        life.append(batch_of(b"app", {"message": f"needle {number}"}))
    return files


def test_a_segment_that_expires_meanwhile(tmp_path: Path) -> None:
    """It is reported as a gap, once, and reading goes on behind it."""
    files = needles_in(tmp_path)
    make_indexes(files)
    firsts = list_segments(files)
    query = Query(grep="needle")
    reading = query.messages(batches(str(tmp_path), query, 0))
    begun = [next(reading)]
    for first in firsts[:3]:
        (tmp_path / segment_name(first)).unlink()
    found = [*begun, *reading]
    sequences = [message.sequence for message in found if message.tag == "app"]
    assert sequences == sorted({*sequences})
    assert sequences[-1] == 60
    lost = [message for message in found if message.tag != "app"]
    assert sum(message.record["count"] for message in lost) + len(sequences) == 60


def test_an_index_that_is_replaced_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read of an index is all of one file. When a tag has left its segment, the others get other numbers."""
    files = DiskFiles(str(tmp_path))
    life = Life(files, segment_bytes=4000)
    for number in range(40):
        life.append(batch_of((b"gone", b"app", b"rare")[number % 3], {"message": "needle", "pad": "x" * 100}))
    make_indexes(files)
    first, following = list_segments(files)[:2]
    unpack, sections = index_module._unpack, list[Any]()

    def replacing(data: bytes | None, form: Any) -> Any:
        if not sections:
            name = rewrite(files, first, following, has_expired=lambda batch: batch.tag == b"gone")
            assert name is not None
            files.rename(name, segment_name(first))
            make_indexes(files)
        sections.append(form)
        return unpack(data, form)

    monkeypatch.setattr(index_module, "_unpack", replacing)
    query = Query(tag="rare", grep="needle")
    found = [message.sequence for message in query.messages(batches(str(tmp_path), query, 0))]
    assert found == [*range(3, 41, 3)]
    assert len(sections) > 2


def test_what_is_counted_comes_newest_first(tmp_path: Path) -> None:
    """After what is known at once: so a chart that is shown meanwhile has the newest part of what takes time."""
    files = needles_in(tmp_path)
    make_indexes(files)
    firsts = list_segments(files)
    assert len(firsts) > 6
    for first in firsts[1:4]:
        (tmp_path / index_name(first)).unlink()
    parts = counted(str(tmp_path), Query(), 0)
    known = [*itertools.takewhile(lambda part: isinstance(part, Counts), parts)]
    assert len(known) == len(firsts) - 4
    found = [message.sequence for message in decoded(counted(str(tmp_path), Query(), 0))]
    newest_first = [
        *range(firsts[-1], 61),
        *range(firsts[3], firsts[4]),
        *range(firsts[2], firsts[3]),
        *range(firsts[1], firsts[2]),
    ]
    assert found == newest_first


def test_what_expires_while_the_rest_is_counted_is_not_missing(tmp_path: Path) -> None:
    """The oldest segments are read last. If one is gone then, it counts nothing."""
    files = needles_in(tmp_path)
    firsts = list_segments(files)
    parts = counted(str(tmp_path), Query(), 0)
    begun = decoded(iter([next(parts)]))
    for first in firsts[:3]:
        (tmp_path / segment_name(first)).unlink()
    found = [*begun, *decoded(parts)]
    assert sorted(message.sequence for message in found) == [*range(firsts[3], 61)]
    assert {message.tag for message in found} == {"app"}


def test_a_hub_that_writes_meanwhile(tmp_path: Path) -> None:
    """What is committed while a reader reads is found too, once."""
    files = DiskFiles(str(tmp_path))
    life = Life(files, segment_bytes=1000)
    query, sent = Query(grep="needle"), 0
    for _ in range(5):
        for _ in range(15):
            life.append(batch_of(b"app", {"message": f"needle {sent}"}))
            sent += 1
        make_indexes(files)
        reading = query.messages(batches(str(tmp_path), query, 0))
        first = next(reading)
        life.append(batch_of(b"app", {"message": f"needle {sent}"}))
        sent += 1
        assert [message.sequence for message in (first, *reading)] == [*range(1, sent + 1)]


def test_words() -> None:
    """A word is found as a part of another one, in any case; what has no words may be everywhere."""
    assert words_of(b"\xa7Message\xd9\x41ab cd\xc3\x9fefg_H") == [b"message", b"aab", b"efg_h"]
    words = Words(b"\nmessage\nrefused\nused", pack_numbers("Q", [1, 2, 4]))
    everywhere = words.groups_with("-7 ab")
    assert words.groups_with("USED") == 6
    assert words.groups_with("refused used") == 2
    assert words.groups_with("mess used") == 0
    assert words.groups_with("nowhere") == 0
    assert Words(b"", b"").groups_with("nowhere") == everywhere


def test_too_many_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the words say nothing, and everything else does."""
    monkeypatch.setattr(indexing, "_WORDS_MAX", 3)
    files = DiskFiles(str(tmp_path))
    life = Life(files, segment_bytes=1000)
    for number in range(30):
        life.append(batch_of(b"app", {"message": f"{'abcdefghij'[number % 10] * 5} word"}))
    make_indexes(files)
    first, following = list_segments(files)[:2]
    index = SegmentIndex(files, first, following)
    assert index.wanted(Query(grep="nowhere")) not in ([], None)
    assert index.wanted(Query(tag="other")) == []


def test_an_index_of_another_form(tmp_path: Path) -> None:
    """Sections that are whole, and are not what they should be, are as good as none."""
    from hub.journal.indexfile import identify, write_index

    files = DiskFiles(str(tmp_path))
    life = Life(files, segment_bytes=1000)
    for number in range(30):
        life.append(batch_of(b"app", {"message": f"needle {number}"}))
    first, following = list_segments(files)[:2]
    identity = identify(files, first, following)
    assert identity is not None
    sections = indexing.sections_of(files, first, following)
    assert sections is not None
    for number in range(3):
        for wrong in (b"", b"x", msgspec.msgpack.encode([1])):
            write_index(files, identity, [wrong if each == number else good for each, good in enumerate(sections)])
            index = SegmentIndex(files, first, following)
            assert index.wanted(Query(grep="needle")) is None
            assert (index.counts() is None) == (number == 0)
