"""hub.wire.otlp and its parts: log records in protobuf and JSON become the same messages; hostile bodies stay small."""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs

from hub.entries import RECORD_NESTING_MAX
from hub.message import UNKNOWN_PEER, Batch, Loss, Message
from hub.wire import otlp, otlpjson, otlpprotobuf, otlprecord
from hub.wire.bodies import BadBody, BodyTooLarge
from hub.wire.otlpjson import decode_json
from hub.wire.otlpprotobuf import decode_protobuf
from tests.hub.wire.feeding import PROPERTY

LIMIT = 1 << 26
Decode = Callable[..., Iterator[Sequence[Any]]]


def items(decode: Decode, body: bytes, limit: int = LIMIT) -> list[Any]:
    return [item for step in decode(body, UNKNOWN_PEER, None, limit) for item in step]


def messages(decode: Decode, body: bytes) -> list[Message]:
    """Return the messages of a body that has nothing else."""
    found = items(decode, body)
    assert all(isinstance(each, Batch) for each in found)
    return [message for batch in found for message in batch.messages()]


def value(given_: Any) -> AnyValue:
    """Return *given_* as an AnyValue."""
    if isinstance(given_, list):
        return AnyValue(array_value=ArrayValue(values=map(value, given_)))
    if isinstance(given_, dict):
        return AnyValue(kvlist_value=KeyValueList(values=attributes(given_)))
    kinds = {bool: "bool", int: "int", float: "double", bytes: "bytes", str: "string"}
    made = AnyValue()
    if given_ is not None:
        setattr(made, f"{kinds[type(given_)]}_value", given_)
    return made


def attributes(given_: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=key, value=value(each)) for key, each in given_.items()]


def request(*records: LogRecord, resource: dict[str, Any] | None = None, scope: str = "") -> ExportLogsServiceRequest:
    """Return a request of one resource and one scope."""
    made = ExportLogsServiceRequest()
    outer = made.resource_logs.add()
    outer.resource.attributes.extend(attributes(resource or {}))
    inner = outer.scope_logs.add(log_records=records)
    inner.scope.name = scope
    return made


def as_json(made: ExportLogsServiceRequest) -> bytes:
    """Return *made* in OTLP's JSON: as in protobuf's, except that ids are hexadecimal."""

    def hexadecimal(node: Any) -> Any:
        if isinstance(node, list):
            return [hexadecimal(each) for each in node]
        if not isinstance(node, dict):
            return node
        ids = {key: base64.b64decode(node[key]).hex() for key in ("traceId", "spanId") if key in node}
        return {key: hexadecimal(each) for key, each in node.items()} | ids

    return json.dumps(hexadecimal(MessageToDict(made, use_integers_for_enums=True))).encode()


def test_a_log_record() -> None:
    """Severity becomes the level, ids become text; resource and scope are in the record, the originals stay."""
    log = LogRecord(
        time_unix_nano=1764190000_123456789,
        severity_number=17,  # type: ignore[arg-type]
        severity_text="Error",
        body=value("no answer"),
        attributes=attributes({"http.status": 502, "level": "mine", "tags": ["a", 1.5, None], "more": {"ok": True}}),
        trace_id=b"\x01" * 16,
        span_id=b"\xab" * 8,
        flags=1,
        dropped_attributes_count=3,
        event_name="failed",
    )
    made = request(log, resource={"service.name": "shop", "host.id": b"\x00\xff"}, scope="shop.cart")
    made.resource_logs[0].scope_logs[0].scope.version = "1.2"
    made.resource_logs[0].scope_logs[0].scope.attributes.extend(attributes({"a": 1}))
    expected = {
        "level": "error",
        "severity_number": 17,
        "severity_text": "Error",
        "message": "no answer",
        "http.status": 502,
        "tags": ["a", 1.5, None],
        "more": {"ok": True},
        "trace_id": "01" * 16,
        "span_id": "ab" * 8,
        "event_name": "failed",
        "flags": 1,
        "dropped_attributes_count": 3,
        "attributes": {"level": "mine"},
        "resource": {"service.name": "shop", "host.id": b"\x00\xff"},
        "scope": {"name": "shop.cart", "version": "1.2", "attributes": {"a": 1}},
    }
    for message in (*messages(decode_protobuf, made.SerializeToString()), *messages(decode_json, as_json(made))):
        assert (message.tag, message.time, message.record) == ("shop", 1764190000_123456789, expected)


