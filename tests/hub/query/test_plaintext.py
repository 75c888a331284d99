"""hub.query.plaintext: a text in the strings of records, one by one and all at once."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from hub.query.condition import Condition
from hub.query.plaintext import PlainText, values_of


def nested(depth: int) -> list[Any]:
    return functools.reduce(lambda inner, _: [inner], range(depth), ["needle"])


@pytest.mark.parametrize(
    ("record", "is_found"),
    [
        ({"a": "x", "b": "a needle here"}, True),
        ({"needle": "x"}, False),
        ({"a": {"needle": 1}}, False),
        ({"a": {"b": [1, "needle"]}}, True),
        ({"a": b"needle"}, False),
        ({None: "needle"}, True),
        ({"a": nested(5000)}, True),
        ({}, False),
    ],
)
def test_strings_are_searched_at_any_depth(record: dict[Any, Any], is_found: bool) -> None:
    """Keys and bytes are not, whichever key had the text before."""
    text = PlainText("needle")
    assert text.holds(record) is is_found
    assert text.holds({"a": "needle"})
    assert text.holds(record) is is_found


HAS, LACKS = {"m": "a needle", "n": 1}, {"m": "nothing", "n": 1}


@pytest.mark.parametrize(
    ("records", "is_known"),
    [
        ([HAS, HAS], True),
        ([HAS, LACKS], False),
        ([HAS, {"m": "x", "o": "needle"}], False),  # in another key: they are looked at one by one
        ([HAS, {"o": 1}], False),
        ([HAS, {"m": {"needle": 1}}], False),
        ([HAS, {"m": ["needle"]}], False),
    ],
)
def test_all_are_said_to_hold_only_if_they_do(records: list[dict[Any, Any]], is_known: bool) -> None:
    """All at once is only known for strings under the key that had the text last."""
    text = PlainText("needle")
    assert not text.all_hold(records)
    assert text.holds(HAS)
    assert text.all_hold(records) is is_known


@pytest.mark.parametrize("value", [5, 6, True, 5.0, "5", None, [5]])
@pytest.mark.parametrize("condition", ["n=5", "n!=5", "n<6", "n>=5", "n=x", "n!=x", "n=true", "a.b=5"])
def test_a_condition_on_all_is_that_on_each(value: object, condition: str) -> None:
    """What `all_hold` affirms, `holds` affirms for each; it affirms whole numbers, and nothing else."""
    held = Condition(condition)
    records: list[dict[Any, Any]] = [{"n": 5}, {"n": value}]
    is_known = held.all_hold(records)
    assert is_known <= all(map(held.holds, records))
    if type(value) is int and condition.startswith("n") and held.key == "n" and condition[-1].isdecimal():
        assert is_known is all(map(held.holds, records))
    assert not held.all_hold([{"n": 5}, {}])


def test_values_of_one_kind() -> None:
    """A bool is no int, and a record without the key ends it."""
    assert values_of("a", [{"a": 1}, {"a": 2}], int) == [1, 2]
    assert values_of("a", [{"a": 1}, {"a": True}], int) is None
    assert values_of("a", [{"a": 1}, {"b": 2}], int) is None
