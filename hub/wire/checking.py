"""
Checks the entries of a large payload, in pieces, on a thread.

Always true:
- the result is that of `hub.entries.is_well_formed` for all entries, or for the entries before the first fault;
- no piece holds the interpreter for more than a few milliseconds, even if one entry spans many pieces.

Not here: what is done with the entries (hub.wire.payload).
"""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext
from typing import NamedTuple

import msgpack

from hub import entries as codec
from hub.wire.frame import UNPACK_FAULTS, Malformed, why_not
from hub.wire.scanner import Scanner

PIECE_BYTES = 16 << 10
"""16,384 objects of one byte take 1.5 ms."""
_SEARCH_BYTES = 256 << 10  # takes at most 1.3 ms, for bytes made to be slow
_COPY_BYTES_MAX = 1 << 20
_SECOND_COPY = threading.Lock()
"""Held while a large entry is copied, one in the process at a time: it may be as large as a frame."""
_HEAD_BYTES = 32  # enough to recognise a group marker


class Checked(NamedTuple):
    """
    Number of well-formed objects, number of messages among them, offset of their end, and the fault after them or "".
    """

    objects: int
    messages: int
    end: int
    fault: str


def check(data: bytes, at: int) -> Checked:
    """Check the entries from *at* to the end of *data*."""
    view = memoryview(data)
    has_metadata = data.startswith(b"\x92\x92", at)
    objects = markers = 0
    fault = ""
    while at < len(data):
        window = view[at : at + PIECE_BYTES]
        found, length = codec.count_well_formed(window)
        if found:
            if has_metadata:
                markers += codec.count_markers(codec.join((window[:length],), found))
        else:
            try:
                length = _pass_one(data, at)
            except Malformed as error:
                fault = error.reason
                break
            found = 1
            markers += has_metadata and codec.is_marker(view[at : at + _HEAD_BYTES])
        objects += found
        at += length
        if at < len(data):
            _give_way()
    return Checked(objects, objects - markers, at, fault)


def _pass_one(data: bytes, at: int) -> int:
    """Return the length of the one entry at *at*. Raises Malformed."""
    with _SECOND_COPY if len(data) - at > _COPY_BYTES_MAX else nullcontext():
        return _pass_a_copy(data, at)


def _pass_a_copy(data: bytes, at: int) -> int:
    view, rest = memoryview(data), len(data) - at
    # Allocate for the whole entry at once: growing would copy tens of MiB in one step.
    unpacker = msgpack.Unpacker(read_size=rest + 1, max_buffer_size=rest + 1)
    unpacker.feed(b"\x91")  # the array that contains the entries
    for start in range(at, len(data), PIECE_BYTES):
        unpacker.feed(view[start : start + PIECE_BYTES])
        try:
            unpacker.skip()
        except msgpack.OutOfData:
            if start + PIECE_BYTES < len(data):
                _give_way()
        except UNPACK_FAULTS as error:
            raise Malformed(why_not(error)) from error
        else:
            length = unpacker.tell() - 1
            _check_overflow(data, at, at + length)
            return length
    raise Malformed("not msgpack (cut off)")


def _check_overflow(data: bytes, at: int, end: int) -> None:
    """Raise Malformed if the object at *at* contains a length that overflows, which `skip` does not detect."""
    overlap = len(codec.OVERFLOW) - 1
    for start in range(at, end, _SEARCH_BYTES):
        if data.find(codec.OVERFLOW, start, min(start + _SEARCH_BYTES + overlap, end)) != -1:
            break
        if start + _SEARCH_BYTES < end:
            _give_way()
    else:
        return
    scanner = Scanner(1, is_strict=True)  # the bytes may also be part of a string
    for start in range(at, end, PIECE_BYTES):
        piece = data[start : min(start + PIECE_BYTES, end)]
        passed = 0
        while passed < len(piece) and not scanner.is_done:
            passed = scanner.scan(piece, passed)
        if start + PIECE_BYTES < end:
            _give_way()


def _give_way() -> None:
    """Release the interpreter to the event loop before it has to request it."""
    time.sleep(0)
