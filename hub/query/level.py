"""
Levels, as log libraries write them: which field holds the level of a record, and what its names and numbers mean.

A name counts in any case, also inside the colours of a terminal. What a number means depends on where it is:

| field | numbers |
|---|---|
| `level` from 0 to 7, `severity`, `priority` | severities of syslog (RFC 5424), also in GELF: 3 is an error |
| `level` beside `hostname` or `v` | pino, bunyan: 10 trace, 20 debug, 30 info, 40 warning, 50 error, 60 critical |
| any other `level`, `levelno`, `level_number` | `logging`: 10 debug, 20 info, 30 warning, 40 error, 50 critical |
| `severity_number` | OpenTelemetry: 1 trace, 5 debug, 9 info, 13 warning, 17 error, 21 critical |

Always true: a record whose level is not known has no rank, and is not worse than any level.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from hub.query.candidates import Finder

LEVELS = ("trace", "debug", "info", "notice", "warning", "error", "critical", "alert", "emergency")
NO_RANK = -1
"""Stands for the rank of a level that is not known."""
_NAMES = {
    "trace": "verbose silly finest finer all notset vrb t v",
    "debug": "fine dbg d",
    "info": "information informational config http inf default i",
    "notice": "success",
    "warning": "warn wrn w",
    "error": "err severe exception e",
    "critical": "crit fatal panic dpanic f c",
    "emergency": "emerg",
}
_RANKS = {name: rank for rank, name in enumerate(LEVELS)}
_RANKS |= {name: _RANKS[level] for level, names in _NAMES.items() for name in names.split()}
KEYS = (
    "level", "severity", "levelname", "log.level", "@l", "lvl", "loglevel", "log_level", "level_name",
    "severity_text", "severityText", "levelno", "level_number", "severity_number", "severityNumber", "priority",
    "PRIORITY",
)  # fmt: skip
OF_LEVEL = (*KEYS, "log", "hostname", "v")
"""The keys of a record that its level depends on."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_Table = Sequence[tuple[int, str]]  # from the largest number down: what begins there
_SYSLOG = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
_PYTHON: _Table = (
    (50, "critical"),
    (40, "error"),
    (30, "warning"),
    (25, "notice"),
    (20, "info"),
    (10, "debug"),
    (0, "trace"),
)
_PINO: _Table = ((60, "critical"), (50, "error"), (40, "warning"), (30, "info"), (20, "debug"), (0, "trace"))
_OTEL: _Table = ((21, "critical"), (17, "error"), (13, "warning"), (9, "info"), (5, "debug"), (1, "trace"))
_OF_PINO = ("hostname", "v")


_SYSLOG_NUMBERS = tuple(map(str, range(len(_SYSLOG))))
_FACILITIES = [
    "kern",
    "user",
    "mail",
    "daemon",
    "auth",
    "authpriv",
    "security",
    "syslog",
    "lpr",
    "news",
    "uucp",
    "cron",
    "ftp",
    "local0",
    "local1",
    "local2",
    "local3",
    "local4",
    "local5",
    "local6",
    "local7",
]


class LevelCondition:
    """The record's level is at least *name*: a name, or a severity of syslog from 0 to 7."""

    def __init__(self, name: str) -> None:
        rank = rank_of_name(_SYSLOG[int(name)] if name.strip() in _SYSLOG_NUMBERS else name)
        if rank is None:
            raise ValueError(_no_level(name, "one level: it and all worse ones are shown"))
        self.rank: int = rank
        self.finders: list[Finder] = []

    def holds(self, record: dict[Any, Any]) -> bool:
        """Return whether *record* meets the condition."""
        rank = rank_of(record)
        return rank is not None and rank >= self.rank


def parse_priority(text: str) -> dict[str, str]:
    """
    Return the fields of a record for a level, or for FACILITY.LEVEL as logger(1) takes it. Raises ValueError.

    The level stays as it is written; a number is one of syslog or of `logging`.
    """
    facility, dot, level = text.rpartition(".")
    if rank_of({"level": level}) is None or (dot and facility.lower() not in _FACILITIES):
        raise ValueError(_no_level(text, "LEVEL or FACILITY.LEVEL"))
    return {"level": level} | ({"facility": facility.lower()} if dot else {})


def _no_level(name: str, form: str) -> str:
    return f"no level {name!r} ({form}; there are {', '.join(LEVELS)})"


def rank_of(record: dict[Any, Any]) -> int | None:
    """Return the index in `LEVELS` of the level of *record*, or None if it has none that is known."""
    return level_of(record)[1]


def level_of(record: dict[Any, Any]) -> tuple[str, int | None]:
    """Return the key that holds the level of *record*, and the rank of the level; None if it has none that is known."""
    for key in KEYS:
        value = record.get(key)
        if value is not None and (rank := _rank(key, value, record)) is not None:
            return key, rank
    log = record.get("log")  # of the Elastic Common Schema
    if isinstance(log, dict) and isinstance(log.get("level"), str):
        return "log", rank_of_name(log["level"])
    return "", None


def has_level(record: dict[Any, Any]) -> bool:
    """Return whether *record* has something in the place of a level, known or not."""
    log = record.get("log")
    return any(record.get(key) is not None for key in KEYS) or (isinstance(log, dict) and log.get("level") is not None)


def rank_of_name(name: str) -> int | None:
    """Return the index in `LEVELS` of a level's *name*, or None if it is not known."""
    rank = _RANKS.get(name)
    return rank if rank is not None else _RANKS.get(_COLOUR.sub("", name).strip().lower())


def _rank(key: str, value: object, record: dict[Any, Any]) -> int | None:
    if isinstance(value, str):
        if not value.isdecimal() or len(value) > 3:
            return rank_of_name(value)
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return None
    if key in ("severity_number", "severityNumber"):
        return _look_up(_OTEL, value)
    if key in ("severity", "priority", "PRIORITY") or (key == "level" and value < len(_SYSLOG)):
        return _RANKS[_SYSLOG[int(value)]] if value < len(_SYSLOG) else None
    is_pino = key == "level" and any(name in record for name in _OF_PINO)
    return _look_up(_PINO if is_pino else _PYTHON, value)


def _look_up(table: _Table, number: float) -> int | None:
    return next((_RANKS[name] for least, name in table if number >= least), None)
