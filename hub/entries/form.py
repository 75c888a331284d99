"""
The form of entries: their values, and the bytes that are written before a time, a record, a text or a list of entries.

Not here: whether bytes are in this form (hub.entries.wellformed), their contents (hub.entries.reading).
Source: EventTime of the Fluent Forward protocol, v1; the msgpack specification.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

NS = 1_000_000_000
ARRAY_HEADER_BYTES = 5
_HEADER = struct.Struct(">BI")
_STR16 = struct.Struct(">BH")
EVENT_TIME = struct.Struct(">II")
"""Seconds and nanoseconds, big-endian: the data of ext type 0."""
_STAMPED = struct.Struct(">BBBII")  # array of 2, fixext8, type 0, seconds, nanoseconds
PAIRS = (b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02")
"""The forms of the header of an array of two."""
_SECONDS_MAX = 0xFFFFFFFF


class EventTime(int):
    """Nanoseconds since the epoch, from ext type 0. A plain int on the wire means seconds."""

    __slots__ = ()


class Entry(NamedTuple):
    """One decoded entry. *time* is in nanoseconds since the epoch, or None if the sender gave none."""

    time: int | None
    record: dict[Any, Any]


class Unreadable(NamedTuple):
    """
    An entry that is not a message: the reason, and its bytes. One may stand for all entries that are left of a batch:
    then *messages* is their number, and *raw* how they begin.
    """

    reason: str
    raw: bytes
    messages: int = 1


def as_ext(value: object) -> msgspec.msgpack.Ext:
    """Return an `EventTime` as msgpack holds it, for an encoder of decoded values. Raises TypeError for other types."""
    if not isinstance(value, EventTime):
        raise TypeError(f"no value of an entry: {type(value).__name__}")
    return msgspec.msgpack.Ext(0, EVENT_TIME.pack(*divmod(value, NS)))


def stamp(time_ns: int) -> bytes:
    """Return the bytes before a record: array of two, *time_ns* as EventTime (clamped to 1970 to 2106)."""
    seconds, nanoseconds = divmod(time_ns, NS)
    if not 0 <= seconds <= _SECONDS_MAX:
        seconds, nanoseconds = (0, 0) if seconds < 0 else (_SECONDS_MAX, NS - 1)
    return _STAMPED.pack(0x92, 0xD7, 0, seconds, nanoseconds)


UNSTAMPED = b"\x92\xc0"
"""The bytes before a record whose sender gave no time."""


def array_header(count: int) -> bytes:
    """Return the five-byte header of *count* entries."""
    return _HEADER.pack(0xDD, count)


_SHORT_STR_HEADERS = tuple(bytes((0xA0 | length,)) if length < 32 else bytes((0xD9, length)) for length in range(256))


def str_header(length: int) -> bytes:
    """Return the header of a msgpack str of *length* bytes, the shortest one."""
    if length < 1 << 8:
        return _SHORT_STR_HEADERS[length]
    return _STR16.pack(0xDA, length) if length < 1 << 16 else _HEADER.pack(0xDB, length)


def array_length(entries: bytes | memoryview) -> int:
    """Return the length of the array according to its header, group markers included."""
    length: int = _HEADER.unpack_from(entries)[1]
    return length


def join(parts: Iterable[bytes | memoryview], count: int) -> bytes:
    """Return *count* entries, given in any number of parts, as one array."""
    return b"".join((array_header(count), *parts))


def begins_with_pair(packed: bytes | memoryview) -> bool:
    """Return whether the first object of *packed* is an array of two, like an entry."""
    return bytes(packed[:5]).startswith(PAIRS)
