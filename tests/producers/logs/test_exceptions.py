"""Exceptions as data and as text."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import pytest

from producers.logs.exceptions import CHAIN_MAX, FRAMES_MAX, as_fields, as_text, exc_info_of


class Shop:
    class Refused(Exception):
        """An exception class inside another class."""


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


def caught(function: Any) -> Exception:
    try:
        function()
    except Exception as error:  # noqa: BLE001  each case raises its own
        return error
    raise AssertionError("nothing was raised")


def fields_of(function: Any) -> dict[str, Any]:
    error = caught(function)
    return as_fields((type(error), error, error.__traceback__))


def refuse() -> None:
    raise Shop.Refused("no card")


def refuse_because() -> None:
    try:
        refuse()
    except Shop.Refused as error:
        raise ValueError("bad order") from error


def refuse_while() -> None:
    try:
        refuse()
    except Shop.Refused:
        raise KeyError("order")  # noqa: B904  the context is the point


def refuse_instead() -> None:
    try:
        refuse()
    except Shop.Refused:
        raise KeyError("order") from None


def test_an_exception() -> None:
    """It has type, module, message and frames; the last frame is where it was raised."""
    fields = fields_of(refuse)
    frames = fields.pop("frames")
    assert fields == {"type": "Shop.Refused", "module": __name__, "message": "no card"}
    assert [frame["function"] for frame in frames] == ["caught", "refuse"]
    assert frames[-1] == {"file": __file__, "line": refuse.__code__.co_firstlineno + 1, "function": "refuse"}


@pytest.mark.parametrize(
    ("function", "key"), [(refuse_because, "cause"), (refuse_while, "context"), (refuse_instead, None)]
)
def test_chains(function: Any, key: str | None) -> None:
    """Cause and context are inside; `from None` leaves the context out."""
    fields = fields_of(function)
    assert [name for name in ("cause", "context") if name in fields] == ([key] if key else [])
    if key:
        assert (fields[key]["type"], fields[key]["frames"][-1]["function"]) == ("Shop.Refused", "refuse")


def test_groups_and_notes() -> None:
    """A group has its members, and a note is kept."""
    group = ExceptionGroup("two", [caught(refuse), ValueError("x")])
    group.add_note("seen twice")
    fields = as_fields((type(group), group, None))
    assert [child["message"] for child in fields["exceptions"]] == ["no card", "x"]
    assert (fields["notes"], fields["frames"]) == (["seen twice"], [])


def test_a_large_group_is_cut() -> None:
    """Its members count like those of a chain, and one that is in it twice is there once."""
    error = ValueError("x")
    twice = as_fields((ExceptionGroup, ExceptionGroup("twice", [error, error]), None))
    assert [each["message"] for each in twice["exceptions"]] == ["x"]
    many = as_fields((ExceptionGroup, ExceptionGroup("many", [ValueError(f"{n}") for n in range(1000)]), None))
    assert len(many["exceptions"]) == CHAIN_MAX - 1


def test_it_always_ends() -> None:
    """A circular chain, a long chain and a deep traceback are cut; the frames nearest to the fault stay."""
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert as_fields((ValueError, first, None))["cause"] == {
        "type": "ValueError", "module": "builtins", "message": "b", "frames": [],
    }  # fmt: skip
    error: Exception = ValueError("0")
    for number in range(1, 100):
        above = ValueError(str(number))
        above.__cause__ = error
        error = above
    fields, count = as_fields((ValueError, error, None)), 1
    while "cause" in fields:
        fields, count = fields["cause"], count + 1
    assert count == CHAIN_MAX

    def deeper(left: int) -> None:
        if left == 0:
            refuse()
        deeper(left - 1)

    frames = fields_of(lambda: deeper(300))["frames"]
    assert (len(frames), frames[-1]["function"]) == (FRAMES_MAX, "refuse")


def test_exceptions_that_cannot_be_written_down() -> None:
    """A failing `__str__` is described instead of its text."""
    error = Broken()
    assert as_fields((Broken, error, None))["message"] == "<Broken, whose str raises RuntimeError>"
    assert "Broken" in as_text((Broken, error, None))


class Hostile(Exception):
    """Every attribute that is not there raises, and so does every text."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(name)

    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


class Worse(Exception):
    @property
    def __cause__(self) -> BaseException | None:  # type: ignore[override]
        raise RuntimeError("no")


@pytest.mark.parametrize("notes", [5, "text", {"a": 1}, None, ("x",)])
def test_notes_that_are_no_list(notes: object) -> None:
    """Whatever `__notes__` is, the exception is described."""
    error = ValueError("v")
    error.__notes__ = notes  # type: ignore[assignment]
    fields = as_fields((ValueError, error, None))
    assert fields["message"] == "v"
    assert fields.get("notes") == (None if notes is None else ["x"] if isinstance(notes, tuple) else [repr(notes)])


@pytest.mark.parametrize("make", [Hostile, Worse, lambda text: ExceptionGroup(text, [Hostile(text)])])
def test_a_broken_class_costs_no_record(make: Callable[[str], Exception]) -> None:
    """What can be read of it is there."""
    error = make("x")
    fields = as_fields((type(error), error, None))
    assert fields["type"] == type(error).__qualname__
    assert type(error).__name__ in as_text((type(error), error, None))


def test_text_is_pythons_own() -> None:
    """The text is the one that the interpreter would print."""
    error = caught(refuse_because)
    text = as_text((type(error), error, error.__traceback__))
    assert text.startswith("Traceback (most recent call last):\n")
    assert "The above exception was the direct cause" in text
    assert text.endswith("ValueError: bad order")


def test_exc_info_of() -> None:
    """An exception, a tuple, and True while one is handled are accepted; everything else means no exception."""
    error = caught(refuse)
    whole = (Shop.Refused, error, error.__traceback__)
    assert exc_info_of(error) == whole
    assert exc_info_of(whole) == whole
    for nothing in (None, False, 0, (None, None, None), (), (1, 2, 3), True, "yes"):
        assert exc_info_of(nothing) is None
    try:
        refuse()
    except Shop.Refused:
        assert exc_info_of(True) == sys.exc_info()
        assert exc_info_of(1) == sys.exc_info()
