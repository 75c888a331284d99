"""
A JSON object on a line: a request if it has a ``jsonrpc`` member, otherwise a message.

``tag`` (a string) and ``time`` (RFC 3339, or seconds since the epoch) are removed from the object; the rest is the
record. An unusable ``tag`` or ``time`` stays in the record.

Always true: for a line that is not a JSON object, or cannot be encoded in msgpack, the result is None, and the caller
keeps the line as text.
Not here: cutting lines (hub.wire.lines), the forms of JSON-RPC (hub.wire.jsonrpc).
"""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from hub.entries import NS, UNSTAMPED, stamp
from hub.wire import jsonrpc
from hub.wire.frame import TAG_BYTES_MAX

TAG = b"json"
JSON_BYTES_MAX = 64 << 10
"""
The caller keeps a longer line as text.

Decoding and re-encoding a line takes up to 16 µs per KiB (an array of empty arrays; 1 to 8 for others), twice that
during a full garbage collection, and memory of up to 25 times its bytes: 2 ms and 1.6 MiB for the longest line, 8 ms
for a read of such lines.
"""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode
_TIME_S_MAX = 1 << 32
_TIME_NS_MAX = _TIME_S_MAX * NS


def parse(line: bytes) -> jsonrpc.Request | tuple[bytes, bytes] | None:
    """Return a request, a message as tag and entry, or None if the line is neither."""
    try:
        value = _decode(line)
        if "jsonrpc" in value:
            return jsonrpc.as_request(value, len(line))
        tag, before = _take_tag(value), _take_time(value)
        return tag, before + _encode(value)
    except (msgspec.MsgspecError, UnicodeError, ValueError, OverflowError, RecursionError):
        return None


def _take_tag(value: dict[str, Any]) -> bytes:
    tag = value.get("tag")
    if not isinstance(tag, str) or not tag or len(encoded := tag.encode()) > TAG_BYTES_MAX:
        return TAG
    del value["tag"]
    return encoded


def _take_time(value: dict[str, Any]) -> bytes:
    time_ns = parse_time(value.get("time"))
    if time_ns is None:
        return UNSTAMPED
    del value["time"]
    return stamp(time_ns)


def parse_time(time: object) -> int | None:
    """
    Return nanoseconds since the epoch (1970 to 2106) for RFC 3339 text or a number of seconds, or None for others.
    """
    if isinstance(time, str):
        return _parse_rfc3339(time)
    if isinstance(time, bool) or not isinstance(time, (int, float)) or not 0 <= time < _TIME_S_MAX:
        return None
    return int(time) * NS + round((time - int(time)) * NS)


def _parse_rfc3339(text: str) -> int | None:
    try:
        moment = datetime.datetime.fromisoformat(text.upper())  # RFC 3339 permits `t` and `z`
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    seconds = int((moment.replace(microsecond=0) - _EPOCH).total_seconds())
    time_ns = seconds * NS + _fraction_ns(text)
    return time_ns if 0 <= time_ns < _TIME_NS_MAX else None


_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def _fraction_ns(text: str) -> int:
    """Return the fraction of a second in RFC 3339 text, with nine digits (datetime keeps six)."""
    _, dot, rest = text.replace(",", ".").partition(".")
    if not dot:
        return 0
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return int(digits[:9].ljust(9, "0")) if digits else 0
