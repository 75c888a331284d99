"""hub.wire.journalexport: the export format of the systemd journal."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.journalexport import ENTRIES_MAX, FIELDS_MAX, BadExport, Entry, JournalExport
from tests.hub.wire.feeding import PROPERTY

LIMIT = 1 << 16
ID = b"36bcec8257ad4fccabb85a8606fc9acb"
CURSOR = b"s=%s;i=1f;b=0123456789abcdef0123456789abcdef;m=0;t=60a24181e4000;x=86200caf8fc95d0" % ID
ADDRESS = ((b"__CURSOR", CURSOR), (b"__REALTIME_TIMESTAMP", b"1700000000000001"))


def export(fields: Iterable[tuple[bytes, bytes]], *, is_long: bool = False) -> bytes:
    """Return the export of an entry; *is_long*: each value after its length."""
    parts = [
        name + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        if is_long or b"\n" in value
        else name + b"=" + value + b"\n"
        for name, value in fields
    ]
    return b"".join([*parts, b"\n"])


def read(*pieces: bytes, limit: int = LIMIT) -> list[Entry]:
    """Return the entries in *pieces*, and check that nothing is left."""
    parser = JournalExport(entry_bytes_max=limit)
    entries: list[Entry] = []
    for piece in pieces:
        entries += parser.receive(piece)
        while parser.has_more:
            entries += parser.receive(b"")
    assert parser.is_between
    assert parser.held_bytes == 0
    return entries


def test_an_entry() -> None:
    """The fields that have names of ours, those that keep theirs, and the time; the address is left out."""
    fields = [
        *ADDRESS, (b"__MONOTONIC_TIMESTAMP", b"5"), (b"_BOOT_ID", b"b"), (b"PRIORITY", b"3"), (b"_PID", b"12"),
        (b"_UID", b"1000"), (b"_SYSTEMD_UNIT", b"app.service"), (b"SYSLOG_IDENTIFIER", b"app"), (b"MESSAGE", b"a=b"),
        (b"_COMM", b"python"),
    ]  # fmt: skip
    (entry,) = read(export(fields))
    assert (entry.cursor, entry.line, entry.number) == (CURSOR, ID, 0x1F)
    assert (entry.time_ns, entry.value(b"_COMM"), entry.value(b"X")) == (1700000000000001000, b"python", b"")
    expected = {
        "message": "a=b", "level": "error", "app": "app", "unit": "app.service", "pid": 12, "uid": 1000, "boot_id": "b",
        "PRIORITY": "3", "SYSLOG_IDENTIFIER": "app", "_COMM": "python",
    }  # fmt: skip
    assert entry.record() == expected
    packed = entry.packed()
    assert packed is not None
    time, record = msgpack.unpackb(packed)
    assert record == expected
    assert time.data == (1700000000).to_bytes(4, "big") + (1000).to_bytes(4, "big")


def test_values_that_are_no_text_and_values_that_are_repeated() -> None:
    """Bytes stay bytes, a value may have newlines, a repeated field is a list, and a process that is none is kept."""
    fields = [
        (b"A", b"\xff\n"),
        (b"B", b"1"),
        (b"B", b"x\n\ny"),
        (b"B", b"\xfe"),
        (b"_PID", b"x"),
        (b"_UID", b"1" * 30),
    ]
    (entry,) = read(export(fields))
    assert entry.record() == {
        "message": "", "pid": "x", "uid": "1" * 30, "A": b"\xff\n", "B": ["1", "x\n\ny", b"\xfe"],
    }  # fmt: skip
    assert (entry.cursor, entry.line, entry.number, entry.time_ns) == (b"", b"", 0, None)
    packed = entry.packed()
    assert packed is not None
    assert msgpack.unpackb(packed)[0] is None


def test_numbers_by_name() -> None:
    """Since version 254 the number has a field of its own, which counts; half of that does not."""
    (entry,) = read(export([*ADDRESS, (b"__SEQNUM", b"77"), (b"__SEQNUM_ID", b"d" * 32)]))
    assert (entry.line, entry.number) == (b"d" * 32, 77)
    (entry,) = read(export([*ADDRESS, (b"__SEQNUM", b"77")]))
    assert (entry.line, entry.number) == (ID, 0x1F)
    (entry,) = read(export([(b"__CURSOR", b"unknown"), (b"__SEQNUM_ID", b"d" * 32), (b"__SEQNUM", b"x")]))
    assert (entry.line, entry.number) == (b"", 0)


def test_every_cut() -> None:
    """The entries are the same wherever the stream is cut."""
    entries = [
        [*ADDRESS, (b"MESSAGE", b"one")],
        [*ADDRESS, (b"RAW", b"\n\nA=1\n\n"), (b"MESSAGE", b"two\n")],
        [*ADDRESS, (b"BIG", b"x" * 200), (b"MESSAGE", b"")],
        [*ADDRESS, (b"BIG", b"\n" * 200), (b"Z", b"1"), (b"RAW", b"\n\n")],
        [*ADDRESS, (b"MESSAGE", b"last")],
    ]
    data = b"\n" + b"".join(map(export, entries))
    for limit in (LIMIT, 250):
        whole = read(data, limit=limit)
        assert [entry.is_cut for entry in whole] == [False, False, limit == 250, limit == 250, False]
        assert sum(entry.size for entry in whole) == len(data) - 1
        assert [entry.cursor for entry in whole] == [CURSOR] * 5
        for at in range(len(data)):
            assert read(data[:at], data[at:], limit=limit) == whole, at
        assert read(*(data[at : at + 1] for at in range(len(data))), limit=limit) == whole


NAME = st.from_regex(rb"_?[A-Z][A-Z0-9_]{0,5}", fullmatch=True)
FIELDS = st.lists(st.tuples(NAME, st.binary(max_size=20) | st.just(b"\n\n") | st.just(b"x" * 300)), min_size=1)


@given(st.lists(st.tuples(FIELDS, st.booleans()), max_size=5), st.lists(st.integers(0, 3000), max_size=6))
@PROPERTY
def test_any_entries(entries: list[tuple[list[tuple[bytes, bytes]], bool]], cuts: list[int]) -> None:
    """Every entry comes back as it was written, however it arrives."""
    data = b"".join(export(fields, is_long=is_long) for fields, is_long in entries)
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    found = read(*(data[a:b] for a, b in itertools.pairwise(places)))
    assert [entry.fields for entry in found] == [fields for fields, _ in entries]


@given(
    st.lists(st.sampled_from([b"A", b"=", b"\n", b"\n\n", b"\0\0\0\0\0\0\0", b"\x03", b"xyz", b"__CURSOR=", b"\xff"]))
)
@PROPERTY
def test_any_bytes(parts: list[bytes]) -> None:
    """Bytes of any kind are entries, or no export; the result is the same in one piece and byte by byte."""
    data = b"".join(parts)
    assert outcome([data]) == outcome([data[at : at + 1] for at in range(len(data))])


def outcome(pieces: list[bytes]) -> list[Entry] | None:
    """Return the entries in *pieces*, or None if they are no export."""
    parser = JournalExport(entry_bytes_max=16)
    entries: list[Entry] = []
    try:
        for piece in pieces:
            entries += parser.receive(piece)
            while parser.has_more:
                entries += parser.receive(b"")
            assert parser.held_bytes <= 300
    except BadExport:
        return None
    return entries


@pytest.mark.parametrize(
    "data",
    [
        b"\xff=1\n\n",
        b"=1\n\n",
        b"no name\n" + struct.pack("<Q", 1) + b"x\n\n",
        b"NAME\n" + struct.pack("<Q", 1 << 40) + b"x\n\n",
        b"NAME\n" + struct.pack("<Q", 1) + b"xy\n\n",
        b"N" * 300,
        b"N" * 300 + b"=1\n\n",
    ],
)
def test_no_export(data: bytes) -> None:
    """What journalctl cannot have written is an error, and not an entry."""
    with pytest.raises(BadExport):
        read(data)


@pytest.mark.parametrize("is_long", [False, True])
def test_a_large_entry_is_not_held(is_long: bool) -> None:
    """Of an entry over the limit only the address is held, and the next one is read."""
    parser = JournalExport(entry_bytes_max=1000)
    data = export([*ADDRESS, (b"SMALL", b"y" * 300)])[:-1] + export([(b"BIG", b"x" * 100_000)], is_long=is_long)
    held, entries = 0, []
    for at in range(0, len(data), 100):
        entries += parser.receive(data[at : at + 100])
        held = max(held, parser.held_bytes)
    assert held <= 1100
    (entry,) = entries
    assert (entry.is_cut, entry.fields, entry.size, entry.number) == (True, [], len(data), 0x1F)
    assert parser.receive(export([(b"A", b"1")]))[0].fields == [(b"A", b"1")]


def test_too_many_fields() -> None:
    """An entry of more fields than journald accepts is over the limit, too."""
    (entry,) = read(export([*ADDRESS, *[(b"A", b"")] * FIELDS_MAX]))
    assert (entry.is_cut, entry.number) == (True, 0x1F)
    (entry,) = read(export([*ADDRESS, *[(b"A", b"")] * FIELDS_MAX], is_long=True))
    assert entry.is_cut


def test_a_call_is_limited() -> None:
    """One call returns a limited number of entries, and the next one the others."""
    parser = JournalExport(entry_bytes_max=LIMIT)
    data = export([(b"A", b"1")]) * (ENTRIES_MAX + 1)
    assert len(parser.receive(data)) == ENTRIES_MAX
    assert parser.has_more
    assert len(parser.receive(b"")) == 1
    assert not parser.has_more


@pytest.mark.parametrize("is_long", [False, True])
def test_where_the_last_entry_ends(is_long: bool) -> None:
    """What has been received without its open bytes ends with an entry, wherever the stream is cut."""
    ends, data, limit = [0], b"", 1000
    for size in (1, limit, 2):
        data += export([*ADDRESS, (b"MESSAGE", b"x" * size)], is_long=is_long)
        ends.append(len(data))
    for at in range(len(data) + 1):
        parser = JournalExport(entry_bytes_max=limit)
        found = len(parser.receive(data[:at]))
        assert at - parser.open_bytes == ends[found]


def test_what_precedes_a_fault_is_returned() -> None:
    """The entries before it come first, and then the fault, again and again."""
    whole = export([*ADDRESS, (b"MESSAGE", b"one")])
    parser = JournalExport(entry_bytes_max=LIMIT)
    assert len(parser.receive(whole + whole + b"=bad\n\n")) == 2
    assert parser.has_more
    for _ in range(2):
        with pytest.raises(BadExport):
            parser.receive(b"")
