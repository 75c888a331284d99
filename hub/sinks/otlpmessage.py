"""
A message to a log record of OTLP, field by field: the way that takes any record.

| message | log record |
|---|---|
| time; time of receipt | `time_unix_nano`; `observed_time_unix_nano` |
| the level, under any of its names | `severity_number`; the value of the field is `severity_text` |
| `message`, `event`, `msg` or `log`, the first text of these | the body; without one, the body is missing |
| `trace_id`, `span_id` in hexadecimal | the same |
| every other field | an attribute under its own name |
| the id of the hub and the sequence | the attribute `log.record.uid`: the same if a message comes again |
| the writer | `process.pid`, `process.command`, `user.id`, `systemd.unit`, `container.id` |

A message that came from OpenTelemetry becomes what it was: its fields `attributes`, `severity_number`, `severity_text`,
`event_name`, `flags` and `dropped_attributes_count` (hub.wire.otlprecord).

Always true: every message can be encoded.

Not here: many messages at once (hub.sinks.otlpcolumns), resources and scopes (hub.sinks.otlpencode), values
(hub.sinks.otlpvalues).
Source: opentelemetry/proto/logs/v1; semantic conventions for logs, "log.record.uid".
"""

from __future__ import annotations

import functools
import re
import struct
from typing import Any

from hub.message import Message, Peer
from hub.query.level import LEVELS, level_of, rank_of
from hub.sinks.otlpvalues import SHORT, U64, pack_field, pack_pair, pack_pairs, pack_text, pack_value, pack_varint

_SEVERITIES = dict(zip(LEVELS, (1, 5, 9, 10, 13, 17, 21, 22, 23), strict=True))
BODIES = ("message", "event", "msg", "log")
TIMES = struct.Struct("<BQBQ")
_FIXED32 = struct.Struct("<I")
_U32 = (1 << 32) - 1
UID = "log.record.uid"
OURS = frozenset((UID, "process.pid", "process.command", "client.address", "user.id", "systemd.unit", "container.id"))
OF_OTLP = frozenset(("trace_id", "span_id", "resource", "scope", "event_name", "flags", "dropped_attributes_count"))
_is_hex = re.compile(r"[0-9a-fA-F]+").fullmatch


def pack_log_record(message: Message, uid: str) -> bytes:
    """Return the log record of any message. *uid* is what its sequence is unique in."""
    left = dict(message.record)
    parts = [TIMES.pack(0x09, min(max(message.time, 0), U64), 0x59, message.received)]
    parts += _severity(left)
    parts += _body(left)
    if not left.keys().isdisjoint(OF_OTLP):
        parts += _special(left)
    uid = f"{uid}-{message.sequence}"
    given = left.pop("attributes") if isinstance(left.get("attributes"), dict) else None
    if given is None and left.keys().isdisjoint(OURS):
        parts += (pack_pairs(0x32, left), pack_pair(0x32, UID, uid), pack_writer(message.peer))
    else:
        ours = {UID: uid, **_writer(message.peer)}
        parts.append(pack_pairs(0x32, {**ours, **(given or {}), **left}))
    return b"".join(parts)


def _severity(left: dict[Any, Any]) -> list[bytes]:
    """Take the level out of *left*. Return its number and its text."""
    level = left.get("level")
    if type(level) is str and "severity_number" not in left and "severity_text" not in left:
        packed = pack_level(level)
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
        text = text if is_text(text) else level
    if is_text(text):
        parts.append(pack_text(0x1A, text))
    return parts


@functools.lru_cache(maxsize=256)
def pack_level(level: str) -> bytes:
    """Return number and text of a level that is known by name; nothing for another one."""
    rank = rank_of({"level": level})
    return b"" if rank is None else b"\x10" + bytes((_SEVERITIES[LEVELS[rank]],)) + pack_text(0x1A, level)


def _body(left: dict[Any, Any]) -> list[bytes]:
    """Take the body out of *left*, and return it."""
    for key in BODIES:
        if isinstance(left.get(key), str):
            return [pack_body(left.pop(key))]
    return [pack_field(0x2A, pack_value(left.pop("body")))] if "body" in left else []


def pack_body(body: str) -> bytes:
    """Return the body of a log record."""
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
    if is_text(left.get("event_name")):
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
def pack_writer(peer: Peer) -> bytes:
    """Return the attributes of the process that wrote a message."""
    return pack_pairs(0x32, _writer(peer))


def is_text(value: Any) -> bool:
    """Return whether *value* is a text that is not empty."""
    return isinstance(value, str) and value != ""


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most
