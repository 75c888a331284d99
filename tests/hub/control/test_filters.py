"""hub.control.filters: filters as callers write them. What each selects is tested with hub.control.messages."""

from __future__ import annotations

import os
import pwd
import time
from typing import Any

import pytest

from hub.control.filters import query_of
from hub.errors import InvalidParams
from hub.query.condition import Condition


def made(**given: Any) -> dict[str, Any]:
    """Return what the query is made of, without what is left at its default."""
    got: dict[str, Any] = query_of(lambda **filters: filters, is_trusted=True, **given)  # type: ignore[type-var]
    return got


def test_texts_are_read() -> None:
    """One text stands for a list of one; names of users, moments and conditions are read as on the command line."""
    name = pwd.getpwuid(os.getuid()).pw_name
    now = time.time_ns()
    filters = made(tag="a", where="x=1", since="1h", until=5, uid=name, comm="c")
    assert filters["tag"] == ["a"]
    assert [type(each) for each in filters["where"]] == [Condition]
    assert abs(now - 3600 * 10**9 - filters["since"]) < 60 * 10**9
    assert (filters["until"], filters["uid"], filters["comm"]) == (5, os.getuid(), "c")
    assert made(tag=["a", "b"], uid="17")["uid"] == 17


@pytest.mark.parametrize("length", [32, 33])
def test_the_longest_expression_of_others(length: int) -> None:
    """The limit holds for them, and not for the hub's own user."""
    grep = "x" * length
    assert made(grep=grep)["grep"] == grep
    if length == 32:
        query_of(lambda **_: None, is_trusted=False, grep=grep)  # type: ignore[type-var]
    else:
        with pytest.raises(InvalidParams):
            query_of(lambda **_: None, is_trusted=False, grep=grep)  # type: ignore[type-var]


@pytest.mark.parametrize("name", ["tag", "comm", "unit", "container"])
def test_the_globs_of_others_are_bounded(name: str) -> None:
    """They compile fast, all together. The hub's own user may give any."""
    given: dict[str, Any] = {"tag": "a" * 1024} | ({"tag": ["a" * 1024, "b"]} if name == "tag" else {name: "b"})
    assert made(**given)[name]
    with pytest.raises(InvalidParams, match="globs of more than 1024 characters"):
        query_of(lambda **_: None, is_trusted=False, **given)  # type: ignore[type-var]
    with pytest.raises(InvalidParams, match="must be ASCII"):
        query_of(lambda **_: None, is_trusted=False, **{name: "[ü]"})  # type: ignore[type-var,arg-type]
    query_of(lambda **_: None, is_trusted=False, **{name: "[u]*"})  # type: ignore[type-var,arg-type]
