"""
Entries: the one message format, in msgpack.

An *entry* is ``[time, record]`` or ``[[time, metadata], record]`` (Fluent Forward v1 and v1.5). The entries of a batch
are one msgpack array with a five-byte header (``dd`` and a big-endian count), in the hub, on disk and for readers.

Always true:
- accepted entries are kept byte for byte; they are decoded only when they are read;
- reading never raises because of the bytes: an entry that cannot be read is returned as `Unreadable`. The entries of
  our own producers were not checked when they were accepted: a hostile client may have sent anything in their form;
- how deeply an entry may be nested is the same on every Python: `NESTING_MAX`, not the interpreter's recursion limit.

A line of syslog is stored whole, as the `message` of an entry with the metadata ``{"syslog": zone}``. It is taken apart
here, when the entry is read, so queries, sinks and the library get the same fields, and no byte is lost. *zone* is the
offset of the host's clock from UTC at the receipt, in seconds: a time of RFC 3164 has no zone, and the reader may be in
another.

Not here: frames (hub.wire), messages with sequence and peer (hub.message), the fields of a line (hub.syslogfields).
Source: the event modes and EventTime of the Fluent Forward protocol, v1 and v1.5.
"""

from __future__ import annotations

import itertools
import math
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from time import localtime
from typing import Any, NamedTuple

import msgpack
import msgspec

NS = 1_000_000_000
ARRAY_HEADER_BYTES = 5
NESTING_MAX = 1024
"""
The nesting depth that msgpack's `skip` can follow, entries and record together. Deeper entries are rejected.

msgspec is no measure: it follows fewer levels from a deep stack on Python 3.11, and many thousands since 3.12.
"""
RECORD_NESTING_MAX = 500
"""
The nesting depth up to which everything of ours writes and shows a record: few enough for the stack of every Python,
and for msgpack's encoder, which follows 511 levels.
"""
TOO_DEEP = f"nested more than {RECORD_NESTING_MAX} levels deep"

_HEADER = struct.Struct(">BI")
_STR16 = struct.Struct(">BH")
_EVENT_TIME = struct.Struct(">II")
_PACKED_TIME = struct.Struct(">HII")
_FIXEXT8_TYPE_0 = 0xD700
_STAMPED = struct.Struct(">BBBII")  # array of 2, fixext8, type 0, seconds, nanoseconds
_MARKER_SECONDS = (0xFFFFFFFF, 0xFFFFFFFE)
_GROUP_MARKERS = tuple(seconds * NS for seconds in _MARKER_SECONDS)
_MARKER_BYTES = b"\x00\xff\xff\xff"  # ext type 0 and the first bytes of the marker's time
_PAIRS = (b"\x92", b"\xdc\x00\x02", b"\xdd\x00\x00\x00\x02")
OVERFLOW = b"\xc9\xff\xff\xff\xff"
"""An ext32 whose length plus its type byte overflows to 0 in msgpack's `skip`."""
_BYTES_A_FIND = 1024  # that many are scanned in the time of one step of Python, about 0.1 µs
_SECONDS_MAX = 0xFFFFFFFF
_SAMPLE_BYTES = 64
# An array of two whose first element is an array that begins with a group marker. The nanoseconds of the marker may
# hold up to 4 of its seconds.
_MARKER_TIMES = [_EVENT_TIME.pack(seconds - more, more * NS) for seconds in _MARKER_SECONDS for more in range(5)]
_match_marker = re.compile(
    b"(?:%b)(?:[\x91-\x9f]|\xdc(?!\0\0)..|\xdd(?!\0\0\0\0)....)(?:\xd7|\xc7\x08|\xc8\0\x08|\xc9\0\0\0\x08)\0(?:%b)"
    % (b"|".join(map(re.escape, _PAIRS)), b"|".join(map(re.escape, _MARKER_TIMES))),
    re.DOTALL,
).match
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800  # range of calendars, in seconds since the epoch


class EventTime(int):
    """Nanoseconds since the epoch, from ext type 0. A plain int on the wire means seconds."""

    __slots__ = ()


class Entry(NamedTuple):
    """One decoded entry. *time* is in nanoseconds since the epoch, or None if the sender gave none."""

    time: int | None
    record: dict[Any, Any]


class Unreadable(NamedTuple):
    """
    An entry that is not a message: the reason, and its bytes. Of entries that are not whole, all that are left: how
    many, and their bytes.
    """

    reason: str
    raw: bytes
    messages: int = 1


_Raw = msgspec.Raw | memoryview


def _ext(code: int, data: memoryview | bytes) -> object:
    if code == 0 and len(data) == _EVENT_TIME.size:
        seconds, nanoseconds = _EVENT_TIME.unpack(data)
        return EventTime(seconds * NS + nanoseconds)
    return msgspec.msgpack.Ext(code, bytes(data))


