"""
Messages to the body of an OTLP request: an ExportLogsServiceRequest in protobuf.

The tag and the host are the resource: `service.name`, `host.name`. Adjacent messages with the same ones share it. A
message that came from OpenTelemetry has the resource and the scope that it had, from its fields `resource` and `scope`
(hub.wire.otlprecord).

Not here: log records (hub.sinks.otlpmessage, hub.sinks.otlpcolumns), values (hub.sinks.otlpvalues), sending
(hub.sinks.otlp).
Source: opentelemetry/proto/logs/v1, the encoding of Protocol Buffers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from hub.message import Message
from hub.sinks.otlpcolumns import pack_log_records, with_heads
from hub.sinks.otlpmessage import is_text
from hub.sinks.otlpvalues import head_of_field, pack_field, pack_pairs, pack_text


def encode_messages(messages: Sequence[Message], uid: str, host: str) -> bytes:
    """Return the body for *messages*. *uid* is what their sequences are unique in, *host* the name of this host."""
    records = with_heads(pack_log_records(messages, uid), _head_of_record)
    shared = [
        message.tag
        if message.home is None and "resource" not in message.record and "scope" not in message.record
        else _shared(message, host)
        for message in messages
    ]
    parts: list[bytes] = []
    for common, group in groupby(zip(shared, records, strict=True), itemgetter(0)):
        tag, home, resource, scope = (common, host, None, None) if isinstance(common, str) else common
        of_scope = b"".join((_scope(scope), *map(itemgetter(1), group)))
        parts.append(pack_field(0x0A, pack_field(0x0A, _resource(tag, home, resource)) + pack_field(0x12, of_scope)))
    return b"".join(parts)


def _shared(message: Message, host: str) -> tuple[str, str, Any, Any]:
    """Return what messages of one resource and scope have in common."""
    record = message.record
    home = host if message.home is None else message.home.host
    return message.tag, home, record.get("resource"), record.get("scope")


def _resource(tag: str, host: str, resource: Any) -> bytes:
    given = resource if isinstance(resource, dict) else {}
    ours = {"service.name": tag, "host.name": host}
    return pack_pairs(0x0A, {**ours, **given})


def _scope(scope: Any) -> bytes:
    if not isinstance(scope, dict):
        return b""
    given = [pack_text(tag, scope[key]) for tag, key in ((0x0A, "name"), (0x12, "version")) if is_text(scope.get(key))]
    attributes = scope.get("attributes")
    if isinstance(attributes, dict):
        given.append(pack_pairs(0x1A, attributes))
    return pack_field(0x0A, b"".join(given)) if given else b""


def _head_of_record(size: int) -> bytes:
    return head_of_field(0x12, size)
