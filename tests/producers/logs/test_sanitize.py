"""Values that cannot be sent as they are, and what is sent instead."""

from __future__ import annotations

import collections
import dataclasses
import types
from pathlib import PurePosixPath
from typing import Any

import msgpack
import pytest

from hub.entries import RECORD_NESTING_MAX, is_deeper
from producers.logs.sanitize import (
    CUT_CHARACTERS,
    CUT_KEY,
    DEPTH_MAX,
    PATHS_MAX,
    REPR_KEY,
    pack_sanitized,
    safe_repr,
    safe_str,
)
from producers.record import RECORD_BYTES_MAX


class Odd:
    def __repr__(self) -> str:
        return "<odd>"


class Broken:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Hostile(dict[str, Any]):
    def items(self) -> Any:
        raise RuntimeError("no")

    def __repr__(self) -> str:
        return "<hostile>"


class Markup(str):
    """A template engine's text."""

    __slots__ = ()

    def __str__(self) -> str:
        return "not this"


class Token(bytes):
    """Bytes of a library's own type."""


class Number(float):
    def __repr__(self) -> str:
        return "np.float64(0.25)"


class Count(int):
    """A configuration library's number."""


class Scalar:
    """Like a scalar of numpy, which is of no type of Python's."""

    shape = ()

    def item(self) -> object:
        return 7


class Metered(type):
    @property
    def __module__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no")


class Unkind(metaclass=Metered):
    def __repr__(self) -> str:
        return "<unkind>"


Scalar.__module__ = "numpy"


def mended(record: dict[Any, Any]) -> Any:
    return msgpack.unpackb(pack_sanitized(record), strict_map_key=False, timestamp=3)


