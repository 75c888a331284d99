"""
hub.entries: entries are checked without being built, and read whatever they contain.
"""

from __future__ import annotations

import itertools
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub import entries as codec
from hub.entries import NESTING_MAX, NS, RECORD_NESTING_MAX, Entry, EventTime, Unreadable, reading
from tests.support import read_entries

PROPERTY = settings(max_examples=150, derandomize=True, database=None)

T = 1441588984
N = 123456789
YEAR_1, YEAR_10000 = -62135596800, 253402300800  # date -u -d 0001-01-01 +%s; 9999-12-31T23:59:59Z, plus one
EVENT_TIME = struct.pack(">BBII", 0xD7, 0, T, N)
START = b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00\x81\xa6schema\xa4otlp\x80"
END = b"\x92\x92\xd7\x00\xff\xff\xff\xfe\x00\x00\x00\x00\x80\x80"
INNER = b"\x92\x92" + EVENT_TIME + b"\x80\x81\xa3log\xa2hi"


def read(*entries: bytes, count: int | None = None) -> list[Entry | Unreadable]:
    """Return the decoded entries."""
    array = codec.join(entries, len(entries))
    return list(read_entries(array, codec.count_messages(array) if count is None else count))


def called_deep(frames: int, work: Callable[[], Any]) -> Any:
    """Return the result of *work* called with a number of frames on the stack."""
    return called_deep(frames - 1, work) if frames else work()


# Times.


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (b"\xce" + struct.pack(">I", T), T * NS),
        (b"\xd2" + struct.pack(">i", T), T * NS),
        (EVENT_TIME, T * NS + N),
        (b"\xc7\x08" + EVENT_TIME[1:], T * NS + N),
        (b"\xd7\x00" + b"\xff" * 8, 0xFFFFFFFF * NS + 0xFFFFFFFF),
        (b"\xd7\x00" + bytes(8), 0),
        (b"\xcb" + struct.pack(">d", T + 0.5), T * NS + NS // 2),
        (b"\xca" + struct.pack(">f", 1.25), NS + NS // 4),
        (b"\xcb" + struct.pack(">d", -1.5), -NS - NS // 2),
        (b"\xff", -NS),
        (b"\xc0", None),
        (b"\x00", None),
        (b"\xcb" + bytes(8), None),
        (b"\xcb" + struct.pack(">d", float("inf")), None),
        (b"\xcb" + struct.pack(">d", float("nan")), None),
        (b"\xcb" + struct.pack(">d", 1e300), None),
        (b"\xcf" + b"\xff" * 8, None),  # beyond the range of calendars
        (b"\xd3\x80" + bytes(7), None),
        (b"\xd3" + struct.pack(">q", YEAR_1), YEAR_1 * NS),
        (b"\xd3" + struct.pack(">q", YEAR_1 - 1), None),
        (b"\xd3" + struct.pack(">q", YEAR_10000 - 1), (YEAR_10000 - 1) * NS),
        (b"\xd3" + struct.pack(">q", YEAR_10000), None),
        (b"\xce" + b"\xff" * 4, 0xFFFFFFFF * NS),
        (b"\x92" + EVENT_TIME + b"\x80", T * NS + N),
        (b"\x92\xce" + struct.pack(">I", T) + b"\x81\xa1a\x01", T * NS),
        (b"\x91" + EVENT_TIME, T * NS + N),
        (b"\x92\xc0\x80", None),
        (b"\x90", None),
    ],
)
def test_times(time: bytes, expected: int | None) -> None:
    """
    Seconds of any type and EventTime in both encodings, alone or with metadata, are times; none, 0 and nonsense are
    None.
    """
    assert read(b"\x92" + time + b"\x81\xa1a\x01") == [Entry(expected, {"a": 1})]


@pytest.mark.parametrize(
    "time",
    [
        b"\xa1x",
        b"\xc2",
        b"\xc3",
        b"\x80",
        b"\xc4\x01\x00",
        b"\xd4\x00\x00",
        b"\xd7\x01" + bytes(8),
        b"\xc7\x07\x00" + bytes(7),
        b"\x91\xa1x",
        b"\x91\x91\x01",
    ],
)
def test_what_is_no_time(time: bytes) -> None:
    """A time of another type makes the entry unreadable, and its bytes are returned."""
    entry = b"\x92" + time + b"\x80"
    (unreadable,) = read(entry)
    assert isinstance(unreadable, Unreadable)
    assert unreadable.raw == entry
    assert "time" in unreadable.reason


@pytest.mark.parametrize(
    ("time_ns", "expected"),
    [
        (0, (0, 0)),
        (T * NS + N, (T, N)),
        ((1 << 32) * NS - 1, (0xFFFFFFFF, NS - 1)),
        ((1 << 32) * NS, (0xFFFFFFFF, NS - 1)),
        (0xFFFFFFFF * NS + 5, (0xFFFFFFFF, 5)),
        (1 << 80, (0xFFFFFFFF, NS - 1)),
        (-1, (0, 0)),
    ],
)
def test_a_stamp_is_an_event_time(time_ns: int, expected: tuple[int, int]) -> None:
    """A stamp is an array of two and an EventTime, clamped to its range, and decodes to that time."""
    stamp = codec.stamp(time_ns)
    assert stamp == b"\x92\xd7\x00" + struct.pack(">II", *expected)
    assert read(stamp + b"\x80") == [Entry(expected[0] * NS + expected[1], {})]


def test_unstamped_is_no_time() -> None:
    """An entry that begins with `UNSTAMPED` has no time."""
    assert read(codec.UNSTAMPED + b"\x80") == [Entry(None, {})]


def test_an_event_time_inside_a_record_stays_one() -> None:
    """An EventTime inside a record differs from a plain number; other ext types are kept unchanged."""
    (entry,) = read(b"\x92\x01\x82\xa1a" + EVENT_TIME + b"\xa1b\xd4\x05\x07")
    assert isinstance(entry, Entry)
    assert isinstance(entry.record["a"], EventTime)
    assert entry.record == {"a": T * NS + N, "b": msgspec.msgpack.Ext(5, b"\x07")}


# Records.


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"\x80", {}),
        (b"\x81\xa1\xff\xa2\x80a", {"\ufffd": "\ufffda"}),
        (b"\x81\x01\xc4\x01\xff", {1: b"\xff"}),
        (b"\x83\xa1\xff\x01\x02\x03\xa1a" + EVENT_TIME, {"\ufffd": 1, 2: 3, "a": T * NS + N}),
        (b"\x82\xc4\x01k\x01\xc0\x02", {b"k": 1, None: 2}),
        (b"\x82\xa1a\x01\xa1a\x02", {"a": 2}),
        (b"\x81\x91\x01\x02", {(1,): 2}),
        (b"\xde\x00\x01\xd9\x01a\xdc\x00\x01\xc3", {"a": [True]}),
    ],
)
def test_records(record: bytes, expected: dict[Any, Any]) -> None:
    """Keys of any type, strings of any bytes and every encoding of a map are decoded."""
    assert read(b"\x92\x01" + record) == [Entry(NS, expected)]


