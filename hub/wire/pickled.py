"""
The stream of Python's `logging.handlers.SocketHandler`.

A record is a four-byte big-endian length, then a pickled dict, the attributes of a log record.

A class is never looked up. An object becomes a text with the name of its class, and the first one of each class in a
stream is a loss that names it; the rest of the record is kept.

A record becomes what `HubHandler` of producers.logs.handler makes of it: level, message, logger, pathname, lineno,
func, thread, process, task, traceback, stack_info, and the fields of `extra`. Its tag is the name of the logger.

Always true:
- a pickle that cannot be read is one loss, and the stream goes on after it, because its length is known;
- work and memory for a pickle are bounded; a value that it refers to twice is counted twice.

Not here: the pickle itself (hub.wire.plainpickle), connections (hub.connection).
Source: logging/handlers.py of CPython, `SocketHandler.makePickle` (protocol 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from hub.checksum import crc32
from hub.entries import NS, UNSTAMPED, join, stamp
from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire.batcher import SAMPLE_BYTES
from hub.wire.frame import FRAME_BYTES_MAX, INLINE_BYTES, TAG_BYTES_MAX
from hub.wire.jsonlines import pack
from hub.wire.length_prefixed import PrefixedDecoder
from hub.wire.payload import Unopened
from hub.wire.plainpickle import STEPS_MAX, Class, Object, Unreadable, load

TAG = b"python"
"""The tag of records of the root logger, as of our own handler."""
STEPS_PER_RECEIVE = 5_000
EXPANSION_BYTES = 64 << 10
"""Bytes by which a record may exceed twice the size of its pickle: a text may be referred to several times."""
NESTING_MAX = 200
"""Levels of lists and dicts: few enough for the stack of every Python, at two calls each."""
CLASSES_MAX = 64
"""Maximum classes of one stream that get a loss each."""

_LEVELS = {0: "notset", 10: "debug", 20: "info", 30: "warning", 40: "error", 50: "critical"}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_RENAMED = {
    "name": "logger", "pathname": "pathname", "lineno": "lineno", "funcName": "func", "threadName": "thread",
    "processName": "process",
}  # fmt: skip
_STANDARD = frozenset((
    *_RENAMED, "msg", "args", "levelname", "levelno", "filename", "module", "exc_info", "exc_text", "stack_info",
    "created", "msecs", "relativeCreated", "thread", "process", "taskName", "message", "asctime",
))  # fmt: skip
_RESERVED = frozenset((
    "level", "levelno", "message", "logger", "pathname", "lineno", "func", "thread", "process", "task", "exc_info",
    "traceback", "stack_info", "mpsr.repr", "mpsr.cut",
))  # fmt: skip
_TIME_S_MAX = 1 << 32
_SCALARS = frozenset((str, bytes, float, bool, type(None)))


class Record(NamedTuple):
    """A record: its tag (the name of the logger), its entry, and the classes that its pickle names."""

    tag: bytes
    entry: bytes
    classes: frozenset[str]
    steps: int


def read_record(data: bytes) -> Record:
    """Return the record that is pickled in *data*. Raises Unreadable."""
    value, steps = load(data)
    if type(value) is not dict:
        raise Unreadable("a pickle of something other than a dict")
    plain = _Plain(2 * len(data) + EXPANSION_BYTES)
    fields: dict[Any, Any] = {key: plain.of(each, 1) for key, each in value.items()}
    name = fields.get("name")
    is_record = "msg" in fields and "levelno" in fields
    time_ns = _time_of(fields.get("created")) if is_record else None
    packed = pack(_as_our_handler(fields) if is_record else fields)
    if packed is None:
        raise Unreadable("a pickle of values that cannot be kept")
    tag = name.encode("utf-8", "replace")[:TAG_BYTES_MAX] if isinstance(name, str) and name != "root" else TAG
    before = UNSTAMPED if time_ns is None else stamp(time_ns)
    return Record(tag or TAG, before + packed, frozenset(plain.classes), steps)


def _time_of(created: object) -> int | None:
    if isinstance(created, (int, float)) and 0 <= created < _TIME_S_MAX:
        seconds = int(created)
        return seconds * NS + int((created - seconds) * NS)
    return None


def _as_our_handler(given: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return the fields that `producers.logs.handler.HubHandler` would send."""
    number = given["levelno"]
    level = _LEVELS.get(number) if isinstance(number, int) else None
    fields: dict[Any, Any] = {"level": level, "message": given["msg"]}
    if level is None:
        fields["level"] = _COLOUR.sub("", str(given.get("levelname"))).strip().lower()
        fields["levelno"] = number
    for name, ours in _RENAMED.items():
        fields[ours] = given.get(name)
    if given.get("args"):
        fields["args"] = given["args"]
    for name, ours in (("taskName", "task"), ("exc_text", "traceback"), ("stack_info", "stack_info")):
        if given.get(name) is not None:
            fields[ours] = given[name]
    for key, value in given.items():
        if key in _STANDARD:
            continue
        while key in _RESERVED or key in fields:
            key = f"{key}_"  # noqa: PLW2901
        fields[key] = value
    return fields


