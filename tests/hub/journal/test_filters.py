"""
hub.query.query: all filters, compared with brute force over every message.
"""

from __future__ import annotations

import random
import re
from typing import Any

import msgspec
import pytest

from hub import entries as codec
from hub.journal.files import DiskFiles
from hub.journal.reader import Reader, open_reader, sequence_before
from hub.journal.segment import list_segments
from hub.message import Batch, Message, Peer
from hub.query.backward import last
from hub.query.condition import Condition
from hub.query.level import LevelCondition
from hub.query.query import Query
from tests.hub.journal.world import NS, Life

START = 1_700_000_000 * NS


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A journal of several segments; each batch is received a second after the one before."""
    folder, rng = tmp_path_factory.mktemp("filters"), random.Random(5)
    seconds = iter(range(1 << 30))
    life = Life(DiskFiles(str(folder)), segment_bytes=20_000, clock=lambda: START + next(seconds) * NS)
    for number in range(300):
        records = [record(rng) for _ in range(rng.randrange(1, 6))]
        parts = [codec.stamp(START) + msgspec.msgpack.encode(each) for each in records]
        parts += [b"\x05"] if number % 50 == 0 else []  # not a message
        tag, peer = rng.choice([b"app.web", b"app.db", b"sys"]), Peer(rng.randrange(1, 4), 0, 0, "x")
        life.append(Batch(tag, codec.join(parts, len(parts)), len(parts), None, peer))
    life.writer.close()
    assert len(list_segments(life.files)) > 3
    return str(folder)


def record(rng: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {
        "message": rng.choice(["timeout", "refused", "fine", "größe", "a.b"]),
        "n": rng.randrange(10),
    }
    if rng.random() < 0.5:
        made["level"] = rng.choice(["debug", "info", "WARNING", "error", 40, "odd"])
    if rng.random() < 0.3:
        made["http"] = {"status": rng.choice([200, 404, "404"]), "path": ["/a", "/timeout"]}
    return made


def everything(folder: str) -> list[Message]:
    reader = Reader(DiskFiles(folder))
    try:
        return [message for batch in reader.read() for message in batch.messages()]  # type: ignore[union-attr]
    finally:
        reader.close()


def strings(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for child in value.values() for text in strings(child)]
    if isinstance(value, list):
        return [text for child in value for text in strings(child)]
    return [value] if isinstance(value, str) else []


def wanted(message: Message, filters: dict[str, Any]) -> bool:
    """Return the expected result: every message is decoded and tested."""
    unreadable = message.tag == "mpsr.loss.client"
    by_fields = {"grep", "where", "level"} & filters.keys()
    return (
        message.received >= filters.get("since", 0)
        and message.received <= filters.get("until", 1 << 63)
        and filters.get("pid", message.peer.pid) == message.peer.pid
        and not (unreadable and by_fields)
        and ("grep" not in filters or any(re.search(filters["grep"], text) for text in strings(message.record)))
        and all(condition.holds(message.record) for condition in filters.get("where", []))
        and ("level" not in filters or LevelCondition(filters["level"]).holds(message.record))
    )


FILTERS: list[dict[str, Any]] = [
    {},
    {"grep": "timeout"},
    {"grep": "time|ref"},
    {"grep": "^fine$"},
    {"grep": "ß"},
    {"grep": "a.b"},
    {"grep": "nowhere"},
    {"where": [Condition("n>7")]},
    {"where": [Condition("http.status=404")]},
    {"where": [Condition("http.status!=404"), Condition("n=3")]},
    {"level": "warning"},
    {"level": "error", "grep": "timeout", "pid": 2},
    {"pid": 1},
    {"since": START + 100 * NS},
    {"until": START + 100 * NS},
    {"since": START + 100 * NS, "until": START + 120 * NS, "where": [Condition("n<5")]},
    {"since": START + 10_000 * NS},
    {"until": START - 1},
]


@pytest.mark.parametrize("filters", FILTERS, ids=lambda filters: ",".join(filters) or "none")
def test_filters_agree_with_brute_force(journal: str, filters: dict[str, Any]) -> None:
    """Forward and for the last ten, the filters return the same messages as brute force."""
    query = Query(**filters)
    expected = [message.sequence for message in everything(journal) if wanted(message, filters)]
    reader = open_reader(journal, since=query.since)
    assert [message.sequence for message in query.messages(reader.read())] == expected
    reader.close()
    assert [message.sequence for message in last(journal, query, 10)] == expected[-10:]


@pytest.mark.parametrize("tag", ["app.*", "sys", "mpsr.*", "*", "nothing"])
def test_a_tag_filter_keeps_unreadable_entries_of_that_tag(journal: str, tag: str) -> None:
    """An unreadable entry is shown with its batch's tag, and with the losses."""
    pattern = re.compile(tag.replace(".", r"\.").replace("*", ".*"))
    reader = Reader(DiskFiles(journal))
    expected = []
    for batch in reader.read():
        assert isinstance(batch, Batch)
        for message in batch.messages():
            if pattern.fullmatch(message.tag) or pattern.fullmatch(batch.tag.decode()):
                expected.append(message.sequence)
    reader.close()
    reader = Reader(DiskFiles(journal))
    assert [message.sequence for message in Query(tag=tag).messages(reader.read())] == expected
    reader.close()


def test_a_time_is_found_by_binary_search(journal: str) -> None:
    """
    Every message received at or after a time has a sequence above the one found, which is off by less than a segment.
    """
    files = DiskFiles(journal)
    firsts = list_segments(files)
    for second in (0, 1, 57, 150, 299, 1000):
        moment = START + second * NS
        after = sequence_before(files, moment)
        younger = [message.sequence for message in everything(journal) if message.received >= moment]
        assert not younger or after < younger[0]
        assert after + 1 in (1, *firsts)
        following = [first for first in firsts if first > after + 1]
        assert not younger or not following or following[0] >= younger[0] or second == 0
