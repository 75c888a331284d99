"""Arrivals: what a stream holds, and what it asks for on the next connection; histories as data."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hub.wire.jsonrpc import NOT_CARRIED_OUT, Reply, Value
from producers.arrivals import BEGUN_ID, STREAM_ID, Arrivals, Params
from producers.errors import AnswerLost, CommandFailed

BEGUN = Reply(BEGUN_ID, "pong")


def asked(arrivals: Arrivals, now_ns: int = 0) -> dict[str, Any]:
    """Begin on a new connection; return the request for the stream."""
    request, ping, rest = arrivals.begin(now_ns).split(b"\n")
    assert (json.loads(ping), rest) == ({"jsonrpc": "2.0", "method": "ping", "id": BEGUN_ID}, b"")
    value: dict[str, Any] = json.loads(request)
    assert value["id"] == STREAM_ID
    return value


def arrive(arrivals: Arrivals, *values: Any) -> None:
    for value in values:
        arrivals.take(Value(STREAM_ID, value))


def test_the_request() -> None:
    """It names the method and its parameters, if there are any."""
    assert asked(Arrivals("/s", "count", [1])) == {"jsonrpc": "2.0", "method": "count", "params": [1], "id": STREAM_ID}
    assert "params" not in asked(Arrivals("/s", "count", None))


def test_the_end() -> None:
    """A reply ends the stream, after what arrived before it."""
    arrivals = Arrivals("/s", "count", None)
    asked(arrivals)
    assert not arrivals.is_enough
    arrivals.take(BEGUN)
    arrive(arrivals, 1, 2)
    arrivals.take(Reply(STREAM_ID, "all"))
    assert (list(arrivals.ready), arrivals.result, arrivals.is_enough) == ([1, 2], "all", True)
    arrivals.broke("gone", 1)
    assert arrivals.result == "all"


@pytest.mark.parametrize(
    ("params", "values", "following"),
    [
        ({"tag": "a", "after": 7}, [], {"tag": "a", "after": 7}),
        ({"tag": "a", "last": 3}, [{"messages": [], "next": 8}], {"tag": "a", "after": 8}),
        (None, [{"sequence": 4}, {"sequence": 6}], {"after": 6}),
        ({"after": 2}, [{"messages": [{}], "next": 3}, {"missed": 5, "next": 8}], {"after": 8}),
        ({"after": 2}, [{"messages": [], "next": None}, 7, {"a": 1}], {"after": 2}),
    ],
)
def test_where_a_tail_goes_on(params: Params, values: list[Any], following: Params) -> None:
    """It asks for what comes after the last value that names a sequence, and otherwise as before."""
    arrivals = Arrivals("/s", "tail", params)
    asked(arrivals)
    arrivals.take(BEGUN)
    arrive(arrivals, *values)
    assert arrivals.is_placed
    arrivals.broke("gone", 1)
    assert asked(arrivals).get("params") == following
    assert list(arrivals.ready) == values


@pytest.mark.parametrize("params", [None, {"last": 3}, {"after": 5, "last": 3}])
def test_a_tail_whose_place_is_not_known(params: Params) -> None:
    """It begins anew until it has begun; after that, what was stored meanwhile would be left out."""
    arrivals = Arrivals("/s", "tail", params)
    assert asked(arrivals).get("params") == params
    arrivals.broke("not begun yet", 1)
    assert (asked(arrivals).get("params"), arrivals.end) == (params, None)
    arrivals.take(BEGUN)
    assert not arrivals.is_placed
    arrivals.broke("gone", 2)
    assert isinstance(arrivals.end, AnswerLost)
    assert arrivals.is_placed


def test_a_hub_that_stops() -> None:
    """The error of a hub that stops ends the connection of a tail, and any other stream."""
    for method, params in (("tail", None), ("subscribe", None)):
        arrivals = Arrivals("/s", method, params)
        asked(arrivals)
        with pytest.raises(ConnectionResetError, match="the hub is stopping"):
            arrivals.take(Reply(STREAM_ID, code=NOT_CARRIED_OUT, message="no"))
        assert arrivals.end is None
    for method, params in (("count", None), ("tail", [1])):
        arrivals = Arrivals("/s", method, params)
        asked(arrivals)
        arrivals.take(Reply(STREAM_ID, code=NOT_CARRIED_OUT, message="no", data=[1]))
        assert isinstance(arrivals.end, CommandFailed)
        assert (arrivals.end.code, arrivals.end.message, arrivals.end.data) == (NOT_CARRIED_OUT, "no", [1])


def test_what_was_missed() -> None:
    """The first value of a renewed subscription says why and since when events may be missing, once for a break."""
    arrivals = Arrivals("/s", "subscribe", None)
    asked(arrivals)
    arrivals.broke("not begun yet", 10)  # nothing was subscribed, so nothing was missed
    asked(arrivals)
    arrivals.take(BEGUN)
    arrive(arrivals, "first")
    arrivals.broke("gone", 20)
    asked(arrivals, 30)
    arrivals.broke("gone again", 40)
    asked(arrivals, 50)
    arrive(arrivals, "second")
    arrivals.take(BEGUN)
    data = {"count": None, "reason": "gone", "since": 20}
    assert list(arrivals.ready) == ["first", {"event": "mpsr.missed", "data": data, "time": 50}, "second"]
    arrivals.take(BEGUN)
    assert len(arrivals.ready) == 3


def test_any_other_stream_does_not_go_on() -> None:
    """It is unknown where it was, or whether it had begun."""
    arrivals = Arrivals("/s", "count", None)
    asked(arrivals)
    arrivals.broke("gone", 10)
    assert isinstance(arrivals.end, AnswerLost)
    assert (arrivals.end.path, arrivals.end.reason, arrivals.end.method) == ("/s", "gone", "count")
    first = arrivals.end
    arrivals.broke("again", 20)
    assert arrivals.end is first
