"""
JSON-RPC 2.0, one object or array per text: requests and replies, encoded and decoded.

An array is a batch if one of its members is a request. Each member is answered as if it stood alone, and the answers
are one array.

A method that streams sends its values as notifications ``stream`` with the id of the request, and replies at the end. A
caller ends the stream with ``cancel`` and that id.

Always true: a request without an id (a notification) gets no reply; a reply is one line of JSON; the parts of a request
that a reply echoes are short.
Not here: which texts are requests (hub.wire.jsonlines), the methods (hub.control.methods), sending (hub.dispatch).
Source: the JSON-RPC 2.0 specification, sections 4 to 6.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
NOT_ALLOWED, TOO_MANY, NOT_CARRIED_OUT = -32001, -32002, -32003
CANCELLED = -32800
"""The caller has cancelled the request; the code is that of the Language Server Protocol."""
STREAM, CANCEL = "stream", "cancel"
"""The method of a notification with a value, and the method with which a caller ends a request."""

MEMBERS = frozenset(("jsonrpc", "method", "params", "id"))
"""The members of a request. An object with others is a log record about JSON-RPC."""
METHOD_CHARS_MAX = 64
"""No method of ours has a longer name. A longer name is not echoed."""
ID_CHARS_MAX = 128
"""
A request with a longer id is invalid, and its id is not echoed: clients send numbers and UUIDs. A number has at most 64
bits.
"""
REQUEST_BYTES_MAX = 16 << 10
"""
A longer request is invalid, and so is a longer batch, so that what waits is small. Valid ones are a method and a few
words.
"""
BATCH_MAX = 550
"""
A batch of more members is invalid as a whole: within `REQUEST_BYTES_MAX`, no more of them can be requests. Each is
answered, and a batch of numbers would have 8,000.
"""
MESSAGE_CHARS_MAX = 1024
"""A longer error message is cut off, because it may quote the client's data."""
_ID_MIN, _ID_MAX = -(1 << 63), (1 << 64) - 1


class Request(msgspec.Struct, frozen=True):
    """A request: *method*, *params* (a list or a map), and the *id* for its reply, if it wants one."""

    method: str
    params: list[Any] | dict[str, Any] | None = None
    id: str | int | float | None = None
    wants_reply: bool = True
    fault: str | None = None
    """The reason why the request is invalid; then *method* is empty."""
    code: int = INVALID_REQUEST
    """The code of the error for *fault*."""
    batch: tuple[Request, ...] = ()
    """The requests of an array. Then nothing else is set."""
    is_kept: bool = False
    """Whether its text is a message, too, because it may be no request."""


class Reply(msgspec.Struct, frozen=True):
    """A reply: a result, or the code, the message and the data of an error."""

    id: str | int | float | None
    result: Any = None
    code: int | None = None
    message: str = ""
    data: Any = None


class Value(msgspec.Struct, frozen=True):
    """One value of the stream that the request *id* has begun."""

    id: str | int | float | None
    value: Any


def encode_request(
    method: str,
    params: list[Any] | dict[str, Any] | None,
    id: int | None,  # noqa: A002  its name
) -> bytes:
    """
    Return the line that calls *method*; without an *id*, a notification. Raises TypeError for what JSON cannot hold.
    """
    request: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if id is not None:
        request["id"] = id
    if params is not None:
        request["params"] = params
    try:
        return msgspec.json.encode(request) + b"\n"
    except (ValueError, RecursionError) as error:  # half of a surrogate pair, or lists in lists in lists
        raise TypeError(f"JSON cannot hold this request: {error}") from error


def has_form(value: dict[str, Any]) -> bool:
    """Return whether *value* has the form of a request, valid or not."""
    return "jsonrpc" in value and "method" in value and MEMBERS.issuperset(value)


def as_request(value: dict[str, Any], size: int = 0) -> Request:
    """
    Return the request in a JSON object with a ``jsonrpc`` member. If it is invalid, *fault* is set.

    *size* is the number of bytes of the line.
    """
    id_ = value.get("id")
    if fault := _fault_of_id(id_):
        return Request("", fault=fault)
    if fault := _fault_of(value, size):
        return Request("", id=id_, fault=fault)
    return Request(value["method"], value.get("params"), id_, "id" in value)


