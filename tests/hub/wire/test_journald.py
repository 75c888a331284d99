"""hub.wire.journald: fields of journald's native protocol."""

from __future__ import annotations

import struct
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.journald import FIELDS_MAX, parse

NAMES = st.from_regex(r"[A-Z][A-Z0-9_]{0,20}", fullmatch=True).filter(
    lambda name: name not in ("MESSAGE", "PRIORITY", "SYSLOG_FACILITY", "SYSLOG_IDENTIFIER")
)


def records(data: bytes) -> list[Any]:
    """Return the records of the messages in *data*; none has a time."""
    entries = [msgpack.unpackb(entry) for entry in parse(data) or ()]
    assert all(time is None for time, _ in entries)
    return [record for _, record in entries]


def field(name: str, value: bytes, *, is_long: bool) -> bytes:
    """Return a field as a client writes it; *is_long* with its length."""
    if is_long or b"\n" in value:
        return name.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return name.encode() + b"=" + value + b"\n"


def test_fields() -> None:
    """Fields keep their names; message, level, facility and app are named as in a line of syslog."""
    data = b"MESSAGE=hello\nPRIORITY=3\nSYSLOG_FACILITY=3\nSYSLOG_IDENTIFIER=app\nCODE_LINE=7\nA==\n"
    assert records(data) == [
        {
            "message": "hello", "level": "error", "facility": "daemon", "app": "app", "PRIORITY": "3",
            "SYSLOG_FACILITY": "3", "SYSLOG_IDENTIFIER": "app", "CODE_LINE": "7", "A": "=",
        }
    ]  # fmt: skip


def test_values_of_any_bytes() -> None:
    """A value with its length may have newlines, and one that is no UTF-8 is bytes."""
    data = field("MESSAGE", b"one\ntwo\n", is_long=True) + field("RAW", b"\xff\0\n", is_long=True) + b"X=\xfe\n"
    assert records(data) == [{"message": "one\ntwo\n", "RAW": b"\xff\0\n", "X": b"\xfe"}]


def test_repeated_fields_are_lists() -> None:
    """All values of a field are kept, in their order."""
    assert records(b"A=1\nA=2\nMESSAGE=x\nA=3\n") == [{"message": "x", "A": ["1", "2", "3"]}]


def test_what_only_journald_may_set() -> None:
    """A client cannot pretend to be another process: such fields are under a name of their own."""
    assert records(b"MESSAGE=x\n_PID=1\n__CURSOR=c\n") == [{"message": "x", "claimed": {"_PID": "1", "__CURSOR": "c"}}]


def test_several_messages_and_comments() -> None:
    """An empty line ends a message; comments are left out; the last newline may be missing."""
    data = b"# comment\nMESSAGE=1\n\n\n.command\nMESSAGE=2\nA=b"
    assert records(data) == [{"message": "1"}, {"message": "2", "A": "b"}]
    assert records(b"\n\nMESSAGE=1") == [{"message": "1"}]


@pytest.mark.parametrize("priority", [b"8", b"x", b"-1", b"", b"\xff", "\u00b2".encode(), b"07", b"999999"])
def test_priorities_that_are_none(priority: bytes) -> None:
    """They stay, without a level (except with a zero in front)."""
    (record,) = records(b"PRIORITY=" + priority + b"\n")
    assert record.get("level") == ("debug" if priority == b"07" else None)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        b"# only a comment\n",
        b"hello",
        b"<13>hello",
        b"lower=case\n",
        b"1A=x\n",
        b"___A=x\n",
        b"A B=x\n",
        b"A=x\nhello\n",
        b"TITLE\nand a text below it",
        b"A\n\x01",
        b"A\n" + struct.pack("<Q", 5) + b"abc\n",
        b"A\n" + struct.pack("<Q", 2) + b"abc\n",
        b"A\n" + b"\xff" * 8 + b"abc\n",
        b"A" * 65 + b"=x\n",
        b"=x\n",
    ],
)
def test_other_shapes(data: bytes) -> None:
    """Anything else is no such message."""
    assert parse(data) is None


def test_the_number_of_fields_is_bounded() -> None:
    """Up to the limit, in one message or several; and lines without a field are bounded, too."""
    many = b"".join(b"F%d=x\n" % n for n in range(FIELDS_MAX))
    assert len(records(many)[0]) == FIELDS_MAX + 1
    assert parse(many + b"G=x\n") is None
    assert len(parse(b"A=x\n\n" * FIELDS_MAX) or ()) == FIELDS_MAX
    assert parse(b"A=x\n\n" * (FIELDS_MAX + 1)) is None
    assert parse(b"A=x\n" + b"#\n" * 3 * FIELDS_MAX) is None
    assert parse(b"A=x\n" * 3 * FIELDS_MAX) is None


@given(st.dictionaries(NAMES, st.tuples(st.binary(max_size=30), st.booleans()), min_size=1, max_size=8))
def test_what_is_written_is_read(fields: dict[str, tuple[bytes, bool]]) -> None:
    """Every field comes out with its bytes, whichever way it was written."""
    data = b"".join(field(name, value, is_long=is_long) for name, (value, is_long) in fields.items())
    (record,) = records(data)
    found = {name: value.encode() if isinstance(value, str) else value for name, value in record.items()}
    assert found == {"message": b"", **{name: value for name, (value, _) in fields.items()}}


@given(st.lists(st.sampled_from([b"A", b"B_1", b"=", b"\n", b"#", b"\0" * 7, b"\1", b"\xff", b"x"]), max_size=40))
def test_any_bytes(parts: list[bytes]) -> None:
    """Whatever the bytes are, the result is messages or None."""
    assert all(isinstance(record, dict) for record in records(b"".join(parts)))
