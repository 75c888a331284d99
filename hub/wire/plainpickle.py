"""
Reads a pickle of plain data: dict, list, tuple, set, str, bytes, numbers, None.

A pickle is a program for a machine with a stack and a memo. Python's own reader of pickles imports and calls what the
program names. This one has the same steps, and looks nothing up: a class is its name (`Class`), and an object is the
name of its class (`Object`). Sets are lists here. Bytes and sets, which old protocols write as calls, are known.

Always true:
- whatever the bytes are, the result is a value or `Unreadable`;
- the work is bounded by `STEPS_MAX`, and the memory by the length of the pickle. A value that is used twice is there
  once: the caller has to count it twice, and to find values that contain themselves;
- no key of a dict is hashed that contains more than plain values: a deep one would exhaust the stack.

Not here: log records (hub.wire.pickled).
Source: Lib/pickletools.py of CPython, which describes each step, for protocols 0 to 5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

STEPS_MAX = 10_000
"""Steps of one pickle: 3 ms. A log record takes about 110."""
KEY_VALUES_MAX, KEY_TEXT_MAX = 16, 256
"""The longest tuple that can be a key, in values, and the longest text in it. Such a key becomes a text."""
NAME_CHARS_MAX = 200
"""Maximum characters of the name of a class, and of its module."""

_KEY_TYPES = (str, int, float, bytes, type(None))


class Unreadable(ValueError):
    """A pickle that is not plain data, or too much of it."""


class Class(NamedTuple):
    """The name of a class or a function."""

    name: str


class Object(NamedTuple):
    """An object, of which only the name of its class is known."""

    name: str


def load(data: bytes) -> tuple[Any, int]:
    """Return the value that is pickled in *data*, and the number of steps. Raises Unreadable."""
    machine = _Machine(data)
    return machine.run(), machine.steps


_U2, _U4, _U8, _I4, _F8 = (struct.Struct(form) for form in ("<H", "<I", "<Q", "<i", ">d"))
_MARK = object()
_FAULTS = (IndexError, KeyError, TypeError, ValueError, struct.error, OverflowError, MemoryError, RecursionError)


class _Machine:
    """Runs the steps of one pickle, on a stack of values and a memo of values that are used again."""

    def __init__(self, data: bytes) -> None:
        self.steps = 0
        self._data = data
        self._at = 0
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Return the value. Raises Unreadable."""
        data, stack, memo, at = self._data, self._stack, self._memo, 0
        try:
            while True:
                step = data[at]
                at += 1
                self.steps += 1
                if self.steps > STEPS_MAX:
                    raise Unreadable(f"a pickle of more than {STEPS_MAX} steps")
                if step == 0x71:  # BINPUT; the most frequent ones first, and here
                    memo[data[at]] = stack[-1]
                    at += 1
                elif step == 0x58:  # BINUNICODE
                    start = at + 4
                    at = start + _U4.unpack_from(data, at)[0]
                    if at > len(data):
                        raise Unreadable("a pickle that is cut off")
                    stack.append(data[start:at].decode("utf-8", "surrogatepass"))
                elif step == 0x68:  # BINGET
                    stack.append(memo[data[at]])
                    at += 1
                elif step == 0x4E:  # NONE
                    stack.append(None)
                elif step == 0x2E:  # STOP
                    return stack.pop()
                else:
                    self._at = at
                    _STEPS[step](self)
                    at = self._at
        except Unreadable:
            raise
        except _FAULTS as error:
            raise Unreadable("bytes that are not a pickle of plain data") from error

    # Reading.

    def _bytes(self, size: int) -> bytes:
        """Return the next *size* bytes."""
        end = self._at + size
        if end > len(self._data):
            raise Unreadable("a pickle that is cut off")
        part, self._at = self._data[self._at : end], end
        return part

    def _number(self, form: struct.Struct) -> Any:
        return form.unpack(self._bytes(form.size))[0]

    def _take(self, form: struct.Struct) -> bytes:
        """Return the bytes whose number comes first, in *form*."""
        return self._bytes(self._number(form))

    def _line(self) -> bytes:
        end = self._data.index(b"\n", self._at)
        line, self._at = self._data[self._at : end], end + 1
        return line

    # The stack.

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop_mark(self) -> list[Any]:
        """Return the values above the last mark, and remove them and the mark."""
        stack = self._stack
        place = len(stack) - 1
        while stack[place] is not _MARK:
            place -= 1
            self.steps += 1  # so that the search is bounded, too
        values = stack[place + 1 :]
        del stack[place:]
        return values

    def _put(self, key: int) -> None:
        self._memo[key] = self._stack[-1]

    def _get(self, key: int) -> None:
        self._push(self._memo[key])

    def _set_items(self, values: Sequence[Any]) -> None:
        target = self._stack[-1]
        if type(target) is not dict:
            if type(target) is Object:
                return
            raise Unreadable("a pickle that sets items of something other than a dict")
        for key, value in zip(values[::2], values[1::2], strict=True):
            target[_as_key(key)] = value

    def _append(self, values: Sequence[Any]) -> None:
        target = self._stack[-1]
        if type(target) is list:
            target.extend(values)
        elif type(target) is not Object:
            raise Unreadable("a pickle that appends to something other than a list")

    # Classes.

    def _class(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise Unreadable("a pickle of a class without a name")
        self._push(Class(f"{module[:NAME_CHARS_MAX]}.{name[:NAME_CHARS_MAX]}"))

    def _call(self) -> None:
        """REDUCE: an object. Bytes and sets are written as calls by old protocols, and known here."""
        given = self._stack.pop()
        called = self._stack.pop()
        if type(called) is not Class or type(given) is not tuple:
            raise Unreadable("a pickle that calls something other than a class")
        name = called.name.removeprefix("__builtin__.").removeprefix("builtins.")
        values: Any = given[0] if len(given) == 1 else ()
        if called.name == "_codecs.encode" and len(given) == 2 and type(given[0]) is str and given[1] == "latin1":
            self._push(given[0].encode("latin-1"))
        elif name == "bytes" and not given:
            self._push(b"")
        elif (name == "bytearray" and type(values) is bytes) or (name in ("set", "frozenset") and type(values) is list):
            self._push(values)
        elif called.name.endswith("._reconstructor") and given and type(given[0]) is Class:
            self._push(Object(given[0].name))  # how protocols 0 and 1 write most objects
        else:
            self._push(Object(called.name))

    def _object(self, count: int) -> None:
        """Make an object of the class that is *count* values deep."""
        values = [self._stack.pop() for _ in range(count + 1)]
        self._push(Object(values[-1].name if type(values[-1]) is Class else "?"))


def _as_key(key: Any) -> Any:
    """Return *key* as a key of a dict. Long integers are none: their hashes can be made equal."""
    if type(key) is str:
        return key
    if type(key) is tuple and len(key) <= KEY_VALUES_MAX and all(_is_short(each) for each in key):
        return repr(key)
    if isinstance(key, _KEY_TYPES) and _is_in_64_bits(key):
        return key
    raise Unreadable("a pickle of a dict with a key that is no plain value")


def _is_short(value: Any) -> bool:
    if type(value) in (str, bytes):
        return len(value) <= KEY_TEXT_MAX
    return isinstance(value, _KEY_TYPES) and _is_in_64_bits(value)


def _is_in_64_bits(value: Any) -> bool:
    return not isinstance(value, int) or -(1 << 63) <= value < 1 << 64


def _integer(line: bytes) -> int | bool:
    return line == b"01" if line in (b"00", b"01") else int(line)


def _quoted(line: bytes) -> str:
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise Unreadable("a pickle of a string without quotes")
    return line[1:-1].decode("latin-1")


def _inst(machine: _Machine) -> None:
    module, name = machine._line(), machine._line()
    machine._pop_mark()
    machine._class(module.decode("latin-1"), name.decode("latin-1"))
    machine._push(Object(machine._stack.pop().name))


def _obj(machine: _Machine) -> None:
    values = machine._pop_mark()
    machine._push(Object(values[0].name if values and type(values[0]) is Class else "?"))


def _build(machine: _Machine) -> None:
    machine._stack.pop()
    if type(machine._stack[-1]) is not Object:
        raise Unreadable("a pickle that sets the state of plain data")


def _stack_global(machine: _Machine) -> None:
    name, module = machine._stack.pop(), machine._stack.pop()
    machine._class(module, name)


def _tuple(machine: _Machine, count: int) -> None:
    stack = machine._stack
    if len(stack) < count:
        raise Unreadable("a pickle that takes more than there is")
    values = tuple(stack[-count:])
    del stack[-count:]
    stack.append(values)


def _dict(machine: _Machine) -> None:
    values = machine._pop_mark()
    machine._push({})
    machine._set_items(values)


def _set_item(machine: _Machine) -> None:
    value, key = machine._stack.pop(), machine._stack.pop()
    machine._set_items((key, value))


def _extension(form: struct.Struct | None) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        number = machine._bytes(1)[0] if form is None else machine._number(form)
        machine._push(Class(f"extension {number}"))

    return step


_BINARY: dict[int, Callable[[_Machine], Any]] = {
    0x28: lambda m: m._push(_MARK),
    0x30: lambda m: m._stack.pop(),
    0x31: lambda m: m._pop_mark(),
    0x32: lambda m: m._push(m._stack[-1]),
    0x80: lambda m: m._bytes(1),  # PROTO
    0x95: lambda m: m._bytes(8),  # FRAME
    0x88: lambda m: m._push(True),
    0x89: lambda m: m._push(False),
    0x4A: lambda m: m._push(m._number(_I4)),
    0x4B: lambda m: m._push(m._bytes(1)[0]),
    0x4D: lambda m: m._push(m._number(_U2)),
    0x8A: lambda m: m._push(int.from_bytes(m._bytes(m._bytes(1)[0]), "little", signed=True)),
    0x8B: lambda m: m._push(int.from_bytes(m._take(_U4), "little", signed=True)),
    0x47: lambda m: m._push(m._number(_F8)),
    0x54: lambda m: m._push(m._take(_U4).decode("latin-1")),
    0x55: lambda m: m._push(m._bytes(m._bytes(1)[0]).decode("latin-1")),
    0x42: lambda m: m._push(m._take(_U4)),
    0x43: lambda m: m._push(m._bytes(m._bytes(1)[0])),
    0x8E: lambda m: m._push(m._take(_U8)),
    0x96: lambda m: m._push(m._take(_U8)),  # BYTEARRAY8
    0x8C: lambda m: m._push(m._bytes(m._bytes(1)[0]).decode("utf-8", "surrogatepass")),
    0x8D: lambda m: m._push(m._take(_U8).decode("utf-8", "surrogatepass")),
    0x29: lambda m: m._push(()),
    0x74: lambda m: m._push(tuple(m._pop_mark())),
    0x85: lambda m: _tuple(m, 1),
    0x86: lambda m: _tuple(m, 2),
    0x87: lambda m: _tuple(m, 3),
    0x5D: lambda m: m._push([]),
    0x6C: lambda m: m._push(m._pop_mark()),
    0x61: lambda m: m._append((m._stack.pop(),)),
    0x65: lambda m: m._append(m._pop_mark()),
    0x7D: lambda m: m._push({}),
    0x64: _dict,
    0x73: _set_item,
    0x75: lambda m: m._set_items(m._pop_mark()),
    0x8F: lambda m: m._push([]),  # EMPTY_SET: a list, in the order in which it was written
    0x90: lambda m: m._append(m._pop_mark()),
    0x91: lambda m: m._push(m._pop_mark()),
    0x72: lambda m: m._put(m._number(_U4)),
    0x94: lambda m: m._put(len(m._memo)),  # MEMOIZE
    0x6A: lambda m: m._get(m._number(_U4)),
}
_TEXT: dict[int, Callable[[_Machine], Any]] = {
    0x49: lambda m: m._push(_integer(m._line())),
    0x4C: lambda m: m._push(int(m._line().removesuffix(b"L"))),
    0x46: lambda m: m._push(float(m._line())),
    0x53: lambda m: m._push(_quoted(m._line())),
    0x56: lambda m: m._push(m._line().decode("raw-unicode-escape")),
    0x70: lambda m: m._put(int(m._line())),
    0x67: lambda m: m._get(int(m._line())),
}
_OF_CLASSES: dict[int, Callable[[_Machine], Any]] = {
    0x63: lambda m: m._class(m._line().decode("latin-1"), m._line().decode("latin-1")),
    0x93: _stack_global,
    0x52: lambda m: m._call(),
    0x81: lambda m: m._object(1),
    0x92: lambda m: m._object(2),
    0x62: _build,
    0x69: _inst,
    0x6F: _obj,
    0x82: _extension(None),
    0x83: _extension(_U2),
    0x84: _extension(_U4),
    0x50: lambda m: m._push(Object(f"persistent {m._line()[:64]!r}")),
    0x51: lambda m: m._object(0),
}
_STEPS = _BINARY | _TEXT | _OF_CLASSES
