"""
hub.wire.parsers: the lines of a file are messages, whatever they are.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.wire.jsonlines import JSON_BYTES_MAX
from hub.wire.parsers import PARSERS, Parsed
from tests.hub.wire.feeding import PROPERTY
from tests.support import read_entries

NS = codec.NS
Y2024 = 1_704_067_200 * NS


def read(parsed: Parsed) -> list[codec.Entry]:
    """Return the entries, all of which can be read."""
    entries, count = parsed
    assert codec.is_whole(entries)
    assert codec.array_length(entries) == count
    found = list(read_entries(entries, count, Y2024))
    assert all(isinstance(each, codec.Entry) for each in found)
    return [each for each in found if isinstance(each, codec.Entry)]


def messages(parsed: Parsed) -> list[Any]:
    return [each.record["message"] for each in read(parsed)]


@pytest.mark.parametrize("kind", PARSERS)
def test_nothing_is_nothing(kind: str) -> None:
    """No lines are no messages."""
    parser = PARSERS[kind]()
    assert read(parser.parse([])) == read(parser.finish()) == []
    assert parser.open_bytes == 0


def test_text_of_any_length() -> None:
    """At each boundary of msgpack's headers, and of the lengths that are kept, a line is one record."""
    lines = [b"x" * length for length in (0, 1, 31, 32, 255, 256, 1023, 1024, 65_535, 65_536)]
    entries = read(PARSERS["text"]().parse(lines))
    assert entries == [codec.Entry(None, {"message": line.decode()}) for line in lines]


@PROPERTY
@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\r", b"a\r", b"\r\r", b"a\rb"]), max_size=8))
def test_the_bytes_of_text_are_kept(lines: list[bytes]) -> None:
    """The bytes are in the entries unchanged, except one carriage return at the end of a line."""
    entries, count = PARSERS["text"]().parse(lines)
    assert count == len(lines)
    raws = [bytes(raw) for raw in codec.split_raw(entries)]
    for raw, line in zip(raws, lines, strict=True):
        assert raw.endswith(line.removesuffix(b"\r"))
        assert raw.startswith(codec.UNSTAMPED + b"\x81\xa7message")


@PROPERTY
@given(st.lists(st.text(alphabet="<1>Nov 27:[]{}\r\t-aé", max_size=40), max_size=8))
def test_syslog_is_taken_apart_when_it_is_read(lines: list[str]) -> None:
    """A line has the fields that it has on the socket; nothing is invalid."""
    for line, entry in zip(lines, read(PARSERS["syslog"]().parse([line.encode() for line in lines])), strict=True):
        assert entry.record["facility"]
        assert line.removesuffix("\r").endswith(entry.record["message"])


def test_a_line_of_syslog_in_a_file() -> None:
    """The files of rsyslog have no priorities."""
    (entry,) = read(PARSERS["syslog"]().parse([b"Jan  1 00:00:00 box sshd[12]: in"]))
    fields = {"message": "in", "host": "box", "app": "sshd", "procid": "12", "pri_assumed": True}
    assert fields.items() <= entry.record.items()
    assert entry.time is not None


def test_json() -> None:
    """An object is the record, without its time. Its tag stays, because the source has one. Other lines are text."""
    lines = [
        b'{"time": "2024-01-01T00:00:00.5Z", "tag": "own", "a": 1}\r',
        b'{"time": "yesterday"}',
        b"[1]\r",
        b"{broken",
        b"",
        b'{"jsonrpc": "2.0", "method": "ping", "id": 1}',
    ]
    assert read(PARSERS["json"]().parse(lines)) == [
        codec.Entry(Y2024 + NS // 2, {"tag": "own", "a": 1}),
        codec.Entry(None, {"time": "yesterday"}),
        codec.Entry(None, {"message": "[1]"}),
        codec.Entry(None, {"message": "{broken"}),
        codec.Entry(None, {"message": ""}),
        codec.Entry(None, {"jsonrpc": "2.0", "method": "ping", "id": 1}),
    ]


def test_json_that_cannot_be_a_record() -> None:
    """An object that is too long, or nested too deeply, is text."""
    long = b'{"a":"' + b"x" * JSON_BYTES_MAX + b'"}'
    deep = b'{"a":' * 600 + b"1" + b"}" * 600
    assert messages(PARSERS["json"]().parse([long, deep])) == [long.decode(), deep.decode()]


@PROPERTY
@given(st.lists(st.binary(max_size=60) | st.text(alphabet='{}[]":,a1\\ue', max_size=30).map(str.encode), max_size=8))
def test_no_line_of_json_is_invalid(lines: list[bytes]) -> None:
    """Each line is one message, with the text of what is no object."""
    for line, entry in zip(lines, read(PARSERS["json"]().parse(lines)), strict=True):
        try:
            is_object = isinstance(json.loads(line.decode("utf-8", "surrogateescape")), dict) and line[:1] == b"{"
        except ValueError:
            is_object = False
        if not is_object:
            assert entry.record == {"message": line.removesuffix(b"\r").decode("utf-8", "replace")}
