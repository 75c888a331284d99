"""
Finds the ends of msgpack objects in a stream that arrives in pieces.

Plan. There is no stack, only the number of missing objects: a scalar or a string reduces it by 1, an array of n
increases it by n - 1. Whole objects in the data are passed by msgpack's `skip`, in C. The object in which the data ends
is walked header by header, in Python. On such an object `skip` scans bytes without result. An amount of walking in
proportion to them must follow before `skip` is tried again, so that the number of scans of each byte is bounded.

Always true:
- the work for an arrival is proportional to its bytes, not to the bytes before it;
- the scanner holds a few words, whatever lengths are announced; it does not hold strings;
- one call is a short step: it stops after `STEPS_MAX`, and continues when called again.

`skip` takes an ext32 of 2**32 - 1 bytes for an empty one, because the length overflows. The scanner does the same, so
that both agree on where an object ends. A strict scanner detects it: it walks every header.

Not here: nesting (every object that becomes a message is checked in hub.wire.payload).
"""

from __future__ import annotations

from collections.abc import Iterator

import msgpack

from hub.entries import ARRAY_HEADER_BYTES, array_header
from hub.wire.frame import UNPACK_FAULTS, Malformed, why_not

STEPS_MAX = 10_000
"""A header walked in Python is one step, about 0.3 µs."""
_SKIP_BYTES_MIN = 256  # fewer are walked just as fast
_SKIP_BYTES_MAX = 64 << 10  # 65,536 objects of one byte take 5 ms
_SKIP_STEPS = 40  # cost of an Unpacker and of the copy that it makes
_OBJECTS_A_STEP = 4  # objects passed by `skip` in the time of a step, one call each
_WALK_MIN = 16  # most frames that are cut in two end within this number of headers
_BYTES_A_STEP = 32  # bytes scanned by `skip` in the time of a step; in fact more
_U32_MAX = 0xFFFFFFFF
_NEVER_USED = 0xC1


def _table() -> tuple[tuple[int, int, int], ...]:
    """
    Return for each first byte: bytes of its length, bytes of its body besides that length, objects inside (per item).
    """
    rows = [(0, 0, 0)] * 256
    for count in range(16):
        rows[0x80 | count], rows[0x90 | count] = (0, 0, 2 * count), (0, 0, count)
    for length in range(32):
        rows[0xA0 | length] = (0, length, 0)
    for power, width in enumerate((1, 2, 4)):
        rows[0xC4 + power] = rows[0xD9 + power] = (width, 0, 0)  # bin, str
        rows[0xC7 + power] = (width, 1, 0)  # ext, its type
    for power in range(4):
        rows[0xCC + power] = rows[0xD0 + power] = (0, 1 << power, 0)  # unsigned, signed
    rows[0xCA], rows[0xCB] = (0, 4, 0), (0, 8, 0)  # float
    for power in range(5):
        rows[0xD4 + power] = (0, 1 + (1 << power), 0)  # fixext, its type
    rows[0xDC], rows[0xDD], rows[0xDE], rows[0xDF] = (2, 0, 1), (4, 0, 1), (2, 0, 2), (4, 0, 2)
    return tuple(rows)


_TABLE = _table()