def as_ext(value: object) -> msgspec.msgpack.Ext:
    """Return an `EventTime` as msgpack holds it, for an encoder of decoded values. Raises TypeError for other types."""
    if not isinstance(value, EventTime):
        raise TypeError(f"no value of an entry: {type(value).__name__}")
    return msgspec.msgpack.Ext(0, _EVENT_TIME.pack(*divmod(value, NS)))


_decode_pairs = msgspec.msgpack.Decoder(list[tuple[msgspec.Raw, dict[Any, Any]]], ext_hook=_ext).decode
_decode_all = msgspec.msgpack.Decoder(list[Any], ext_hook=_ext).decode
_decode_one = msgspec.msgpack.Decoder(Any, ext_hook=_ext).decode
split_fast = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
"""
Returns the bytes of each element. Raises if the bytes are not an array of whole objects, or are nested too deeply.
"""
_check = msgspec.msgpack.Decoder(msgspec.Raw).decode
# What the two libraries raise on undecodable bytes, found by experiment: bad UTF-8 is not a DecodeError, an unhashable
# key is a TypeError, an ext timestamp out of range a ValueError or OverflowError.
_UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, TypeError, ValueError, OverflowError, RecursionError)
_UNSKIPPABLE = (msgpack.OutOfData, msgpack.FormatError, msgpack.StackError, ValueError)


def stamp(time_ns: int) -> bytes:
    """Return the bytes before a record: array of two, *time_ns* as EventTime (clamped to 1970 to 2106)."""
    seconds, nanoseconds = divmod(time_ns, NS)
    if not 0 <= seconds <= _SECONDS_MAX:
        seconds, nanoseconds = (0, 0) if seconds < 0 else (_SECONDS_MAX, NS - 1)
    return _STAMPED.pack(0x92, 0xD7, 0, seconds, nanoseconds)


UNSTAMPED = b"\x92\xc0"
"""The bytes before a record whose sender gave no time."""

_SYSLOG_KEY = "syslog"
_SYSLOG_TIME = b"\x92\xc0\x81\xa6syslog\xd2"
"""The time of an entry that holds a line of syslog, up to the zone: ``[nil, {"syslog": int32}]``."""
_UNKNOWN_TIME = msgspec.Raw(b"\xc0")
_SYSLOG_TIME_BYTES = len(_SYSLOG_TIME) + 4
_ZONE_S_MAX = 26 * 3600


def before_syslog() -> bytes:
    """Return the bytes before a record whose `message` is a line of syslog, received now by the clock of this host."""
    return b"\x92" + _SYSLOG_TIME + localtime().tm_gmtoff.to_bytes(4, "big", signed=True)


def may_have_syslog(entries: bytes | memoryview) -> bool:
    """Return whether some of the entries may be lines of syslog, whose fields are not in the bytes as such."""
    packed = bytes(entries)
    return _SYSLOG_TIME[-1] in packed and _SYSLOG_TIME in packed  # the byte is rare, and found 30 times as fast


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
        except _UNDECODABLE:
            return False
        else:
            return True
    if not _is_one_object(entries):
        return False
    if not _may_overflow(bytes(entries)):
        return True
    try:
        _check(entries)
    except _UNDECODABLE:
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


def begins_with_pair(packed: bytes | memoryview) -> bool:
    """Return whether the first object of *packed* is an array of two, like an entry."""
    return bytes(packed[:5]).startswith(_PAIRS)


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


def may_have_markers(entries: bytes | memoryview) -> bool:
    """Return whether group markers are possible: the first entry must have metadata."""
    return entries[5:7] == b"\x92\x92" and _MARKER_BYTES in bytes(entries)


def count_messages(entries: bytes | memoryview) -> int:
    """Return the number of messages: all entries except group markers (which occur only in the form with metadata)."""
    length = array_length(entries)
    return length - count_markers(entries) if length and may_have_markers(entries) else length


def count_markers(entries: bytes | memoryview) -> int:
    """Return the number of group markers among the entries."""
    return sum(map(bool, map(_match_marker, split_raw(entries)))) if _MARKER_BYTES in bytes(entries) else 0


def is_marker(entry: bytes | memoryview) -> bool:
    """Return whether *entry*, or the beginning of it, is a group marker."""
    return _match_marker(entry) is not None


def pairs(
    entries: bytes | memoryview, count: int, received: int = 0
) -> Iterable[tuple[msgspec.Raw, dict[Any, Any]]] | None:
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
    except _UNDECODABLE:
        return None
    if not may_have_syslog(entries):
        return found
    return (_with_fields(packed, record, received) for packed, record in found)  # each when its turn comes


