"""A message as one line: its text, its fields, and its bounds."""

from __future__ import annotations

from typing import Any

import msgspec

from hub.message import Message
from hub.viewer.row import FIELDS_MAX, TEXT_CHARS_MAX, row_of, value_json


def row(record: dict[Any, Any], tag: str = "app") -> tuple[str, str, int]:
    found = row_of(Message(tag, 5, record, 7))
    assert (found.sequence, found.time) == (7, 5)
    return found.text, found.fields, found.rank


def test_text_level_and_fields() -> None:
    """The text is alone, the level is a rank, and the rest are fields as in logfmt, JSON where they are not texts."""
    record = {"msg": "hello", "severity": 3, "a": "b", "c": "d e", "n": 1.5, "on": True, "none": None, "e": ""}
    assert row(record) == ("hello", 'a=b c="d e" n=1.5 on=true none=null e=""', 5)
    assert row({"user": {"id": 1, "tags": ["x"]}, 3: b"\xff"})[1:] == ('user={"id":1,"tags":["x"]} 3="/w=="', -1)
    assert row({"log": {"level": "warn", "file": "a"}}) == ("", 'log={"level":"warn","file":"a"}', 4)
    assert row({"x": msgspec.msgpack.Ext(5, b"\x01")})[1] == 'x={"ext":5,"data":"01"}'
    assert value_json("a") == '"a"'


def test_many_lines_are_one() -> None:
    """The first line is shown, and how many follow."""
    assert row({"message": "\na\tb\r\nsecond\nthird\n", "trace": "x\ny"})[:2] == ("a b ⏎2", 'trace="x ⏎1"')


def test_it_is_bounded_and_harmless() -> None:
    """Long texts, many fields and control characters neither fill the memory nor reach the terminal."""
    text, fields, _ = row({"message": "\x1b" * 10_000, "k" * 9999: "v" * 9999})
    assert (len(text), len(fields), text[:8]) == (TEXT_CHARS_MAX, 0, r"\x1b\x1b")
    fields = row({f"k{number}": 1 for number in range(1000)})[1]
    assert (fields.count("="), fields[-1]) == (FIELDS_MAX, "…")
    assert "\x1b" not in "".join(map(str, row({"\x1b[2J": "\x1b[2J", "o": {"\x9b": "\u202e"}}, "\x1b")))
    assert row_of(Message("\x1b", 0, {})).tag == r"\x1b"
