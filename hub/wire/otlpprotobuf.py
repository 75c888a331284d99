"""
The body of a request to /v1/logs in protobuf, to items.

The outer messages are cut here, and each log record is decoded on its own: decoded together, two bytes of a hostile
body would become a hundred bytes of memory.

Always true: a body that is not an ExportLogsServiceRequest is `BadBody`. The steps that were yielded before the fault
was found are the caller's to discard.

Not here: the same in JSON (hub.wire.otlpjson), what becomes of a log record (hub.wire.otlprecord).
Source: opentelemetry/proto/logs/v1; the encoding of Protocol Buffers.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.message import DecodeError
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from hub.message import Origin, Peer
from hub.wire.bodies import BadBody, BodyTooLarge, Items
from hub.wire.otlprecord import (
    OWN_FIELDS,
    RECORD_BYTES_MAX,
    Collected,
    Context,
    add_body,
    add_rest,
    add_severity,
    context_of,
    named_scope,
)

PROTOBUF_BYTES_MAX = 16 << 20
CONTEXTS_MAX = 10_000
"""Resources and scopes in a body; one takes 2 bytes, and 5 µs."""
SEARCHED_MAX = 1000
"""A resource or a scope is looked for among the first fields, where it stands: to search all of them takes long."""
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


def decode_protobuf(body: bytes, peer: Peer, origin: Origin | None, bytes_max: int) -> Iterator[Items]:
    """Yield the items of an ExportLogsServiceRequest. Raises BadBody and BodyTooLarge."""
    if len(body) > PROTOBUF_BYTES_MAX:
        raise BodyTooLarge(f"more than {PROTOBUF_BYTES_MAX} bytes of OTLP (send smaller batches)")
    collected = Collected(peer, origin, bytes_max)
    for context, record in _records(body):
        if record is None or collected.add(context, record, _of_protobuf):  # None: a context took as long as a step
            yield collected.take()
    yield collected.take()


def _records(body: bytes) -> Iterator[tuple[Context, bytes | None]]:
    """Yield each log record with its context; None for a context alone. Nothing is kept of what is yet to come."""
    contexts = 0
    for start, end in _messages(1, body, 0, len(body)):  # resource_logs
        contexts += 1
        _check_contexts(contexts)
        resource = _first(1, body, start, end)
        attributes = {} if resource is None else _attributes(_parsed(Resource, body, *resource).attributes)
        for at, stop in _messages(2, body, start, end):  # scope_logs
            contexts += 1
            _check_contexts(contexts)
            found = _first(1, body, at, stop)
            scope = {} if found is None else _scope_of(_parsed(InstrumentationScope, body, *found))
            context = context_of(attributes, scope)
            yield context, None
            for first, last in _messages(2, body, at, stop):  # log_records
                yield context, body[first:last]


def _check_contexts(count: int) -> None:
    if count > CONTEXTS_MAX:
        raise BodyTooLarge(f"more than {CONTEXTS_MAX} resources and scopes (send less at once)")


def _messages(wanted: int, body: bytes, at: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield start and end of each field with the number *wanted* and a length. Raises BadBody."""
    return ((start, stop) for number, start, stop in _fields(body, at, end) if number == wanted)


def _first(wanted: int, body: bytes, at: int, end: int) -> tuple[int, int] | None:
    """Return start and end of the first such field, if it is among the first `SEARCHED_MAX`. Raises BadBody."""
    fields = itertools.islice(_fields(body, at, end), SEARCHED_MAX)
    return next(((start, stop) for number, start, stop in fields if number == wanted), None)


def _fields(body: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield number, start and end of each field with a length. Raises BadBody."""
    while at < end:
        key, at = _varint(body, at, end)
        kind = key & 7
        if kind == _LEN:
            size, at = _varint(body, at, end)
            if size > end - at:
                raise BadBody("a field of protobuf is longer than what is around it")
            yield key >> 3, at, at + size
            at += size
        elif kind == _VARINT:
            _, at = _varint(body, at, end)
        elif kind in (_I64, _I32):
            at += 8 if kind == _I64 else 4
        else:
            raise BadBody(f"no field of protobuf begins before byte {at}")
    if at != end:
        raise BadBody("a field of protobuf is longer than what is around it")


def _varint(body: bytes, at: int, end: int) -> tuple[int, int]:
    """Return the number at *at*, and the place after it. Raises BadBody."""
    value = shift = 0
    for place in range(at, min(at + _VARINT_BYTES_MAX, end)):
        byte = body[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise BadBody(f"no number of protobuf is at byte {at}")


def _parsed(kind: Any, body: bytes, start: int, end: int) -> Any:
    """Return a small message of protobuf. Raises BadBody."""
    if end - start > RECORD_BYTES_MAX:
        raise BadBody(f"a resource or a scope of more than {RECORD_BYTES_MAX} bytes")
    try:
        return kind.FromString(body[start:end])
    except DecodeError as error:
        raise BadBody(f"not {kind.DESCRIPTOR.name}: {error}") from None


# One log record.


def _of_protobuf(packed: bytes) -> tuple[int, dict[str, Any]]:
    """Return time and record. Raises BadBody."""
    try:
        log = LogRecord.FromString(packed)
    except DecodeError as error:
        raise BadBody(f"not LogRecord: {error}") from None
    record: dict[str, Any] = {}
    add_severity(record, log.severity_number, log.severity_text)
    if log.HasField("body"):
        add_body(record, _value(log.body))
    others: dict[str, Any] = {}
    for pair in log.attributes:
        key = pair.key
        value = pair.value
        kind = value.WhichOneof("value")
        given = value.string_value if kind == "string_value" else _value(value)
        if key in OWN_FIELDS:
            others[key] = given
        else:
            record[key] = given
    if log.trace_id:
        record["trace_id"] = log.trace_id.hex()
    if log.span_id:
        record["span_id"] = log.span_id.hex()
    add_rest(record, log.event_name, log.flags, log.dropped_attributes_count, others)
    return log.time_unix_nano or log.observed_time_unix_nano, record


def _value(value: AnyValue) -> Any:
    """Return what an AnyValue holds."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "kvlist_value":
        return {pair.key: _value(pair.value) for pair in value.kvlist_value.values}
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind)


def _attributes(pairs: Sequence[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _scope_of(scope: InstrumentationScope) -> dict[str, Any]:
    return named_scope(scope.name, scope.version, _attributes(scope.attributes))
