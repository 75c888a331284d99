"""hub.sinks.otlpvalues: the bytes are those that the classes of protobuf make of the same values."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue, KeyValueList

from hub.entries import EventTime
from hub.sinks.otlpvalues import DEPTH_MAX, pack_pair, pack_pairs, pack_value, pack_varint
from tests.hub.sinks.collector import value_of

FIELD = 0x0A
"""The field `values` of a KeyValueList."""


def any_of(value: Any) -> AnyValue:
    """Return *value* as the classes of protobuf hold it."""
    if value is None:
        return AnyValue()
    if isinstance(value, dict):
        return AnyValue(kvlist_value=list_of(value))
    if isinstance(value, list):
        made = AnyValue()
        made.array_value.values.extend(map(any_of, value))
        made.array_value.SetInParent()
        return made
    kinds: dict[type, str] = {
        str: "string_value", bool: "bool_value", int: "int_value", float: "double_value", bytes: "bytes_value",
    }  # fmt: skip
    return AnyValue(**{kinds[type(value)]: value})


def list_of(pairs: dict[str, Any]) -> KeyValueList:
    return KeyValueList(values=[KeyValue(key=key, value=any_of(value)) for key, value in pairs.items()])


texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from(
    ["x" * size for size in (99, 120, 121, 122, 123, 124, 125, 126, 127, 128, 16_383, 16_384)]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | texts | st.binary(max_size=200),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts.filter(bool), inner, max_size=3),
    max_leaves=8,
)


@given(values)
def test_a_value_has_the_bytes_of_protobuf(value: Any) -> None:
    """Of any type and length. (Protobuf's classes leave out a name that is empty.)"""
    assert pack_value(value) == any_of(value).SerializeToString()


@given(st.dictionaries(st.text(alphabet="abc", max_size=130).filter(bool), values, max_size=5))
def test_pairs_have_the_bytes_of_protobuf(pairs: dict[str, Any]) -> None:
    """Whether their lengths take one byte or more."""
    assert pack_pairs(FIELD, pairs) == list_of(pairs).SerializeToString()


@pytest.mark.parametrize("size", range(100, 140))
def test_lengths_around_a_byte(size: int) -> None:
    """Names and texts of every length about the longest that takes one byte."""
    for key, value in (("k", "x" * size), ("k" * size, "x"), ("k" * (size - 60), "x" * 60), ("k" * size, 1.5)):
        assert pack_pair(FIELD, key, value) == list_of({key: value}).SerializeToString()


@pytest.mark.parametrize("number", [0, 1, 127, 128, 16_383, 16_384, (1 << 64) - 1])
def test_numbers_of_any_length(number: int) -> None:
    """Seven bits a byte."""
    read = sum((byte & 0x7F) << 7 * index for index, byte in enumerate(pack_varint(number)))
    assert read == number
    assert [byte >= 0x80 for byte in pack_varint(number)] == [True] * (len(pack_varint(number)) - 1) + [False]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**63, str(2**63)), (-(2**63) - 1, str(-(2**63) - 1)), ("\ud800", "?"), (EventTime(5), "5"),
        (msgspec.msgpack.Ext(7, b"x"), b"x"), ({1: {b"\xff": []}, "1": 2}, {"1": 2}), ((1, 2), [1, 2]),
    ],
)  # fmt: skip
def test_what_protobuf_cannot_hold(value: Any, expected: Any) -> None:
    """It becomes a text, or the nearest type."""
    assert value_of(AnyValue.FromString(pack_value(value))) == expected


def test_a_deep_value_is_a_text_at_last() -> None:
    """Readers of protobuf follow 100 messages."""
    deep: Any = "end"
    for _ in range(400):
        deep = {"k": [deep]}
    found = value_of(AnyValue.FromString(pack_value(deep)))
    for _ in range(DEPTH_MAX // 2):
        (found,) = found["k"]
    assert isinstance(found, str)
