"""
The plain records of `logging`: text, and extra fields. They are encoded without a dict of all fields.

Five fields of a record belong to the place of the call: `level`, `logger`, `pathname`, `lineno`, `func`. Their bytes
are the same each time, so they are encoded once for each place.

Always true: what is returned is a map with the fields that producers.logs.handler makes of the record.
Not here: all other records: with an exception, a stack, a dict as their message, or an extra field with one of our
names.
"""

from __future__ import annotations

import logging
from itertools import islice
from typing import Any

from producers.logs.sanitize import CUT_KEY, REPR_KEY
from producers.record import pack

STANDARD = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {"message", "asctime", "taskName"}
"""The attributes of a record that are not extra."""
STANDARD_COUNT = len(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)
LEVELS = {0: "notset", 10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
SITE_FIELDS = ("level", "logger", "pathname", "lineno", "func")
RESERVED = frozenset((
    *SITE_FIELDS, "levelno", "message", "thread", "process", "task", "exc_info", "traceback", "stack_info", REPR_KEY,
    CUT_KEY,
))  # fmt: skip
SITES_MAX = 4096
"""
Maximum places that are remembered; programs have fewer. At one more, all are forgotten: a program may make up the names
of its loggers.
"""
_FIELDS_MAX = 15  # the header of a map of more fields is longer
_HEADERS = tuple(bytes((0x80 | count,)) for count in range(_FIELDS_MAX + 1))
_LAST_STANDARD = list(logging.LogRecord("", 0, "", 0, "", (), None).__dict__)[-1]
_SLOW = RESERVED | {"extra"}
_Site = tuple[int, str, str | None, str, int]
_sites: dict[_Site, bytes] = {}


def pack_plain(record: logging.LogRecord, task: str | None) -> bytes | None:
    """
    Return the fields of *record* as msgpack, with the name of the asyncio *task*, or None if it is no plain record.
    Raises whatever its values raise when they are encoded.
    """
    message = record.msg
    if (
        type(message) is not str
        or record.exc_info
        or record.exc_text
        or record.stack_info
        or record.levelno not in LEVELS
    ):
        return None
    rest: dict[str, Any] = {
        "message": record.getMessage() if record.args else message,
        "thread": record.threadName,
        "process": record.processName,
    }
    if task is not None:
        rest["task"] = task
    attributes = record.__dict__
    if len(attributes) != STANDARD_COUNT and not _add_extra(rest, attributes):
        return None
    count = len(rest) + len(SITE_FIELDS)
    if count > _FIELDS_MAX:
        return None
    site = (record.lineno, record.pathname, record.funcName, record.name, record.levelno)
    begin = _sites.get(site)
    if begin is None:
        begin = _pack_site(site)
    return b"".join((_HEADERS[count], begin, pack(rest)[1:]))


def _add_extra(fields: dict[str, Any], attributes: dict[str, Any]) -> bool:
    """
    Add what follows the attributes that `logging` sets. Return False if the record was changed in another way, or has
    one of our names.
    """
    names = list(attributes)  # copied in one step: several threads may use the record
    if names[STANDARD_COUNT - 1] != _LAST_STANDARD:
        return False
    for name in islice(names, STANDARD_COUNT, None):
        if name in _SLOW:
            return False
        if name not in STANDARD:
            fields[name] = attributes[name]
    return True


def _pack_site(site: _Site) -> bytes:
    lineno, pathname, func, name, level = site
    fields = dict(zip(SITE_FIELDS, (LEVELS[level], name, pathname, lineno, func), strict=True))
    packed = pack(fields)[1:]
    if len(_sites) >= SITES_MAX:
        _sites.clear()
    _sites[site] = packed
    return packed
