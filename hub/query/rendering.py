"""
Formats messages for people and programs: pretty, json, text.

Always true:
- every record produces output;
- JSON output is one valid object per line;
- pretty output is one line, then indented lines of texts and tracebacks;
- in JSON and pretty output no byte of a producer can control a terminal (hub.escaping);
- text output contains the message's text unescaped.

Pretty output omits fields of Python's logging that repeat others or have their default value.

Not here: which messages (hub.query.query), where they go (hub.cli).
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable, Iterator
from itertools import groupby
from operator import itemgetter
from typing import Any

import msgspec

from hub.entries import NS, RECORD_NESTING_MAX, is_value_deeper
from hub.escaping import escape, escape_json, escape_lines
from hub.message import Message
from hub.query.level import LEVELS, level_of

_GREY, _CYAN, _RED, _YELLOW, _BOLD, _END = "\x1b[90m", "\x1b[36m", "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799  # the years 1 to 9999, the range of RFC 3339
_NESTING_MAX = RECORD_NESTING_MAX + 1  # a record inside an object of ours; a deeper one is cut, on every Python
_WRITTEN_NESTING_MAX = 100  # on the stack of Python 3.11, str() may not follow more
_TEXT_KEYS = ("message", "event", "msg", "log")
_BLOCK_KEYS = ("traceback", "exc_text", "exception", "stack_info", "stack", "stacktrace")
_UNSAID = {"thread": "MainThread", "process": "MainProcess"}  # default values of Python's logging, not shown
_INDENT = "    "  # no line of a text can pass for one of ours
_ONE_WORD = re.compile(r"[^\s\[\]\"\\]+").fullmatch
_LEVEL_COLOURS = {
    **dict.fromkeys(("trace", "debug"), _GREY),
    **dict.fromkeys(("info", "notice"), ""),
    "warning": _YELLOW,
    "error": _RED,
    **dict.fromkeys(("critical", "alert", "emergency"), _RED + _BOLD),
}


def render_json(message: Message) -> str:
    """
    Return one JSON object: sequence, time, received (RFC 3339, nanoseconds), tag, pid, uid, gid, comm, record.

    ``"verified": false`` is added before the record if the kernel does not vouch for the whole peer.
    """
    peer = message.peer
    fields: dict[str, Any] = {
        "sequence": message.sequence,
        "time": rfc3339(message.time),
        "received": rfc3339(message.received),
        "tag": message.tag,
        "pid": peer.pid,
        "uid": peer.uid,
        "gid": peer.gid,
        "comm": peer.comm,
    }
    if not peer.verified:
        fields["verified"] = False
    fields["record"] = message.record
    return escape_json(_json(fields))


def render_text(message: Message) -> str:
    """Return only the text of the message, or its record as JSON if it has no text."""
    text = _text_of(message.record)
    return text if text is not None else escape_json(_json(message.record))


def render_pretty(message: Message) -> str:
    """
    Return local time (with the date, if it is not today), tag, peer, level, text, the remaining fields, source line.
    """
    return _pretty(message, _plainly, _local)


def pretty(*, coloured: bool, utc: bool) -> Callable[[Message], str]:
    """Return a function that renders in the same way, in colours, or with times in UTC."""
    paint, clock = _in_colour if coloured else _plainly, _of_utc if utc else _local
    return lambda message: _pretty(message, paint, clock)


def _plainly(text: str, colour: str) -> str:
    return text


def _in_colour(text: str, colour: str) -> str:
    return f"{colour}{text}{_END}" if text and colour else text


def _colour_of(record: dict[Any, Any]) -> tuple[str, str]:
    """Return the key that holds the level of *record*, and the colour of that level."""
    key, rank = level_of(record)
    return key, "" if rank is None else _LEVEL_COLOURS[LEVELS[rank]]


def rfc3339(time_ns: int) -> str:
    """Return a time as ``2026-11-20T10:00:00.123456789Z``, clamped to the years 1 to 9999."""
    seconds, nanoseconds = divmod(time_ns, NS)
    return f"{_utc(seconds)}.{nanoseconds:09d}Z"


@functools.lru_cache(maxsize=64)  # neighbouring messages usually share it
def _utc(seconds: int) -> str:
    moment = time.gmtime(_clamped(seconds))
    return f"{moment.tm_year:04d}" + time.strftime("-%m-%dT%H:%M:%S", moment)


@functools.lru_cache(maxsize=64)
def _local(seconds: int, now: int) -> str:
    """Return the local time, with the date if it is not that of *now*."""
    return _shown(time.localtime(_clamped(seconds)), time.localtime(now))


@functools.lru_cache(maxsize=64)
def _of_utc(seconds: int, now: int) -> str:
    return _shown(time.gmtime(_clamped(seconds)), time.gmtime(now))


def _shown(moment: time.struct_time, now: time.struct_time) -> str:
    return time.strftime("%H:%M:%S" if moment[:3] == now[:3] else "%Y-%m-%d %H:%M:%S", moment)


def _clamped(seconds: int) -> int:
    """Return *seconds* within the calendar's range, because a producer may send any time."""
    return min(max(seconds, _SECONDS_MIN), _SECONDS_MAX)