class _Plain:
    """Makes plain values of the result of a pickle, within *bytes_max*."""

    def __init__(self, bytes_max: int) -> None:
        self.classes: set[str] = set()
        self._left_bytes = bytes_max
        self._left = STEPS_MAX

    def of(self, value: Any, depth: int) -> Any:
        """Return *value* as msgpack can hold it. Raises Unreadable."""
        self._left -= 1
        kind = type(value)
        if kind is str or kind is bytes:
            self._left_bytes -= len(value)
        if self._left < 0 or self._left_bytes < 0 or depth > NESTING_MAX:
            raise Unreadable("a pickle of too many values")
        if kind in _SCALARS:
            return value
        if kind is list or kind is tuple:
            return [self.of(each, depth + 1) for each in value]
        if kind is dict:
            return {key: self.of(each, depth + 1) for key, each in value.items()}
        if kind is int:
            self._left_bytes -= value.bit_length() // 4
            return _in_64_bits(value)
        if kind is not Class and kind is not Object:
            raise Unreadable("a pickle of an unfinished value")
        self.classes.add(value.name)
        return f"<{value.name}>"


def _in_64_bits(value: int) -> int | str:
    """Return *value*, or its digits: hexadecimal ones if it is very long, because others take long."""
    if -(1 << 63) <= value < 1 << 64:
        return value
    return str(value) if value.bit_length() < 4096 else hex(value)


class PickleDecoder(PrefixedDecoder):
    """Cuts a byte stream by its lengths, and reads a pickled record of each part. With *tag*, all have that tag."""

    _kind = "record"

    def __init__(
        self,
        peer: Peer = UNKNOWN_PEER,
        origin: Origin | None = None,
        *,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        tag: bytes | None = None,
    ) -> None:
        super().__init__(peer, origin, frame_bytes_max=frame_bytes_max)
        self._peer = peer
        self._origin = origin
        self._tag = tag
        self._known: set[str] = set()
        self._left_steps = 0

    def _cut(self, data: bytes) -> bytes:
        at, self._left_steps = 0, STEPS_PER_RECEIVE
        while at < len(data) and self._left_steps > 0:
            at = self._take(data, at)
        return data[at:]

    def _end_text(self) -> None:
        if self._dropped or self._half.held_bytes <= INLINE_BYTES:
            super()._end_text()
            return
        size, parts = self._half.held_bytes, self._half.take_parts()
        self._batcher.add_unopened(Unopened(partial(self._open, parts), size))
        self._left_steps -= 100

    def _add(self, text: bytes) -> None:
        try:
            record = read_record(text)
        except Unreadable as error:
            self._left_steps -= STEPS_PER_RECEIVE // 2
            self._batcher.add_loss(_loss(error, text))
            return
        self._left_steps -= record.steps
        self._batcher.add_entry(self._tag or record.tag, record.entry)
        if not self._known.issuperset(record.classes):
            for loss in self._new_classes(record.classes):
                self._batcher.add_loss(loss)

    def _open(self, parts: list[bytes]) -> Sequence[Batch | Loss]:
        """Return what is in a large pickle. Called on a thread."""
        text = b"".join(parts)
        try:
            record = read_record(text)
        except Unreadable as error:
            return [_loss(error, text)]
        entries = join((record.entry,), 1)
        batch = Batch(self._tag or record.tag, entries, 1, None, self._peer, self._origin, crc=crc32(entries))
        return [batch, *self._new_classes(record.classes)]

    def _new_classes(self, names: frozenset[str]) -> list[Loss]:
        """Return a loss for each class that was not seen before in this stream."""
        fresh = sorted(names - self._known)[: max(CLASSES_MAX - len(self._known), 0)]
        self._known.update(fresh)
        return [Loss(f"objects of {name}, which is not loaded, are kept as its name", count=0) for name in fresh]


def _loss(error: Unreadable, text: bytes) -> Loss:
    return Loss(str(error), lost_bytes=len(text), sample=text[:SAMPLE_BYTES])
