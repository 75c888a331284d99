"""Packed messages: what arrives is what was sent, down to the types."""

from __future__ import annotations

import datetime
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.entries import EventTime
from hub.message import Home, Message, Peer
from hub.query.packed import pack, unpack
from hub.query.rendering import render_json, render_pretty, render_text

PEER = Peer(1, 2, 3, "comm ä", False, "/system.slice/nginx.service")


def sent(record: dict[Any, Any]) -> Message:
    return Message("tag ü", -5, record, 1 << 60, 1 << 62, PEER)


def received(message: Message) -> Message:
    """Return *message* as it comes out at the other side of a connection."""
    text = pack(message)
    assert b"\n" not in text
    return unpack(json.loads(text))


def types(record: dict[Any, Any]) -> list[tuple[type, type]]:
    return [(type(key), type(value)) for key, value in record.items()]


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"message": "text \ud7ff\u2028", "n": [1, 1.0, -(1 << 63), (1 << 64) - 1, True, None]},
        {"bytes": b"\xff\x00", b"k": 1, 1: "1", None: None, "1": 2},
        {"ext": msgspec.msgpack.Ext(5, b"x"), "like": {"ext": 5, "data": "78"}},
        {"at": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC), "time": EventTime(1_000_000_002)},
        {"deep": deep(400)},
    ],
)
def test_what_is_sent_arrives(record: dict[Any, Any]) -> None:
    """Everything of a message arrives, and shows the same."""
    message = sent(record)
    again = received(message)
    assert again == message
    assert types(again.record) == types(message.record)
    for render in (render_json, render_pretty, render_text):
        assert render(again) == render(message)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda children: st.lists(children) | st.dictionaries(st.text() | st.integers(0, 99), children),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), JSON))
def test_any_record(record: dict[Any, Any]) -> None:
    """Every record shows the same at the other side."""
    message = sent(record)
    assert render_json(received(message)) == render_json(message)


@pytest.mark.parametrize("value", [deep(2000), object()], ids=["deep", "object"])
def test_what_msgpack_cannot_hold(value: object) -> None:
    """A record that cannot travel as it is travels as JSON shows it."""
    message = sent({"a": value, "b": b"x"})
    again = received(message)
    assert set(again.record) == {"a", "b"}
    assert json.loads(render_json(again)) == json.loads(render_json(message))


def test_a_number_that_is_none() -> None:
    """Not a number stays that."""
    assert math.isnan(received(sent({"n": math.nan})).record["n"])


@pytest.mark.parametrize("value", [None, {}, [], [1, 2, 3], "text", [1, 2, 3, "t", [1, 2, 3, "c", True, ""], "kQ=="]])
def test_what_is_no_message(value: object) -> None:
    """Anything else is a ValueError."""
    with pytest.raises(ValueError):  # noqa: PT011  of several kinds
        unpack(value)


def test_bytes_that_are_no_value() -> None:
    """A record that is no msgpack is a ValueError, too."""
    with pytest.raises(ValueError, match="DecodeError"):
        unpack([1, 2, 3, "t", [1, 2, 3, "c", True, ""], "wQ=="])


def test_the_home_of_a_message_arrives() -> None:
    """A message that another hub has stored first is shown with its host, hub and sequence there."""
    message = msgspec.structs.replace(sent({"n": 1}), home=Home("web-3", bytes(range(16)), 7, 8))
    assert received(message) == message
    assert json.loads(render_json(received(message)))["hub_sequence"] == 7
