"""
OpenTelemetry's protocol for logs: the body of a request to /v1/logs, in protobuf or JSON, to items; and the replies.

A log record becomes one message:

| message | log record |
|---|---|
| tag | `service.name` of the resource, else ``otlp`` |
| time | `time_unix_nano`, else `observed_time_unix_nano` |
| `level` | the level that `severity_number` stands for, else `severity_text` |
| `message` | the body, if it is a text; any other body is `body` |
| `severity_number`, `severity_text`, `event_name`, `flags`, `dropped_attributes_count` | the same, if they are set |
| `trace_id`, `span_id` | as hexadecimal text |
| a field for each attribute | under its own name; under `attributes` if that name is one of the above |
| `resource`, `scope` | attributes of the resource; name, version and attributes of the scope |

The outer messages of protobuf are cut here, and each log record is decoded on its own: decoded together, two bytes of a
hostile body would become a hundred bytes of memory. JSON is not protobuf's JSON mapping: ids are hexadecimal, numbers
of 64 bits may be texts, unknown fields are ignored.

Always true:
- the items depend on the bytes alone;
- a log record that is too large or cannot be kept is rejected, and counted as a loss; the others are kept;
- a body that is not the declared format is `BadBody`, and nothing of it is kept.

Not here: HTTP, and which requests come here (hub.web).
Source: the OpenTelemetry Protocol specification 1.9 (OTLP/HTTP; JSON encoding), opentelemetry/proto/logs/v1; the
encoding of Protocol Buffers.
"""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from hub.entries import RECORD_NESTING_MAX, UNSTAMPED, is_deeper, stamp
from hub.message import Loss, Origin, Peer
from hub.wire.batcher import Batcher
from hub.wire.bodies import INLINE_BODY_BYTES, BadBody, BodyTooLarge, Format, Items
from hub.wire.frame import INLINE_BYTES, TAG_BYTES_MAX
from hub.wire.jsonlines import pack

TAG = b"otlp"
PROTOBUF_BYTES_MAX = 16 << 20
JSON_BYTES_MAX = 2 << 20
JSON_COMMAS_MAX = 100_000
"""The log records are separated in one step; a value takes up to 100 bytes of memory, and most take a comma."""
RECORD_BYTES_MAX = 32 << 10
"""
A larger log record is rejected: an attribute of two bytes takes a hundred of memory, and 1 µs. It has fewer than 65,536
attributes, and takes 15 ms at most.
"""
CONTEXTS_MAX = 10_000
"""Resources and scopes in a body of protobuf; one takes 2 bytes, and 5 µs."""
STEP_RECORDS, STEP_BYTES = 512, 32 << 10
"""A step decodes that many log records or bytes and one log record more, or one context: 3 ms, at most 20."""
SEARCHED_MAX = 1000
"""A resource or a scope is looked for among the first fields, where it stands: to search all of them takes long."""
_LEVELS = ("trace", "debug", "info", "warning", "error", "critical")
_OWN = frozenset(
    [
        "level",
        "message",
        "body",
        "severity_number",
        "severity_text",
        "event_name",
        "flags",
        "dropped_attributes_count",
        "trace_id",
        "span_id",
        "attributes",
        "resource",
        "scope",
    ]
)


class Context(NamedTuple):
    """What the log records of one scope share."""

    tag: bytes
    field_count: int
    packed: bytes
    """Its fields of a record, *field_count* of them, in msgpack without the header of a map."""


# Protobuf: the outer messages.

_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5
_VARINT_BYTES_MAX = 10


def decode_protobuf(body: bytes, peer: Peer, origin: Origin | None, bytes_max: int) -> Iterator[Items]:
    """Yield the items of an ExportLogsServiceRequest. Raises BadBody and BodyTooLarge."""
    if len(body) > PROTOBUF_BYTES_MAX:
        raise BodyTooLarge(f"more than {PROTOBUF_BYTES_MAX} bytes of OTLP (send smaller batches)")
    collected = _Collected(peer, origin, bytes_max)
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
            context = _context(attributes, scope)
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


# Protobuf: one log record.


def _of_protobuf(packed: bytes) -> tuple[int, dict[str, Any]]:
    """Return time and record. Raises BadBody."""
    try:
        log = LogRecord.FromString(packed)
    except DecodeError as error:
        raise BadBody(f"not LogRecord: {error}") from None
    record: dict[str, Any] = {}
    _add_severity(record, log.severity_number, log.severity_text)
    if log.HasField("body"):
        _add_body(record, _value(log.body))
    others: dict[str, Any] = {}
    for pair in log.attributes:
        key = pair.key
        value = pair.value
        kind = value.WhichOneof("value")
        given = value.string_value if kind == "string_value" else _value(value)
        if key in _OWN:
            others[key] = given
        else:
            record[key] = given
    if log.trace_id:
        record["trace_id"] = log.trace_id.hex()
    if log.span_id:
        record["span_id"] = log.span_id.hex()
    _add_rest(record, log.event_name, log.flags, log.dropped_attributes_count, others)
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
    return _named_scope(scope.name, scope.version, _attributes(scope.attributes))


