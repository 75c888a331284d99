"""
Whether bytes are entries at all: whole objects, as many as announced, not nested too deeply. Nothing is built.

Always true: how deeply an entry may be nested is the same on every Python: `NESTING_MAX`, not the interpreter's
recursion limit.

Not here: whether an object is a message (hub.entries.reading), checking a large payload on a thread
(hub.wire.checking).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgpack
import msgspec

from hub.entries.form import ARRAY_HEADER_BYTES, array_length, join

NESTING_MAX = 1024
"""
The nesting depth that msgpack's `skip` can follow, entries and record together. Deeper entries are rejected.

msgspec is no measure: it follows fewer levels from a deep stack on Python 3.11, and many thousands since 3.12.
"""
RECORD_NESTING_MAX = 500
"""
The nesting depth up to which our own programs write and show a record: few enough for the stack of every Python, and
for msgpack's encoder, which follows 511 levels.
"""
TOO_DEEP = f"nested more than {RECORD_NESTING_MAX} levels deep"
OVERFLOW = b"\xc9\xff\xff\xff\xff"
"""An ext32 whose length plus its type byte overflows to 0 in msgpack's `skip`."""
_BYTES_A_FIND = 1024  # bytes scanned in the time of one step of Python, about 0.1 µs
T = TypeVar("T")
Raw = msgspec.Raw | memoryview
"""The bytes of one entry."""
split_fast = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
"""
Returns the bytes of each element. Raises if the bytes are not an array of whole objects, or are nested more deeply than
msgspec can follow.
"""
_check = msgspec.msgpack.Decoder(msgspec.Raw).decode
# What the two libraries raise on undecodable bytes, found by experiment: bad UTF-8 is not a DecodeError, an unhashable
# key is a TypeError, an ext timestamp out of range a ValueError or OverflowError.
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, TypeError, ValueError, OverflowError, RecursionError)
_UNSKIPPABLE = (msgpack.OutOfData, msgpack.FormatError, msgpack.StackError, ValueError)


def bounded(decode: Callable[[bytes | memoryview], T]) -> Callable[[bytes | memoryview], T]:
    """
    Return *decode*, which is one of msgspec, with a RecursionError for entries nested more than `NESTING_MAX` levels.

    Where msgspec follows more levels than that, this takes 30 ns per entry.
    """

    def decode_bounded(entries: bytes | memoryview) -> T:
        decoded = decode(entries)
        if len(entries) > NESTING_MAX and _follows_more() and not _is_one_object(entries):
            raise RecursionError(f"nested more than {NESTING_MAX} levels deep")
        return decoded

    return decode_bounded


def _follows_more() -> bool:
    return sys.version_info >= (3, 12) or sys.getrecursionlimit() > NESTING_MAX


_split = bounded(split_fast)


def is_well_formed(entries: bytes | memoryview) -> bool:
    """
    Return whether nesting, lengths and count are valid. Nothing is built; 30 ns per entry.

    `skip` bounds the nesting, but misses a length that overflows; msgspec finds that one. One of them is enough for
    most entries: each level takes a byte, so few bytes are never nested too deeply, and few entries hold bytes that
    look like that length.

    On Python 3.11, msgspec may not be able to follow such an entry. Then the result is False; see `is_whole`.
    """
    if len(entries) <= NESTING_MAX:
        try:
            _check(entries)
        except RecursionError:
            pass
        except UNDECODABLE:
            return False
        else:
            return True
    if not _is_one_object(entries):
        return False
    if not _may_overflow(bytes(entries)):
        return True
    try:
        _check(entries)
    except UNDECODABLE:
        return False
    return True