def test_what_is_missing() -> None:
    """An empty log record is a message; without a service the tag is `otlp`; a text of severity is the level."""
    made = request(
        LogRecord(), LogRecord(severity_text="WARN", observed_time_unix_nano=5), LogRecord(body=value({"a": [1]}))
    )
    for decode, body in ((decode_protobuf, made.SerializeToString()), (decode_json, as_json(made))):
        first, second, third = messages(decode, body)
        assert (first.tag, first.record) == ("otlp", {})
        assert (second.time, second.record) == (5, {"level": "WARN", "severity_text": "WARN"})
        assert third.record == {"body": {"a": [1]}}
        assert messages(decode, b"" if decode is decode_protobuf else b"{}") == []
    assert messages(decode_json, b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[{}]}]}]}]}')


@pytest.mark.parametrize(
    ("number", "level"),
    [(1, "trace"), (4, "trace"), (5, "debug"), (9, "info"), (12, "info"), (13, "warning"), (20, "error"),
     (24, "critical"), (25, None), (0, None)],
)  # fmt: skip
def test_levels(number: int, level: str | None) -> None:
    """Four numbers are one level."""
    made = request(LogRecord(severity_number=number))  # type: ignore[arg-type]
    (message,) = messages(decode_protobuf, made.SerializeToString())
    assert message.record.get("level") == level
    assert message.record.get("severity_number", 0) == number


def test_json_is_lenient_where_otlp_says_so() -> None:
    """Numbers may be texts, ids have any case, unknown fields are ignored, null is absent."""
    log = {"timeUnixNano": 17, "traceId": "0A" * 16, "new": 1, "body": {"intValue": 1 << 60}, "severityText": None,
           "attributes": [{"key": "n", "value": {"intValue": "-5"}}, {"key": "d", "value": {"doubleValue": "NaN"}},
                          {"key": "e"}, {"key": "s", "value": {"stringValue": ""}}]}  # fmt: skip
    body = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [log]}, {}]}, {}]}).encode()
    (message,) = messages(decode_json, body)
    assert message.record.pop("d") != message.time == 17
    assert message.record == {"trace_id": "0a" * 16, "body": 1 << 60, "n": -5, "e": None, "s": ""}