# JSON.


class _JsonArray(msgspec.Struct, rename="camel"):
    values: list[_JsonValue] | None = None


class _JsonPair(msgspec.Struct, rename="camel"):
    key: str | None = None
    value: _JsonValue | None = None


class _JsonMap(msgspec.Struct, rename="camel"):
    values: list[_JsonPair] | None = None


class _JsonValue(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    bytes_value: str | None = None
    array_value: _JsonArray | None = None
    kvlist_value: _JsonMap | None = None


class _JsonLog(msgspec.Struct, rename="camel"):
    time_unix_nano: int | str | None = None
    observed_time_unix_nano: int | str | None = None
    severity_number: int | None = None
    severity_text: str | None = None
    body: _JsonValue | None = None
    attributes: list[_JsonPair] | None = None
    dropped_attributes_count: int | None = None
    flags: int | None = None
    trace_id: str | None = None
    span_id: str | None = None
    event_name: str | None = None


class _JsonScope(msgspec.Struct, rename="camel"):
    name: str | None = None
    version: str | None = None
    attributes: list[_JsonPair] | None = None


class _JsonScopeLogs(msgspec.Struct, rename="camel"):
    scope: _JsonScope | None = None
    log_records: list[msgspec.Raw] | None = None


class _JsonResource(msgspec.Struct, rename="camel"):
    attributes: list[_JsonPair] | None = None


class _JsonResourceLogs(msgspec.Struct, rename="camel"):
    resource: _JsonResource | None = None
    scope_logs: list[_JsonScopeLogs] | None = None


class _JsonRequest(msgspec.Struct, rename="camel"):
    resource_logs: list[_JsonResourceLogs] | None = None


_decode_request = msgspec.json.Decoder(_JsonRequest).decode
_decode_log = msgspec.json.Decoder(_JsonLog).decode
_FAULTS = (msgspec.MsgspecError, UnicodeError, RecursionError, ValueError)


def decode_json(body: bytes, peer: Peer, origin: Origin | None, bytes_max: int) -> Iterator[Items]:
    """Yield the items of an ExportLogsServiceRequest in JSON. Raises BadBody and BodyTooLarge."""
    if len(body) > JSON_BYTES_MAX or body.count(b",") > JSON_COMMAS_MAX:
        raise BodyTooLarge(f"more than {JSON_BYTES_MAX} bytes of OTLP in JSON, or too many values (send less at once)")
    try:
        request = _decode_request(body)
        collected = _Collected(peer, origin, bytes_max)
        for outer in request.resource_logs or ():
            resource = _json_map(outer.resource.attributes if outer.resource else None)
            for inner in outer.scope_logs or ():
                context = _context(resource, _json_scope(inner.scope))
                for raw in inner.log_records or ():
                    if collected.add(context, bytes(raw), _of_json):
                        yield collected.take()
    except _FAULTS as error:
        raise BadBody(f"not OTLP in JSON: {error}") from None
    yield collected.take()


def _of_json(raw: bytes) -> tuple[int, dict[str, Any]]:
    """Return time and record. Raises one of `_FAULTS`."""
    log = _decode_log(raw)
    record: dict[str, Any] = {}
    _add_severity(record, log.severity_number or 0, log.severity_text or "")
    _add_body(record, None if log.body is None else _json_value(log.body))
    others: dict[str, Any] = {}
    for key, value in _json_map(log.attributes).items():
        (others if key in _OWN else record)[key] = value
    for name, given in (("trace_id", log.trace_id), ("span_id", log.span_id)):
        if given:
            record[name] = given.lower()
    _add_rest(record, log.event_name or "", log.flags or 0, log.dropped_attributes_count or 0, others)
    return int(log.time_unix_nano or 0) or int(log.observed_time_unix_nano or 0), record


def _json_value(value: _JsonValue) -> Any:
    """Return what an AnyValue holds. Raises one of `_FAULTS`."""
    if value.int_value is not None:
        return int(value.int_value)
    if value.double_value is not None:
        return float(value.double_value)
    if value.bytes_value is not None:
        return base64.b64decode(value.bytes_value)
    if value.array_value is not None:
        return [_json_value(each) for each in value.array_value.values or ()]
    if value.kvlist_value is not None:
        return _json_map(value.kvlist_value.values)
    return value.bool_value if value.string_value is None else value.string_value


def _json_map(pairs: Sequence[_JsonPair] | None) -> dict[str, Any]:
    return {pair.key or "": None if pair.value is None else _json_value(pair.value) for pair in pairs or ()}


def _json_scope(scope: _JsonScope | None) -> dict[str, Any]:
    if scope is None:
        return {}
    return _named_scope(scope.name or "", scope.version or "", _json_map(scope.attributes))


# What both formats have in common.


def _named_scope(name: str, version: str, attributes: dict[str, Any]) -> dict[str, Any]:
    given = (("name", name), ("version", version), ("attributes", attributes))
    return {key: value for key, value in given if value}


def _context(resource: dict[str, Any], scope: dict[str, Any]) -> Context:
    service = resource.get("service.name")
    tag = service.encode("utf-8", "replace") if isinstance(service, str) else b""
    fields = {key: value for key, value in (("resource", resource), ("scope", scope)) if value}
    packed = pack(fields)
    if packed is None or is_deeper(packed, RECORD_NESTING_MAX):
        raise BadBody("a resource or a scope that cannot be kept")
    return Context(tag if 0 < len(tag) <= TAG_BYTES_MAX else TAG, len(fields), packed[1:])


def _with_context(record: dict[str, Any], context: Context) -> bytes | None:
    """Return *record* and the fields of its context in msgpack; None if that cannot hold it."""
    packed = pack(record)
    if packed is None:
        return None
    count, size = len(record) + context.field_count, len(record)
    header = bytes((0x80 | count,)) if count < 16 else b"\xde" + count.to_bytes(2, "big")
    return header + packed[1 if size < 16 else 3 :] + context.packed


def _add_severity(record: dict[str, Any], number: int, text: str) -> None:
    if 0 < number <= 4 * len(_LEVELS):
        record["level"] = _LEVELS[(number - 1) // 4]
    elif text:
        record["level"] = text
    if number:
        record["severity_number"] = number
    if text:
        record["severity_text"] = text


def _add_body(record: dict[str, Any], body: Any) -> None:
    if body is not None:
        record["message" if isinstance(body, str) else "body"] = body


def _add_rest(record: dict[str, Any], event_name: str, flags: int, dropped: int, others: dict[str, Any]) -> None:
    if event_name:
        record["event_name"] = event_name
    if flags:
        record["flags"] = flags
    if dropped:
        record["dropped_attributes_count"] = dropped
    if others:
        record["attributes"] = others


class _Collected:
    """
    Takes log records, returns items.

    Each message has the attributes of its resource, so a small body could become endless: *bytes_max* bounds that.
    """

    def __init__(self, peer: Peer, origin: Origin | None, bytes_max: int) -> None:
        self._batcher = Batcher(peer, origin)
        self._count = self._step_bytes = 0  # of this step
        self._bytes_max = bytes_max
        self._left_bytes = bytes_max

    def add(self, context: Context, packed: bytes, decode: Callable[[bytes], tuple[int, dict[str, Any]]]) -> bool:
        """Add a log record. Return whether a step's worth has been added. Raises BadBody and BodyTooLarge."""
        self._count += 1
        if len(packed) > RECORD_BYTES_MAX:
            self._reject(f"a log record of more than {RECORD_BYTES_MAX} bytes", context, packed)
            return True
        self._step_bytes += len(packed)
        time_ns, record = decode(packed)
        entry = _with_context(record, context)
        if entry is None or (len(packed) > RECORD_NESTING_MAX and is_deeper(entry, RECORD_NESTING_MAX)):
            self._reject("a log record that cannot be kept", context, packed)
        else:
            self._left_bytes -= len(entry)
            if self._left_bytes < 0:
                raise BodyTooLarge(f"its messages have more than {self._bytes_max} bytes (send smaller batches)")
            self._batcher.add_entry(context.tag, (stamp(time_ns) if time_ns else UNSTAMPED) + entry)
        return self._count >= STEP_RECORDS or self._step_bytes >= STEP_BYTES

    def take(self) -> Items:
        """Return what was added since the last call."""
        self._count = self._step_bytes = 0
        return self._batcher.take()  # type: ignore[return-value]  # there are no requests

    def _reject(self, reason: str, context: Context, packed: bytes) -> None:
        self._batcher.add_loss(Loss(reason, 1, len(packed), packed[:64], context.tag))


PROTOBUF, JSON = Format(decode_protobuf, INLINE_BODY_BYTES), Format(decode_json, INLINE_BYTES)
"""The formats of a body for /v1/logs."""

# Replies.


def encode_response(rejected: int, reason: str, *, is_json: bool) -> bytes:
    """Return an ExportLogsServiceResponse: of a *rejected* number of log records, and the reason."""
    if is_json:
        partial = {"rejectedLogRecords": str(rejected), "errorMessage": reason}
        return msgspec.json.encode({"partialSuccess": partial} if rejected else {})
    response = ExportLogsServiceResponse()
    if rejected:
        response.partial_success.rejected_log_records = rejected
        response.partial_success.error_message = reason
    packed: bytes = response.SerializeToString()
    return packed


def encode_status(code: int, message: str, *, is_json: bool) -> bytes:
    """Return a google.rpc.Status. *code* is one of google.rpc.Code, all of which are below 128."""
    if is_json:
        return msgspec.json.encode({"code": code, "message": message})
    text = message.encode("utf-8", "replace")[:0x3FFF]
    length = bytes((len(text),)) if len(text) < 0x80 else bytes((len(text) & 0x7F | 0x80, len(text) >> 7))
    return b"\x08" + bytes((code,)) + b"\x12" + length + text
