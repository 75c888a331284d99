"""
Many messages to log records of OTLP, a column at a time: the times of all, a field of all, the writers of all.

Messages of one program have few sets of fields. What the fields of a record mean depends on their names alone, most of
the time, so it is found once for each set of names (`Shape`). A value that many messages have is packed once, and what
is in front of a value depends on its length alone.

Always true: the bytes are those that hub.sinks.otlpmessage makes of each message. It makes those of a message whose
names or whose level or body are not as usual.

Not here: resources and scopes (hub.sinks.otlpencode), values (hub.sinks.otlpvalues).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from operator import attrgetter
from typing import Any, NamedTuple

from hub.entries import NS
from hub.message import Message, Peer
from hub.query.found import Found
from hub.query.level import KEYS
from hub.sinks.otlpmessage import BODIES, OF_OTLP, OURS, TIMES, UID, pack_level, pack_log_record, pack_writer
from hub.sinks.otlpvalues import U64, head_of_field, head_of_pair, pack_ints, pack_key, pack_value, utf8

_UNUSUAL = OURS | OF_OTLP | {*KEYS, "log", "body", "attributes"} - {"level"}
_columns_of = attrgetter("time", "received", "record", "sequence", "peer")
Heads = Callable[[int], bytes]
"""Returns the bytes in front of data of a length."""


class _Columns(NamedTuple):
    """Messages, a column for each of their fields."""

    times: Sequence[int]
    received: Sequence[int]
    records: Sequence[dict[Any, Any]]
    sequences: Sequence[int]
    peers: Sequence[Peer]


class Shape(NamedTuple):
    """What the fields of a record are, by their names: the level, the body, and the attributes."""

    level: str | None
    body: str | None
    attributes: Sequence[str]


@functools.lru_cache(maxsize=1024)
def shape_of(names: tuple[Any, ...]) -> Shape | None:
    """Return the shape of the records with the fields *names*; None if it depends on their values."""
    if {*map(type, names)} - {str} or not _UNUSUAL.isdisjoint(names):
        return None
    bodies = [name for name in names if name in BODIES]
    if len(bodies) > 1:
        return None
    body = bodies[0] if bodies else None
    level = "level" if "level" in names else None
    return Shape(level, body, [name for name in names if name not in (level, body)])


def pack_log_records(messages: Sequence[Message], uid: str) -> list[bytes]:
    """Return the log record of each of *messages*. *uid* is what their sequences are unique in."""
    names_of = [tuple(message.record) for message in messages]
    if names_of and names_of.count(names_of[0]) == len(names_of):
        return _alike(messages, shape_of(names_of[0]), uid)
    indexes: dict[tuple[Any, ...], list[int]] = {}
    for index, names in enumerate(names_of):
        indexes.setdefault(names, []).append(index)
    rows = [b""] * len(messages)
    for names, chosen in indexes.items():
        made = _alike([messages[index] for index in chosen], shape_of(names), uid)
        for index, row in zip(chosen, made, strict=True):
            rows[index] = row
    return rows


def pack_found(found: Found, uid: str) -> list[bytes] | None:
    """Return the log record of each message of *found*; None if they are not as usual, or not alike."""
    names_of = [*map(tuple, found.records)]
    shape = shape_of(names_of[0]) if names_of.count(names_of[0]) == len(names_of) else None
    if shape is None:
        return None
    count, batch = len(names_of), found.batch
    times = [seconds * NS + nanoseconds for seconds, nanoseconds in found.times()]
    columns = _Columns(times, [batch.received] * count, found.records, found.sequences, [batch.peer] * count)
    rows, needed = _rows_of(columns, shape, uid)
    return None if any(b"" in column for column in needed) else rows


def _rows_of(columns: _Columns, shape: Shape, uid: str) -> tuple[list[bytes], list[list[bytes]]]:
    """Return the log records, and the levels and bodies in them: where one is empty, the record is not as usual."""
    records = columns.records
    needed: list[list[bytes]] = []
    if shape.level is not None:
        needed.append(_texts_or_nothing([record[shape.level] for record in records], _pack_levels))
    if shape.body is not None:
        needed.append(_texts_or_nothing([record[shape.body] for record in records], _pack_bodies))
    attributes = (_pack_attributes(name, [record[name] for record in records]) for name in shape.attributes)
    times, writers = _pack_times(columns.times, columns.received), _pack_writers(columns.peers)
    parts = (times, *needed, *attributes, _pack_uids(uid, columns.sequences), writers)
    return [*map(b"".join, zip(*parts, strict=False))], needed  # the writers may be endless


def _alike(messages: Sequence[Message], shape: Shape | None, uid: str) -> list[bytes]:
    """Return the log records of *messages*, all of which have *shape*."""
    if shape is None:
        return [pack_log_record(message, uid) for message in messages]
    rows, needed = _rows_of(_Columns(*zip(*map(_columns_of, messages), strict=True)), shape, uid)
    for column in needed:
        if b"" in column:
            rows = [
                row if packed else pack_log_record(message, uid)
                for row, packed, message in zip(rows, column, messages, strict=True)
            ]
    return rows


def _pack_times(times: Sequence[int], received: Sequence[int]) -> list[bytes]:
    try:
        return [*map(TIMES.pack, repeat(0x09), times, repeat(0x59), received)]
    except struct.error:  # a time before 1970
        return [*map(TIMES.pack, repeat(0x09), (min(max(time, 0), U64) for time in times), repeat(0x59), received)]


def _pack_uids(uid: str, sequences: Sequence[int]) -> list[bytes]:
    prefix = uid.encode()
    return with_heads([b"%b-%d" % (prefix, sequence) for sequence in sequences], _head_of_text(UID))


def _pack_writers(peers: Sequence[Peer]) -> Iterable[bytes]:
    if len({*map(id, peers)}) == 1:
        return repeat(pack_writer(peers[0]))
    return map(pack_writer, peers)


def _pack_attributes(name: str, values: Sequence[Any]) -> list[bytes]:
    """Return the attribute *name* of all records, which has *values*."""
    kinds = {*map(type, values)}
    if kinds == {str}:
        return _each_once(values, lambda texts: with_heads(utf8(texts), _head_of_text(name)))
    head = functools.partial(head_of_pair, 0x32, pack_key(name))
    if kinds == {int}:
        return _each_once(values, lambda numbers: with_heads(pack_ints(numbers), head))
    return with_heads([*map(pack_value, values)], head)


def _texts_or_nothing(values: Sequence[Any], pack: Callable[[Sequence[str]], list[bytes]]) -> list[bytes]:
    """Return *values* packed; nothing for one that is no text."""
    if {*map(type, values)} == {str}:
        return _each_once(values, pack)
    return [pack((value,))[0] if type(value) is str else b"" for value in values]


def _pack_levels(levels: Sequence[str]) -> list[bytes]:
    return [*map(pack_level, levels)]


def _pack_bodies(bodies: Sequence[str]) -> list[bytes]:
    return with_heads(utf8(bodies), _head_of_body)


def _head_of_body(size: int) -> bytes:
    text = head_of_field(0x0A, size)
    return head_of_field(0x2A, len(text) + size) + text


def _head_of_text(name: str) -> Heads:
    key = pack_key(name)
    return lambda size: head_of_pair(0x32, key, len(text := head_of_field(0x0A, size)) + size) + text


def _each_once(values: Sequence[Any], pack: Callable[[Sequence[Any]], list[bytes]]) -> list[bytes]:
    """Return *values* packed, each different one once if most of them are repeated. They are all of one type."""
    different = [*{*values}]
    if 2 * len(different) > len(values):
        return pack(values)
    packed = dict(zip(different, pack(different), strict=True))
    return [*map(packed.__getitem__, values)]


def with_heads(datas: Sequence[bytes], head: Heads) -> list[bytes]:
    """Return each of *datas* with what stands in front of data of its length."""
    heads = {size: head(size) for size in {*map(len, datas)}}
    return [heads[len(data)] + data for data in datas]