SHAPE, TYPE, VALUE = "not [time, record]", "TypeError", "ValueError"
BAD = [
    (b"\x05", SHAPE),
    (b"\xc0", SHAPE),
    (b"\x90", SHAPE),
    (b"\x91\x01", SHAPE),
    (b"\x93\x01\x80\x80", SHAPE),
    (b"\x80", SHAPE),
    (b"\xa5hello", SHAPE),
    (b"\x92\x01\x05", SHAPE),
    (b"\x92\x01\x90", SHAPE),
    (b"\x92\x01\xc0", SHAPE),
    (b"\x92\x01\x81\x81\x01\x02\x03", TYPE),  # an invalid key
    (b"\x92\x01\x81\xa1\xff\x81\x90\x01", TYPE),
    (b"\x92\x01\x81\xa1a\xc7\x0c\xff" + b"\xff" * 12, VALUE),  # an invalid timestamp
    (b"\x92\x01\x81\xa1a\xc7\x05\xff" + b"\xff" * 5, VALUE),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
def test_one_unreadable_entry_does_not_hide_its_neighbours(bad: bytes, reason: str) -> None:
    """An unreadable entry is returned in its place with its bytes, and the others are decoded."""
    before, unreadable, after = read(b"\x92\x01\x80", bad, b"\x92\x02\x81\xa1\xff\x01")
    assert isinstance(unreadable, Unreadable)
    assert unreadable.raw == bad
    assert unreadable.reason.startswith(reason)
    assert (before, after) == (Entry(NS, {}), Entry(2 * NS, {"\ufffd": 1}))


def test_many_unreadable_entries_are_read_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entries are split once, not once for each unreadable one."""
    splits = 0
    split = codec.split_raw

    def counting(entries: bytes | memoryview) -> Any:
        nonlocal splits
        splits += 1
        return split(entries)

    monkeypatch.setattr(reading, "split_raw", counting)
    assert read(*[b"\x05"] * 1000) == [Unreadable("not [time, record]", b"\x05")] * 1000
    assert splits == 1


# Group markers.


def test_group_markers_are_counted_out() -> None:
    """Start and end of a group are entries of the array, but not messages."""
    array = codec.join((START, INNER, INNER, END), 4)
    assert codec.array_length(array) == 4
    assert codec.count_messages(array) == 2
    assert list(read_entries(array, 2)) == [Entry(T * NS + N, {"log": "hi"})] * 2


@pytest.mark.parametrize(
    ("entries", "count"),
    [
        ((START, END), 0),
        ((START.replace(b"\xd7", b"\xc7\x08"), INNER, END.replace(b"\xd7", b"\xc7\x08")), 1),
        ((INNER, START, INNER, END, INNER), 3),
        ((INNER,), 1),
        ((b"\x92" + START[2:12] + b"\x80",), 1),  # without metadata, it is an entry of the year 2106
        ((b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x01\x80\x80",), 1),
        ((b"\x92\x92\xce\xff\xff\xff\xff\x80\x80",), 1),
        ((INNER, b"\x92\x92" + EVENT_TIME + b"\x80\x81\xa3log\xc4\x0a" + START[2:12]), 2),  # quoted in a record
        ((INNER, b"\x05", START), 2),
        ((), 0),
    ],
)
def test_only_markers_are_markers(entries: tuple[bytes, ...], count: int) -> None:
    """Only the two marker times, exact to the nanosecond and with metadata, are markers; counting and reading agree."""
    array = codec.join(entries, len(entries))
    assert codec.count_messages(array) == count
    assert len(list(read_entries(array, count))) == count


# Checking.


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (codec.join((), 0), True),
        (codec.join((b"\x92\x01\x80",), 1), True),
        (codec.join((b"\x05", b"\xa1\xff"), 2), True),  # shape and UTF-8 are checked by the reader
        (codec.join((b"\x92\x01\x80",), 2), False),
        (codec.join((b"\x92\x01\x80", b"\x05"), 1), False),
        (codec.join((b"\x92\x01",), 1), False),
        (codec.join((b"\x92\x01\xc1",), 1), False),
        (codec.join((b"\x92\x01\xc9\xff\xff\xff\xff",), 1), False),
        (codec.join((b"\x92\x01\xc9\xff\xff\xff\xff\x01",), 1), False),
        (codec.join((b"\x92\x01\xdb\xff\xff\xff\xff",), 1), False),
        (codec.join((b"\x92\x01\xdf\xff\xff\xff\xff",), 1), False),
        (b"\xdd\xff\xff\xff\xff", False),
        (b"\xdd\x00\x00", False),
        (b"", False),
        (codec.join((b"\x91" * 100_000 + b"\xc0",), 1), False),
        (codec.join((b"\x91" * 1000 + b"\xc1",), 1), False),
        (codec.join((b"\x91" * 1000 + b"\x91",), 1), False),
        (codec.join((b"\x91" * 1000 + b"\xc9\xff\xff\xff\xff",), 1), False),
        (codec.join((b"\x91" * 1000 + b"\xc0\xc0",), 1), False),
    ],
)
def test_well_formed(array: bytes, expected: bool) -> None:
    """Nesting, lengths and count are checked; nothing is raised, and views are accepted like bytes."""
    assert codec.is_well_formed(array) is expected
    assert codec.is_well_formed(memoryview(array)) is expected


@pytest.mark.parametrize("depths", [(10,), range(900, 1030), (1500, 2000, 100_000)])
def test_nesting_is_judged_alike_everywhere(depths: Sequence[int]) -> None:
    """
    The limit depends neither on the Python nor on the depth of the caller's stack, and what is well-formed can be read
    at that depth.
    """
    for depth in depths:
        judge_nesting(depth)


def judge_nesting(depth: int) -> None:
    array = codec.join((b"\x92\x01\x81\xa1a" + b"\x91" * depth + b"\xc0", START, b"\x92\x02\x80"), 3)
    is_allowed = depth <= NESTING_MAX - 3  # inside the array of entries, the entry and the record
    for frames in (0, 100, 500):
        assert called_deep(frames, lambda: codec.is_well_formed(array)) is is_allowed, depth
        assert called_deep(frames, lambda: codec.is_whole(array)) is is_allowed, depth
    if is_allowed:
        for frames in (0, 100, 500):
            assert called_deep(frames, lambda: codec.count_messages(array)) == 3, depth
            entries = called_deep(frames, lambda: list(read_entries(array, 3)))
            assert [type(entry) for entry in entries] == [Entry] * 3, depth
            assert entries[2] == Entry(2 * NS, {})


@pytest.mark.parametrize("recursion", [sys.getrecursionlimit(), 20_000])
@pytest.mark.parametrize("depth", [NESTING_MAX - 3, NESTING_MAX - 2, 2000])
def test_every_reader_has_that_limit(depth: int, recursion: int) -> None:
    """Of entries that nobody has checked, none reads one that is nested deeper, whatever the interpreter can follow."""
    deep = b"\x92\xc0\x81\xa1a" + b"\x91" * depth + b"\xc0"
    array = codec.join((b"\x92\xc0\x81\xa1n\x01", deep, b"\x92\xc0\x80"), 3)
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(recursion)
    try:
        quick = [codec.pairs(array, 3), codec.pairs_with(["n"])(array, 3), codec.values_with("n")(array, 3)]
        split, raws, each = codec.split(array, 3), codec.split_raw(array), list(codec.read_each(array, 3))
    finally:
        sys.setrecursionlimit(before)
    if depth <= NESTING_MAX - 3:
        assert [type(entry) for entry in each] == [Entry] * 3
        assert len(raws) == 3
    else:
        assert (*quick, split) == (None,) * 4
        assert [type(entry) for entry in each] == [Entry, Unreadable]
        assert isinstance(each[-1], Unreadable)
        assert each[-1].messages == 2
        assert len(raws) == 1


ANYWHERE = b"\x92\x01\x82\xa1b\xc4\x05" + codec.OVERFLOW + b"\xa1a"
"""The beginning of an entry that holds the bytes of an overflowing length inside a value."""


@pytest.mark.parametrize("depth", [0, 500, 1000, NESTING_MAX - 3])
def test_bytes_that_look_like_an_overflow_are_no_fault(depth: int) -> None:
    """`is_whole` accepts them at any depth, and finds the length that does overflow beside them."""
    assert codec.is_whole(codec.join((ANYWHERE + b"\x91" * depth + b"\xc0",), 1))
    assert codec.is_whole(memoryview(codec.join((ANYWHERE + b"\x81\xc0" * depth + b"\xc0",), 1)))
    for faulty in (codec.OVERFLOW, b"\xc1", b"\x91", b"\x81\xc0"):
        assert not codec.is_whole(codec.join((ANYWHERE + b"\x91" * (depth - 1) + faulty,), 1))
        assert not codec.is_well_formed(codec.join((ANYWHERE + b"\x91" * (depth - 1) + faulty,), 1))


@pytest.mark.parametrize("size", [10, 2000, 50_000])
@pytest.mark.parametrize("filling", [b"x", codec.OVERFLOW[:1], codec.OVERFLOW[:4]])
def test_an_overflow_is_found_anywhere(filling: bytes, size: int) -> None:
    """It is found after any number of bytes that resemble it, and they are no fault."""
    text = (filling * size)[:size]
    before = b"\x92\x01\xc6" + size.to_bytes(4, "big") + text
    assert codec.is_well_formed(codec.join((before, b"\x92\x01\x80"), 2))
    assert not codec.is_well_formed(codec.join((before, b"\x92\x01" + codec.OVERFLOW), 2))


NESTINGS = {
    "list": (b"\x91", b""),
    "long list": (b"\xdc\0\1", b""),
    "map": (b"\x81\xa1a", b""),
    "key": (b"\x81", b"\xc0"),
}


@pytest.mark.parametrize("levels", [0, 1, 100, RECORD_NESTING_MAX, NESTING_MAX])
@pytest.mark.parametrize("nesting", NESTINGS)
def test_the_depth_of_packed_objects(nesting: str, levels: int) -> None:
    """The depth of an object is the number of lists, maps and keys around its innermost value."""
    before, after = NESTINGS[nesting]
    for depth in (levels, levels + 1):
        packed = before * depth + b"\xc0" + after * depth
        assert codec.is_deeper(packed, levels) is (depth > levels)
        assert codec.is_deeper(b"\x92\xda\x10\0" + b"x" * 4096 + packed, levels) is (depth + 1 > levels)


@pytest.mark.parametrize("levels", [0, 1, 100, 2000])
@pytest.mark.parametrize("around", [lambda value: [value], lambda value: {"a": value}, lambda value: (value,)])
def test_the_depth_of_values(around: Callable[[object], object], levels: int) -> None:
    """The depth of a decoded value is the same, and keys of maps, which are tuples, count too."""
    value: Any = None
    for _ in range(levels):
        value = around(value)
    assert not codec.is_value_deeper(value, levels)
    assert not codec.is_value_deeper(["a", value, 1], levels + 1)
    assert codec.is_value_deeper(["a", value, 1], levels)
    assert codec.is_value_deeper({"a": 1, "b": value}, levels)
    if isinstance(value, tuple):
        assert codec.is_value_deeper({value: 1}, levels)
        assert not codec.is_value_deeper({value: 1}, levels + 1)


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (b"", (0, 0)),
        (b"\x01\x80\x92\x01\x02", (3, 5)),
        (b"\x01\x92\x01", (1, 1)),
        (b"\x01\xc1\x01", (1, 1)),
        (b"\xc1", (0, 0)),
        (b"\x01\xdb\xff\xff\xff\xff", (1, 1)),
        (b"\x01" + b"\x91" * 5000, (1, 1)),
    ],
)
def test_whole_objects_are_counted(packed: bytes, expected: tuple[int, int]) -> None:
    """The count stops at the first object that is not whole, and its offset is returned."""
    assert codec.count_objects(packed) == expected
    assert codec.count_objects(memoryview(packed)) == expected


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (b"\x92", True),
        (b"\xdc\x00\x02", True),
        (b"\xdd\x00\x00\x00\x02", True),
        (b"\x93", False),
        (b"\xdc\x02\x00", False),
        (b"\xdd\x00\x00\x02", False),
        (b"\x05", False),
        (b"", False),
    ],
)
def test_the_shape_of_the_first_entry(packed: bytes, expected: bool) -> None:
    """An array of two is a pair in any encoding."""
    assert codec.begins_with_pair(packed) is expected
    assert codec.begins_with_pair(memoryview(packed + b"\x01\x80")) is expected


def test_joined_parts_are_one_array() -> None:
    """Parts, bytes or views, are joined after a five-byte header that contains their count."""
    array = codec.join((b"\x92\x01", memoryview(b"\x80\x92\x02\x80")), 2)
    assert array == b"\xdd\x00\x00\x00\x02\x92\x01\x80\x92\x02\x80"
    assert array[: codec.ARRAY_HEADER_BYTES] == codec.array_header(2)
    assert codec.array_length(memoryview(array)) == 2


# Any well-formed entries.


def sized(headers: str, data: bytes) -> bytes:
    return bytes.fromhex(headers) + struct.pack({1: ">B", 2: ">H", 4: ">I"}[1], len(data)) + data


def container(first: int, *, pairs: bool) -> Callable[[list[bytes]], bytes]:
    def pack(parts: list[bytes]) -> bytes:
        parts = parts[: len(parts) // 2 * 2] if pairs else parts
        return bytes((first | (len(parts) // 2 if pairs else len(parts)),)) + b"".join(parts)

    return pack


leaves = (
    st.sampled_from(
        [b"\xc0", b"\xc2", b"\xc3", b"\x00", b"\x7f", b"\xff", b"\xcf" + b"\xff" * 8, b"\xcb\x7f\xf0" + bytes(6)]
    )
    | st.binary(max_size=6).map(lambda data: bytes((0xA0 | len(data),)) + data)
    | st.binary(max_size=6).map(lambda data: b"\xc4" + bytes((len(data),)) + data)
    | st.tuples(st.sampled_from([0, 1, 0x7F, 0xFF]), st.binary(max_size=13)).map(
        lambda pair: b"\xc7" + bytes((len(pair[1]), pair[0])) + pair[1]
    )
    | st.binary(min_size=8, max_size=8).map(lambda data: b"\xd7\x00" + data)
    | st.binary(min_size=8, max_size=8).map(lambda data: b"\xd7\xff" + data)
    | st.sampled_from([EVENT_TIME, START[2:12], END[2:12], b"\x91" * 999 + b"\xc0", b"\x81\x01" * 999 + b"\xc0"])
)
objects = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4).map(container(0x90, pairs=False))
        | st.lists(inner, max_size=6).map(container(0x80, pairs=True))
    ),
    max_leaves=12,
)
maps = st.lists(objects, max_size=6).map(container(0x80, pairs=True))
pairs = st.builds(lambda time, record: b"\x92" + time + record, objects, maps)
stamped = st.builds(lambda time, meta, record: b"\x92\x92" + time + meta + record, leaves, maps, maps)


@PROPERTY
@given(st.lists(objects | pairs | stamped | st.sampled_from([START, END, INNER]), max_size=6))
def test_whatever_is_well_formed_can_be_read(entries: list[bytes]) -> None:
    """Reading well-formed entries never raises, returns as many as were counted, and the bytes of unreadable ones."""
    array = codec.join(entries, len(entries))
    if not codec.is_well_formed(array):
        assert any(b"\x91" * 999 in entry or b"\x81\x01" * 999 in entry for entry in entries)
        return
    count = codec.count_messages(array)
    for form in (array, memoryview(array)):
        result = list(read_entries(form, count))
        assert len(result) == count
        assert {entry.raw for entry in result if isinstance(entry, Unreadable)} <= set(entries)
    times = [entry.time for entry in result if isinstance(entry, Entry) and entry.time is not None]
    assert all(-(1 << 36) * NS < time < (1 << 38) * NS for time in times)


@PROPERTY
@given(st.binary(max_size=60), st.integers(0, 6))
def test_whatever_it_is_is_well_formed_or_not(data: bytes, count: int) -> None:
    """No bytes raise an exception, and well-formed ones can be read."""
    array = codec.array_header(count) + data
    if codec.is_well_formed(array):
        messages = codec.count_messages(array)
        assert len(list(read_entries(array, messages))) == messages
    objects, end = codec.count_objects(data)
    assert (objects, end) == (0, 0) or 0 < objects <= end <= len(data)


@PROPERTY
@given(
    st.lists(
        st.tuples(
            st.integers(0, (1 << 32) * NS - 1),
            st.dictionaries(st.text(max_size=9), st.none() | st.text() | st.integers(-(2**63), 2**64 - 1), max_size=4),
        ),
        max_size=5,
    )
)
def test_what_we_write_is_what_we_read(rows: list[tuple[int, dict[str, Any]]]) -> None:
    """A stamp and a record packed by msgpack or msgspec are read back with the same time and values."""
    for pack in (msgpack.packb, msgspec.msgpack.encode):
        array = codec.join((codec.stamp(time) + pack(record) for time, record in rows), len(rows))
        assert list(read_entries(array, len(rows))) == [Entry(time, record) for time, record in rows]


ARRAYS_OF_TWO = (b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02")


@pytest.mark.parametrize("ext", [b"\xd7\x00", b"\xc7\x08\x00", b"\xc8\x00\x08\x00", b"\xc9\x00\x00\x00\x08\x00"])
@pytest.mark.parametrize("metadata", [*ARRAYS_OF_TWO, b"\x91"])
def test_what_is_counted_as_a_marker_is_read_as_one(metadata: bytes, ext: bytes) -> None:
    """A group marker is recognised by its bytes exactly as by its value, in any encoding, readable or not."""
    seconds = (0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFB, 0xFFFFFFF9, 0xFFFFFFFD)
    records = (b"\x80", b"\x81\x90\x01")  # the second has a key that a dict cannot have
    for s, ns, pair, record in itertools.product(seconds, (0, 1, 4 * 10**9, 10**9), ARRAYS_OF_TWO, records):
        time = metadata + ext + struct.pack(">II", s, ns) + (b"" if metadata == b"\x91" else b"\x80")
        is_marker = s * NS + ns in (0xFFFFFFFF * NS, 0xFFFFFFFE * NS)
        entry = pair + time + record
        assert codec.is_marker(entry) == is_marker, entry
        array = codec.join((b"\x92\x92\x01\x80\x80", entry), 2)
        assert codec.is_well_formed(array), entry
        count = codec.count_messages(array)
        assert count == 2 - is_marker, entry
        assert len(list(read_entries(array, count))) == count, entry


@pytest.mark.parametrize("place", range(5))
def test_objects_before_one_that_overflows_are_counted(place: int) -> None:
    """The first object that is not well-formed is found anywhere, although `skip` passes it."""
    objects = [b"\x92\x01\x80", b"\x05", b"\xc4\x05\xc9\xff\xff\xff\xff", b"\x91\x01"]
    objects.insert(place, b"\xc9\xff\xff\xff\xff")
    packed = memoryview(b"".join(objects))
    assert codec.count_objects(packed) == (5, len(packed))
    assert codec.count_well_formed(packed) == (place, len(b"".join(objects[:place])))


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 65_535, 65_536, 1 << 20])
def test_the_header_of_a_str_is_the_shortest(length: int) -> None:
    """At each boundary the header and the bytes are what msgpack writes."""
    assert codec.str_header(length) + b"x" * length == msgpack.packb("x" * length)


LINE = "<12>Nov 26 10:00:00 web1 app[7]: hot"
FIELDS = {
    "message": "hot", "level": "warning", "facility": "user", "pri": 12, "timestamp": "Nov 26 10:00:00",
    "host": "web1", "app": "app", "procid": "7",
}  # fmt: skip
RECEIVED = 1795687200 * NS  # 2026-11-26T10:00:00Z


def syslog_entry(metadata: object, record: object) -> bytes:
    return msgpack.packb([[None, metadata], record])


def test_a_line_of_syslog_is_read_as_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands beside it, a line that is stored whole is read as fields, in the zone of the time of receipt."""
    for zone, sent in (("UTC0", RECEIVED), ("CET-1", RECEIVED - 3600 * NS), ("XXX+12", RECEIVED + 43200 * NS)):
        monkeypatch.setenv("TZ", zone)
        time.tzset()
        before = codec.before_syslog()
        monkeypatch.setenv("TZ", "XXX+5")  # of who reads it
        time.tzset()
        line = before + msgpack.packb({"message": LINE})
        text = codec.UNSTAMPED + msgpack.packb({"message": LINE})
        bad = before + b"\x81\xa7message\xa6<12>a\xff"
        for entries in ((line,), (text, line, text), (bad, line)):
            array = codec.join(entries, len(entries))
            assert codec.may_have_syslog(array)
            (entry,) = (
                entry
                for entry in read_entries(array, len(entries), RECEIVED)
                if isinstance(entry, Entry) and "app" in entry.record
            )
            assert entry == Entry(sent, FIELDS)
        (broken,) = read_entries(codec.join((bad,), 1), 1)
        assert isinstance(broken, Entry)
        assert (broken.time, broken.record["message"], broken.record["pri"]) == (None, "a\ufffd", 12)
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("metadata", "record"),
    [
        ({"syslog": "x"}, {"message": LINE}),
        ({"syslog": True}, {"message": LINE}),
        ({"syslog": 1 << 30}, {"message": LINE}),
        ({"syslog": 0, "a": 1}, {"message": LINE}),
        ({"syslog": -1 << 30}, {"message": LINE}),
        ({"syslog": -1 << 30}, {"message": LINE, "n": 1}),
        ({"syslog": 0}, {"message": 5}),
        ({"syslog": 0}, {}),
        ({"other": 0}, {"message": LINE}),
    ],
)
def test_what_only_resembles_a_line_of_syslog_is_read_as_it_is(metadata: object, record: dict[Any, Any]) -> None:
    """Metadata of a foreign client do not change its record."""
    assert read(syslog_entry(metadata, record)) == [Entry(None, record)]


def test_entries_are_split_if_they_are_as_many_as_messages() -> None:
    """Anything else, from group markers to a tail, is for a reader that looks at each entry."""
    one = codec.stamp(5) + b"\x80"
    packed = codec.join([one, b"\x05"], 2)
    assert [bytes(raw) for raw in codec.split(packed, 2) or ()] == [one, b"\x05"]
    assert codec.split(packed, 1) is None
    assert codec.split(packed[:-1], 2) is None
    assert codec.split(packed + b"\x05", 2) is None


@PROPERTY
@given(st.text("ab", max_size=80), st.text("ab", max_size=3), st.integers(0, 16))
def test_bytes_are_found_in_others(text: str, part: str, repeats: int) -> None:
    """However long they are."""
    part = part * repeats
    assert codec.contains(text.encode(), part.encode()) == (part in text)
