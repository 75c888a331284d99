"""hub.wire.plainpickle: plain data comes out as it went in, and nothing else does anything."""

from __future__ import annotations

import collections
import datetime
import decimal
import os
import pathlib
import pickle
import pickletools
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub.wire import plainpickle
from hub.wire.plainpickle import STEPS_MAX, Class, Object, Unreadable, load

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
KEYS = st.text(max_size=5) | st.integers(-(1 << 63), (1 << 64) - 1) | st.binary(max_size=5) | st.booleans() | st.none()
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=5) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=20,
)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@given(value=PLAIN)
def test_plain_data(protocol: int, value: Any) -> None:
    """Every protocol of Python gives the value back."""
    assert load(pickle.dumps(value, protocol))[0] == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_values_that_protocols_write_differently(protocol: int) -> None:
    """Sets are lists; an array of bytes is bytes; half surrogates are kept; what is used twice is one object."""
    shared = ["x"]
    value = [
        {1},
        frozenset((2,)),
        bytearray(b"\xff\x00"),
        "\ud800",
        (),
        b"",
        (1,),
        (1, 2),
        (1, 2, 3),
        (1, 2, 3, 4),
        300,
    ]
    value += [70_000, -1, 1 << 70, -(1 << 2100), 1.5, "y" * 300, b"z" * 300, "\n\\\x00", shared, shared]
    found = load(pickle.dumps(value, protocol))[0]
    assert found[:3] == [[1], [2], b"\xff\x00"]
    assert found[3:] == value[3:]
    assert found[-1] is found[-2]


class Ordinary:
    """A class as users write them."""

    def __init__(self) -> None:
        self.value = 1


class Reduced:
    """A class whose pickle calls a function."""

    def __reduce__(self) -> Any:
        return os.system, ("touch /tmp/should-not-exist",)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("value", "name"),
    [
        (datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC), "datetime.datetime"),
        (decimal.Decimal("1.5"), "decimal.Decimal"),
        (collections.OrderedDict(a=1), "collections.OrderedDict"),
        (collections.deque([1]), "collections.deque"),
        (pathlib.PurePosixPath("/a"), f"{pathlib.PurePosixPath.__module__}.PurePosixPath"),
        (ValueError("x"), "ValueError"),
        (Ordinary(), f"{__name__}.Ordinary"),
        (Reduced(), f"{os.system.__module__}.system"),
    ],
)
def test_objects_are_names(protocol: int, value: object, name: str) -> None:
    """An object becomes the name of its class; what is beside it is kept."""
    before, found, after = load(pickle.dumps(["before", value, {"after": 1}], protocol))[0]
    assert (before, after) == ("before", {"after": 1})
    assert isinstance(found, Object)
    assert found.name.endswith(name)


def test_nothing_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """No step looks a name up."""

    def fail(*_: object, **__: object) -> Any:
        raise AssertionError("imported")

    pickled = [pickle.dumps([Reduced(), Ordinary, Ordinary()], protocol) for protocol in PROTOCOLS]
    monkeypatch.setattr("builtins.__import__", fail)
    found = [load(each)[0][1] for each in pickled]
    monkeypatch.undo()
    assert {type(each) for each in found} == {Class}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"(ios\nsystem\n.", Object("os.system")),
        (b"(cos\nsystem\nX\x01\x00\x00\x00xo.", Object("os.system")),
        (b"(o.", Object("?")),
        (b"\x82\x05.", Class("extension 5")),
        (b"\x83\x05\x01.", Class("extension 261")),
        (b"\x84\x05\x00\x00\x00.", Class("extension 5")),
        (b"Pname\n.", Object("persistent b'name'")),
        (b"K\x01Q.", Object("?")),
        (b"K\x01K\x022\x860.", 1),
        (b"K\x01(K\x02K\x031.", 1),
        (b"I00\n.", False),
        (b"I01\n.", True),
        (b"I7\n.", 7),
        (b"S'a'\n.", "a"),
        (b"\x8e\x02\x00\x00\x00\x00\x00\x00\x00ab.", b"ab"),
        (b"\x8d\x02\x00\x00\x00\x00\x00\x00\x00ab.", "ab"),
        (b"cos\nsystem\n)}\x92.", Object("os.system")),
    ],
)
def test_steps_that_python_rarely_writes(data: bytes, found: object) -> None:
    """Steps of old protocols and of extensions."""
    assert load(data)[0] == found


