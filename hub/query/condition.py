"""
One condition on a record: ``KEY=VALUE``, ``!=``, ``<``, ``<=``, ``>``, ``>=``, or a minimum level.

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
LEVELS = ("trace", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
_RANKS = {name: rank for rank, name in enumerate(LEVELS)}
_RANKS |= {"warn": _RANKS["warning"], "err": _RANKS["error"], "exception": _RANKS["error"]}
_RANKS |= {"fatal": _RANKS["critical"], "crit": _RANKS["critical"], "emerg": _RANKS["emergency"]}
_NUMBERS = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"), (10, "debug"), (0, "trace"))


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


class LevelCondition:
    """The record's ``level`` is at least *name*. Numeric levels are those of Python's `logging`."""

    def __init__(self, name: str) -> None:
        rank = rank_of(name)
        if rank is None:
            raise ValueError(f"no level {name!r}; there are {', '.join(LEVELS)}")
        self._rank = rank
        self.needles = [b"level"]

    def holds(self, record: dict[Any, Any]) -> bool:
        """Return whether *record* meets the condition."""
        rank = rank_of(record.get("level"))
        return rank is not None and rank >= self._rank


def rank_of(level: object) -> int | None:
    """Return the index of a level in `LEVELS`, or None if it is not a level."""
    if isinstance(level, str):
        return _RANKS.get(level) or _RANKS.get(level.lower())
    if isinstance(level, (int, float)) and not isinstance(level, bool):
        return next((_RANKS[name] for number, name in _NUMBERS if level >= number), None)
    return None


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
