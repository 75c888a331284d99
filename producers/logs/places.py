"""
The places of log calls. For each, what is the same for all of its records is kept: the tag, the fields level, logger,
pathname, lineno, func and process as bytes, and the names of the extra fields of its last record.

Always true: at most `PLACES_MAX` places are kept; before one more, all are forgotten.

Not here: the other fields of a record (producers.logs.handler).
"""

from __future__ import annotations

import logging
import operator
import re
from collections.abc import Callable
from typing import Any

from producers.record import pack

PLACES_MAX = 1000
"""A place takes about 1 KiB."""
LEVELS = {0: "notset", 10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
BY_LOGGING = list(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)
"""The attributes that every record has."""

KEY = "name", "levelno", "levelname", "pathname", "lineno", "funcName", "processName"
"""The attributes that distinguish places."""
key_of = operator.itemgetter(*KEY)
_OWN = "mpsr."  # our own loggers
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_COUNT = len(BY_LOGGING)


class Place:
    """What the records of one place have in common. *packed* is the inside of a map of *pairs* pairs."""

    __slots__ = ("extra", "packed", "pairs", "tag")

    def __init__(self, tag: bytes, fields: dict[str, Any]) -> None:
        self.tag = tag
        self.packed = pack(fields)[1:]
        self.pairs = len(fields)
        self.extra: tuple[int, list[str]] = _COUNT, []
        """Of the last record: the number of all attributes, and the names of those that are not of `logging`."""


class OwnRecord(Exception):
    """The record is of our own log, which a producer does not send: that would cause more of it."""


class Places(dict[Any, Place]):
    """
    The places by `key_of`. Any thread may use them. *tag* is the tag of all records; None: the name of their logger.
    *encode* returns the bytes of a tag.

    Raises `OwnRecord`, and other exceptions for a place whose fields msgpack cannot hold.
    """

    def __init__(self, tag: str | None, encode: Callable[[str | None], bytes]) -> None:
        super().__init__()
        self._tag = tag
        self._encode = encode

    def tag_of(self, name: str) -> bytes:
        """Return the tag of the records of a logger. Raises `OwnRecord`."""
        if name and name.startswith(_OWN):
            raise OwnRecord
        return self._encode(self._tag or (name if name != "root" else None))

    def __missing__(self, key: tuple[Any, ...]) -> Place:
        name, number, level, pathname, lineno, func, process = key
        fields = {**level_of(number, level), "logger": name, "pathname": pathname, "lineno": lineno, "func": func}
        place = Place(self.tag_of(name), {**fields, "process": process})
        if len(self) >= PLACES_MAX:
            self.clear()
        self[key] = place
        return place


def level_of(number: Any, name: Any) -> dict[str, Any]:
    """Return the fields of a level. A level that is not of `logging` has its number, too."""
    if (level := LEVELS.get(number)) is not None:
        return {"level": level}
    return {"level": _COLOUR.sub("", str(name)).strip().lower(), "levelno": number}