def nested(levels: int) -> bytes:
    return b")" + b"\x85" * levels + b"."


BOMBS = {
    "no pickle": b"hello",
    "nothing": b"",
    "no end": b"N",
    "cut off": b"X\xff\xff\xff\x7fabc.",
    "cut off in a length": b"X\xff",
    "bytes of 8 EB": b"\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "an empty stack": b".",
    "an unknown step": b"\xff.",
    "a memo that is not there": b"h\x05.",
    "no mark": b"t.",
    "a tuple of too few": b"\x87.",
    "a string without quotes": b"Sabc\n.",
    "a class without a name": b"K\x01K\x02\x93.",
    "a call of plain data": b"K\x01)R.",
    "a state of plain data": b"}}b.",
    "items of a list": b"]K\x01K\x02s.",
    "an append to a dict": b"}K\x01a.",
    "half an item": b"}(K\x01u.",
    "a list as a key": b"}]K\x01s.",
    "a deep tuple as a key": b"}" + nested(10_000)[:-1] + b"K\x01s.",
    "a long tuple as a key": b"}(" + b"K\x01" * 17 + b"tK\x01s.",
    "a tuple of a long text as a key": b"}X" + struct.pack("<I", 257) + b"x" * 257 + b"\x85K\x01s.",
    "a long integer as a key": b"}" + pickle.dumps(1 << 64, 2)[2:-1] + b"K\x01s.",
    "an object as a key": b"}cos\nsystem\nK\x01s.",
    "too many steps": b"N" * (STEPS_MAX + 1) + b".",
    "digits that take long": b"L" + b"9" * 100_000 + b"L\n.",
    "marks that are searched": b"N" + b"(1" * STEPS_MAX + b".",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_what_is_no_plain_data(data: bytes) -> None:
    """It is unreadable, whatever is wrong with it."""
    with pytest.raises(Unreadable):
        load(data)


def test_a_memo_is_no_array() -> None:
    """The number of a memo costs nothing: Python's own reader would take 64 GiB."""
    assert load(b"Nr\xff\xff\xff\xff.")[0] is None
    assert load(b"Np99999999999999999\n.")[0] is None


def test_a_deep_value_is_built_and_freed() -> None:
    """Depth costs no stack; a reader finds out how deep it is."""
    value, steps = load(nested(STEPS_MAX - 2))
    assert (type(value), steps) == (tuple, STEPS_MAX)


@given(st.lists(st.sampled_from(sorted(plainpickle._STEPS)) | st.integers(0, 255), max_size=60).map(bytes))
@example(b"(((((((")
def test_any_bytes(data: bytes) -> None:
    """Whatever the bytes are, the result is a value or Unreadable, after a bounded number of steps."""
    try:
        _, steps = load(data)
    except Unreadable:
        return
    assert steps <= len(data)


@given(PLAIN, st.data())
def test_damaged_pickles(value: Any, data: st.DataObject) -> None:
    """The same for a pickle with one wrong byte, and one that is cut."""
    pickled = bytearray(pickle.dumps(value, data.draw(st.sampled_from(PROTOCOLS))))
    pickled[data.draw(st.integers(0, len(pickled) - 1))] = data.draw(st.integers(0, 255))
    for damaged in (bytes(pickled), bytes(pickled[: data.draw(st.integers(0, len(pickled)))])):
        try:
            load(damaged)
        except Unreadable:
            pass


def test_every_step_is_known() -> None:
    """Each step of pickletools is in the table, or in the loop; those of buffers outside the pickle are refused."""
    known = {bytes((step,)).decode("latin-1") for step in plainpickle._STEPS} | set("XqhN.")
    assert {op.code for op in pickletools.opcodes} - known == {"\x97", "\x98"}