def as_batch(values: list[Any], size: int) -> Request | None:
    """
    Return the batch in a JSON array of *size* bytes, or None if none of its members has the form of a request.

    A member without that form is an invalid request.
    """
    if not any(isinstance(value, dict) and has_form(value) for value in values):
        return None
    if size > REQUEST_BYTES_MAX:
        return Request("", fault=f"a batch of more than {REQUEST_BYTES_MAX} bytes")
    if len(values) > BATCH_MAX:
        return Request("", fault=f"a batch of more than {BATCH_MAX} members")
    members = (as_request(value) if isinstance(value, dict) else Request("", fault="no object") for value in values)
    return Request("", batch=tuple(members))


def _fault_of_id(id_: object) -> str | None:
    if isinstance(id_, bool) or not isinstance(id_, (str, int, float, type(None))):
        return "id is no string or number"
    if isinstance(id_, str) and len(id_) > ID_CHARS_MAX:
        return f"id has more than {ID_CHARS_MAX} characters"
    if isinstance(id_, int) and not _ID_MIN <= id_ <= _ID_MAX:
        return "id has more than 64 bits"
    if isinstance(id_, float) and not math.isfinite(id_):
        return "id is no finite number"
    if isinstance(id_, str) and not is_text(id_):
        return "id is not a text"
    return None


def is_text(text: str) -> bool:
    """Return whether *text* has no half of a surrogate pair, which no reply could echo."""
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _fault_of(value: dict[str, Any], size: int) -> str | None:
    method = value.get("method")
    if size > REQUEST_BYTES_MAX:
        return f"more than {REQUEST_BYTES_MAX} bytes"
    if value.get("jsonrpc") != "2.0":
        return 'jsonrpc is not "2.0"'
    if not isinstance(method, str):
        return "method is no string"
    if len(method) > METHOD_CHARS_MAX:
        return f"method has more than {METHOD_CHARS_MAX} characters"
    if not isinstance(value.get("params"), (list, dict, type(None))):
        return "params are neither an array nor an object"
    return None


def encode_result(id: str | int | float | None, result: object) -> bytes:  # noqa: A002
    """Return the line that replies with *result*."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "result": result}) + b"\n"


def encode_value(id: str | int | float | None, value: object) -> bytes:  # noqa: A002
    """Return the line of a notification: one *value* of the stream that answers the request *id*."""
    params = {"id": id, "value": value}
    return msgspec.json.encode({"jsonrpc": "2.0", "method": STREAM, "params": params}) + b"\n"


def encode_error(id: str | int | float | None, code: int, message: str, data: object = None) -> bytes:  # noqa: A002
    """Return the line that replies with an error, and *data* if that is not None. A long *message* is cut off."""
    if len(message) > MESSAGE_CHARS_MAX:
        message = message[:MESSAGE_CHARS_MAX] + "…"
    if not is_text(message):
        message = message.encode("utf-8", "backslashreplace").decode()
    error: dict[str, object] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "error": error}) + b"\n"


def join_replies(replies: Iterable[bytes]) -> bytes:
    """Return the line that answers a batch with *replies*, which are lines."""
    return b"[" + b",".join(reply.rstrip(b"\n") for reply in replies) + b"]\n"


def decode_answer(line: bytes | memoryview) -> Reply | Value:
    """Return the reply on *line*, or the value of a stream. Raises ValueError if it is neither."""
    value = msgspec.json.decode(line)
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0":
        raise ValueError("not a JSON-RPC reply")
    if value.get("method") == STREAM and isinstance(params := value.get("params"), dict) and "value" in params:
        return Value(params.get("id"), params["value"])
    if not ("result" in value or "error" in value):
        raise ValueError("not a JSON-RPC reply")
    error = value.get("error")
    if error is None:
        return Reply(value.get("id"), value.get("result"))
    if not isinstance(error, dict):
        raise ValueError("a JSON-RPC error that is not an object")
    code, message = error.get("code", INTERNAL_ERROR), str(error.get("message", ""))
    return Reply(value.get("id"), code=code, message=message, data=error.get("data"))
