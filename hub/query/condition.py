"""
One condition on a record: ``KEY=VALUE``, ``!=``, ``<``, ``<=``, ``>``, ``>=``.

A key may be dotted: ``http.status`` matches ``{"http": {"status": 200}}``, and a key that contains the dot. A number in
the record is compared as a number; it differs from every VALUE that is not a number. All other values are compared as
text; true, false and null are written in this form.

Always true: a missing key differs from every value, and is neither less nor greater.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any

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
_ABSENT = object()


class Condition:
    """A condition on a field. Raises ValueError if *text* does not have this form."""

    def __init__(self, text: str) -> None:
        match = _FORM.fullmatch(text)
        if match is None:
            raise ValueError(f"{text!r}: write it as KEY=VALUE, KEY!=VALUE, KEY<VALUE or KEY>VALUE")
        self._key, self._operator, self._text = match[1].strip(), match[2], match[3].strip()
        self._path = self._key.split(".")
        self._compare = _OPERATORS[self._operator]
        self._number = _as_number(self._text)

    @property
    def needles(self) -> list[bytes]:
        """Byte strings that every matching record contains."""
        return [] if self._operator == "!=" else [part.encode() for part in self._path]

    def holds(self, record: dict[Any, Any]) -> bool:
        """Return whether *record* meets the condition."""
        value = record.get(self._key, _ABSENT)
        if value is _ABSENT:
            value = _dig(record, self._path)
        if isinstance(value, str):
            return self._compare(value, self._text)
        if value is _ABSENT:
            return self._operator == "!="
        if value is None or isinstance(value, bool):
            return self._compare(_CONSTANTS[value], self._text.lower())
        if isinstance(value, (int, float)):
            return self._operator == "!=" if self._number is None else self._compare(value, self._number)
        try:
            return self._compare(str(value), self._text)
        except RecursionError:  # nested too deeply for str()
            return self._operator == "!="


def _as_number(text: str) -> int | float | None:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return None


def _dig(record: dict[Any, Any], path: list[str]) -> Any:
    value: Any = record
    for part in path:
        if not isinstance(value, dict):
            return _ABSENT
        value = value.get(part, _ABSENT)
        if value is _ABSENT:
            return _ABSENT
    return value
