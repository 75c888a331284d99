"""
OpenTelemetry's protocol for logs: the formats of a request to /v1/logs, and its replies.

otlpprotobuf, otlpjson   the body of a request to items
otlprecord               what becomes of a log record: the table of its fields, what all log records of a scope share

Always true:
- the items depend on the bytes alone;
- a body that is not the declared format is `BadBody`, and nothing of it is kept.

Not here: HTTP, and which requests come here (hub.web).
Source: the OpenTelemetry Protocol specification 1.9, OTLP/HTTP.
"""

from __future__ import annotations

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from hub.wire.bodies import INLINE_BODY_BYTES, Format
from hub.wire.frame import INLINE_BYTES
from hub.wire.otlpjson import decode_json
from hub.wire.otlpprotobuf import decode_protobuf

PROTOBUF, JSON = Format(decode_protobuf, INLINE_BODY_BYTES), Format(decode_json, INLINE_BYTES)
"""The formats of a body for /v1/logs."""


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
