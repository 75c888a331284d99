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
import itertools
import re
import time
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from typing import Any

import msgspec

from hub.entries import NS, RECORD_NESTING_MAX, is_value_deeper
from hub.escaping import escape, escape_json, escape_lines, is_harmless
from hub.message import Home, Message, Peer
from hub.query.found import Found, Group
from hub.query.level import LEVELS, level_of

_GREY, _CYAN, _RED, _YELLOW, _BOLD, _END = "\x1b[90m", "\x1b[36m", "\x1b[31m", "\x1b[33m", "\x1b[1m", "\x1b[0m"
_SECONDS_MIN, _SECONDS_MAX = -62_135_596_800, 253_402_300_799  # the years 1 to 9999, the range of RFC 3339
_NESTING_MAX = RECORD_NESTING_MAX + 1  # a record inside an object of ours; a deeper one is cut, on every Python
_SHORT_JSON = 2 * _NESTING_MAX  # no line of that length is nested too deeply
_BEFORE_RECORD = ',"record":'
_WRITTEN_NESTING_MAX = 100  # on the stack of Python 3.11, str() may not follow more
TEXT_KEYS = ("message", "event", "msg", "log")
_BLOCK_KEYS = ("traceback", "exc_text", "exception", "stack_info", "stack", "stacktrace")
_DEFAULTS = {"thread": "MainThread", "process": "MainProcess"}  # default values of Python's logging, not shown
_INDENT = "    "  # no line of a text can pass for one of ours
_RARE_KEYS = frozenset((*_BLOCK_KEYS, *_DEFAULTS, "exc_info"))
_BARE_VALUE = re.compile(r'[^ "=\n\t]+').fullmatch
_ONE_WORD = re.compile(r"[^\s\[\]\"\\]+").fullmatch
LEVEL_COLOURS = {
    **dict.fromkeys(("trace", "debug"), _GREY),
    **dict.fromkeys(("info", "notice"), ""),
    "warning": _YELLOW,
    "error": _RED,
    **dict.fromkeys(("critical", "alert", "emergency"), _RED + _BOLD),
}


def render_json(message: Message) -> str:
    """
    Return one JSON object: sequence, time, received (RFC 3339, nanoseconds), tag, pid, uid, gid, comm, record.

    Before the record stand *unit* and *container*, if they are known, and ``"verified": false`` if the kernel does not
    vouch for the whole peer. A message that another hub has stored first also has *host*, *hub* and *hub_sequence*.
    """
    time, received = rfc3339(message.time), _rfc3339(message.received)
    head = f'{{"sequence":{message.sequence},"time":"{time}","received":"{received}"'
    source = _json_source(message.tag, message.peer)
    if message.home is not None:
        source = f"{source.removesuffix(_BEFORE_RECORD)}{_json_home(message.home)}{_BEFORE_RECORD}"
    return _escape_json(f"{head}{source}{_json(message.record, 1)}}}")


def json_of(found: Group) -> bytes:
    """Return a line of `render_json` for each of the messages; of Found in half the time: one call encodes them all."""
    shown = _lines_of(found) if isinstance(found, Found) and found.batch.home is None else b""
    if not shown or _may_be_deep(shown) or not is_harmless(shown):
        shown = "".join(f"{render_json(message)}\n" for message in found).encode("utf-8", "replace")
    return shown


def _lines_of(found: Found) -> bytes:
    """Return the lines unchecked; nothing if they cannot be encoded together. No step of Python for each of them."""
    source = _json_source(found.batch.tag.decode("utf-8", "replace"), found.batch.peer)
    rest = msgspec.Raw(f'"{_rfc3339(found.batch.received)}"{source.removesuffix(_BEFORE_RECORD)}'.encode())
    seconds, nanoseconds = found.seconds_and_nanoseconds()
    texts = {each: _utc(each) for each in set(seconds)}
    if len(texts) == 1:
        times = map(f"{texts[seconds[0]]}.%09dZ".__mod__, nanoseconds)
    else:
        times = map("%s.%09dZ".__mod__, zip(map(texts.__getitem__, seconds), nanoseconds, strict=True))
    try:
        return _encode_lines([*map(_Line, found.sequences, times, itertools.repeat(rest), found.records)])
    except (TypeError, ValueError, RecursionError):
        return b""


def _may_be_deep(shown: bytes) -> bool:
    """Return whether one of the lines may be nested more deeply than JSON is shown."""
    at, end = 0, len(shown)
    while end - at > _SHORT_JSON:
        after = shown.rfind(b"\n", at, at + _SHORT_JSON) + 1
        if not after:
            after = shown.index(b"\n", at) + 1
            if shown.count(b"{", at, after) + shown.count(b"[", at, after) > _NESTING_MAX:
                return True
        at = after
    return False


