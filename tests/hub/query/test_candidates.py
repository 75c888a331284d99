"""hub.query.candidates: what is found by bytes is what is found by decoding everything."""

import re
import struct
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub import entries as codec
from hub.message import CLIENT_LOSS_TAG, Batch, Message
from hub.query import query as query_module
from hub.query.candidates import Find, Finder, are_dense, candidates, of_choice, of_regex
from hub.query.condition import Condition
from hub.query.query import Query
from hub.wire.sysloglines import encode_entry

_pack = msgspec.msgpack.Encoder().encode
TEXTS = st.sampled_from(
    [
        "",
        "time",
        "TIME",
        "a time-out",
        "refused",
        "k",
        "\u212a",
        "\u0130s",
        "\u017f",
        "Straße",
        "n",
        "ns",
        "x\\y",
        "\ufffd",
        "1",
        "1.0",
        " 1",
        "+5",
        "-3",
        "1e3",
        "inf",
        "true",
        "null",
        "[1]",
        "b'1'",
        "{'s': 1}",
        "warning",
        "user",
        "\u00a07",
        "x" * 40,
    ]
)
NUMBERS = st.sampled_from([0, 1, -1, 5, 7, -3, 127, 128, 200, 255, 256, 500, 65536, 1 << 40, (1 << 64) - 1, -(1 << 63)])
FLOATS = st.sampled_from([0.0, -0.0, 1.0, 0.5, -3.0, 1000.0, 1e300, float("inf"), float("nan"), 500.0])
KEYS = st.sampled_from(["n", "s", "ns", "status", "http", "http.s", "level", "a b", "ü", "\ufffd"])
VALUES = st.recursive(
    st.one_of(
        TEXTS, NUMBERS, FLOATS, st.sampled_from([None, True, False, b"1", b"time", msgspec.msgpack.Ext(5, b"ns")])
    ),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS, inner, max_size=2),
    max_leaves=4,
)
RECORDS = st.dictionaries(KEYS, VALUES, max_size=4)
# Forms that our encoder does not choose: longer headers, single precision, keys that are no texts, invalid UTF-8.
ODD_RECORDS = st.sampled_from(
    [
        b"\x81\xa1s\xd9\x04time",
        b"\x81\xd9\x01s\xcd\0\x05",
        b"\x81\xa1s\xd3" + (5).to_bytes(8, "big"),
        b"\x81\xa1s\xce\0\0\1\xf4",
        b"\x81\xa1s\xca" + struct.pack(">f", 500),
        b"\x81\xa1s\xd0\xfd",
        b"\x81\xa1s\xda\0\x031.0",
        b"\x81\xc4\x01s\x05",
        b"\x82\xa1s\x01\xa1s\x05",
        b"\x81\xa1n\xa2\xfft",
        b"\x81\xa2\xffs\x05",
        b"\x81\x05\xa4time",
        b"\x81\x81\x01\x02\xa4time",
        b"\x81\xa1s\xd7\0\0\0\0\x05\0\0\0\0",
        b"\x81\xa1s\xd6\xff\0\0\0\x05",
        b"\x81\xa1s\xdb\0\0\0\x041e3 ",
    ]
)
TIMES = st.sampled_from(
    [
        codec.stamp(5)[1:],
        codec.stamp(7)[1:],
        b"\x05",
        b"\xc0",
        b"\xcb" + struct.pack(">d", 1.5),
        b"\xa4time",
        b"\x92\xc0\x80",
        b"\x92" + codec.stamp(5)[1:] + b"\x81\xa1s\xa4time",
        b"\x90",
    ]
)
ENTRIES = st.one_of(
    st.builds(lambda time, record: b"\x92" + time + _pack(record), TIMES, RECORDS),
    st.builds(lambda record: codec.stamp(5) + _pack(record), RECORDS),
    st.builds(lambda time, record: b"\x92" + time + record, TIMES, ODD_RECORDS),
)
LINES = st.sampled_from(
    [
        b"<12>Nov 26 10:00:00 web1 app[7]: time",
        b"<14>other: refused",
        b"plain ns",
        b'<12>1 - h s - - [a s="x\\]y"] z',
        b"<11>app: \xff",
    ]
)
OTHERS = st.one_of(
    ENTRIES, LINES.map(encode_entry), st.sampled_from([b"\x05", b"\x92\x01\x02", b"\x93\x01\x80\x01", b"\xa4time"])
)
GREPS = st.sampled_from(
    [
        "time",
        "TIME",
        "t.me",
        "time|refused",
        "refuse.*",
        "(?i)time",
        "k",
        "s",
        "i",
        "Straße",
        "ü",
        "^time$",
        "x[a-z]*x",
        r"x\\y",
        "\ufffd",
        "[^t]ime",
        "warn",
        "use[rs]",
        "(re|ti)[a-z]+",
        "n{1,2}s?",
        "(?x) t i",
        "a(?i:b)",
        "(?=time)t",
        "(?!t)ime",
        "",
        "\\\\",
    ]
)
CONDITIONS = st.builds(
    lambda key, operator, value: f"{key}{operator}{value}",
    st.sampled_from(["s", "n", "ns", "http.s", "http", "level", "a b", "ü", "\ufffd", "h.", ".s", "facility", "app"]),
    st.sampled_from(["=", "==", "!=", "<", "<=", ">", ">="]),
    st.sampled_from(
        [
            "1",
            "5",
            "0",
            "-0",
            "-3",
            "500",
            "0.5",
            "1e3",
            "1000",
            "inf",
            "-inf",
            "time",
            "",
            "true",
            "False",
            "null",
            "[1]",
            "b'1'",
            "\ufffd",
            "300",
            "-1",
            "128",
            "user",
            "app",
            "7",
            "18446744073709551615",
            "1e300",
            "Straße",
            "{'s': 1}",
            "1" + "0" * 63,
            "x" * 40,
        ]
    ),
)


