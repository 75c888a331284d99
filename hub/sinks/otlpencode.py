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

Always true: every message can be encoded. What the fields of a record mean depends on their names alone, most of the
time; it is found once for each set of names (`Shape`). A record that is not as usual is encoded field by field, to the
same bytes.

Not here: values (hub.sinks.otlpvalues), sending (hub.sinks.otlp).
Source: opentelemetry/proto/logs/v1, the encoding of Protocol Buffers; semantic conventions for logs, "log.record.uid".
"""

from __future__ import annotations

import functools
import re
import struct
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from hub.message import Message, Peer
from hub.query.level import KEYS, LEVELS, level_of, rank_of
from hub.sinks.otlpvalues import (
    DOUBLE,
    SHORT,
    U64,
    pack_field,
    pack_key,
    pack_pair,
    pack_pairs,
    pack_text,
    pack_value,
    pack_varint,
)

_SEVERITIES = dict(zip(LEVELS, (1, 5, 9, 10, 13, 17, 21, 22, 23), strict=True))
_BODIES = ("message", "event", "msg", "log")
_TIMES = struct.Struct("<BQBQ")
_FIXED32 = struct.Struct("<I")
_U32 = (1 << 32) - 1
KEY_MAX = 64
"""With longer names, the length of an attribute that is a number would need two bytes."""
_UID = "log.record.uid"
_OURS = frozenset((_UID, "process.pid", "process.command", "client.address", "user.id", "systemd.unit", "container.id"))
_OF_OTLP = frozenset(("trace_id", "span_id", "resource", "scope", "event_name", "flags", "dropped_attributes_count"))
_UNUSUAL = _OURS | _OF_OTLP | {*KEYS, "log", "body", "attributes"} - {"level"}
_is_hex = re.compile(r"[0-9a-fA-F]+").fullmatch


def encode_messages(messages: Iterable[Message], uid: str, host: str) -> bytes:
    """Return the body for *messages*. *uid* is what their sequences are unique in, *host* the name of this host."""
    parts: list[bytes] = []
    for shared, group in groupby(messages, lambda each: _shared(each, host)):
        tag, home, resource, scope = (shared, host, None, None) if isinstance(shared, str) else shared
        records = b"".join(pack_field(0x12, _log_record(message, uid)) for message in group)
        attributes = _resource(tag, home, resource)
        parts.append(pack_field(0x0A, pack_field(0x0A, attributes) + pack_field(0x12, _scope(scope) + records)))
    return b"".join(parts)


def _shared(message: Message, host: str) -> str | tuple[str, str, Any, Any]:
    """Return what messages of one resource and scope have in common; the tag, if there is nothing else."""
    record = message.record
    home = message.home
    if home is None and "resource" not in record and "scope" not in record:
        return message.tag
    return message.tag, host if home is None else home.host, record.get("resource"), record.get("scope")


def _resource(tag: str, host: str, resource: Any) -> bytes:
    given = resource if isinstance(resource, dict) else {}
    ours = {"service.name": tag, "host.name": host}
    return pack_pairs(0x0A, {**ours, **given})


def _scope(scope: Any) -> bytes:
    if not isinstance(scope, dict):
        return b""
    given = [pack_text(tag, scope[key]) for tag, key in ((0x0A, "name"), (0x12, "version")) if _is_text(scope.get(key))]
    attributes = scope.get("attributes")
    if isinstance(attributes, dict):
        given.append(pack_pairs(0x1A, attributes))
    return pack_field(0x0A, b"".join(given)) if given else b""


def _log_record(message: Message, uid: str) -> bytes:
    shape = _shape_of(tuple(message.record))
    usual = None if shape is None else _usual(message, uid, shape)
    return _any(message, uid) if usual is None else usual


class Shape(NamedTuple):
    """What the fields of a record are, by their names: the level, the body, and attributes with their packed names."""

    level: str | None
    body: str | None
    attributes: Sequence[tuple[str, bytes]]


@functools.lru_cache(maxsize=1024)
def _shape_of(names: tuple[Any, ...]) -> Shape | None:
    """Return the shape of the records with the fields *names*; None if it depends on their values."""
    if not all(type(name) is str and len(pack_key(name)) <= KEY_MAX for name in names):
        return None
    if not _UNUSUAL.isdisjoint(names):
        return None
    bodies = [name for name in names if name in _BODIES]
    if len(bodies) > 1:
        return None
    body = bodies[0] if bodies else None
    level = "level" if "level" in names else None
    return Shape(level, body, [(name, pack_key(name)) for name in names if name not in (level, body)])


def _usual(message: Message, uid: str, shape: Shape) -> bytes | None:
    """Return the log record of a message whose record has *shape*; None if its level or its body is none."""
    record = message.record
    parts = [_TIMES.pack(0x09, min(max(message.time, 0), U64), 0x59, message.received)]
    if shape.level is not None:
        level = record[shape.level]
        packed = _packed_level(level) if type(level) is str else b""
        if not packed:
            return None
        parts.append(packed)
    if shape.body is not None:
        body = record[shape.body]
        if type(body) is not str:
            return None
        parts.append(_packed_body(body))
    for name, key in shape.attributes:
        value = record[name]
        kind = type(value)
        if kind is str:
            data = value.encode("utf-8", "replace")
            size = len(data)
            if len(key) + size < SHORT:
                parts.append(b"2%c%b\x12%c\x0a%c%b" % (len(key) + size + 4, key, size + 2, size, data))
                continue
        elif kind is float:
            parts.append(b"2%c%b\x12\x09\x21%b" % (len(key) + 11, key, DOUBLE.pack(value)))
            continue
        parts.append(pack_pair(0x32, name, value))
    parts += (pack_pair(0x32, _UID, f"{uid}-{message.sequence}"), _packed_writer(message.peer))
    return b"".join(parts)


def _any(message: Message, uid: str) -> bytes:
    left = dict(message.record)
    parts = [_TIMES.pack(0x09, min(max(message.time, 0), U64), 0x59, message.received)]
    parts += _severity(left)
    parts += _body(left)
    if not left.keys().isdisjoint(_OF_OTLP):
        parts += _special(left)
    uid = f"{uid}-{message.sequence}"
    given = left.pop("attributes") if isinstance(left.get("attributes"), dict) else None
    if given is None and left.keys().isdisjoint(_OURS):
        parts += (pack_pairs(0x32, left), pack_pair(0x32, _UID, uid), _packed_writer(message.peer))
    else:
        ours = {_UID: uid, **_writer(message.peer)}
        parts.append(pack_pairs(0x32, {**ours, **(given or {}), **left}))
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
        parts.append(pack_text(0x1A, text))
    return parts


@functools.lru_cache(maxsize=256)
def _packed_level(level: str) -> bytes:
    """Return number and text of a level that is known by name; nothing for another one."""
    rank = rank_of({"level": level})
    return b"" if rank is None else b"\x10" + bytes((_SEVERITIES[LEVELS[rank]],)) + pack_text(0x1A, level)


def _body(left: dict[Any, Any]) -> list[bytes]:
    """Take the body out of *left*, and return it."""
    for key in _BODIES:
        if isinstance(left.get(key), str):
            return [_packed_body(left.pop(key))]
    return [pack_field(0x2A, pack_value(left.pop("body")))] if "body" in left else []


def _packed_body(body: str) -> bytes:
    data = body.encode("utf-8", "replace")
    size = len(data)
    if size < SHORT:
        return b"*%c\x0a%c%b" % (size + 2, size, data)
    return pack_field(0x2A, pack_field(0x0A, data))


def _special(left: dict[Any, Any]) -> list[bytes]:
    """Take the fields out of *left* that have places of their own. Return them."""
    parts = []
    for key, tag, size in (("trace_id", 0x4A, 16), ("span_id", 0x52, 8)):
        value = left.get(key)
        if isinstance(value, str) and len(value) == 2 * size and _is_hex(value):
            parts.append(pack_field(tag, bytes.fromhex(left.pop(key))))
    if "resource" in left and isinstance(left["resource"], dict):
        del left["resource"]
    if "scope" in left and isinstance(left["scope"], dict):
        del left["scope"]
    if _is_text(left.get("event_name")):
        parts.append(pack_text(0x62, left.pop("event_name")))
    if _is_count(left.get("flags"), _U32):
        parts.append(b"\x45" + _FIXED32.pack(left.pop("flags")))
    if _is_count(left.get("dropped_attributes_count"), _U32):
        parts.append(b"\x38" + pack_varint(left.pop("dropped_attributes_count")))
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
    return pack_pairs(0x32, _writer(peer))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most