class _Line(msgspec.Struct, gc=False):
    """A message as JSON. *received* holds what is the same for a whole batch: the fields up to the record."""

    sequence: int
    time: str
    received: msgspec.Raw
    record: dict[Any, Any]


@functools.lru_cache(maxsize=64)
def _json_source(tag: str, peer: Peer) -> str:
    """Return the part of a JSON line that identifies the origin of the message."""
    fields: dict[str, Any] = {"tag": tag, "pid": peer.pid, "uid": peer.uid, "gid": peer.gid, "comm": peer.comm}
    if peer.unit:
        fields["unit"] = peer.unit
    if peer.container:
        fields["container"] = peer.container
    if not peer.verified:
        fields["verified"] = False
    return f",{_json(fields)[1:-1]}{_BEFORE_RECORD}"


def _json_home(home: Home) -> str:
    return f",{_json({'host': home.host, 'hub': home.hub.hex(), 'hub_sequence': home.sequence})[1:-1]}"


def render_text(message: Message) -> str:
    """Return only the text of the message, or its record as JSON if it has no text."""
    return _text_or_json(message.record)


def text_in(record: dict[Any, Any]) -> str | None:
    """Return the text of the message in *record*, or None if it has none."""
    return _text_of(record)[1]


def record_json(record: dict[Any, Any]) -> str:
    """Return *record* as JSON, safe for a terminal."""
    return _escape_json(_json(record))


def records_json(records: Sequence[dict[Any, Any]]) -> list[str]:
    """Return what `record_json` returns for each, in a third of the time: one call encodes all of them."""
    try:
        shown = _encode_lines(records)
    except (TypeError, ValueError, RecursionError):
        shown = b""
    if not shown or _may_be_deep(shown) or not is_harmless(shown):
        return [*map(record_json, records)]
    return shown.decode().split("\n")[:-1]  # a line feed in a text is escaped


def texts_of(found: Found) -> Iterator[str]:
    """Yield what `render_text` returns for each of the messages."""
    return map(_text_or_json, found.records)


def _text_or_json(record: dict[Any, Any]) -> str:
    _, text = _text_of(record)
    return text if text is not None else _escape_json(_json(record))


def render_pretty(message: Message) -> str:
    """
    Return local time (with the date, if it is not today), tag, peer, level, text, the remaining fields, source line.
    """
    return _pretty(message, _plainly, _local)


def render_dated(message: Message) -> str:
    """Render in the same way, always with the date, and in UTC: the same text whenever it is rendered."""
    return _pretty(message, _plainly, _dated)


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
    return key, "" if rank is None else LEVEL_COLOURS[LEVELS[rank]]


def rfc3339(time_ns: int) -> str:
    """Return a time as ``2026-11-20T10:00:00.123456789Z``, clamped to the years 1 to 9999."""
    seconds, nanoseconds = divmod(time_ns, NS)
    return f"{_utc(seconds)}.{nanoseconds:09d}Z"


_rfc3339 = functools.lru_cache(maxsize=64)(rfc3339)  # for `received`, which all messages of a batch share


@functools.lru_cache(maxsize=64)  # neighbouring messages usually share it
def _utc(seconds: int) -> str:
    moment = time.gmtime(clamped(seconds))
    return f"{moment.tm_year:04d}" + time.strftime("-%m-%dT%H:%M:%S", moment)


@functools.lru_cache(maxsize=64)
def _local(seconds: int, now: int) -> str:
    """Return the local time, with the date if it is not that of *now*."""
    return _shown(time.localtime(clamped(seconds)), time.localtime(now))


@functools.lru_cache(maxsize=64)
def _of_utc(seconds: int, now: int) -> str:
    return _shown(time.gmtime(clamped(seconds)), time.gmtime(now))


@functools.lru_cache(maxsize=64)
def _dated(seconds: int, now: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(clamped(seconds)))


def _shown(moment: time.struct_time, now: time.struct_time) -> str:
    return time.strftime("%H:%M:%S" if moment[:3] == now[:3] else "%Y-%m-%d %H:%M:%S", moment)


def clamped(seconds: int) -> int:
    """Return *seconds* within the calendar's range, because a producer may send any time."""
    return min(max(seconds, _SECONDS_MIN), _SECONDS_MAX)


