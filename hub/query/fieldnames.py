"""
The names of the fields that some messages have, with an example of each: for completion.

A field inside a map has a dotted name, as in `--where`.

Always true: at most `NAMES_MAX` names are kept; examples are short.

Not here: which messages (hub.query.query).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from hub.message import Message
from hub.query.counting import text_of

NAMES_MAX = 500
NAME_CHARS_MAX = 128
EXAMPLE_CHARS_MAX = 80
DEPTH_MAX = 4
FIELDS_EACH_MAX = 200
"""How many fields of one message are looked at: one may have a million."""
_KINDS: dict[type, str] = {str: "string", bool: "boolean", int: "number", float: "number", list: "array"}


class Field(NamedTuple):
    """One field: its name, one of its values as text, the type of that, and the number of messages that have it."""

    name: str
    example: str
    type: str
    messages: int


class FieldNames:
    """Collects the fields of messages."""

    def __init__(self) -> None:
        self.messages: int = 0
        """How many messages were looked at."""
        self._fields: dict[str, Field] = {}

    def add(self, messages: Iterable[Message]) -> None:
        """Look at *messages*."""
        for message in messages:
            self.messages += 1
            left = FIELDS_EACH_MAX
            for name, value in _fields_of(message.record, "", 1):
                if not left:
                    break
                left -= 1
                self._add(name, value)

    def fields(self) -> list[Field]:
        """Return the fields, those of the most messages first."""
        return sorted(self._fields.values(), key=lambda field: (-field.messages, field.name))

    def _add(self, name: str, value: Any) -> None:
        known = self._fields.get(name)
        if known is not None:
            self._fields[name] = known._replace(messages=known.messages + 1)
        elif len(self._fields) < NAMES_MAX and len(name) <= NAME_CHARS_MAX:
            kind = _KINDS.get(type(value), "null" if value is None else "other")
            example = value[: EXAMPLE_CHARS_MAX + 1] if isinstance(value, str) else text_of(value) or ""
            if len(example) > EXAMPLE_CHARS_MAX:
                example = example[:EXAMPLE_CHARS_MAX] + "…"
            self._fields[name] = Field(name, example, kind, 1)


def _fields_of(record: dict[Any, Any], prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    for key, value in record.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, dict) and value and depth < DEPTH_MAX:
            yield from _fields_of(value, f"{prefix}{key}.", depth + 1)
        else:
            yield prefix + key, value
