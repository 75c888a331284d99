"""Records as msgpack, and errors that name the place."""

from __future__ import annotations

import collections
import dataclasses
import decimal
import enum
import types
import uuid
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.entries import RECORD_NESTING_MAX, TOO_DEEP, Entry, join, stamp
from hub.wire.frame import TAG_BYTES_MAX
from producers import BadRecord
from producers.record import encode_record, encode_tag
from tests.support import read_entries


def round_trip(record: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the record as the hub reads it."""
    ((entry),) = list(read_entries(join((stamp(1) + encode_record(record),), 1), 1))
    assert isinstance(entry, Entry), entry
    return entry.record


class Colour(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Place:
    x: int
    names: list[Any]


ID = uuid.UUID("12345678-1234-5678-1234-567812345678")
KEPT = [
    {"text": "ä€😀\0", "bytes": b"\xff\0", "none": None, "yes": True, "float": -1.5e300},
    {"largest": 2**64 - 1, "smallest": -(2**63)},
    {"list": [1, [2, [3]]], "map": {"a": {"b": {}}}},
    {"time": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)},
    {"first": datetime(1, 1, 1, tzinfo=UTC), "last": datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)},
    {1: "int", None: "none", 2.5: "float", b"x": "bytes", ("a", 1): "tuple"},
    {},
]


@pytest.mark.parametrize("record", KEPT)
def test_what_is_kept_as_it_is(record: dict[Any, Any]) -> None:
    """Text, bytes, numbers up to 64 bits, None, lists, maps, times with a zone, and such keys come back equal."""
    assert round_trip(record) == record


TURNED = [
    ({"tuple": (1, 2), "set": {1}, "frozen": frozenset([2])}, {"tuple": [1, 2], "set": [1], "frozen": [2]}),
    (
        {"enum": Colour.RED, "uuid": ID, "decimal": decimal.Decimal("1.50")},
        {"enum": "red", "uuid": str(ID), "decimal": "1.50"},
    ),
    ({"dataclass": Place(1, ["a"])}, {"dataclass": {"x": 1, "names": ["a"]}}),
    ({"naive": datetime(2026, 1, 2)}, {"naive": "2026-01-02T00:00:00"}),  # noqa: DTZ001  no zone on purpose
    ({"day": date(2026, 1, 2), "hour": timedelta(hours=1)}, {"day": "2026-01-02", "hour": "PT3600S"}),
    (
        {"zone": datetime(2026, 1, 2, 3, tzinfo=timezone(timedelta(hours=2)))},
        {"zone": datetime(2026, 1, 2, 1, tzinfo=UTC)},
    ),
    ({"array": bytearray(b"x"), "view": memoryview(b"y")}, {"array": b"x", "view": b"y"}),
    (collections.UserDict(a=1), {"a": 1}),
    (types.MappingProxyType({"a": 1}), {"a": 1}),
    (collections.OrderedDict(a=1), {"a": 1}),
]


@pytest.mark.parametrize(("record", "comes_back"), TURNED)
def test_what_is_turned_into_something_plainer(record: Mapping[Any, Any], comes_back: dict[Any, Any]) -> None:
    """Other types arrive as the nearest type of msgpack."""
    assert round_trip(record) == comes_back


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, derandomize=True)
@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_any_record_of_plain_values_comes_back(record: dict[str, Any]) -> None:
    """Any record of plain values comes back equal."""
    assert round_trip(record) == record


def cyclic(kind: str) -> dict[str, Any]:
    inner: list[Any] = [1]
    record: dict[str, Any] = {"fine": [inner[:], {}], "loop": {"inner": inner}}
    inner.append(inner if kind == "list" else record)
    return record


class Odd:
    """A class that no encoder accepts."""

    def __repr__(self) -> str:
        return "<odd>"


HUGE = "int: can't serialize ints < -2**63 or > 2**64 - 1"
UNSUPPORTED = "Odd: Encoding objects of type Odd is unsupported"
SURROGATE = r"str: 'utf-8' codec can't encode character '\ud800' in position 0: surrogates not allowed"
REFUSED: list[tuple[Mapping[Any, Any], str, str]] = [
    ({"a": Odd()}, "a", UNSUPPORTED),
    ({"user": {"tags": ["x", 1, Odd()]}}, "user.tags[2]", UNSUPPORTED),
    ({"a": 1, "b": {"c": [{"d": (1, {"e": Odd()})}]}}, "b.c[0].d[1].e", UNSUPPORTED),
    ({"set": {Odd()}}, "set[0]", UNSUPPORTED),
    ({"a": {".b": Odd()}}, "a..b", UNSUPPORTED),
    ({".b": Odd()}, ".b", UNSUPPORTED),
    (collections.UserDict(a=Odd()), "a", UNSUPPORTED),
    ({"a": 2**64}, "a", HUGE),
    ({"a": [0, -(2**63) - 1]}, "a[1]", HUGE),
    ({"a": {2**70: 1}}, f"a.{2**70} (the key)", HUGE),
    ({"a": {"b": "\ud800"}}, "a.b", SURROGATE),
    ({"\ud800": 1}, r"'\ud800' (the key)", SURROGATE),
    ({Odd(): 1}, "<odd> (the key)", UNSUPPORTED),
    ({("x", Odd()): 1}, "('x', <odd>) (the key)[1]", UNSUPPORTED),
    ({"a": types.MappingProxyType({})}, "a", "mappingproxy: Encoding objects of type mappingproxy is unsupported"),
    ({"place": Place(1, [Odd()])}, "place", UNSUPPORTED.replace("Odd:", "Place:")),
    (cyclic("list"), "loop.inner[1]", "it contains itself"),
    (cyclic("record"), "loop.inner[1]", "it contains itself"),
]


@pytest.mark.parametrize(("record", "path", "reason"), REFUSED)
def test_the_error_names_the_place(record: Mapping[Any, Any], path: str, reason: str) -> None:
    """
    BadRecord gives the path of the innermost value that cannot be sent, and the reason; its cause is the library's
    error.
    """
    with pytest.raises(BadRecord) as raised:
        encode_record(record)
    assert (raised.value.path, raised.value.reason) == (path, reason)
    assert str(raised.value) == f"record cannot be sent: {path}: {reason}"
    assert raised.value.__cause__ is not None


def test_nested_beyond_reason() -> None:
    """Nesting that is too deep is BadRecord, not a crash or a RecursionError."""
    record: dict[str, Any] = {}
    inner = record
    for _ in range(100_000):
        inner["k"] = inner = {}
    with pytest.raises(BadRecord, match=f"record cannot be sent: the record: {TOO_DEEP}"):
        encode_record(record)


@pytest.mark.parametrize("depth", [1, 400, *range(490, 510), 700, 900, 1000, 1100, 3000])
def test_the_limit_of_nesting_is_ours(depth: int) -> None:
    """On every Python a record may be nested `RECORD_NESTING_MAX` levels deep, itself included, and not one more."""
    value: Any = 1
    for _ in range(depth - 1):
        value = [value]
    record = {"a": value}
    if depth <= RECORD_NESTING_MAX:
        assert len(encode_record(record)) == depth + 3
    else:
        with pytest.raises(BadRecord, match=TOO_DEEP):
            encode_record(record)


def test_large_records_that_are_not_deep() -> None:
    """Long texts, many fields and many lists are no nesting."""
    for record in (
        {"a": "x" * 5000},
        {str(n): n for n in range(2000)},
        {"a": [[n] for n in range(2000)], "b": {"c": 1}},
    ):
        assert msgspec.msgpack.decode(encode_record(record)) == record


@dataclasses.dataclass
class Link:
    next: Link | None


def test_a_long_chain_of_objects_is_nesting_too() -> None:
    """The limit also counts the levels of dataclasses; the path leads to the first of them."""
    chain = None
    for _ in range(700):
        chain = Link(chain)
    with pytest.raises(BadRecord) as raised:
        encode_record({"a": chain})
    assert (raised.value.path, raised.value.reason) == ("a", f"Link: {TOO_DEEP}")


@pytest.mark.parametrize("record", [[1], None, "text", 5, b"x", [("a", 1)]])
def test_a_record_is_a_map(record: Any) -> None:
    """A record of another type is refused, and the error names the type."""
    with pytest.raises(BadRecord, match=f"a record is a map, not {type(record).__name__}"):
        encode_record(record)


def test_tags() -> None:
    """
    A tag is text within the limit of the wire, because the hub would close the connection at a longer one on every
    resend.
    """
    assert encode_tag("app.wéb") == "app.wéb".encode()
    assert len(encode_tag("é" * (TAG_BYTES_MAX // 2))) == TAG_BYTES_MAX
    with pytest.raises(BadRecord, match="the tag: 4098 bytes, 4096 at most"):
        encode_tag("é" * (TAG_BYTES_MAX // 2 + 1))
    with pytest.raises(BadRecord, match="surrogates not allowed"):
        encode_tag("app.\ud800")