def _pretty(message: Message, paint: Callable[[str, str], str], clock: Callable[[int, int], str]) -> str:
    record = message.record
    seconds, nanoseconds = divmod(message.time, NS)
    moment = f"{clock(seconds, int(time.time()))}.{nanoseconds // 1_000_000:03d}"
    text_key, text = _text_of(record)
    level, shown = record.get("level"), {text_key} if text is not None else set()
    if isinstance(level, str):
        shown.add("level")
    blocks: list[str] = []
    if record.get("logger") in (message.tag, "root"):
        shown.add("logger")
    if not _RARE_KEYS.isdisjoint(record):
        names = [key for key in _BLOCK_KEYS if key not in shown and isinstance(record.get(key), str) and record[key]]
        shown.update(names, _shown_elsewhere(record, names))
        blocks = _shown_once(text or "", [record[key] for key in names])
    where = _where(record)
    if where:
        shown.update(("pathname", "lineno", "func"))
    peer = message.peer
    who = _name(peer.comm) if peer.is_remote else _who(peer.comm, peer.pid)
    if message.home is not None:
        who = f"{_name(message.home.host)}:{who}"
    if paint is _plainly:
        fields = [f"{_key(key)}={_value(value)}" for key, value in record.items() if key not in shown]
        rest = [escape(" ".join([*fields, where] if where else fields))]
        parts = [moment, _name(message.tag), who]
        if isinstance(level, str):
            parts.append(escape(level))
    else:
        level_key, colour = _colour_of(record)
        shades = [
            (f"{_key(key)}={_value(value)}", (key == level_key and colour) or _GREY)
            for key, value in record.items()
            if key not in shown
        ]
        shades += [(where, _GREY)] if where else []
        rest = [
            paint(escape(" ".join(text for text, _ in alike)), shade)
            for shade, alike in itertools.groupby(shades, key=itemgetter(1))
        ]
        parts = [paint(moment, _GREY), paint(_name(message.tag), _CYAN), paint(who, _GREY)]
        if isinstance(level, str):
            parts.append(paint(escape(level), colour if level_key == "level" else ""))
    first, newline, more = escape_lines(text or "", _INDENT).rstrip("\n ").partition("\n")
    line = " ".join([*parts, *filter(None, (first, *rest))])  # no field stands in a later line of the text
    return "\n".join([line + newline + more, *(_INDENT + escape_lines(block, _INDENT) for block in blocks)])


def _shown_once(text: str, blocks: list[str]) -> list[str]:
    """Return *blocks* without those that the text or an earlier block contains: a formatter may have added them."""
    shown, once = [text], []
    for block in blocks:
        if not any(block.strip() in each for each in shown):
            once.append(block.rstrip("\n"))
            shown.append(block)
    return once


@functools.lru_cache(maxsize=64)
def _who(comm: str, pid: int) -> str:
    return f"{_name(comm or '?')}[{pid}]"


@functools.lru_cache(maxsize=64)
def _name(text: str) -> str:
    """Return a tag or a command name, in quotes if it could be taken for more than one column."""
    return escape(text) if _ONE_WORD(text) else escape(_json(text))


def _shown_elsewhere(record: dict[Any, Any], blocks: list[str]) -> Iterator[str]:
    """Yield the fields of a record of Python's logging, of `_RARE_KEYS`, that repeat what is already shown."""
    yield from (key for key, value in _DEFAULTS.items() if record.get(key) == value)
    if "traceback" in blocks and isinstance(record.get("exc_info"), dict):
        yield "exc_info"


def _where(record: dict[Any, Any]) -> str:
    """Return the source line in a record of Python's logging, as ``web.py:42``, or nothing."""
    pathname, lineno = record.get("pathname"), record.get("lineno")
    if not isinstance(pathname, str) or not isinstance(lineno, int):
        return ""
    return f"{pathname.rpartition('/')[2]}:{lineno}"


def _text_of(record: dict[Any, Any]) -> tuple[str, str | None]:
    """Return the key and the text of the message in *record*; None if it has none."""
    for key in TEXT_KEYS:
        if isinstance(text := record.get(key), str):
            return key, text
    return "", None


def _key(key: object) -> str:
    return key if isinstance(key, str) else _written(key)


def _value(value: object) -> str:
    return value if isinstance(value, str) and _BARE_VALUE(value) else _json(value)


def _foreign(value: object) -> object:
    if isinstance(value, msgspec.msgpack.Ext):
        return {"ext": value.code, "data": bytes(value.data).hex()}
    return _written(value)


_encoder = msgspec.json.Encoder(enc_hook=_foreign)
_encode, _encode_lines = _encoder.encode, _encoder.encode_lines


def _json(value: Any, depth: int = 0) -> str:
    """Return *value* as JSON. It will stand inside *depth* other objects."""
    try:
        shown = _encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return _encode(_plain(value, depth)).decode()
    if len(shown) <= 2 * (_NESTING_MAX - depth) or shown.count("[") + shown.count("{") <= _NESTING_MAX - depth:
        return shown
    return _encode(_plain(value, depth)).decode() if is_value_deeper(value, _NESTING_MAX - depth) else shown


def _escape_json(text: str) -> str:
    """Return JSON that msgspec has written with the characters escaped that could control a terminal."""
    return text if text.isascii() and "\x7f" not in text else escape_json(text)


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
