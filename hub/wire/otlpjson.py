"""
The body of a request to /v1/logs in JSON, to items.

It is not protobuf's JSON mapping: ids are hexadecimal, numbers of 64 bits may be texts, unknown fields are ignored.

Always true: a body that is not an ExportLogsServiceRequest is `BadBody`. The steps that were yielded before the fault
was found are the caller's to discard.

Not here: the same in protobuf (hub.wire.otlpprotobuf), what becomes of a log record (hub.wire.otlprecord).
Source: the OpenTelemetry Protocol specification 1.9, JSON encoding.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from hub.message import Origin, Peer
from hub.wire.bodies import BadBody, BodyTooLarge, Items
from hub.wire.otlprecord import OWN_FIELDS, Collected, add_body, add_rest, add_severity, context_of, named_scope

JSON_BYTES_MAX = 2 << 20
JSON_COMMAS_MAX = 100_000
"""The log records are separated in one step; a value takes up to 100 bytes of memory, and most take a comma."""


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
        collected = Collected(peer, origin, bytes_max)
        for outer in request.resource_logs or ():
            resource = _json_map(outer.resource.attributes if outer.resource else None)
            for inner in outer.scope_logs or ():
                context = context_of(resource, _json_scope(inner.scope))
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
    add_severity(record, log.severity_number or 0, log.severity_text or "")
    add_body(record, None if log.body is None else _json_value(log.body))
    others: dict[str, Any] = {}
    for key, value in _json_map(log.attributes).items():
        (others if key in OWN_FIELDS else record)[key] = value
    for name, given in (("trace_id", log.trace_id), ("span_id", log.span_id)):
        if given:
            record[name] = given.lower()
    add_rest(record, log.event_name or "", log.flags or 0, log.dropped_attributes_count or 0, others)
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
    return named_scope(scope.name or "", scope.version or "", _json_map(scope.attributes))
