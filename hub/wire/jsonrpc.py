"""
JSON-RPC 2.0 on one line each: requests and their replies, both ways.

Always true: a request without an id (a notification) has no reply; a reply is one line of JSON.
Not here: what the methods do (hub.commands), who carries the lines. Batches of requests (arrays) are not read.
Source: the JSON-RPC 2.0 specification, sections 4 and 5.
"""

from __future__ import annotations

from typing import Any

import msgspec

PARSE_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, INVALID_PARAMS, INTERNAL_ERROR = -32700, -32600, -32601, -32602, -32603
NOT_ALLOWED = -32001


class Request(msgspec.Struct, frozen=True):
    """A command: *method* and *params* (a list or a map), and the *id* that its reply carries, if it wants one."""

    method: str
    params: list[Any] | dict[str, Any] | None = None
    id: str | int | float | None = None
    wants_reply: bool = True
    fault: str | None = None
    """Why this is no valid request; then *method* is empty."""


class Reply(msgspec.Struct, frozen=True):
    """An answer: a result, or an error's code and message."""

    id: str | int | float | None
    result: Any = None
    code: int | None = None
    message: str = ""


def encode_request(method: str, params: list[Any] | dict[str, Any] | None, id: int) -> bytes:  # noqa: A002  its name
    """Return the line that asks for *method*."""
    request: dict[str, Any] = {"jsonrpc": "2.0", "method": method, "id": id}
    if params is not None:
        request["params"] = params
    return msgspec.json.encode(request) + b"\n"


def as_request(value: dict[str, Any]) -> Request:
    """Return the request that a JSON object with a ``jsonrpc`` member is; one with a *fault* if it is not valid."""
    method, params, id_ = value.get("method"), value.get("params"), value.get("id")
    if id_ is not None and (isinstance(id_, bool) or not isinstance(id_, (str, int, float))):
        return Request("", fault="id is no string or number")
    wants_reply = "id" in value
    if value.get("jsonrpc") != "2.0":
        return Request("", id=id_, fault='jsonrpc is not "2.0"')
    if not isinstance(method, str):
        return Request("", id=id_, fault="method is no string")
    if params is not None and not isinstance(params, (list, dict)):
        return Request("", id=id_, fault="params are no array and no object")
    return Request(method, params, id_, wants_reply)


def encode_result(id: str | int | float | None, result: object) -> bytes:  # noqa: A002
    """Return the line that answers with *result*."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "result": result}) + b"\n"


def encode_error(id: str | int | float | None, code: int, message: str) -> bytes:  # noqa: A002
    """Return the line that answers with an error."""
    return msgspec.json.encode({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}) + b"\n"


def decode_reply(line: bytes) -> Reply:
    """Return the reply on *line*; ValueError if it is none."""
    value = msgspec.json.decode(line)
    if not isinstance(value, dict) or value.get("jsonrpc") != "2.0" or not ("result" in value or "error" in value):
        raise ValueError("not a JSON-RPC reply")
    error = value.get("error")
    if error is None:
        return Reply(value.get("id"), value.get("result"))
    if not isinstance(error, dict):
        raise ValueError("a JSON-RPC error that is no object")
    return Reply(value.get("id"), code=error.get("code", INTERNAL_ERROR), message=str(error.get("message", "")))
