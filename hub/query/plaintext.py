"""
A text that is searched as it is in the strings of a record, at any depth. Keys are not searched.

Not here: regular expressions (hub.query.query), the bytes in which the text must be (hub.query.candidates).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import repeat
from operator import contains, itemgetter
from typing import Any


class PlainText:
    """Finds *text*. The last key whose value had it is tried first."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._likely: Any = None

    def holds(self, record: dict[Any, Any]) -> bool:
        """Return whether the text is in a string of *record*."""
        text = self._text
        if type(value := record.get(self._likely)) is str and text in value:
            return True
        for key, value in record.items():
            if isinstance(value, str):
                if text in value:
                    self._likely = key
                    return True
            elif isinstance(value, (dict, list)) and is_found(lambda each: True if text in each else None, value):
                return True
        return False

    def all_hold(self, records: Sequence[dict[Any, Any]]) -> bool:
        """Return whether the same key of all *records* has the text; False if that is not known without a loop."""
        values = values_of(self._likely, records, str)
        return values is not None and all(map(contains, values, repeat(self._text)))


def values_of(key: Any, records: Sequence[dict[Any, Any]], kind: type) -> list[Any] | None:
    """Return the values of *key* in all *records*; None if one has none, or one that is not exactly of this *kind*."""
    try:
        values = [*map(itemgetter(key), records)]
    except KeyError:
        return None
    return values if set(map(type, values)) == {kind} else None


def is_found(search: Callable[[str], object], value: object) -> bool:
    """Return whether *search* matches a string in *value*, at any depth. Not recursive, so that depth is no limit."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            if search(value) is not None:
                return True
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False