def _pretty(message: Message, paint: Callable[[str, str], str], clock: Callable[[int, int], str]) -> str:
    record = message.record
    seconds, nanoseconds = divmod(message.time, NS)
    moment = f"{clock(seconds, int(time.time()))}.{nanoseconds // 1_000_000:03d}"
    level, text = record.get("level"), _text_of(record)
    shown = {next(key for key in _TEXT_KEYS if isinstance(record.get(key), str))} if text is not None else set()
    shown |= {"level"} if isinstance(level, str) else set()
    blocks = [key for key in _BLOCK_KEYS if key not in shown and isinstance(record.get(key), str) and record[key]]
    shown.update(blocks, _said_elsewhere(message, blocks))
    blocks = _said_once(text or "", [record[key] for key in blocks])
    where = _where(record)
    shown.update(("pathname", "lineno", "func") if where else ())
    level_key, colour = ("", "") if paint is _plainly else _colour_of(record)
    fields = [
        (f"{key if isinstance(key, str) else _written(key)}={_value(value)}", (key == level_key and colour) or _GREY)
        for key, value in record.items()
        if key not in shown
    ]
    fields += [(where, _GREY)] if where else []
    rest = [
        paint(escape(" ".join(text for text, _ in alike)), shade) for shade, alike in groupby(fields, key=itemgetter(1))
    ]
    who = f"{_name(message.peer.comm or '?')}[{message.peer.pid}]"
    parts = [paint(moment, _GREY), paint(_name(message.tag), _CYAN), paint(who, _GREY)]
    if isinstance(level, str):
        parts.append(paint(escape(level), colour if level_key == "level" else ""))
    first, newline, more = escape_lines(text or "", _INDENT).rstrip("\n ").partition("\n")
    line = " ".join([*parts, *filter(None, (first, *rest))])  # no field stands in a later line of the text
    return "\n".join([line + newline + more, *(_INDENT + escape_lines(block, _INDENT) for block in blocks)])


def _said_once(text: str, blocks: list[str]) -> list[str]:
    """Return *blocks* without those that the text or an earlier block contains: a formatter may have added them."""
    said, once = [text], []
    for block in blocks:
        if not any(block.strip() in each for each in said):
            once.append(block.rstrip("\n"))
            said.append(block)
    return once


def _name(text: str) -> str:
    """Return a tag or a command name, in quotes if it could be taken for more than one column."""
    return escape(text) if _ONE_WORD(text) else escape(_json(text))


def _said_elsewhere(message: Message, blocks: list[str]) -> Iterator[str]:
    """Yield the fields of a record of Python's logging that repeat what is already shown."""
    record = message.record
    yield from (key for key, value in _UNSAID.items() if record.get(key) == value)
    if record.get("logger") in (message.tag, "root"):
        yield "logger"
    if "traceback" in blocks and isinstance(record.get("exc_info"), dict):
        yield "exc_info"


def _where(record: dict[Any, Any]) -> str:
    """Return the source line in a record of Python's logging, as ``web.py:42``, or nothing."""
    pathname, lineno = record.get("pathname"), record.get("lineno")
    if not isinstance(pathname, str) or not isinstance(lineno, int):
        return ""
    return f"{pathname.rpartition('/')[2]}:{lineno}"


def _text_of(record: dict[Any, Any]) -> str | None:
    for key in _TEXT_KEYS:
        if isinstance(text := record.get(key), str):
            return text
    return None


def _value(value: object) -> str:
    if isinstance(value, str):
        return value if value and not any(c in ' "=\n\t' for c in value) else _json(value)
    return _json(value)


def _foreign(value: object) -> object:
    if isinstance(value, msgspec.msgpack.Ext):
        return {"ext": value.code, "data": bytes(value.data).hex()}
    return _written(value)


_encode = msgspec.json.Encoder(enc_hook=_foreign).encode


def _json(value: Any) -> str:
    try:
        shown = _encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return _encode(_plain(value, 0)).decode()
    may_be_deep = len(shown) > 2 * _NESTING_MAX and shown.count("[") + shown.count("{") > _NESTING_MAX
    return _encode(_plain(value, 0)).decode() if may_be_deep and is_value_deeper(value, _NESTING_MAX) else shown


def _plain(value: Any, depth: int) -> Any:
    """Return *value* with all keys as strings, cut below the depth that a JSON encoder can follow."""
    if depth > 200:
        return "…"
    if isinstance(value, dict):
        return {_written(key): _plain(child, depth + 1) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(child, depth + 1) for child in value]
    return value


def _written(value: object) -> str:
    """Return a key, or another value that JSON does not know, as text."""
    return "…" if is_value_deeper(value, _WRITTEN_NESTING_MAX) else str(value)


RENDERERS: dict[str, Callable[[Message], str]] = {"json": render_json, "text": render_text, "pretty": render_pretty}