@st.composite
def queries(draw: st.DrawFn) -> dict[str, Any]:
    wanted: dict[str, Any] = {"where": draw(st.lists(CONDITIONS, max_size=2))}
    if not wanted["where"] or draw(st.booleans()):
        wanted |= {
            "grep": draw(GREPS),
            "ignore_case": draw(st.booleans()),
            "invert_match": draw(st.sampled_from([False] * 4 + [True])),
        }
    if draw(st.sampled_from([False] * 4 + [True])):
        wanted["level"] = "warning"
    return wanted


MARKED = b"\x92\x92" + codec.stamp(5)[1:] + b"\x80"
MARKER = b"\x92\x92\xd7\0\xff\xff\xff\xff\0\0\0\0\x80\x80"
"""The beginning of a group of messages, which is none itself."""


def batch_of(entries: list[bytes], *, count: int | None = None) -> Batch:
    number = len(entries) if count is None else count
    return Batch(b"t", codec.join(entries, len(entries)), number, None, sequence=100, received=9_000_000_000)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Few kinds of entries, many of them; sometimes with lines of syslog, garbage, or damage."""
    kinds = draw(st.lists(draw(st.sampled_from([ENTRIES, ENTRIES, OTHERS])), min_size=1, max_size=5))
    entries = draw(st.lists(st.sampled_from(kinds), max_size=50))
    packed = codec.join(entries, len(entries))
    count = len(entries)
    damage = draw(st.sampled_from(["", "", "", "cut", "more", "fewer", "tail"]))
    if damage == "cut":
        packed = packed[: max(len(packed) - draw(st.integers(1, 30)), 5)]
    elif damage == "more":
        packed = codec.join(entries, len(entries) + 2)
    elif damage == "fewer" and count:
        packed = codec.join(entries, len(entries) - 1)
    elif damage == "tail":
        packed += b"\x92\x05\x81\xa1s\xa4time"
    if damage in ("more", "cut"):
        count = codec.array_length(packed)
    return Batch(b"t", packed, count, None, sequence=100, received=9_000_000_000)


def query_of(filters: dict[str, Any]) -> Query:
    return Query(**{**filters, "where": [Condition(text) for text in filters.get("where", ())]})


def shown(messages: Any) -> list[str]:
    each = (repr((message.sequence, message.tag, message.time, message.record)) for message in messages)
    return [re.sub(" at 0x[0-9a-f]+", "", text) for text in each]


def decoded(query: Query, batch: Batch) -> list[Message]:
    """Every message of *batch* is decoded by itself, and its record is looked at."""
    assert query._holds is not None
    readable = (message for message in batch.messages() if message.tag != CLIENT_LOSS_TAG.decode())
    return [message for message in readable if query._holds(message.record)]


@given(queries(), batches(), st.sampled_from([0, 4]))
@example({"grep": "time"}, batch_of([codec.stamp(5) + b"\x81\xa1s\xa4time"] * 40), 0)
@example({"grep": "k", "ignore_case": True}, batch_of([codec.stamp(5) + _pack({"s": "\u212a"})]), 0)
@example({"grep": "x]y"}, batch_of([encode_entry(b'<12>1 - h s - - [a s="x\\]y"] z')]), 0)
@example({"grep": "warn"}, batch_of([encode_entry(b"<12>warm")]), 0)
@example({"grep": "b\ufffd"}, batch_of([codec.stamp(5) + b"\x81\xa1s\xa2b\xff"]), 0)
@example({"where": ["s=0"]}, batch_of([codec.stamp(5) + _pack({"s": -0.0})]), 0)
@example({"grep": "time"}, batch_of([MARKER, *[MARKED + b"\x81\xa1s\xa4time"] * 3, MARKER], count=3), 0)
@example({"grep": "time"}, batch_of([MARKED + b"\x80", MARKER, *[MARKED + b"\x81\xa1s\xa4time"] * 3], count=4), 0)
def test_the_messages_are_those_that_decoding_everything_finds(filters: dict[str, Any], batch: Batch, few: int) -> None:
    """For any query and any bytes: the same messages, in the same order, with the same sequences and times."""
    query = query_of(filters)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(query_module, "_FEW", few)  # in the smallest batches too
        assert shown(query.messages(iter((batch,)))) == shown(decoded(query, batch))


@given(queries(), st.lists(batches(), min_size=1, max_size=4), st.integers(1, 4))
@example({"grep": "warn"}, [batch_of([encode_entry(b"<12>warm")]), batch_of([codec.stamp(5) + b"\x80"])], 2)
@example({"where": ["s=time"]}, [batch_of([encode_entry(b"<12>1")]), batch_of([codec.stamp(5) + b"\x80"])], 2)
def test_batches_that_were_read_together_are_searched_like_single_ones(
    filters: dict[str, Any], batches: list[Batch], each: int
) -> None:
    """The bytes between them, which contain no messages, and those of the others change nothing."""
    query, found = query_of(filters), []
    for start in range(0, len(batches), each):
        window, views = b"".join(b"time" + batch.entries for batch in batches[start : start + each]), []
        at = 0
        for batch in batches[start : start + each]:
            end = at + 4 + len(batch.entries)
            views.append(msgspec.structs.replace(batch, entries=memoryview(window)[at + 4 : end]))
            at = end
        found += shown(query.messages(iter(views)))
    assert found == [text for batch in batches for text in shown(decoded(query, batch))]


def test_a_window_without_what_is_wanted_is_looked_at_once() -> None:
    """Its batches are not copied, and not looked at."""
    entry = codec.stamp(5) + _pack({"s": "time"})
    window = codec.join([entry] * 9, 9) * 3
    size = len(window) // 3
    batches = [Batch(b"t", memoryview(window)[at : at + size], 9) for at in range(0, len(window), size)]
    looks: list[int] = []
    real = Query._finds

    def looking(query: Query, packed: bytes) -> list[Find] | None:
        looks.append(len(packed))
        return real(query, packed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Query, "_finds", looking)
        assert list(query_of({"grep": "nowhere"}).messages(iter(batches))) == []
        assert looks == [len(window)]
        looks.clear()
        assert len(list(query_of({"grep": "time"}).messages(iter(batches)))) == 27
        assert looks == [len(window), size, size, size]


def test_only_candidates_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry of a thousand is decoded, where one has the text; a batch without it is not even split."""
    entries = [codec.stamp(5) + _pack({"n": number, "message": f"number {number}"}) for number in range(1000)]
    batch = Batch(b"t", codec.join(entries, 1000), 1000, None, sequence=1)
    counts: list[int] = []
    real = codec.pairs

    def counting(packed: bytes, count: int, received: int) -> object:
        counts.append(count)
        return real(packed, count, received)

    monkeypatch.setattr(codec, "pairs", counting)
    for filters in (
        {"grep": "number 777"},
        {"grep": "NUMBER 777", "ignore_case": True},
        {"grep": "number 777|number x"},
        {"grep": "^number 777$"},
        {"where": ["n=777"]},
        {"where": ["message=number 777"]},
        {"grep": "number", "where": ["n=777"]},
    ):
        counts.clear()
        assert [message.sequence for message in query_of(filters).messages(iter((batch,)))][-1] == 778
        assert sum(counts) <= 25, filters
    counts.clear()
    monkeypatch.setattr(codec, "split", None)
    for filters in ({"grep": "nowhere"}, {"where": ["n=5000"]}, {"where": ["message=numb"]}):
        assert list(query_of(filters).messages(iter((batch,)))) == []
    assert counts == []