def _is_one_object(packed: bytes | memoryview) -> bool:
    """Return whether *packed* is one object for `skip`, which follows `NESTING_MAX` levels. A microsecond and more."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(packed), 1))
    unpacker.feed(packed)
    try:
        unpacker.skip()
    except _UNSKIPPABLE:
        return False
    end: int = unpacker.tell()
    return end == len(packed)


def _may_overflow(entries: bytes) -> bool:
    """Return whether the bytes of `OVERFLOW` are there. Its first byte is rare, and found faster than all of them."""
    at = entries.find(OVERFLOW[0])
    for _ in range(4 + len(entries) // _BYTES_A_FIND):
        if at == -1 or entries.startswith(OVERFLOW, at):
            return at != -1
        at = entries.find(OVERFLOW[0], at + 1)
    return entries.find(OVERFLOW, at) != -1 if at != -1 else False


def is_whole(entries: bytes | memoryview) -> bool:
    """Return the same as `is_well_formed`, but always exactly. That may take a step of Python for each object."""
    if is_well_formed(entries):
        return True
    if not _is_one_object(entries):
        return False
    packed = bytes(entries)
    unpacker = msgpack.Unpacker(max_buffer_size=len(packed))
    unpacker.feed(packed)
    missing = 1
    while missing:
        at = unpacker.tell()
        if packed.startswith(OVERFLOW, at):
            return False
        missing -= 1
        first = packed[at]
        if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
            missing += 2 * unpacker.read_map_header()
        elif 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
            missing += unpacker.read_array_header()
        else:
            unpacker.skip()
    return True


def is_deeper(packed: bytes, levels: int) -> bool:
    """Return whether the object *packed*, which is whole, is nested more than *levels* deep (`NESTING_MAX` at most)."""
    if len(packed) <= levels:  # each level takes a byte
        return False
    around = NESTING_MAX - levels
    unpacker = msgpack.Unpacker(max_buffer_size=around + len(packed))
    unpacker.feed(b"\x91" * around)
    unpacker.feed(packed)
    try:
        unpacker.skip()
    except msgpack.StackError:
        return True
    return False


def is_value_deeper(value: object, levels: int) -> bool:
    """Return the same for a decoded *value*. A key of a map may be nested too: it is a tuple."""
    layer = [value]
    for _ in range(levels + 1):
        containers = [each for each in layer if isinstance(each, (dict, list, tuple))]
        if not containers:
            return False
        layer = [*itertools.chain.from_iterable(containers)]
        layer += itertools.chain.from_iterable(each.values() for each in containers if isinstance(each, dict))
    return True


def count_objects(packed: bytes | memoryview) -> tuple[int, int]:
    """
    Return the number of whole msgpack objects that *packed* begins with, and the offset of the end of the last one.
    """
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(packed), 1))
    unpacker.feed(packed)
    count = end = 0
    try:
        while True:
            unpacker.skip()
            count, end = count + 1, unpacker.tell()
    except _UNSKIPPABLE:
        return count, end


def count_well_formed(packed: memoryview) -> tuple[int, int]:
    """Return the same for well-formed objects. It finds the faults that `skip` misses."""
    count, end = count_objects(packed)
    if not count or is_well_formed(join((packed[:end],), count)):
        return count, end
    ends = _ends(packed, count)
    good, bad = 0, count  # objects known to be well-formed; objects known to contain a fault
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_well_formed(join((packed[ends[good] : ends[middle]],), middle - good)):
            good = middle
        else:
            bad = middle
    return good, ends[good]


def split_raw(entries: bytes | memoryview) -> Sequence[Raw]:
    """Return the bytes of each entry before the first one that is not whole, and of no more entries than announced."""
    try:
        return _split(entries)
    except (RecursionError, msgspec.DecodeError):  # too deeply nested for msgspec at this point, or not whole
        view = memoryview(entries)[ARRAY_HEADER_BYTES:]
        ends = _ends(view, min(count_well_formed(view)[0], array_length(entries)))
        return [view[start:end] for start, end in itertools.pairwise(ends)]


def split(entries: bytes, count: int) -> list[msgspec.Raw] | None:
    """Return the bytes of each entry. None if they are not *count* whole entries, without group markers."""
    if array_length(entries) != count:
        return None
    try:
        return _split(entries)
    except (RecursionError, msgspec.DecodeError):
        return None


def _ends(packed: memoryview, count: int) -> list[int]:
    """Return 0 and the end of each of the first *count* objects. The caller knows that they are whole."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(packed), 1))
    unpacker.feed(packed)
    ends = [0]
    for _ in range(count):
        unpacker.skip()
        ends.append(unpacker.tell())
    return ends
