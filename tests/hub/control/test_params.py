"""hub.control.params: the parameters of requests are valid, or the wrong one is named."""

from __future__ import annotations

import time
from typing import Any

import pytest

from hub.control.params import numbers, place_of, texts
from hub.errors import InvalidParams
from hub.wire.jsonrpc import Request


@pytest.mark.parametrize(
    ("params", "words", "param"),
    [
        ([1], "named parameters: uid, limit", None),
        ({"pid": 1}, "no parameter 'pid'", "pid"),
        ({"x" * 100: 1}, "no parameter", "x" * 32),
        ({"uid": "root"}, "uid is no whole number", "uid"),
        ({"uid": True}, "uid", "uid"),
        ({"limit": 1.5}, "limit", "limit"),
        ({"limit": -1}, "limit", "limit"),
        ({"limit": None}, "limit", "limit"),
    ],
)
def test_wrong_parameters_are_named(params: Any, words: str, param: str | None) -> None:
    """The error has the code of JSON-RPC, and the name of the wrong parameter."""
    with pytest.raises(InvalidParams, match=words) as raised:
        numbers(Request("losses", params), "uid", "limit")
    assert (raised.value.code, raised.value.data) == (-32602, None if param is None else {"param": param})
    assert numbers(Request("losses"), "uid") == numbers(Request("losses", []), "uid") == {}


@pytest.mark.parametrize("text", [1, None, ["a"], "a\nb", "\x1b[2J"])
def test_a_text_is_a_printable_one(text: Any) -> None:
    """Anything else is named; a printable text is returned."""
    with pytest.raises(InvalidParams, match="prefix is not a text") as raised:
        texts(Request("imports", {"prefix": text}), "prefix", "after")
    assert raised.value.data == {"param": "prefix"}
    assert texts(Request("imports", {"after": "é b"}), "prefix", "after") == {"after": "é b"}


@pytest.mark.parametrize(
    ("to", "place"),
    [(None, (None, None)), (5, (5, None)), ("6", (6, None)), (0, (0, None)), ("@1.5", (None, 1_500_000_000))],
)
def test_a_place_is_a_sequence_or_a_time(to: Any, place: tuple[int | None, int | None]) -> None:
    """A number is a sequence, also as text; another text is a time."""
    assert place_of(to) == place
    begun = time.time_ns()
    _, since = place_of("1h")
    assert since is not None
    assert begun <= since + 3_600_000_000_000 <= time.time_ns()


@pytest.mark.parametrize("to", ["soon", "9" * 30, "9" * 5000, -1, True, 1.5, [1]])
def test_a_wrong_place_is_named(to: Any) -> None:
    """What is neither a sequence nor a time is an error of the parameter."""
    with pytest.raises(InvalidParams) as raised:
        place_of(to)
    assert raised.value.data == {"param": "to"}