def found_in(packed: bytes, finder: Finder) -> Find:
    find = finder(packed)
    assert find is not None
    return find


def test_what_most_entries_have_does_not_narrow() -> None:
    """Then everything is decoded, without a look for each entry. The beginning of the bytes is a hint of it."""
    packed = b"ab" * 100 + b"cd" * 100
    starts = range(0, 401, 2)
    assert candidates(starts, [found_in(packed, of_choice(["a"]))]) is None
    assert candidates(starts, [found_in(packed, of_choice(["bcdcdcdcdcdcdcdcdcdcdcdc"]))]) == [99]
    assert are_dense(packed, 200, [found_in(packed, of_choice(["a"]))])
    assert not are_dense(packed, 200, [found_in(packed, of_choice(["c"]))])
    assert not are_dense(packed, 200, [found_in(packed, of_choice(["a"])), found_in(packed, of_choice(["d"]))])


def test_each_finder_has_to_find_its_own() -> None:
    """An entry is a candidate if all of them find something that begins in it."""
    packed = b"..ab..a...b..ba."
    starts = [0, 4, 8, 12, 16]
    finds = [found_in(packed, of_choice(["a"])), found_in(packed, of_regex(re.compile(b"b")))]
    assert candidates(starts, finds) == [0, 3]
    assert candidates(starts, [found_in(packed, of_choice(["a", "b"]))]) == [0, 1, 2, 3]
    find = found_in(packed, of_choice(["a", "b"]))
    assert [find(place) for place in (0, 3, 4, 11, 15, 0, 7)] == [2, 3, 6, 13, 16, 2, 10]
