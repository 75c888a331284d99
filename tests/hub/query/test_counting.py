"""hub.query.counting: counts by tag, level, writer and fields."""

from typing import Any

import msgspec
import pytest

from hub import entries as codec
from hub.message import Batch, Home, Message, Peer
from hub.query import counting
from hub.query.counting import Table
from hub.query.query import Query
from hub.query.timeline import Timeline

NGINX = Peer(1, 10, comm="p", cgroup="/system.slice/n.service")
MESSAGES = [
    Message("a", 1, {"level": "WARN", "http": {"status": 500}, "tag": "x"}, peer=Peer(1, 10, comm="p")),
    Message(
        "a", 2, {"severity": 4, "http.status": "500"}, peer=Peer(1, 10, comm="p", cgroup="/system.slice/n.service")
    ),
    Message("b", 3, {"n": [1, None]}, home=Home("far", b"", 1, 1)),
]


def rows(*names: str) -> list[tuple[Any, ...]]:
    counts = Table(names)
    counts.add(MESSAGES[:1])
    counts.add(MESSAGES[1:])
    assert counts.others == 0
    return [(*row.values, row.messages) for row in counts.rows()]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("tag", [("a", 2), ("b", 1)]),
        ("record.tag", [(None, 2), ("x", 1)]),
        ("level", [("warning", 2), (None, 1)]),
        ("http.status", [("500", 2), (None, 1)]),
        ("n", [(None, 2), ("[1,null]", 1)]),
        ("pid", [("1", 2), ("0", 1)]),
        ("uid", [("10", 2), ("-1", 1)]),
        ("comm", [("p", 2), ("", 1)]),
        ("unit", [(None, 2), ("n.service", 1)]),
        ("container", [(None, 3)]),
        ("host", [(None, 2), ("far", 1)]),
    ],
)
def test_names(name: str, found: list[tuple[Any, ...]]) -> None:
    """A name that is a filter is of the message; others are fields, and numbers count like texts that look the same."""
    assert rows(name) == found


def test_combinations() -> None:
    """Several names are counted together."""
    assert rows("tag", "level") == [("a", "warning", 2), ("b", None, 1)]


def test_values_that_json_does_not_know() -> None:
    """Every value has a text."""
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    counts = Table(["v"])
    counts.add(Message("t", 1, {"v": value}) for value in (deep, {1: 2}, {b"k": b"v"}, float("inf"), None, True))
    assert {row.values[0] for row in counts.rows()} == {"inf", "null", "true", '{"1":2}', '{"aw==":"dg=="}', "\u2026"}


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit, new values are counted together, and those that are known go on."""
    monkeypatch.setattr(counting, "VALUES_MAX", 2)
    counts = Table(["n"])
    counts.add(Message("t", 1, {"n": n}) for n in (1, 2, 3, 1, 4))
    assert ([(*row.values, row.messages) for row in counts.rows()], counts.others) == ([("1", 2), ("2", 1)], 2)


@pytest.mark.parametrize("has_other", [False, True], ids=["field", "entry"])
def test_an_entry_that_cannot_be_read_is_counted_once(has_other: bool) -> None:
    """As a loss; as the message that it was, if only a field is damaged that the count does not need."""
    good = codec.stamp(1) + msgspec.msgpack.encode({"level": "info"})
    damaged = codec.stamp(1) + b"\x82\xa5level\xa4info\xa1x\xc7\x0c\xff" + b"\xff" * 12
    entries = [good, damaged, *[b"\xc0"] * has_other, *[good] * 4]
    batch = Batch(b"a", codec.join(entries, len(entries)), len(entries), sequence=1, received=1)
    table, fields, bars = Table(["tag", "level"]), Table(["x"]), Timeline()
    query = Query()
    for tally, groups in ((table, query.counted_groups), (bars, query.counted_groups), (fields, query.groups)):
        for group in groups(iter((batch,))):
            tally.add(group)
    expected = {("a", "info"): 5, ("mpsr.loss.client", None): 2} if has_other else {("a", "info"): 6}
    assert {row.values: row.messages for row in table.rows()} == expected
    assert [row.messages for row in fields.rows()] == [len(entries)]
    assert [bar.messages for bar in bars.bars(10)] == [len(entries)]