RING: list[Any] = [1]
RING.append(RING)
CASES: dict[str, tuple[Any, Any, list[str]]] = {
    "object": (Odd(), "<odd>", ["x"]),
    "object inside": ({"a": [1, Odd()]}, {"a": [1, "<odd>"]}, ["x.a[1]"]),
    "class": (int, "<class 'int'>", ["x"]),
    "path": (PurePosixPath("/a"), "PurePosixPath('/a')", ["x"]),
    "huge integer": (2**64, str(2**64), ["x"]),
    "an integer of more digits than Python writes": (1 << 20_000, hex(1 << 20_000), ["x"]),
    "lone surrogate": ("a\udcff", "a\\udcff", ["x"]),
    "cycle": (RING, [1, "[1, [...]]"], ["x[1]"]),
    "repr raises": (Broken(), "<Broken, whose repr raises RuntimeError>", ["x"]),
    "mapping that raises": (Hostile(), "<hostile>", ["x"]),
    "key": ({Odd(): 1}, {"<odd>": 1}, ["x.<odd> (the key)"]),
    "tuple as key": ({(1, 2): 3}, {"(1, 2)": 3}, ["x.(1, 2) (the key)"]),
    "surrogate in a key": ({"\udcff": 1}, {"\\udcff": 1}, ["x.\\udcff (the key)"]),
    "huge key": ({2**64: 1}, {str(2**64): 1}, [f"x.{2**64} (the key)"]),
    "keys that become alike": ({Odd(): 1, "<odd>": 2}, {"<odd>": 1, "<odd>_": 2}, ["x.<odd> (the key)"]),
    "subclass of str": (Markup("<b>"), "<b>", []),
    "lone surrogate in a subclass of str": (Markup("\udcff"), "\\udcff", ["x"]),
    "subclass of bytes": (Token(b"t"), b"t", []),
    "subclass of float": (Number(0.25), 0.25, []),
    "subclass of int": (Count(3), 3, []),
    "huge subclass of int": (Count(2**64), str(2**64), ["x"]),
    "scalar of numpy": ([Scalar()], [7], []),
    "key of a subclass": ({Markup("k"): 1}, {"k": 1}, []),
    "a class that raises": (Unkind(), "<unkind>", ["x"]),
    "set": ({1, 2**70}, None, None),  # type: ignore[dict-item]  # a class with its own order
    "other mappings": (types.MappingProxyType({"a": 1}), {"a": 1}, []),
    "dicts of a kind": (collections.OrderedDict(a=Odd()), {"a": "<odd>"}, ["x.a"]),
    "queue": (collections.deque([1]), "deque([1])", ["x"]),
    "what msgpack holds": ({5: (1, 2.5, None, True, b"\xff")}, {5: [1, 2.5, None, True, b"\xff"]}, []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_sent_gets_its_repr(name: str) -> None:
    """A `repr` takes its place, the record lists the path, and everything else is unchanged."""
    value, expected, paths = CASES[name]
    result = mended({"before": 1, "x": value, "after": [2]})
    assert (result["before"], result["after"]) == (1, [2])
    if expected is None:
        assert sorted(map(str, result["x"])) == ["1", str(2**70)]
        return
    assert result["x"] == expected
    assert result.get(REPR_KEY, []) == paths


def test_what_it_is_given_is_not_changed() -> None:
    """The logged values are not modified: the application goes on using them."""
    odd = Odd()
    value = {"a": [odd], "b": {"\udcff": odd}}
    record = {"x": value}
    mended(record)
    assert record == {"x": {"a": [odd], "b": {"\udcff": odd}}}


def test_too_deep() -> None:
    """Values nested deeper than a reader can follow become text."""
    value: Any = []
    for _ in range(5000):
        value = [value]
    result = mended({"x": value})
    depth, inner = 0, result["x"]
    while isinstance(inner, list):
        depth, inner = depth + 1, inner[0]
    assert depth == DEPTH_MAX
    assert inner.startswith(("<list, whose repr raises RecursionError", "[[["))  # Python 3.12 prints all of it
    assert len(result[REPR_KEY]) == 1


@dataclasses.dataclass
class Link:
    next: Link | None = None


@pytest.mark.parametrize("length", [10, 600, 900, 1100, 3000])
def test_too_long_a_chain_of_objects(length: int) -> None:
    """A dataclass that holds others is sent as maps, or as text if they are more than a record may have levels."""
    chain = Link()
    for _ in range(length):
        chain = Link(chain)
    for value in (chain, [[[chain]]]):
        result = mended({"x": value})["x"]
        while isinstance(result, list):
            (result,) = result
        assert isinstance(result, dict if length < RECORD_NESTING_MAX else str)
    assert not is_deeper(pack_sanitized({"x": chain}), RECORD_NESTING_MAX + DEPTH_MAX)


def test_the_same_value_twice_is_no_cycle() -> None:
    """Only a value that contains itself is a cycle."""
    shared = [1]
    assert mended({"x": [shared, shared], "y": Odd()})["x"] == [[1], [1]]


def test_the_list_of_paths_has_an_end() -> None:
    """A thousand bad values are all sent, and the first hundred are listed."""
    result = mended({"x": [Odd()] * 1000})
    assert result["x"] == ["<odd>"] * 1000
    assert result[REPR_KEY] == [f"x[{index}]" for index in range(PATHS_MAX)]


@pytest.mark.parametrize("text", ["x" * (RECORD_BYTES_MAX + 1), b"x" * (RECORD_BYTES_MAX + 1)], ids=["text", "bytes"])
def test_too_large(text: Any) -> None:
    """A text that no frame can hold is cut, and the record lists it; the short fields beside it are whole."""
    assert mended({"a": 1, "x": [text]}) == {"a": 1, "x": [text[:CUT_CHARACTERS]], CUT_KEY: ["x[0]"]}


def test_too_many() -> None:
    """A record with too many values for a frame is kept as the text of each field."""
    result = mended({"a": 1, "x": ["y" * 1000] * (RECORD_BYTES_MAX // 1000)})
    assert result["a"] == "1"
    assert result["x"].startswith("['yyy")
    assert result[CUT_KEY] == ["the record"]


def test_represent_and_say() -> None:
    """They return `repr` and `str` of any value."""
    assert (safe_repr("a\udcff"), safe_str("a\udcff"), safe_str(Odd())) == (r"'a\udcff'", r"a\udcff", "<odd>")
    assert safe_str(Broken()) == "<Broken, whose str raises RuntimeError>"
