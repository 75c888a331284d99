"""
One condition on a record: ``KEY=VALUE``, ``!=``, ``<``, ``<=``, ``>``, ``>=``.

A key may be dotted: ``http.status`` matches ``{"http": {"status": 200}}``, and a key that contains the dot. If VALUE is
a number, numbers in the record are compared as numbers, and so are texts that are one: many clients send every field as
text. A number differs from every VALUE that is not a number. All other values are compared as text; true, false and
null are written in this form. `tag`, `pid` and the like are fields of the record here, not of the message.

Always true: a missing key differs from every value, and is neither less nor greater.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from itertools import repeat
from typing import Any

from hub.entries import is_value_deeper
from hub.query.candidates import Finder, of_choice, of_pattern
from hub.query.literals import Choice, is_searchable
from hub.query.packedfield import beyond, equal_to
from hub.query.plaintext import values_of

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_FORM = re.compile(r"([^!=<>]+)(!=|==|<=|>=|=|<|>)(.*)", re.DOTALL)
_CONSTANTS = {True: "true", False: "false", None: "null"}
ABSENT = object()
"""Stands for a value that a record does not have."""
_NUMBER = re.compile(r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*|[+-]?inf").fullmatch
_NUMBER_CHARS_MAX = 64
_PLAIN = re.compile(r"[A-Za-z0-9_ .:/-]*").fullmatch  # unlike what str() makes of bytes, containers and extension types
_NESTING_MAX = 100  # more levels differ from every VALUE: on the stack of Python 3.11, str() may not follow them


class Condition:
    """A condition on a field. Raises ValueError if *text* does not have this form."""

    def __init__(self, text: str) -> None:
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r}: write it as KEY=VALUE, KEY!=VALUE, KEY<VALUE or KEY>VALUE")
        self.key, self._operator, self._text = match[1].strip(), match[2], match[3].strip()
        self._path = self.key.split(".")
        self._compare = _OPERATORS[self._operator]
        self._number = as_number(self._text)

    @property
    def finders(self) -> list[Finder]:
        """Finders for bytes that every record contains which meets the condition."""
        if self._operator == "!=" or not self._path[-1] or not is_searchable(self.key):
            return []
        *outer, last = self._path
        pattern = self._pattern(last.encode())
        finder = of_choice([last]) if pattern is None else of_pattern(pattern, last.encode())
        return [finder, *(of_choice([part]) for part in outer if part)]

    @property
    def texts(self) -> list[Choice]:
        """Texts that the bytes of every record contain which meets the condition, each a choice of one."""
        if self._operator == "!=" or not is_searchable(self.key):
            return []
        is_text = self._compare is operator.eq and self._number is None and _PLAIN(self._text) is not None
        value = [self._text] if is_text and self._text.lower() not in _CONSTANTS.values() else []
        return [[text] for text in (*self._path, *value) if text]

    def _pattern(self, key: bytes) -> re.Pattern[bytes] | None:
        """Return a pattern for *key* and a value that meets the condition. None if any value may."""
        if self._compare is operator.eq:
            return equal_to(key, self._text, self._number) if is_searchable(self._text) else None
        return None if self._number is None else beyond(key, self._number, is_above=">" in self._operator)

    def holds(self, record: dict[Any, Any]) -> bool:
        """Return whether *record* meets the condition."""
        value = record.get(self.key, ABSENT)
        if type(value) is int and self._number is not None:  # the usual case takes half the time
            return self._compare(value, self._number)
        if value is ABSENT:
            value = look_up(record, self.key, self._path)
        if isinstance(value, str):
            return self._holds_text(value)
        if value is ABSENT:
            return self._operator == "!="
        if value is None or isinstance(value, bool):
            return self._compare(_CONSTANTS[value], self._text.lower())
        if isinstance(value, (int, float)):
            return self._operator == "!=" if self._number is None else self._compare(value, self._number)
        is_deep = is_value_deeper(value, _NESTING_MAX)
        return self._operator == "!=" if is_deep else self._compare(str(value), self._text)

    def all_hold(self, records: Sequence[dict[Any, Any]]) -> bool:
        """Return whether all *records* have the key with a whole number that meets the condition; False: not known."""
        values = None if self._number is None else values_of(self.key, records, int)
        return values is not None and all(map(self._compare, values, repeat(self._number)))

    def _holds_text(self, value: str) -> bool:
        if self._number is None:
            return self._compare(value, self._text)
        number = as_number(value)
        if number is None:
            return self._operator == "!="
        return self._compare(number, self._number)


def as_number(text: str) -> int | float | None:
    """Return the number that *text* is, or None."""
    if len(text) > _NUMBER_CHARS_MAX or not _NUMBER(text):
        return None
    try:
        return int(text)
    except ValueError:
        return float(text)


def look_up(record: dict[Any, Any], key: str, path: list[str]) -> Any:
    """Return the value of *key*, or of the keys inside each other that *path* names, or `ABSENT`."""
    value: Any = record.get(key, ABSENT)
    if value is not ABSENT:
        return value
    value = record
    for part in path:
        if not isinstance(value, dict):
            return ABSENT
        value = value.get(part, ABSENT)
    return value