class Scanner:
    """Finds the end of a number of *objects*. Feed it with `scan` until `is_done`."""

    __slots__ = ("_debt", "_head", "_is_strict", "_missing", "_passing")

    def __init__(self, objects: int, *, is_strict: bool = False) -> None:
        self._missing = objects
        self._passing = 0  # bytes of a string or a number that have not arrived
        self._head = b""  # the received part of a header
        self._debt = 0  # headers to walk before `skip` is tried again
        self._is_strict = is_strict

    @property
    def is_done(self) -> bool:
        """Whether the last object has ended."""
        return not self._missing and not self._passing

    def scan(self, data: bytes, at: int = 0) -> int:
        """
        Scan *data* from *at* on. Return the offset reached: the end of *data*, the end of the last object, or less.

        It is less after `STEPS_MAX`; then pass the rest of *data* again. Raises Malformed.
        """
        if self._head:
            at = self._complete_head(data, at)
        steps, end = STEPS_MAX, len(data)
        while steps > 0 and at < end and not self.is_done:
            if self._passing:
                passed = min(self._passing, end - at)
                self._passing -= passed
                at += passed
            elif self._is_strict or self._debt > 0 or end - at < _SKIP_BYTES_MIN:
                walked, at = self._walk(data, at, steps if self._is_strict else min(steps, max(self._debt, _WALK_MIN)))
                steps -= walked
                self._debt -= walked
            else:
                passed, at, looked_at = self._skip(data, at)
                steps -= passed // _OBJECTS_A_STEP + _SKIP_STEPS
                self._debt = max(looked_at // _BYTES_A_STEP, 1)
        self._debt = max(self._debt, 1)  # the next arrival is walked first
        return at

    def _complete_head(self, data: bytes, at: int) -> int:
        """Complete a header that arrived in parts. Return the offset in *data* where it ends."""
        held, self._head = self._head, b""
        header = held + data[at : at + 4]
        _, end = self._walk(header, 0, 1)
        return at + end - len(held)

    def _walk(self, data: bytes, at: int, steps: int) -> tuple[int, int]:
        """
        Walk over at most *steps* headers and the available bytes of their bodies. Return the headers walked and the
        offset.
        """
        missing, end, left = self._missing, len(data), steps
        while left and missing and at < end:
            first = data[at]
            width, body, inside = _TABLE[first]
            if not width:
                if first == _NEVER_USED:
                    raise Malformed("not msgpack (FormatError)")
                at += 1
            else:
                if end - at <= width:
                    self._head, at = data[at:], end
                    break
                length = int.from_bytes(data[at + 1 : at + 1 + width], "big")
                at += 1 + width
                if inside:
                    inside *= length
                else:
                    body += length
                    if body > _U32_MAX:
                        if self._is_strict:
                            raise Malformed("not msgpack (a length that overflows)")
                        body = 0
            left -= 1
            missing += inside - 1
            if body:
                at += body
                if at > end:
                    self._passing, at = at - end, end
                    break
        self._missing = missing
        return steps - left, at

    def _skip(self, data: bytes, at: int) -> tuple[int, int, int]:
        """
        Pass whole objects. Return their number, the offset, and the number of bytes of the next one scanned without
        result.
        """
        window = memoryview(data)[at : at + _SKIP_BYTES_MAX]
        unpacker = msgpack.Unpacker(max_buffer_size=len(window))
        unpacker.feed(window)
        skip, tell = unpacker.skip, unpacker.tell
        passed = end = 0
        try:
            for _ in range(self._missing):
                skip()
                passed += 1
                end = tell()
        except msgpack.OutOfData:
            pass
        except UNPACK_FAULTS as fault:
            raise Malformed(why_not(fault)) from fault
        self._missing -= passed
        return passed, at + end, tell() - end


def object_ends(data: bytes, at: int, size: int, objects_max: int) -> Iterator[int]:
    """
    Yield the end of each of the objects from *at* on that are whole in the next *size* bytes, at most *objects_max*.
    Raises Malformed.
    """
    window = memoryview(data)[at : at + size]
    unpacker = msgpack.Unpacker(read_size=len(window), max_buffer_size=size)  # it allocates `read_size`
    unpacker.feed(window)
    skip, tell = unpacker.skip, unpacker.tell
    try:
        for _ in range(objects_max):
            skip()
            yield at + tell()
    except msgpack.OutOfData:
        return
    except UNPACK_FAULTS as fault:
        raise Malformed(why_not(fault)) from fault


def end_of_objects(data: bytes, at: int, end: int, count: int) -> int:
    """Return the offset where the *count* objects at *at* end. The caller knows that they end at or before *end*."""
    if not count:
        return at
    unpacker = msgpack.Unpacker(max_buffer_size=ARRAY_HEADER_BYTES + end - at)
    unpacker.feed(array_header(count))
    unpacker.feed(memoryview(data)[at:end])
    unpacker.skip()
    return at + int(unpacker.tell()) - ARRAY_HEADER_BYTES
