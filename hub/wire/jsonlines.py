"""
A JSON object on a line: a request, or a message. A JSON array: a batch of requests.

It is a request if it has members ``jsonrpc`` and ``method`` and none that a request does not have: a log record may be
about JSON-RPC. In a message, ``tag`` (a string) and ``time`` (RFC 3339, or a number since the epoch in seconds, or in
milli-, micro- or nanoseconds) are removed from the object; the rest is the record. An unusable ``tag`` or ``time``
stays in the record, and so does a number that is no plausible time: a duration, for example.

What JSON permits and msgpack does not, and what many programs write although it is no JSON, is kept as far as possible:
an integer of more than 64 bits and half a surrogate as text, ``NaN`` and ``Infinity``, bytes that are not UTF-8.

A text that begins like a request and is not one (it is not JSON, or too long), and an empty array, are answered with an
error. They are kept as text too: they may come from a log of requests.

Always true: for a line that is not such an object, or one nested more than `RECORD_NESTING_MAX` levels deep, the result
is None, and the caller keeps the line as text.
Not here: cutting lines (hub.wire.lines), the forms of JSON-RPC (hub.wire.jsonrpc).
"""

from __future__ import annotations

import codecs
import datetime
import json
import re
from collections.abc import Sequence
from itertools import groupby, repeat
from operator import itemgetter
from typing import Any

import msgpack
import msgspec

from hub.entries import NS, RECORD_NESTING_MAX, UNSTAMPED, is_deeper, is_value_deeper, stamp
from hub.wire import jsonrpc
from hub.wire.frame import TAG_BYTES_MAX

TAG = b"json"
JSON_BYTES_MAX = 64 << 10
"""
The caller keeps a longer line as text.

Decoding and re-encoding a line takes up to 16 µs per KiB (an array of empty arrays; 1 to 8 for others), twice that
during a full garbage collection, and memory of up to 25 times its bytes: 2 ms and 1.6 MiB for the longest line, 8 ms
and 6.4 MiB for a read of such lines.
"""

RUN_MAX = 256
"""Lines decoded at once: few enough for their objects to stay in the processor's cache."""

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.msgpack.Encoder().encode
_FAULTS = (msgspec.MsgspecError, UnicodeError, ValueError, OverflowError, RecursionError)
_decode_array = msgspec.json.Decoder(list[Any]).decode
_match_call = re.compile(rb'\s*(?:\[\s*)?\{\s*"(?:jsonrpc|method|params|id)"\s*:').match
_EMPTY, _EMPTY_APART = [b"[]"], [b"[", b"]"]
_EMPTY_BYTES_MAX = 16
_FIXED_ARRAY_MAX = 15  # a longer array in msgpack, of fewer than 65,536 objects, has a header of three bytes
_KEEP = "mpsr.keep"  # the name of an error handler
_PLAUSIBLE_S = 10**9  # September 2001
_TIME_S_MAX = 1 << 32
_TIME_NS_MAX = _TIME_S_MAX * NS


def parse(line: bytes) -> jsonrpc.Request | tuple[bytes, bytes] | None:
    """Return a request, a message as tag and entry, or None if the line is neither."""
    value = decode_object(line)
    if value is None:
        return None
    if jsonrpc.has_form(value):
        is_too_deep = may_be_too_deep(line) and is_value_deeper(value, RECORD_NESTING_MAX)
        return None if is_too_deep else jsonrpc.as_request(value, len(line))
    return message_of(value, may_be_deep=may_be_too_deep(line))


def request_of(text: bytes) -> jsonrpc.Request:
    """Return the request, or the batch, that *text* is, where nothing else may be sent; one with a fault otherwise."""
    is_array = text.lstrip()[:1] == b"["
    request = parse_batch(text) if is_array else parse(text)
    if isinstance(request, jsonrpc.Request):
        return request
    if (broken := broken_call(text)) is not None:
        return msgspec.structs.replace(broken, is_kept=False)
    if is_array or request is not None:
        return jsonrpc.Request("", fault='no request: it needs the members "jsonrpc" and "method", and no others')
    return jsonrpc.Request("", fault="not a JSON object", code=jsonrpc.PARSE_ERROR)


def parse_message(line: bytes) -> tuple[bytes, bytes] | None:
    """Return a message as tag and entry, whatever the object means elsewhere; None if the line is no object."""
    value = decode_object(line)
    return None if value is None else message_of(value, may_be_deep=may_be_too_deep(line))


def parse_run(lines: Sequence[bytes]) -> list[tuple[bytes, int, bytes]] | None:
    """
    Return the messages on *lines*, at most `RUN_MAX`: tag, number and entries of those with the same tag that follow
    one another.

    Return None if one of the lines is anything but a message, or has something that JSON or msgpack does not permit.
    """
    sizes = set(map(len, lines))
    if max(sizes) > 2 * RECORD_NESTING_MAX and (max(sizes) > JSON_BYTES_MAX or any(map(may_be_too_deep, lines))):
        return None
    try:
        values = list(map(_decode, lines))
        special = [value for value in values if "tag" in value or "time" in value or "jsonrpc" in value]
        if not special:
            packed = _encode(list(zip(repeat(None), values)))
            return [(TAG, len(values), packed[_header_bytes(len(values)) :])]
        if any(map(jsonrpc.has_form, special)):
            return None
        parsed = [(TAG if (tag := take_tag(v)) is None else tag.encode(), take_time(v), v) for v in values]
        found = []
        for tag, group in groupby(parsed, itemgetter(0)):
            entries = [(UNSTAMPED if time is None else stamp(time)) + _encode(value) for _, time, value in group]
            found.append((tag, len(entries), b"".join(entries)))
        return found
    except _FAULTS:
        return None


