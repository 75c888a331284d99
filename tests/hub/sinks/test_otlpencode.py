"""hub.sinks.otlpencode: the bytes are those of protobuf, for any message; what came from OpenTelemetry becomes that."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from hub.entries import EventTime
from hub.message import Batch, Home, Message, Peer
from hub.query.found import Found
from hub.query.query import Query
from hub.sinks.otlpencode import encode_groups
from hub.wire.otlpprotobuf import decode_protobuf
from tests.hub.sinks.collector import attributes_of, has_unknown_fields, value_of
from tests.hub.sinks.delivering import batch

PEER = Peer(12, 1000, 1000, "python", True, "/system.slice/web.service")
TIME, RECEIVED = 1_700_000_000_123_456_789, 1_700_000_000_223_456_789


def message(record: dict[Any, Any], *, tag: str = "app", sequence: int = 7, **more: Any) -> Message:
    return Message(tag, TIME, record, sequence, RECEIVED, more.pop("peer", PEER), **more)


def request_of(*messages: Message) -> ExportLogsServiceRequest:
    request = ExportLogsServiceRequest.FromString(encode_groups([[*messages]], "hub", "web-1"))
    assert not has_unknown_fields(request)
    return request


def record_of(record: dict[Any, Any]) -> Any:
    (found,) = request_of(message(record)).resource_logs[0].scope_logs[0].log_records
    return found


def test_a_message_is_a_log_record() -> None:
    """Times, severity, body and attributes; the resource names service and host; the writer stands beside it."""
    request = request_of(message({"message": "hello", "level": "warn", "n": 1, "user": "me"}))
    (of_resource,) = request.resource_logs
    assert attributes_of(of_resource.resource) == {"service.name": "app", "host.name": "web-1"}
    (record,) = of_resource.scope_logs[0].log_records
    assert (record.time_unix_nano, record.observed_time_unix_nano) == (TIME, RECEIVED)
    assert (record.severity_number, record.severity_text, record.body.string_value) == (13, "warn", "hello")
    assert attributes_of(record) == {
        "n": 1, "user": "me", "log.record.uid": "hub-7", "process.pid": 12, "process.command": "python",
        "user.id": "1000", "systemd.unit": "web.service",
    }  # fmt: skip


def test_a_request_may_be_empty() -> None:
    """The sink asks with one whether a server that refuses everything refuses its messages, or any request."""
    assert encode_groups((), "hub", "web-1") == b""


@pytest.mark.parametrize(
    "records",
    [
        [{"message": f"m{n}", "level": "info", "n": n} for n in range(8)],
        [{"message": f"m{n}", "level": "none"} for n in range(8)],
        [{"message": n} for n in range(8)],
        [{"a": n} if n % 2 else {"b": n} for n in range(8)],
        [{"resource": {"x": n}, "n": 1} for n in range(8)],
    ],
    ids=["alike", "level", "body", "names", "resource"],
)
def test_a_group_has_the_bytes_of_its_messages(records: list[dict[str, Any]]) -> None:
    """Whether it was decoded together or not; neighbours with one tag share a resource."""
    found = Query().found_in(msgspec.structs.replace(batch(*records, tag=b"app"), received=RECEIVED, peer=PEER))
    assert isinstance(found, Found)
    others = [message({"n": 1}), message({"n": 2}, tag="other")]
    assert encode_groups([found, others], "hub", "web-1") == encode_groups([[*found, *others]], "hub", "web-1")


def test_messages_of_one_tag_share_a_resource() -> None:
    """The order is kept; a message of another hub has the name of its host, and a remote writer is an address."""
    home = Home("web-3", bytes(16), 1, 2)
    remote = Peer(0, -5, -1, "10.0.0.5", False)
    messages = [message({"n": 1}), message({"n": 2}), message({"n": 3}, tag="b"), message({"n": 4}, tag="b", home=home)]
    messages.append(message({"n": 5}, peer=remote))
    found = request_of(*messages).resource_logs
    assert [attributes_of(each.resource) for each in found] == [
        {"service.name": tag, "host.name": host}
        for tag, host in (("app", "web-1"), ("b", "web-1"), ("b", "web-3"), ("app", "web-1"))
    ]
    assert [[attributes_of(r)["n"] for r in each.scope_logs[0].log_records] for each in found] == [
        [1, 2],
        [3],
        [4],
        [5],
    ]
    (last,) = found[-1].scope_logs[0].log_records
    assert attributes_of(last) == {"n": 5, "log.record.uid": "hub-7", "client.address": "10.0.0.5"}


@pytest.mark.parametrize(
    ("record", "severity"),
    [
        ({"level": "info"}, (9, "info")), ({"levelno": 40}, (17, "40")), ({"severity": 2}, (21, "2")), ({}, (0, "")),
        ({"PRIORITY": "5"}, (10, "5")), ({"level": "loud"}, (0, "")), ({"log": {"level": "error"}}, (17, "")),
        ({"severity_number": 18, "level": "error"}, (18, "error")), ({"severity_number": 99}, (21, "")),
        ({"severity_text": "Hm", "severity_number": 3}, (3, "Hm")), ({"severity_number": True}, (0, "")),
    ],
)  # fmt: skip
def test_severities(record: dict[Any, Any], severity: tuple[int, str]) -> None:
    """The number follows from the level, wherever it is; the text is what the field holds."""
    found = record_of(record)
    assert (found.severity_number, found.severity_text) == severity
    assert ("level" in attributes_of(found)) == (record.get("level") == "loud")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (2**63 - 1, 2**63 - 1), (-(2**63), -(2**63)), (2**63, str(2**63)), (-1, -1), (True, True), (None, None),
        (1.5, 1.5), (b"\xff", b"\xff"), ("\ud800", "?"), (EventTime(5), "5"), ([1, [{"a": None}]], [1, [{"a": None}]]),
        (msgspec.msgpack.Ext(7, b"x"), b"x"), ({1: {b"\xff": []}, "1": 2}, {"1": 2}), ("x" * 20_000, "x" * 20_000),
    ],
)  # fmt: skip
def test_values(value: Any, expected: Any) -> None:
    """What protobuf cannot hold is a text."""
    assert attributes_of(record_of({"value": value}))["value"] == expected


@pytest.mark.parametrize(
    ("record", "body"),
    [({"event": "a"}, "a"), ({"log": "a"}, "a"), ({"body": {"a": 1}}, {"a": 1}), ({"message": 5}, None), ({}, None)],
)
def test_bodies(record: dict[Any, Any], body: Any) -> None:
    """The text of the message, or what came as a body; what is no text stays an attribute."""
    found = record_of(record)
    assert value_of(found.body) == body
    assert ("message" in attributes_of(found)) == ("message" in record)


FROM_OTLP = {
    "level": "error", "severity_number": 18, "severity_text": "ERROR2", "body": {"a": [1, "b"]}, "trace_id": "ab" * 16,
    "span_id": "cd" * 8, "event_name": "paid", "flags": 1, "dropped_attributes_count": 3, "n": 1,
    "attributes": {"body": "an attribute"}, "resource": {"service.name": "app", "host.name": "web-9", "k": 1},
    "scope": {"name": "lib", "version": "1.2", "attributes": {"s": True}},
}  # fmt: skip


def back(given: Message) -> dict[str, Any]:
    """Return the record that our own source makes of *given*."""
    batches = [
        item
        for items in decode_protobuf(encode_groups([[given]], "hub", "web-1"), Peer(), None, 1 << 20)
        for item in items
    ]
    (batch,) = [item for item in batches if isinstance(item, Batch)]
    (found,) = batch.messages()
    assert (found.tag, found.time) == (given.tag, given.time)
    return found.record


def test_what_came_from_opentelemetry_becomes_that_again() -> None:
    """Through the sink and our own source, a record is the same; only the writer and the id are added."""
    found = back(message(FROM_OTLP, peer=Peer()))
    assert found.pop("log.record.uid") == "hub-7"
    assert found == FROM_OTLP
    assert back(message(found, peer=Peer()))["resource"] == FROM_OTLP["resource"]


def test_fields_that_only_look_like_those_of_opentelemetry() -> None:
    """They stay attributes."""
    record = {
        "trace_id": "ab", "span_id": "x" * 16, "resource": "r", "scope": 5, "flags": -1, "event_name": "",
        "dropped_attributes_count": 1 << 40, "attributes": [1],
    }  # fmt: skip
    found = attributes_of(record_of(record))
    assert {key: found[key] for key in record} == record


def test_an_attribute_is_there_once() -> None:
    """A field with the name of one of ours replaces it."""
    found = attributes_of(record_of({"process.pid": 5, "attributes": {"process.pid": 6, "x": 1}, "x": 2}))
    assert (found["process.pid"], found["x"]) == (5, 2)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.integers(), inner, max_size=3),
    max_leaves=10,
)
names = st.sampled_from([*FROM_OTLP, "message", "event", "log", "levelno"]) | st.text()


@given(st.dictionaries(names, values, max_size=6))
def test_any_record_can_be_encoded(record: dict[Any, Any]) -> None:
    """Whatever is in it, it is a log record whose attributes are unique."""
    (of_resource,) = request_of(message(record)).resource_logs
    attributes_of(of_resource.resource)
    attributes_of(of_resource.scope_logs[0].log_records[0])
