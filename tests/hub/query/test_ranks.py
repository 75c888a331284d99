"""hub.query.ranks: the levels of a batch are those of its records, decoded one by one."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec

from hub import entries as codec
from hub.message import Batch
from hub.query.level import KEYS, NO_RANK, has_level, rank_of
from hub.query.query import Query
from hub.query.ranks import Ranked, RankFinder
from hub.wire.sysloglines import encode_entry
from tests.hub.query.test_query import batch_of

NAMES = ["info", "WARN", "Error", "50", "3", "none", "", 3, 30, 1, 0, True, False, None, 2.5, [1], {"level": "info"}]
RECORDS = [{"level": "info", "n": 1}, {"level": "error"}, {"level": "warn"}, {"level": "info"}, {"level": "bogus"}]


def a_record(rng: random.Random, keys: list[str]) -> dict[Any, Any]:
    found: dict[Any, Any] = {"message": "level", "http": {"level": "error"}}
    found |= {key: rng.choice(NAMES) for key in rng.choices(keys, k=rng.choice([0, 1, 1, 1, 2]))}
    return found if rng.random() < 0.5 else dict(reversed(found.items()))


def test_ranks_are_those_of_the_records() -> None:
    """Whatever keys and values there are, in any order, from one batch to the next: one finder reads them all."""
    rng, finder, met = random.Random(1), RankFinder(), Counter[bool]()
    for number in range(400):
        keys = rng.choice([["level"], ["severity"], [*KEYS], ["level", "hostname", "v"], [*KEYS, "log", "v", "@l"]])
        records = [a_record(rng, keys) for _ in range(rng.randrange(1, 7))]
        if number % 3 == 0:
            records = [{"level": rng.choice(["info", "WARN", "e"]), "n": each} for each in range(3)]
        found = finder.find(batch_of(rng.choice([b"a", b"b", b"c"]), *records))
        ranks = [rank_of(record) for record in records]
        assert found is not None
        assert [*found.ranks] == [NO_RANK if rank is None else rank for rank in ranks], records
        expected = sum(rank is None and has_level(record) for record, rank in zip(records, ranks, strict=True))
        assert found.misfits == expected
        assert len(found.stamps) == 10 * len(records)
        met[NO_RANK in found.ranks] += 1
    assert min(met.values()) > 20


def test_a_key_that_occurs_twice() -> None:
    """The last one counts, as in a record."""
    twice = b"\x82\xa5level\xa4info\xa5level\xa5error"
    entries = codec.join([codec.stamp(1) + twice] * 2, 2)
    found = RankFinder().find(Batch(b"a", entries, 2))
    assert found is not None
    assert [*found.ranks] == [rank_of({"level": "error"})] * 2


def test_memory_is_bounded() -> None:
    """Names and tags without end are found, and not all remembered."""
    finder = RankFinder()
    for number in range(1100):
        spaces = f"{number:011b}".translate({48: " ", 49: "\t"})
        for record in ({"level": f"info{spaces}"}, {"severity": f"warning{spaces}"}, {"level": f"{100 * spaces}info"}):
            found = finder.find(batch_of(spaces.encode(), record))
            assert found is not None
            assert [*found.ranks] == [rank_of(record)]
    assert [len(each) for each in (finder._known, finder._known_items, finder._other_tags)] == [1000, 1000, 1000]
    assert max(len(str(value)) for value in finder._known) < 32


def test_what_is_not_found() -> None:
    """Lines of syslog, group markers, other times than the usual, what is no message: decoded one by one."""
    stamped = codec.stamp(5) + msgspec.msgpack.encode({"level": "info"})
    syslog = encode_entry(b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed")
    unstamped = codec.UNSTAMPED + msgspec.msgpack.encode({"level": "info"})
    for other in (syslog, unstamped, b"\x07", b"\x92" + codec.stamp(5)[1:] + b"\x07", b"\x92\xa1x\x80"):
        assert RankFinder().find(Batch(b"a", codec.join((stamped, other), 2), 2)) is None, other
    assert RankFinder().find(Batch(b"a", codec.join((stamped, stamped), 2), 1)) is None
    assert RankFinder().find(Batch(b"a", codec.join((), 0), 0)) is None


def test_ranked_messages() -> None:
    """What is counted is what would be iterated over."""
    for level, wanted in ((None, 5), ("warning", 2), ("critical", 0)):
        group = Query(level=level).counted_in(batch_of(b"a", *RECORDS))
        assert isinstance(group, Ranked)
        assert len(group) == sum(group.counts().values()) == wanted
        assert [*group] == [*Query(level=level).found_in(batch_of(b"a", *RECORDS))]