def _header_bytes(count: int) -> int:
    """Return the length of the header that the encoder writes before *count* objects."""
    return 1 if count <= _FIXED_ARRAY_MAX else 3


def message_of(value: dict[str, Any], *, may_be_deep: bool) -> tuple[bytes, bytes] | None:
    """Return the message in an object as tag and entry; None if it cannot be kept as one. Changes *value*."""
    tag = take_tag(value)
    entry = entry_of(value, take_time(value), may_be_deep=may_be_deep)
    return None if entry is None else (TAG if tag is None else tag.encode(), entry)


def entry_of(value: dict[str, Any], time_ns: int | None, *, may_be_deep: bool) -> bytes | None:
    """Return the entry of a record and its time, or None if the record cannot be kept as one."""
    packed = pack(value)
    if packed is None or (may_be_deep and is_deeper(packed, RECORD_NESTING_MAX)):
        return None
    return (UNSTAMPED if time_ns is None else stamp(time_ns)) + packed


def may_be_batch(line: bytes) -> bool:
    """Return whether a text that begins with a bracket may be a batch."""
    return b'"jsonrpc"' in line or (len(line) < _EMPTY_BYTES_MAX and line.split() in (_EMPTY, _EMPTY_APART))


def parse_batch(line: bytes) -> jsonrpc.Request | None:
    """Return the batch in a JSON array, or None if it holds none."""
    try:
        values = _decode_array(line)
    except _FAULTS:
        return None
    if may_be_too_deep(line) and is_value_deeper(values, RECORD_NESTING_MAX):
        return None
    return jsonrpc.as_batch(values, len(line))


def broken_call(line: bytes) -> jsonrpc.Request | None:
    """Return the error for a text that was meant to be a request or a batch, as far as one can tell, and is neither."""
    if line[:1] == b"[" and line.split() in (_EMPTY, _EMPTY_APART):
        return jsonrpc.Request("", fault="an empty batch", is_kept=True)
    if b'"jsonrpc"' not in line or b'"method"' not in line or _match_call(line) is None:
        return None
    if len(line) > JSON_BYTES_MAX:
        return jsonrpc.Request("", fault=f"more than {jsonrpc.REQUEST_BYTES_MAX} bytes", is_kept=True)
    try:
        json.loads(line.decode("utf-8", "surrogateescape"))
    except RecursionError:
        return None
    except ValueError as error:
        return jsonrpc.Request("", fault=f"not JSON: {error}", code=jsonrpc.PARSE_ERROR, is_kept=True)
    return None


def may_be_too_deep(line: bytes) -> bool:
    """Return whether JSON could be nested more than `RECORD_NESTING_MAX` levels deep. That takes a bracket a level."""
    return len(line) > 2 * RECORD_NESTING_MAX and line.count(b"[") + line.count(b"{") > RECORD_NESTING_MAX


def pack(value: dict[Any, Any]) -> bytes | None:
    """Return *value* in msgpack, with what msgpack cannot hold kept as text; None if that is not possible either."""
    try:
        return _encode(value)
    except _FAULTS:
        pass
    try:
        packed: bytes = msgpack.packb(value, default=str, unicode_errors=_KEEP)
    except (*_FAULTS, msgpack.PackException):
        return None
    return packed


def decode_object(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line, or None if the line is not an object."""
    try:
        return _decode(line)
    except _FAULTS:
        return _decode_odd(line)


def _decode_odd(line: bytes) -> dict[str, Any] | None:
    """Return the object on a line that is not quite JSON."""
    try:
        value = json.loads(line.decode("utf-8", "surrogateescape"))
    except _FAULTS:
        return None
    return value if isinstance(value, dict) else None


def _keep(error: UnicodeError) -> tuple[bytes, int]:
    """Encode what is not Unicode: bytes that were not UTF-8 as they were, other surrogates as their escapes."""
    assert isinstance(error, UnicodeEncodeError)
    kept = bytearray()
    for character in error.object[error.start : error.end]:
        code = ord(character)
        kept += bytes((code - 0xDC00,)) if 0xDC80 <= code <= 0xDCFF else b"\\u%04x" % code
    return bytes(kept), error.end


codecs.register_error(_KEEP, _keep)


def take_tag(value: dict[str, Any]) -> str | None:
    """Take the tag out of an object and return it. Return None, and leave it, if it cannot be one."""
    tag = value.get("tag")
    if not isinstance(tag, str) or not tag:
        return None
    try:
        size = len(tag.encode())
    except UnicodeEncodeError:
        return None
    if size > TAG_BYTES_MAX:
        return None
    del value["tag"]
    return tag


def take_time(value: dict[str, Any]) -> int | None:
    """Take the time out of an object and return it in nanoseconds. Return None, and leave it, if it is not a time."""
    time_ns = parse_time(value.get("time"))
    if time_ns is not None:
        del value["time"]
    return time_ns


def parse_time(time: object) -> int | None:
    """
    Return nanoseconds since the epoch for RFC 3339 text (1970 to 2106), or for a number that is a plausible time (2001
    to 2106) in seconds, milli-, micro- or nanoseconds. Return None for others.
    """
    if isinstance(time, str):
        return _parse_rfc3339(time)
    if isinstance(time, bool) or not isinstance(time, (int, float)):
        return None
    for units in (1, 10**3, 10**6, NS):  # in a second; a plausible number has one meaning only
        if _PLAUSIBLE_S * units <= time < _TIME_S_MAX * units:
            whole = int(time)
            return whole * (NS // units) + round((time - whole) * (NS // units))
    return None


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
