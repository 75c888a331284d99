"""
One log record of OpenTelemetry to one message, whichever format it came in.

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

Always true: a log record that is too large or cannot be kept is rejected, and counted as a loss; the others are kept.

Not here: how log records are found in a body and decoded (hub.wire.otlpprotobuf, hub.wire.otlpjson).
Source: opentelemetry/proto/logs/v1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hub.entries import RECORD_NESTING_MAX, UNSTAMPED, is_deeper, stamp
from hub.message import Loss, Origin, Peer
from hub.wire.batcher import Batcher
from hub.wire.bodies import BadBody, BodyTooLarge, Items
from hub.wire.frame import TAG_BYTES_MAX
from hub.wire.jsonlines import pack

TAG = b"otlp"
RECORD_BYTES_MAX = 32 << 10
"""
A larger log record is rejected: an attribute of two bytes takes a hundred of memory, and 1 µs. It has fewer than 65,536
attributes, and takes 15 ms at most.
"""
STEP_RECORDS, STEP_BYTES = 512, 32 << 10
"""A step ends after 512 log records or 32 KiB of them, and always after one context: 3 ms, at most 20."""
_LEVELS = ("trace", "debug", "info", "warning", "error", "critical")
OWN_FIELDS = frozenset(
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
"""The names of fields that an attribute cannot take: it is put under `attributes`."""


class Context(NamedTuple):
    """The part that all log records of one scope share."""

    tag: bytes
    field_count: int
    packed: bytes
    """Its fields of a record, *field_count* of them, in msgpack without the header of a map."""


def named_scope(name: str, version: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Return the field `scope`, without what is not set."""
    given = (("name", name), ("version", version), ("attributes", attributes))
    return {key: value for key, value in given if value}


def context_of(resource: dict[str, Any], scope: dict[str, Any]) -> Context:
    """Return what the log records of *scope* share. Raises BadBody."""
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


def add_severity(record: dict[str, Any], number: int, text: str) -> None:
    """Add the level, and both forms of the severity that are set."""
    if 0 < number <= 4 * len(_LEVELS):
        record["level"] = _LEVELS[(number - 1) // 4]
    elif text:
        record["level"] = text
    if number:
        record["severity_number"] = number
    if text:
        record["severity_text"] = text


def add_body(record: dict[str, Any], body: Any) -> None:
    """Add the body, unless there is none."""
    if body is not None:
        record["message" if isinstance(body, str) else "body"] = body


def add_rest(record: dict[str, Any], event_name: str, flags: int, dropped: int, others: dict[str, Any]) -> None:
    """Add the other fields that are set. *others* are the attributes whose names are taken."""
    if event_name:
        record["event_name"] = event_name
    if flags:
        record["flags"] = flags
    if dropped:
        record["dropped_attributes_count"] = dropped
    if others:
        record["attributes"] = others


class Collected:
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