PLAIN = st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.text(max_size=4) | st.binary(max_size=4)
VALUES = st.recursive(
    PLAIN | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.builds(
    LogRecord,
    time_unix_nano=st.integers(0, (1 << 64) - 1),
    severity_number=st.integers(0, 24),
    body=VALUES.map(value),
    attributes=st.dictionaries(st.sampled_from(["a", "b.c", "level", "resource"]), VALUES, max_size=20).map(attributes),
    trace_id=st.binary(max_size=16),
)
REQUESTS = st.lists(RECORDS, max_size=5).map(lambda records: request(*records, resource={"service.name": "s"}))


@PROPERTY
@given(REQUESTS)
def test_both_formats_give_the_same(made: ExportLogsServiceRequest) -> None:
    """Protobuf and JSON become the same messages, as many as there are log records."""
    ours = messages(decode_protobuf, made.SerializeToString())
    assert messages(decode_json, as_json(made)) == ours
    assert len(ours) == len(made.resource_logs[0].scope_logs[0].log_records)


@PROPERTY
@given(REQUESTS, st.data())
def test_garbage(made: ExportLogsServiceRequest, data: st.DataObject) -> None:
    """Whatever the bytes are, they are items or an error of ours."""
    for decode, whole in ((decode_protobuf, made.SerializeToString()), (decode_json, as_json(made))):
        at = data.draw(st.integers(0, len(whole)))
        for body in (whole[:at] + data.draw(st.binary(max_size=4)) + whole[at + 1 :], whole[:at], whole[at:]):
            try:
                items(decode, body)
            except BadBody:
                pass


@pytest.mark.parametrize(
    "body",
    [b"\x0a", b"\x0a\x05x", b"\x0b", b"\x80" * 11, b"\x09\x01", b"\x0a\x02\x0a\x05", b"\x0a\x04\x0a\x02\x0a\x09",
     b"\x0a\x06\x12\x04\x12\x02\x0a\x09", b"\x0a\x06\x12\x04\x0a\x02\x0a\x09"],
)  # fmt: skip
def test_what_is_no_protobuf(body: bytes) -> None:
    with pytest.raises(BadBody):
        items(decode_protobuf, body)


def test_unknown_fields_are_skipped() -> None:
    """Fields of other numbers and kinds are left out, wherever they stand."""
    unknown = b"\x10\x96\x01" + b"\x19" + b"x" * 8 + b"\x25" + b"x" * 4 + b"\x7a\x01x"
    log = LogRecord(body=value("here"))
    scope = unknown + ScopeLogs(log_records=[log]).SerializeToString()
    outer = ResourceLogs()
    outer.resource.attributes.extend(attributes({"service.name": "late"}))
    logs = b"\x12" + bytes((len(scope),)) + scope + unknown + outer.SerializeToString()
    (message,) = messages(decode_protobuf, unknown + b"\x0a" + bytes((len(logs),)) + logs)
    assert (message.tag, message.record["message"]) == ("late", "here")


def test_a_scope_that_stands_last() -> None:
    """A scope is found after a few log records, too; a million of them are not searched for it."""
    log, scope = b"\x12\x00", b"\x0a\x03\x0a\x01s"
    for count, expected in ((10, {"scope": {"name": "s"}}), (otlpprotobuf.SEARCHED_MAX, {})):
        logs = log * count + scope
        inner = b"\x12" + bytes((len(logs) & 0x7F | 0x80, len(logs) >> 7)) + logs
        body = b"\x0a" + bytes((len(inner) & 0x7F | 0x80, len(inner) >> 7)) + inner
        assert [message.record for message in messages(decode_protobuf, body)] == [expected] * count


def test_what_is_no_json() -> None:
    wrong = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"timeUnixNano": "soon"}]}]}]}
    for body in (b"", b"[]", b'{"resourceLogs": 5}', json.dumps(wrong).encode(), b"\xff", b'{"a":' + b"[" * 100_000):
        with pytest.raises(BadBody):
            items(decode_json, body)


def test_one_too_large_record_is_rejected() -> None:
    """A log record that is too large, too deep or has no form in msgpack is a loss; its neighbours are kept."""
    large, good = LogRecord(body=value("x" * otlprecord.RECORD_BYTES_MAX)), LogRecord(body=value("good"))
    made = request(good, large, good, resource={"service.name": "s"})
    for decode, body in ((decode_protobuf, made.SerializeToString()), (decode_json, as_json(made))):
        before, loss, after = items(decode, body)
        assert (before.count, after.count, loss.count, loss.tag) == (1, 1, 1, b"s")
        assert isinstance(loss, Loss)


def test_what_nobody_could_show_is_rejected() -> None:
    """A log record that is nested too deeply is a loss, and such a resource an error."""
    deep: Any = 1
    for _ in range(RECORD_NESTING_MAX + 1):
        deep = [deep]
    very_deep = deep
    for _ in range(2000):
        very_deep = [very_deep]
    for found in (deep, [[deep] * 20], very_deep):
        collected = otlprecord.Collected(UNKNOWN_PEER, None, LIMIT)
        collected.add(otlprecord.context_of({}, {}), b"x" * 1000, lambda _, found=found: (0, {"body": found}))  # type: ignore[misc]
        (loss,) = collected.take()
        assert isinstance(loss, Loss)
        assert loss.reason == "a log record that cannot be kept"
    with pytest.raises(BadBody, match="a resource or a scope"):
        otlprecord.context_of({"k": very_deep}, {})
    with pytest.raises(BadBody, match="a resource or a scope"):
        otlprecord.context_of({}, {"k": deep})


