"""
Reading: entries to times and records.

Always true:
- reading never raises because of the bytes: an entry that cannot be read is returned as `Unreadable`. The entries of
  our own producers were not checked when they were accepted: a hostile client may have sent anything in their form;
- a reader gets as many messages as were counted when the entries were accepted.

Not here: counting and checking (hub.entries.wellformed, hub.entries.markers), messages with sequence and peer
(hub.message).
Source: the event modes and EventTime of the Fluent Forward protocol, v1 and v1.5.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import Any, TypedDict, cast

import msgpack
import msgspec

from hub.entries.form import ARRAY_HEADER_BYTES, EVENT_TIME, NS, Entry, EventTime, Unreadable, array_length
from hub.entries.markers import is_group_marker
from hub.entries.syslogline import fields_of, may_have_syslog, with_fields, zone_of
from hub.entries.wellformed import UNDECODABLE, Raw, bounded, split_raw

_PACKED_TIME = struct.Struct(">HII")
_FIXEXT8_TYPE_0 = 0xD700
_TIME = itemgetter(0)
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800  # range of calendars, in seconds since the epoch
_SAMPLE_BYTES = 64


def _ext(code: int, data: memoryview | bytes) -> object:
    if code == 0 and len(data) == EVENT_TIME.size:
        seconds, nanoseconds = EVENT_TIME.unpack(data)
        return EventTime(seconds * NS + nanoseconds)
    return msgspec.msgpack.Ext(code, bytes(data))


Pair = tuple[msgspec.Raw, dict[Any, Any]]
_decode_pairs = bounded(msgspec.msgpack.Decoder(list[Pair], ext_hook=_ext).decode)
_decode_all = bounded(msgspec.msgpack.Decoder(list[Any], ext_hook=_ext).decode)
_decode_one = msgspec.msgpack.Decoder(Any, ext_hook=_ext).decode


def pairs(entries: bytes | memoryview, count: int, received: int = 0) -> Iterable[Pair] | None:
    """
    Return the time and the record of each message, or None if that is not possible.

    The time is still packed; `time_of` decodes it. This takes a third of the time of `read_each`. It is not possible
    with group markers, entries that are not messages, or invalid UTF-8. *received* is the time of receipt: a line of
    syslog may have a time without a year.
    """
    if array_length(entries) != count:
        return None
    try:
        found = _decode_pairs(entries)
    except UNDECODABLE:
        return None
    if not may_have_syslog(entries):
        return found
    return (with_fields(packed, record, received) for packed, record in found)  # each when its turn comes


def pairs_with(keys: Sequence[str]) -> Callable[[bytes | memoryview, int], Sequence[Pair] | None]:
    """
    Return a function like `pairs` that decodes only these *keys* of each record, and passes over the others.

    It does not take lines of syslog apart, and it does not see that a value which it passes over cannot be decoded.
    """
    some: Any = TypedDict("some", dict.fromkeys(keys, Any), total=False)  # type: ignore[misc]
    decode = bounded(msgspec.msgpack.Decoder(list[tuple[msgspec.Raw, some]], ext_hook=_ext).decode)

    def read(entries: bytes | memoryview, count: int) -> Sequence[Pair] | None:
        if array_length(entries) != count:
            return None
        try:
            return cast(list[Pair], decode(entries))
        except UNDECODABLE:
            return None

    return read


def values_with(key: str) -> Callable[[bytes | memoryview, int], Sequence[tuple[msgspec.Raw, Any]] | None]:
    """
    Return a function like that of `pairs_with` that decodes one key, in half of the time. In place of a record it
    returns an object whose `value` is that of *key*, None if there is none.
    """
    one = msgspec.defstruct("one", [("value", Any, None)], rename={"value": key}, gc=False)
    one_each = list[tuple[msgspec.Raw, one]]  # type: ignore[valid-type]
    decode = bounded(msgspec.msgpack.Decoder(one_each, ext_hook=_ext).decode)

    def read(entries: bytes | memoryview, count: int) -> Sequence[tuple[msgspec.Raw, Any]] | None:
        if array_length(entries) != count:
            return None
        try:
            return decode(entries)
        except UNDECODABLE:
            return None

    return read


def times_of(pairs: Sequence[tuple[msgspec.Raw, object]]) -> list[int] | None:
    """Return nanoseconds since the epoch for the time of each pair; None if not each has the usual form."""
    packed = b"".join(map(_TIME, pairs))
    if len(packed) != _PACKED_TIME.size * len(pairs):
        return None
    # A time is one whole object. So if one that begins here has the usual form, the next begins ten bytes later.
    times = [
        seconds * NS + nanoseconds
        for kind, seconds, nanoseconds in _PACKED_TIME.iter_unpack(packed)
        if kind == _FIXEXT8_TYPE_0
    ]
    return times if len(times) == len(pairs) else None


def time_of(packed: msgspec.Raw) -> int | Unreadable | None:
    """Return nanoseconds since the epoch, None if the sender gave no time, or `Unreadable` if it is not a time."""
    try:
        kind, seconds, nanoseconds = _PACKED_TIME.unpack(packed)
        if kind == _FIXEXT8_TYPE_0:
            time: int = seconds * NS + nanoseconds
            return time
    except struct.error:  # another length
        pass
    entry = _as_entry([_read_one(packed), {}])
    if isinstance(entry, str):
        return Unreadable(entry, bytes(packed))
    return entry.time if isinstance(entry, Entry) else entry


def whole_entry(time: Unreadable, entries: bytes | memoryview, index: int) -> Unreadable:
    """Return *time*, which could not be read, with the bytes of its whole entry: number *index* of *entries*."""
    return Unreadable(time.reason, bytes(split_raw(entries)[index]))


def read_each(entries: bytes | memoryview, count: int, received: int = 0) -> Iterator[Entry | Unreadable]:
    """
    Yield the *count* messages of *entries* in order, if `pairs` returned None. What cannot be read is `Unreadable`.
    """
    skip_markers = array_length(entries) != count
    raws: Sequence[Raw] | None = None
    found = 0
    try:
        values: Iterable[object] = _decode_all(entries)
    except UNDECODABLE:
        raws = split_raw(entries)
        values = map(_read_one, raws)
    for index, value in enumerate(values):
        if skip_markers and is_group_marker(value):
            continue
        entry = _as_entry(value, received)
        if isinstance(entry, str):
            raws = raws or split_raw(entries)
            entry = Unreadable(entry, bytes(raws[index]))
        found += 1
        yield entry
    if found < count:
        rest = memoryview(entries)[ARRAY_HEADER_BYTES + sum(map(len, raws or ())) :]
        yield Unreadable("not as many whole entries as were announced", bytes(rest[:_SAMPLE_BYTES]), count - found)


def decode_value(packed: bytes) -> object:
    """Return the value in *packed*, with the types of the records of messages. Raises ValueError."""
    try:
        return _decode_one(packed)
    except UNDECODABLE as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _read_one(raw: Raw) -> object:
    """
    Return the decoded value. Invalid UTF-8 is replaced; a value that cannot be decoded is returned as `Unreadable`.
    """
    try:
        return _decode_one(raw)
    except UNDECODABLE:
        pass
    try:
        return msgpack.unpackb(bytes(raw), unicode_errors="replace", strict_map_key=False, ext_hook=_ext)
    except (*UNDECODABLE, msgpack.UnpackException) as error:
        return Unreadable(f"{type(error).__name__}: {error}", bytes(raw))


def _as_entry(value: object, received: int = 0) -> Entry | Unreadable | str:
    """Return the entry that *value* represents, or the reason why it is not one."""
    if isinstance(value, Unreadable):
        return value
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict)):
        return "not [time, record]"
    time, record = value
    if isinstance(time, list):
        if (zone_s := zone_of(time)) is not None:
            return fields_of(zone_s, record, received)
        time = time[0] if time else None
    known = _time_ns(time)
    return known if isinstance(known, str) else Entry(known, record)


def _time_ns(time: object) -> int | str | None:
    """Return *time* in nanoseconds since the epoch, None if there is none, or the reason why it is not a time."""
    if isinstance(time, EventTime):
        return int(time)
    if time is None:
        return None
    if isinstance(time, (int, float)) and not isinstance(time, bool):
        return _seconds_to_ns(time) if time else None
    return f"a {type(time).__name__} is not a time"


def _seconds_to_ns(seconds: float) -> int | None:
    if not _YEAR_1 <= seconds < _YEAR_10000:  # also true for infinity and NaN
        return None
    return math.floor(seconds) * NS + round(seconds % 1 * NS)
