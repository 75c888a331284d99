"""hub.query.condition: conditions on the fields of a record."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hub.query.condition import Condition

RECORD: dict[Any, Any] = {
    "status": 200,
    "seconds": 1.5,
    "path": "/index",
    "text": "200",
    "ok": True,
    "none": None,
    "http": {"status": 500, "headers": {"host": "a"}},
    "a.b": "dotted",
    "list": [1],
    "empty": "",
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("status=200", True),
        ("status=200.0", True),
        ("status=201", False),
        ("status!=200", False),
        ("status!=201", True),
        ("status>199", True),
        ("status>200", False),
        ("status<200.5", True),
        ("status=ok", False),
        ("status!=ok", True),
        ("seconds>1", True),
        ("seconds<1", False),
        ("path=/index", True),
        ("path=/index?a=b", False),
        ("text=200", True),
        ("text>1", True),
        ("text>30", True),  # a number that was sent as text
        ("text=200.0", True),
        ("text<1e2", False),
        ("path>1", False),  # no number
        ("path!=1", True),
        ("path>/a", True),
        ("ok=true", True),
        ("ok=True", True),
        ("ok=1", False),
        ("none=null", True),
        ("http.status=500", True),
        ("http.headers.host=a", True),
        ("http.headers.port=1", False),
        ("http.headers.port!=1", True),
        ("status.x=1", False),
        ("a.b=dotted", True),
        ("list=[1]", True),
        ("absent=1", False),
        ("absent!=1", True),
        ("absent<1", False),
        ("empty=", True),
        (" status =200", True),
    ],
)
def test_a_condition_holds_or_not(text: str, holds: bool) -> None:
    """Numbers compare as numbers, all other values as text, and a missing key differs from every value."""
    assert Condition(text).holds(RECORD) is holds


@pytest.mark.parametrize("text", ["", "status", "=200", "status 200"])
def test_what_is_no_condition_is_refused(text: str) -> None:
    """The error for an invalid condition describes the form of a valid one."""
    with pytest.raises(ValueError, match="KEY=VALUE"):
        Condition(text)


def test_finders_find_every_record_that_meets_the_condition() -> None:
    """They look for all parts of the key, and for the value if it has to be equal. `!=` has none."""

    def found(text: str, record: object) -> list[bool]:
        packed = msgspec.msgpack.encode(record)
        return [finder(packed) is not None for finder in Condition(text).finders]

    assert found("http.status=1", {"http": {"status": 1}}) == [True, True]
    assert found("http.status=1", {"http": {"status": 2}}) == [False, True]
    assert found("http.status<3", {"http": {"status": 2}}) == [True, True]
    assert found("http.status<1", {"http": {"status": 2}}) == [False, True]
    assert found("http.status<x", {"http": {"status": 2}}) == [True, True]
    assert found("http.status=\ufffd", {"status": "x"}) == [True, False]
    for text in ("a!=1", "a.=1", "\ufffd=1"):
        assert Condition(text).finders == []


def test_what_is_nested_too_deep_to_be_written_down_equals_nothing() -> None:
    """On every Python a value of more than 100 levels, in keys too, differs from every value, and raises nothing."""
    for levels in (100, 101, 700, 5000):
        lists: list[Any] = []
        key: tuple[Any, ...] = ()
        for _ in range(levels - 1):
            lists, key = [lists], (key,)
        for value in (lists, {"a": lists}, {key: 1}):
            found = [Condition(f"x{operator}1").holds({"x": value}) for operator in ("=", "!=", "<", ">")]
            assert found == ([0, 1, 0, 1] if levels + isinstance(value, dict) <= 100 else [0, 1, 0, 0])
