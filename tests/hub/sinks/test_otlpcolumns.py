"""hub.sinks.otlpcolumns: many messages at once have the bytes that each of them has alone, field by field."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.message import Message, Peer
from hub.sinks import otlpcolumns as module
from hub.sinks.otlpcolumns import pack_log_records, shape_of
from hub.sinks.otlpmessage import pack_log_record
from tests.hub.sinks.test_otlpencode import PEER, RECEIVED, TIME, names, values

PEERS = [PEER, Peer(), Peer(0, -5, -1, "10.0.0.5", False)]
usual_values = st.one_of(
    st.sampled_from([0, 1, True, 0.0, -0.0, 1.0, "1", 127, 128, 16_383, 16_384, 2_097_151, 2_097_152, -1, 1 << 63]),
    st.text(max_size=3),
    st.sampled_from(["x" * size for size in (100, 121, 122, 127, 128, 200, 16_384)]),
    values,
)
usual_names = st.sampled_from(["level", "message", "event", "n", "user", "k" * 70, "\u00e9"])
records = st.dictionaries(usual_names, usual_values, max_size=4) | st.dictionaries(usual_names | names, values)
messages = st.builds(
    Message,
    st.just("app"),
    st.sampled_from([TIME, 0, -5, 1 << 64]),
    records,
    st.integers(0, (1 << 63) - 1),
    st.just(RECEIVED),
    st.sampled_from(PEERS),
)


def message(record: dict[Any, Any], sequence: int = 7) -> Message:
    return Message("app", TIME, record, sequence, RECEIVED, PEER)


@given(st.lists(messages, min_size=1, max_size=8))
def test_many_messages_have_the_bytes_of_each(given_: list[Message]) -> None:
    """In their order, whatever their fields, values, times and writers are."""
    assert pack_log_records(given_, "hub") == [pack_log_record(each, "hub") for each in given_]


@given(st.lists(usual_values, min_size=3, max_size=12), st.lists(st.integers(0, 11), min_size=20, max_size=40))
def test_a_repeated_value_has_the_bytes_of_each(chosen: list[Any], order: list[int]) -> None:
    """Also if another value is equal and of another type, such as 1 and True, or has another sign, such as -0.0."""
    given_ = [message({"a": chosen[index % len(chosen)], "b": str(index)}, index) for index in order]
    assert pack_log_records(given_, "hub") == [pack_log_record(each, "hub") for each in given_]


@pytest.mark.parametrize(
    ("record", "is_usual"),
    [
        ({"level": "info", "message": "m", "n": 1, "x": 1.5, "\u00e9" * 31: "\u00e9" * 200}, True), ({}, True),
        ({"level": "loud"}, False), ({"level": 3}, False), ({"message": 5}, False), ({"event": "a", "msg": "b"}, False),
        ({"severity": 3}, False), ({"k" * 80: 1.5}, True), ({1: 2}, False), ({"trace_id": ""}, False), ({"a": 1}, True),
    ],
)  # fmt: skip
def test_which_records_are_usual(record: dict[Any, Any], is_usual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose fields mean the same in each record with these names. The others are packed field by field."""
    alone: list[Message] = []

    def note(given_: Message, uid: str) -> bytes:
        alone.append(given_)
        return pack_log_record(given_, uid)

    monkeypatch.setattr(module, "pack_log_record", note)
    usual = message({"level": "info", "message": "m"})
    odd = message(record, 8)
    assert pack_log_records([usual, odd, usual], "hub") == [
        pack_log_record(each, "hub") for each in (usual, odd, usual)
    ]
    assert alone == ([] if is_usual else [odd])


def test_a_shape_is_found_once() -> None:
    """For all records with the same names in the same order."""
    before = shape_of.cache_info().misses
    pack_log_records([message({"once": number, "more": "x"}) for number in range(100)], "hub")
    assert shape_of.cache_info().misses == before + 1
