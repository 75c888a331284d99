"""
hub.wire.jsonrpc: requests and replies, valid and invalid, encoded and decoded.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire import jsonlines, jsonrpc
from hub.wire.jsonrpc import Reply, Request, Value
from tests.hub.wire.feeding import PROPERTY

V = {"jsonrpc": "2.0"}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({**V, "method": "m", "id": 1}, Request("m", None, 1)),
        ({**V, "method": "m", "id": "one"}, Request("m", None, "one")),
        ({**V, "method": "m", "id": 1.5}, Request("m", None, 1.5)),
        ({**V, "method": "m", "id": None}, Request("m", None, None)),
        ({**V, "method": "m", "params": [1, {}], "id": 1}, Request("m", [1, {}], 1)),
        ({**V, "method": "m", "params": {"a": 1}, "id": 1}, Request("m", {"a": 1}, 1)),
        ({**V, "method": "m", "params": None, "id": 1, "more": 2}, Request("m", None, 1)),
        ({**V, "method": "", "id": 1}, Request("", None, 1)),
    ],
)
def test_a_valid_request(value: dict[str, Any], expected: Request) -> None:
    """Method, params and id are returned unchanged, without a fault."""
    request = jsonrpc.as_request(value)
    assert request == expected
    assert request.wants_reply
    assert request.fault is None


def test_a_notification_wants_no_reply() -> None:
    """A request without an id gets no reply; one with a null id does."""
    assert not jsonrpc.as_request({**V, "method": "m"}).wants_reply
    assert jsonrpc.as_request({**V, "method": "m", "id": None}).wants_reply


@pytest.mark.parametrize(
    ("value", "id_"),
    [
        ({"jsonrpc": "1.0", "method": "m", "id": 1}, 1),
        ({"jsonrpc": 2.0, "method": "m", "id": 1}, 1),
        ({"jsonrpc": None, "method": "m"}, None),
        ({**V, "id": 1}, 1),
        ({**V, "method": 1, "id": 1}, 1),
        ({**V, "method": None, "id": "a"}, "a"),
        ({**V, "method": "m", "params": 1, "id": 1}, 1),
        ({**V, "method": "m", "params": "x", "id": 1}, 1),
        ({**V, "method": "m", "id": True}, None),
        ({**V, "method": "m", "id": [1]}, None),
        ({**V, "method": "m", "id": {}}, None),
        ({**V, "result": 1, "id": 1}, 1),
        (V, None),
    ],
)
def test_an_invalid_request_has_a_fault_and_is_answered(value: dict[str, Any], id_: object) -> None:
    """An invalid request has a fault, no method that could run, and the id for the error reply."""
    request = jsonrpc.as_request(value)
    assert request.fault
    assert request.method == ""
    assert request.wants_reply
    assert request.id == id_


@pytest.mark.parametrize(
    "id_", ["x" * 128, "x" * 129, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 10**400], ids=lambda id_: f"{id_}"[:9]
)
def test_a_long_id_is_not_echoed(id_: str | int) -> None:
    """An id of more than 128 characters or 64 bits makes the request invalid, and the error has no id."""
    is_short = (len(id_) <= 128) if isinstance(id_, str) else -(2**63) <= id_ < 2**64
    request = jsonrpc.as_request({**V, "method": "m", "id": id_})
    assert (request.id, request.method, bool(request.fault)) == ((id_, "m", False) if is_short else (None, "", True))


def test_a_long_method_is_not_echoed() -> None:
    """A method of more than 64 characters makes the request invalid, and is not held."""
    assert jsonrpc.as_request({**V, "method": "m" * 64, "id": 1}).method == "m" * 64
    request = jsonrpc.as_request({**V, "method": "m" * 65, "id": 1})
    assert (request.id, request.method) == (1, "")
    assert "64 characters" in (request.fault or "")


def test_a_large_request_is_invalid_and_holds_nothing() -> None:
    """A request of more than 16 KiB is invalid, and its parameters are not held."""
    line = jsonrpc.encode_request("m", ["x" * (16 << 10)], 1)
    request = jsonlines.parse(line)
    assert isinstance(request, Request)
    assert (request.id, request.params) == (1, None)
    assert "16384 bytes" in (request.fault or "")
    small = jsonlines.parse(jsonrpc.encode_request("m", ["x" * (15 << 10)], 1))
    assert isinstance(small, Request)
    assert small.fault is None


def test_a_long_error_message_is_cut_off() -> None:
    """A long error message is cut off, so that the reply is short."""
    reply = jsonrpc.decode_answer(jsonrpc.encode_error(1, -1, "x" * 100_000))
    assert isinstance(reply, Reply)
    assert reply.message == "x" * 1024 + "…"


@pytest.mark.parametrize("params", [None, [], [1, "ü"], {}, {"a": None}])
def test_requests_go_both_ways(params: Any) -> None:
    """An encoded request is one line, and decodes to the same request."""
    line = jsonrpc.encode_request("m.n", params, 7)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert jsonlines.parse(line.rstrip(b"\n")) == Request("m.n", params, 7)


def test_a_notification() -> None:
    """A request without an id wants no reply."""
    line = jsonrpc.encode_request("m", [1], None)
    assert jsonlines.parse(line.rstrip(b"\n")) == Request("m", [1], None, wants_reply=False)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"id": 1, "value": None}, Value(1, None)),
        ({"id": "a", "value": [2]}, Value("a", [2])),
        ({"value": 1}, Value(None, 1)),
    ],
)
def test_a_value_of_a_stream(params: dict[str, Any], expected: Value) -> None:
    """A notification of the method stream holds a value of the request that it names."""
    assert jsonrpc.decode_answer(json.dumps({**V, "method": "stream", "params": params}).encode()) == expected


@pytest.mark.parametrize("id_", [1, "a", 1.5])
def test_a_value_is_sent_as_a_notification(id_: str | float) -> None:
    """A value is a notification that names the request which it answers."""
    line = jsonrpc.encode_value(id_, {"n": [1, None, "ü"]})
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "jsonrpc": "2.0",
        "method": "stream",
        "params": {"id": id_, "value": {"n": [1, None, "ü"]}},
    }


def test_error_codes_are_those_of_the_specification() -> None:
    """The error codes are those of section 5.1 of JSON-RPC 2.0."""
    assert (jsonrpc.PARSE_ERROR, jsonrpc.INVALID_REQUEST, jsonrpc.METHOD_NOT_FOUND) == (-32700, -32600, -32601)
    assert (jsonrpc.INVALID_PARAMS, jsonrpc.INTERNAL_ERROR) == (-32602, -32603)


ids = st.none() | st.text(max_size=9) | st.integers(-(2**53), 2**53)
values = (
    st.none()
    | st.text()
    | st.integers(-(2**53), 2**53)
    | st.lists(st.text())
    | st.dictionaries(st.text(), st.booleans())
)


@PROPERTY
@given(ids, values)
def test_results_go_both_ways(id_: str | int | None, result: object) -> None:
    """A reply is one line, whatever the result, and decodes to the same result."""
    line = jsonrpc.encode_result(id_, result)
    assert line.count(b"\n") == 1
    assert jsonrpc.decode_answer(line) == Reply(id_, result)


@PROPERTY
@given(ids, st.integers(-33000, 0), st.text())
def test_errors_go_both_ways(id_: str | int | None, code: int, message: str) -> None:
    """An error is one line, whatever the message, and decodes to the same error."""
    line = jsonrpc.encode_error(id_, code, message)
    assert line.count(b"\n") == 1
    assert jsonrpc.decode_answer(line) == Reply(id_, code=code, message=message)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"id": 1, "result": None}, Reply(1)),
        ({"id": 1, "result": 5, "error": None}, Reply(1, 5)),
        ({"id": 1, "error": {}}, Reply(1, code=jsonrpc.INTERNAL_ERROR)),
        ({"id": 1, "error": {"code": -1, "message": 7}}, Reply(1, code=-1, message="7")),
        ({"result": 5}, Reply(None, 5)),
    ],
)
def test_replies_of_others(value: dict[str, Any], expected: Reply) -> None:
    """A reply with missing members is accepted."""
    assert jsonrpc.decode_answer(json.dumps({**V, **value}).encode()) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"x",
        b"\xff",
        b"[1]",
        b"{}",
        b'{"result": 1}',
        b'{"jsonrpc": "1.0", "id": 1, "result": 1}',
        b'{"jsonrpc": "2.0", "id": 1}',
        b'{"jsonrpc": "2.0", "id": 1, "error": "failed"}',
        b'{"jsonrpc": "2.0", "id": 1, "error": false}',
        b'{"jsonrpc": "2.0", "id": 1, "result": 1} {}',
    ],
)
def test_what_is_no_reply_is_a_value_error(line: bytes) -> None:
    """An invalid error raises ValueError and is not taken for success."""
    with pytest.raises(ValueError, match=r"."):
        jsonrpc.decode_answer(line)


@pytest.mark.parametrize("id_", [float("inf"), float("nan"), "\ud800"], ids=repr)
def test_an_id_that_no_reply_could_echo_is_invalid(id_: float | str) -> None:
    """The error has no id, and can be encoded."""
    request = jsonrpc.as_request({**V, "method": "m", "id": id_})
    assert (request.id, bool(request.fault)) == (None, True)
    assert jsonrpc.encode_error(request.id, -1, f"half a pair: {id_}")


def test_a_batch() -> None:
    """Each member is a request of its own, and what has not the form of one is invalid."""
    members = [{**V, "method": "m", "id": 1}, {**V, "method": "n"}, 5, {"foo": 1}, {**V, "method": 5, "id": "x"}, []]
    batch = jsonrpc.as_batch(members, 100)
    assert batch is not None
    assert [(each.method, each.id, each.wants_reply, each.fault is None) for each in batch.batch] == [
        ("m", 1, True, True),
        ("n", None, False, True),
        ("", None, True, False),
        ("", None, True, False),
        ("", "x", True, False),
        ("", None, True, False),
    ]
    for no_batch in ([], [1, 2], [{"jsonrpc": "2.0"}], [{**V, "method": "m", "at": 1}], [[{**V, "method": "m"}]]):
        assert jsonrpc.as_batch(no_batch, 10) is None
    too_long = jsonrpc.as_batch([{**V, "method": "m"}], jsonrpc.REQUEST_BYTES_MAX + 1)
    assert too_long is not None
    assert (too_long.batch, too_long.fault) == ((), "a batch of more than 16384 bytes")


def test_a_batch_has_a_number_of_members() -> None:
    """As many requests as fit into its bytes are one; more members, which cost two bytes each, are one error."""
    line = b"[" + b",".join([b'{"jsonrpc":"2.0","method":""}'] * (jsonrpc.REQUEST_BYTES_MAX // 30)) + b"]"
    whole = jsonlines.parse_batch(line)
    assert whole is not None
    assert len(whole.batch) == jsonrpc.REQUEST_BYTES_MAX // 30 <= jsonrpc.BATCH_MAX
    for count, fault in ((jsonrpc.BATCH_MAX, None), (jsonrpc.BATCH_MAX + 1, "a batch of more than 550 members")):
        batch = jsonrpc.as_batch([1] * (count - 1) + [{**V, "method": "m"}], 10)
        assert batch is not None
        assert (batch.fault, len(batch.batch)) == (fault, 0 if fault else count)


def test_an_error_has_data() -> None:
    """Data are in the reply and are decoded again; without data there is no such member."""
    assert jsonrpc.decode_answer(jsonrpc.encode_error(1, -32602, "why", {"param": "x"})) == Reply(
        1, code=-32602, message="why", data={"param": "x"}
    )
    assert b"data" not in jsonrpc.encode_error(1, -1, "why")


def test_replies_are_joined() -> None:
    """The answer to a batch is one line with an array."""
    line = jsonrpc.join_replies([jsonrpc.encode_result(1, "a\nb"), jsonrpc.encode_error(None, -1, "x")])
    assert [reply["id"] for reply in json.loads(line)] == [1, None]
    assert line.count(b"\n") == 1
    assert line.endswith(b"]\n")


def test_a_request_that_json_cannot_hold() -> None:
    """Whatever is wrong with it, the error is a TypeError."""
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    for params in ([object()], ["\ud800"], nested, {"a": {(1, 2): 3}}):
        with pytest.raises(TypeError):
            jsonrpc.encode_request("m", params, 1)
