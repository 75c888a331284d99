"""
Messages to the body of an OTLP request: an ExportLogsServiceRequest in protobuf.

| message | log record |
|---|---|
| tag, and the host | the resource: `service.name`, `host.name` |
| time; time of receipt | `time_unix_nano`; `observed_time_unix_nano` |
| the level, under any of its names | `severity_number`; what the field holds is `severity_text` |
| `message`, `event`, `msg` or `log`, the first text of these | the body; without one, the body is missing |
| `trace_id`, `span_id` in hexadecimal | the same |
| every other field | an attribute under its own name |
| the id of the hub and the sequence | the attribute `log.record.uid`: the same if a message comes again |
| the writer | `process.pid`, `process.command`, `user.id`, `systemd.unit`, `container.id` |

A message that came from OpenTelemetry becomes what it was: its fields `resource`, `scope`, `attributes`,
`severity_number`, `severity_text`, `event_name`, `flags` and `dropped_attributes_count` (hub.wire.otlprecord).

Always true: every message can be encoded; a value that protobuf cannot hold, or that is nested too deeply for its
readers, is written as text.

The bytes are put together here: with the classes of protobuf, this takes four times as long. Tests compare both.

Not here: sending (hub.sinks.otlp).
Source: opentelemetry/proto/logs/v1, the encoding of Protocol Buffers; semantic conventions for logs, "log.record.uid".
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Callable, Iterable
from itertools import groupby
from types import NoneType
from typing import Any

import msgspec

from hub.message import Message, Peer
from hub.query.level import LEVELS, level_of, rank_of

DEPTH_MAX = 16
"""Readers of protobuf follow 100 messages, and each level of a value takes three."""
_SEVERITIES = dict(zip(LEVELS, (1, 5, 9, 10, 13, 17, 21, 22, 23), strict=True))
_BODIES = ("message", "event", "msg", "log")
_DOUBLE = struct.Struct("<d")
_FIXED64 = struct.Struct("<Q")
_FIXED32 = struct.Struct("<I")
_U64, _U32, _I64 = (1 << 64) - 1, (1 << 32) - 1, 1 << 63
_OURS = frozenset(
    ("log.record.uid", "process.pid", "process.command", "client.address", "user.id", "systemd.unit", "container.id")
)
_OF_OTLP = frozenset(("trace_id", "span_id", "resource", "scope", "event_name", "flags", "dropped_attributes_count"))
_is_hex = re.compile(r"[0-9a-fA-F]+").fullmatch
_encode_json = msgspec.json.Encoder(enc_hook=str, decimal_format="string").encode


def encode_messages(messages: Iterable[Message], uid: str, host: str) -> bytes:
    """Return the body for *messages*. *uid* is what their sequences are unique in, *host* the name of this host."""
    parts: list[bytes] = []
    for (tag, home, resource, scope), group in groupby(messages, lambda each: _shared(each, host)):
        records = b"".join(_delimited(0x12, _log_record(message, uid)) for message in group)
        attributes = _resource(tag, home, resource)
        parts.append(_delimited(0x0A, _delimited(0x0A, attributes) + _delimited(0x12, _scope(scope) + records)))
    return b"".join(parts)


def _shared(message: Message, host: str) -> tuple[str, str, Any, Any]:
    """Return what messages of one resource and scope have in common."""
    record = message.record
    home = message.home
    hub_host = host if home is None else home.host
    if "resource" not in record and "scope" not in record:
        return message.tag, hub_host, None, None
    return message.tag, hub_host, record.get("resource"), record.get("scope")


def _resource(tag: str, host: str, resource: Any) -> bytes:
    given = resource if isinstance(resource, dict) else {}
    ours = {"service.name": tag, "host.name": host}
    return _pairs(0x0A, {**ours, **given})


def _scope(scope: Any) -> bytes:
    if not isinstance(scope, dict):
        return b""
    given = [_text(tag, scope[key]) for tag, key in ((0x0A, "name"), (0x12, "version")) if _is_text(scope.get(key))]
    attributes = scope.get("attributes")
    if isinstance(attributes, dict):
        given.append(_pairs(0x1A, attributes))
    return _delimited(0x0A, b"".join(given)) if given else b""


def _log_record(message: Message, uid: str) -> bytes:
    left = dict(message.record)
    parts = [b"\x09", _FIXED64.pack(min(max(message.time, 0), _U64)), b"\x59", _FIXED64.pack(message.received)]
    parts += _severity(left)
    parts += _body(left)
    if not left.keys().isdisjoint(_OF_OTLP):
        parts += _special(left)
    uid = f"{uid}-{message.sequence}"
    given = left.pop("attributes") if isinstance(left.get("attributes"), dict) else None
    if given is None and left.keys().isdisjoint(_OURS):
        parts += (_pairs(0x32, left), _pair(0x32, "log.record.uid", uid), _packed_writer(message.peer))
    else:
        ours = {"log.record.uid": uid, **_writer(message.peer)}
        parts.append(_pairs(0x32, {**ours, **(given or {}), **left}))
    return b"".join(parts)


def _severity(left: dict[Any, Any]) -> list[bytes]:
    """Take the level out of *left*. Return its number and its text."""
    level = left.get("level")
    if type(level) is str and "severity_number" not in left and "severity_text" not in left:
        packed = _packed_level(level)
        if packed:
            del left["level"]
            return [packed]
    level_key, rank = level_of(left)
    number = left.pop("severity_number", None)
    if not _is_count(number, 24):
        number = 0 if rank is None else _SEVERITIES[LEVELS[rank]]
    parts = [b"\x10" + bytes((number,))] if number else []
    text = left.pop("severity_text", None)
    if level_key not in ("", "log"):
        level = str(left.pop(level_key, ""))
        text = text if _is_text(text) else level
    if _is_text(text):
        parts.append(_text(0x1A, text))
    return parts


@functools.lru_cache(maxsize=256)
def _packed_level(level: str) -> bytes:
    """Return number and text of a level that is known by name; nothing for another one."""
    rank = rank_of({"level": level})
    return b"" if rank is None else b"\x10" + bytes((_SEVERITIES[LEVELS[rank]],)) + _text(0x1A, level)


def _body(left: dict[Any, Any]) -> list[bytes]:
    """Take the body out of *left*, and return it."""
    for key in _BODIES:
        if isinstance(left.get(key), str):
            return [_delimited(0x2A, _text(0x0A, left.pop(key)))]
    return [_delimited(0x2A, _value(left.pop("body")))] if "body" in left else []


def _special(left: dict[Any, Any]) -> list[bytes]:
    """Take the fields out of *left* that have places of their own. Return them."""
    parts = []
    for key, tag, size in (("trace_id", 0x4A, 16), ("span_id", 0x52, 8)):
        value = left.get(key)
        if isinstance(value, str) and len(value) == 2 * size and _is_hex(value):
            parts.append(_delimited(tag, bytes.fromhex(left.pop(key))))
    if "resource" in left and isinstance(left["resource"], dict):
        del left["resource"]
    if "scope" in left and isinstance(left["scope"], dict):
        del left["scope"]
    if _is_text(left.get("event_name")):
        parts.append(_text(0x62, left.pop("event_name")))
    if _is_count(left.get("flags"), _U32):
        parts.append(b"\x45" + _FIXED32.pack(left.pop("flags")))
    if _is_count(left.get("dropped_attributes_count"), _U32):
        parts.append(b"\x38" + _varint(left.pop("dropped_attributes_count")))
    return parts


def _writer(peer: Peer) -> dict[str, Any]:
    """Return the attributes of the process that wrote a message."""
    known: dict[str, Any] = {}
    if peer.pid:
        known["process.pid"] = peer.pid
    if peer.comm:
        known["client.address" if peer.is_remote else "process.command"] = peer.comm
    if peer.uid >= 0:
        known["user.id"] = str(peer.uid)
    known |= {key: value for key, value in (("systemd.unit", peer.unit), ("container.id", peer.container)) if value}
    return known


@functools.lru_cache(maxsize=1024)
def _packed_writer(peer: Peer) -> bytes:
    return _pairs(0x32, _writer(peer))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most


# Protocol Buffers.


def _varint(value: int) -> bytes:
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _delimited(tag: int, data: bytes) -> bytes:
    """Return a field with a length. *tag* is its number and type, below 128."""
    size = len(data)
    if size < 0x80:
        return bytes((tag, size)) + data
    if size < 0x4000:
        return bytes((tag, size & 0x7F | 0x80, size >> 7)) + data
    return bytes((tag,)) + _varint(size) + data


def _text(tag: int, text: str) -> bytes:
    return _delimited(tag, text.encode("utf-8", "replace"))


@functools.lru_cache(maxsize=4096)
def _key(key: str) -> bytes:
    """Return the first field of a KeyValue."""
    return _text(0x0A, key)


def _pairs(tag: int, pairs: dict[Any, Any], depth: int = 0) -> bytes:
    """Return each of *pairs* as the field *tag*. Their keys have to differ as texts."""
    if not {*map(type, pairs)} <= {str}:
        pairs = {key if isinstance(key, str) else _as_text(key): value for key, value in pairs.items()}
    return b"".join([_pair(tag, key, value, depth) for key, value in pairs.items()])


def _as_text(key: Any) -> str:
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key)


def _pair(tag: int, key: str, value: Any, depth: int = 0) -> bytes:
    """Return a KeyValue as the field *tag*."""
    if type(value) is str:  # most are short texts: all lengths are one byte then
        data = value.encode("utf-8", "replace")
        name, size = _key(key), len(data)
        if len(name) + size < 0x7C:
            return bytes((tag, len(name) + size + 4)) + name + bytes((0x12, size + 2, 0x0A, size)) + data
    return _delimited(tag, _key(key) + _delimited(0x12, _value(value, depth)))


def _value(value: Any, depth: int = 0) -> bytes:
    """Return an AnyValue."""
    pack = _SCALARS.get(type(value))
    if pack is not None:
        return pack(value)
    if depth >= DEPTH_MAX:
        return _text(0x0A, _encode_json(value).decode("utf-8", "replace"))
    if isinstance(value, dict):
        return _delimited(0x32, _pairs(0x0A, value, depth + 1))
    if isinstance(value, (list, tuple)):
        return _delimited(0x2A, b"".join(_delimited(0x0A, _value(each, depth + 1)) for each in value))
    return _text(0x0A, str(value))


def _of_int(value: int) -> bytes:
    return b"\x18" + _varint(value & _U64) if -_I64 <= value < _I64 else _text(0x0A, str(value))


_SCALARS: dict[type, Callable[[Any], bytes]] = {
    str: lambda value: _text(0x0A, value),
    int: _of_int,
    bool: lambda value: b"\x10\x01" if value else b"\x10\x00",
    float: lambda value: b"\x21" + _DOUBLE.pack(value),
    NoneType: lambda _: b"",
    bytes: lambda value: _delimited(0x3A, value),
    msgspec.msgpack.Ext: lambda value: _delimited(0x3A, bytes(value.data)),
}
