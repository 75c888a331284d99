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
from itertools import chain, groupby
from operator import itemgetter
from typing import Any, NamedTuple

from hub.message import Message
from hub.query.found import Found, Group
from hub.sinks.otlpcolumns import pack_found, pack_log_records, with_heads
from hub.sinks.otlpmessage import is_text
from hub.sinks.otlpvalues import head_of_field, pack_field, pack_pairs, pack_text


def encode_groups(groups: Sequence[Group], uid: str, host: str) -> bytes:
    """
    Return the body for the messages of *groups*. *uid* is what their sequences are unique in, *host* the name of this
    host.
    """
    parts: list[_Part] = []
    for group in groups:
        rows = pack_found(group, uid) if isinstance(group, Found) and group.batch.home is None else None
        if rows is None:
            parts += _parts_of([*group], uid, host)
        else:
            assert isinstance(group, Found)
            common = _Shared(group.batch.tag.decode("utf-8", "replace"), host)
            parts.append((common, with_heads(rows, _head_of_record)))
    return _joined(parts)


class _Shared(NamedTuple):
    """What messages of one resource and scope have in common."""

    tag: str
    host: str
    resource: Any = None
    scope: Any = None


_Part = tuple[_Shared, list[bytes]]
"""Log records, and what they share."""


def _parts_of(messages: Sequence[Message], uid: str, host: str) -> list[_Part]:
    records = with_heads(pack_log_records(messages, uid), _head_of_record)
    shared = (_shared(message, host) for message in messages)
    groups = groupby(zip(shared, records, strict=True), itemgetter(0))
    return [(common, [*map(itemgetter(1), group)]) for common, group in groups]


def _joined(parts: Sequence[_Part]) -> bytes:
    """Return the body for *parts*, of which adjacent ones may share the same."""
    pieces: list[bytes] = []  # joined once: each copy of a large body takes time
    for common, group in groupby(parts, itemgetter(0)):
        scope, records = _scope(common.scope), [*chain.from_iterable(map(itemgetter(1), group))]
        size = len(scope) + sum(map(len, records))
        resource = pack_field(0x0A, _resource(common.tag, common.host, common.resource)) + head_of_field(0x12, size)
        pieces += (head_of_field(0x0A, len(resource) + size), resource, scope, *records)
    return b"".join(pieces)


def _shared(message: Message, host: str) -> _Shared:
    record = message.record
    home = host if message.home is None else message.home.host
    return _Shared(message.tag, home, record.get("resource"), record.get("scope"))


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
