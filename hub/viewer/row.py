"""
A message as one line of the list: what is shown of it, cut so that it takes little memory.

Always true: a row is one line of harmless text (hub.escaping) of at most `TEXT_CHARS_MAX` characters; the message
itself is fetched again when it is opened.

Not here: columns and colours (hub.viewer.columns), the whole message (hub.viewer.record).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from hub.escaping import escape
from hub.message import Message
from hub.query.level import level_of
from hub.query.rendering import TEXT_KEYS, record_json

TEXT_CHARS_MAX = 4096
"""Longer lines are cut: no terminal is that wide, and each is drawn again with every scroll."""
FIELDS_MAX = 64
"""Of a record with more fields, only these are in its line."""


class Row(NamedTuple):
    """
    A line of the list. *rank* is that of the level, -1 without one. A row with *passed* stands for as many messages,
    from *sequence* on, that were passed over.
    """

    sequence: int
    time: int = 0
    rank: int = -1
    tag: str = ""
    text: str = ""
    fields: str = ""
    passed: int = 0

    @property
    def last(self) -> int:
        """The last sequence that it stands for."""
        return self.sequence + max(self.passed - 1, 0)


def row_of(message: Message) -> Row:
    """Return the row of *message*."""
    record = message.record
    level_key, rank = level_of(record)
    text_key = next((key for key in TEXT_KEYS if isinstance(record.get(key), str)), None)
    text = "" if text_key is None else _line(record[text_key])
    fields, left = [], TEXT_CHARS_MAX - len(text)
    for field in _fields(record, {text_key, level_key if level_key != "log" else None}):
        if left <= 0:
            break
        fields.append(field[:left])
        left -= len(field) + 1
    return Row(
        message.sequence, message.time, -1 if rank is None else rank, escape(message.tag), text, " ".join(fields)
    )


def _fields(record: dict[Any, Any], shown: set[str | None]) -> Iterator[str]:
    for number, (key, value) in enumerate(record.items()):
        if number >= FIELDS_MAX:
            yield "…"
            return
        if key not in shown:
            yield f"{escape(str(key)[:TEXT_CHARS_MAX])}={_value(value)}"


def _value(value: object) -> str:
    if isinstance(value, str):
        line = _line(value)
        return line if line and not set(line) & {" ", "="} else f'"{line}"'
    return value_json(value)[:TEXT_CHARS_MAX]


def value_json(value: object) -> str:
    """Return any value of a record as JSON, safe for a terminal."""
    return record_json({"": value})[4:-1]


def _line(text: str) -> str:
    """Return the first line of *text*, cut, with the number of lines that follow."""
    text = text.strip("\n")
    first, newline, _ = text[:TEXT_CHARS_MAX].partition("\n")
    shown = escape(first.rstrip("\r").replace("\t", " "))
    if len(shown) >= TEXT_CHARS_MAX:
        shown = f"{shown[: TEXT_CHARS_MAX - 1]}…"
    return f"{shown} ⏎{text.count(chr(10))}" if newline else shown