def test_steps() -> None:
    """A step is a few hundred log records, or some of many bytes."""
    made = request(*[LogRecord(body=value("x"))] * (2 * otlprecord.STEP_RECORDS))
    for decode, body in ((decode_protobuf, made.SerializeToString()), (decode_json, as_json(made))):
        steps = [[getattr(each, "count", 0) for each in step] for step in decode(body, UNKNOWN_PEER, None, LIMIT)]
        assert [step for step in steps if step] == [[otlprecord.STEP_RECORDS]] * 2
    made = request(*[LogRecord(body=value("x" * (otlprecord.STEP_BYTES // 2)))] * 4)
    counts = [len(step) for step in decode_protobuf(made.SerializeToString(), UNKNOWN_PEER, None, LIMIT)]
    assert sum(counts) == 2


def test_a_bomb_stays_small() -> None:
    """Empty messages by the million take no memory, and repeated attributes no more than the limit."""
    empty = b"\x0a\x00" * 100_000
    scopes = b"\x12\x00" * 100_000
    scopes = b"\x0a" + bytes((len(scopes) & 0x7F | 0x80, len(scopes) >> 7 & 0x7F | 0x80, len(scopes) >> 14)) + scopes
    for body in (empty, scopes):
        tracemalloc.start()
        with pytest.raises(BodyTooLarge, match="resources and scopes"):
            items(decode_protobuf, body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 20
    heavy = request(*[LogRecord()] * 1000, resource={"a": "x" * 10_000})
    for decode, body in ((decode_protobuf, heavy.SerializeToString()), (decode_json, as_json(heavy))):
        with pytest.raises(BodyTooLarge, match="smaller batches"):
            items(decode, body, 1 << 20)
    with pytest.raises(BadBody, match="a resource or a scope of more"):
        items(decode_protobuf, request(resource={"a": "x" * otlprecord.RECORD_BYTES_MAX}).SerializeToString())
    with pytest.raises(BodyTooLarge):
        items(decode_protobuf, bytes(otlpprotobuf.PROTOBUF_BYTES_MAX + 1))
    for body in (b" " * (otlpjson.JSON_BYTES_MAX + 1), b"," * (otlpjson.JSON_COMMAS_MAX + 1)):
        with pytest.raises(BodyTooLarge):
            items(decode_json, body)


def test_long_tags() -> None:
    """The name of a service that is no tag is no tag."""
    for name in ("", "x" * 5000, 7):
        (message,) = messages(
            decode_protobuf, request(LogRecord(), resource={"service.name": name}).SerializeToString()
        )
        assert message.tag == "otlp"


def test_many_attributes() -> None:
    """A map of any size keeps its form beside those of its context."""
    for count in (13, 14, 15, 16, 300):
        given_ = {f"k{n}": n for n in range(count)}
        made = request(LogRecord(attributes=attributes(given_)), resource={"r": 1}, scope="s")
        (message,) = messages(decode_protobuf, made.SerializeToString())
        assert message.record == given_ | {"resource": {"r": 1}, "scope": {"name": "s"}}


def test_replies() -> None:
    """The replies are those of OTLP, in the format of the request."""
    assert otlp.encode_response(0, "", is_json=False) == b""
    assert otlp.encode_response(0, "", is_json=True) == b"{}"
    partial = ExportLogsServiceResponse.FromString(otlp.encode_response(3, "too large", is_json=False)).partial_success
    assert (partial.rejected_log_records, partial.error_message) == (3, "too large")
    expected = {"partialSuccess": {"rejectedLogRecords": "3", "errorMessage": "too large"}}
    assert json.loads(otlp.encode_response(3, "too large", is_json=True)) == expected
    assert json.loads(otlp.encode_status(3, "no", is_json=True)) == {"code": 3, "message": "no"}
    for text in ("short", "x" * 200, "é" * 20_000):
        packed = otlp.encode_status(3, text, is_json=False)
        fields = [packed[start:end] for start, end in otlpprotobuf._messages(2, packed, 0, len(packed))]
        assert packed[:2] == b"\x08\x03"
        assert fields == [text.encode()[:0x3FFF]]