def _with_fields(packed: msgspec.Raw, record: dict[Any, Any], received: int) -> tuple[msgspec.Raw, dict[Any, Any]]:
    """Return the time and the fields of a line of syslog; of any other entry, what was given."""
    if len(packed) != _SYSLOG_TIME_BYTES or not bytes(packed).startswith(_SYSLOG_TIME):
        return packed, record
    zone_s = int.from_bytes(bytes(packed)[-4:], "big", signed=True)
    entry = _read_syslog(zone_s, record, received)
    return _UNKNOWN_TIME if entry.time is None else msgspec.Raw(stamp(entry.time)[1:]), entry.record


def _read_syslog(zone_s: int, record: dict[Any, Any], received: int) -> Entry:
    """Return the time and the fields of the line that is the message of *record*."""
    from hub.syslogfields import parse

    line = record.get("message")
    if len(record) != 1 or not isinstance(line, str) or abs(zone_s) > _ZONE_S_MAX:
        return Entry(None, record)
    return Entry(*parse(line, received=received, zone_s=zone_s))


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
    """Return *time*, which is no time, with the bytes of its whole entry: number *index* of *entries*."""
    return Unreadable(time.reason, bytes(split_raw(entries)[index]))


def read_each(entries: bytes | memoryview, count: int, received: int = 0) -> Iterator[Entry | Unreadable]:
    """
    Yield the *count* messages of *entries* in order, if `pairs` returned None. What cannot be read is `Unreadable`.
    """
    skip_markers = array_length(entries) != count
    raws: Sequence[_Raw] | None = None
    found = 0
    try:
        values: Iterable[object] = _decode_all(entries)
    except _UNDECODABLE:
        raws = split_raw(entries)
        values = map(_read_one, raws)
    for index, value in enumerate(values):
        if skip_markers and _is_group_marker(value):
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


def split_raw(entries: bytes | memoryview) -> Sequence[_Raw]:
    """Return the bytes of each entry: of those before the first one that is not whole, and not more than announced."""
    try:
        return split_fast(entries)
    except (RecursionError, msgspec.DecodeError):  # too deeply nested for msgspec at this point, or not whole
        view = memoryview(entries)[ARRAY_HEADER_BYTES:]
        ends = _ends(view, min(count_well_formed(view)[0], array_length(entries)))
        return [view[start:end] for start, end in itertools.pairwise(ends)]


def _ends(packed: memoryview, count: int) -> list[int]:
    """Return 0 and the end of each of the first *count* objects. The caller knows that they are whole."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(packed), 1))
    unpacker.feed(packed)
    ends = [0]
    for _ in range(count):
        unpacker.skip()
        ends.append(unpacker.tell())
    return ends


def decode_value(packed: bytes) -> object:
    """Return the value in *packed*, with the types of the records of messages. Raises ValueError."""
    try:
        return _decode_one(packed)
    except _UNDECODABLE as error:
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _read_one(raw: _Raw) -> object:
    """
    Return the decoded value. Invalid UTF-8 is replaced; a value that cannot be decoded is returned as `Unreadable`.
    """
    try:
        return _decode_one(raw)
    except _UNDECODABLE:
        pass
    try:
        return msgpack.unpackb(bytes(raw), unicode_errors="replace", strict_map_key=False, ext_hook=_ext)
    except (*_UNDECODABLE, msgpack.UnpackException) as error:
        return Unreadable(f"{type(error).__name__}: {error}", bytes(raw))


def _is_group_marker(value: object) -> bool:
    if isinstance(value, Unreadable):
        return is_marker(value.raw)
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[0], list) and value[0]):
        return False
    return isinstance(value[0][0], EventTime) and value[0][0] in _GROUP_MARKERS


def _as_entry(value: object, received: int = 0) -> Entry | Unreadable | str:
    """Return the entry that *value* represents, or the reason why it is not one."""
    if isinstance(value, Unreadable):
        return value
    if not (isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict)):
        return "not [time, record]"
    time, record = value
    if isinstance(time, list):
        if (zone_s := _zone_of(time)) is not None:
            return _read_syslog(zone_s, record, received)
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


def _zone_of(time: list[Any]) -> int | None:
    """Return the zone in the *time* of a line of syslog; None for any other entry."""
    if len(time) != 2 or time[0] is not None or not isinstance(time[1], dict) or len(time[1]) != 1:
        return None
    zone_s = time[1].get(_SYSLOG_KEY)
    return zone_s if isinstance(zone_s, int) and not isinstance(zone_s, bool) else None


def _seconds_to_ns(seconds: float) -> int | None:
    if not _YEAR_1 <= seconds < _YEAR_10000:  # also true for infinity and NaN
        return None
    return math.floor(seconds) * NS + round(seconds % 1 * NS)
