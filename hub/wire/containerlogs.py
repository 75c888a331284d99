"""
The log files of containers: what Kubernetes' runtimes (CRI) and Docker's driver ``json-file`` write.

    2026-11-27T10:00:00.123456789Z stdout F text             CRI; P instead of F: the text continues in a later line
    {"log":"text\\n","stream":"stdout","time":"2026-…Z"}      Docker; without a newline at its end: it continues

An *event* is what the program wrote as one line. Its record is ``{"message": text, "stream": name}``, and of Docker
whatever else is in the object; its time is that of its first line. The lines of two streams may alternate: each stream
is joined on its own, and events are in the order of their first lines.

A line of any other form is an event of its own: text, whole.

An event that is not complete holds back itself and all later ones (also one that has begun before, if it continues
after the first line of this one): `open_bytes` are the bytes of the lines that are
held. The place up to which a file has been read is before them, so that a crash neither loses nor repeats one.
What has more than `EVENT_BYTES_MAX`, or holds more than `HELD_LINES_MAX` lines back, is given up: its text up to
there becomes an event with ``partial: true``. `finish` does the same with everything that is held.

Always true: the bytes of a text are kept as they are, except a line ending, and what is not Unicode in Docker's JSON.
Not here: other formats, and the table of all (hub.wire.parsers).
Source: kubernetes/cri-api, k8s.io/cri-client/pkg/logs; moby/moby daemon/logger/jsonfilelog.
"""

from __future__ import annotations

import abc
from functools import lru_cache
from typing import Any

import msgspec

from hub.entries import join, stamp, str_header
from hub.wire import jsonlines, text
from hub.wire.jsonlines import JSON_BYTES_MAX

EVENT_BYTES_MAX = 1 << 20
HELD_LINES_MAX = 1024
"""Maximum lines that are held. They are examined again with each `parse`: a millisecond or two."""
HELD_BYTES_MAX = 2 * EVENT_BYTES_MAX
"""Maximum bytes of held lines: two streams, with one event each."""
_STREAMS = (b"stdout", b"stderr")
_STREAM_NAMES = ("stdout", "stderr")
_OWN_FIELDS = ("message", "partial")
_CRI_FIELDS = 4
_SECOND_CHARS = 19
_BEFORE_MESSAGE = {False: b"\x82\xa7message", True: b"\x83\xa7message"}
_AFTER_MESSAGE = {
    (stream, is_partial): b"\xa6stream\xa6" + stream + (b"\xa7partial\xc3" if is_partial else b"")
    for stream in _STREAMS
    for is_partial in (False, True)
}
_Parsed = tuple[bytes, int]


class _Piece(msgspec.Struct, gc=False):
    """The contents of one line. *rest* are further fields of the record."""

    time_ns: int | None
    stream: bytes | str
    text: bytes | str
    is_open: bool
    rest: dict[str, Any] | None = None


class _Event:
    """An event of several lines: its place among the events, the numbers of its first and last line, and its texts."""

    __slots__ = ("first", "last", "line", "place", "size", "texts")

    def __init__(self, first: _Piece, place: int, line: int) -> None:
        self.first, self.place, self.line, self.last = first, place, line, line
        self.texts = [first.text]
        self.size = len(first.text)


class _Events:
    """The events of some lines, in the order of their first lines."""

    def __init__(self) -> None:
        self.entries: list[bytes] = []  # of the events; b"" for one that is open
        self.open: dict[bytes | str, _Event] = {}  # by stream
        self.ended: list[_Event] = []  # those of several lines

    def first_held(self) -> _Event | None:
        """
        Return the event from which on all are held, or None: the first one that is open, or has a line after the first
        one that is held. So all lines of an event are held, or none.
        """
        held = min(self.open.values(), key=lambda event: event.line, default=None)
        if held is not None:
            for event in sorted(self.ended, key=lambda event: event.line, reverse=True):
                if event.line < held.line < event.last:
                    held = event
        return held


class ContainerParser(abc.ABC):
    """Joins the lines of events. *open_bytes* is the size of the lines that are held, with their newlines."""

    def __init__(self) -> None:
        self.open_bytes = 0
        self._held: list[bytes] = []

    def parse(self, lines: list[bytes]) -> _Parsed:
        """Return the entries of the events that *lines* complete, and their number."""
        return self._parse(self._held + lines if self._held else lines, HELD_LINES_MAX, HELD_BYTES_MAX)

    def finish(self) -> _Parsed:
        """Return what is held, as it is."""
        return self._parse(self._held, -1, -1)

    @abc.abstractmethod
    def _read(self, line: bytes) -> _Piece | None:
        """Return the contents of *line*, or None if it has another form."""

    @abc.abstractmethod
    def _entry(self, piece: _Piece, texts: list[Any], *, is_partial: bool) -> bytes:
        """Return the entry of an event that begins with *piece*."""

    def _parse(self, lines: list[bytes], lines_max: int, bytes_max: int) -> _Parsed:
        events = _Events()
        for number, line in enumerate(lines):
            piece = self._read(line)
            if piece is None:
                events.entries.append(text.encode_entry(line.removesuffix(b"\r")))
            elif piece.is_open or piece.stream in events.open:
                self._add(events, piece, number)
            else:
                events.entries.append(self._entry(piece, [piece.text], is_partial=False))
        count = self._hold(events, lines)
        while events.open and (len(self._held) > lines_max or self.open_bytes > bytes_max):
            self._end(events, min(events.open.values(), key=lambda event: event.line), is_partial=True)
            count = self._hold(events, lines)
        return join(events.entries[:count], count), count

    def _add(self, events: _Events, piece: _Piece, number: int) -> None:
        """Add a piece of an event that has several, or begins to."""
        event = events.open.get(piece.stream)
        if event is not None and event.size + len(piece.text) > EVENT_BYTES_MAX:
            self._end(events, event, is_partial=True)
            event = None
        if event is None:
            event = events.open[piece.stream] = _Event(piece, len(events.entries), number)
            events.entries.append(b"")
        else:
            event.texts.append(piece.text)
            event.size += len(piece.text)
            event.last = number
        if not piece.is_open:
            self._end(events, event, is_partial=False)

    def _end(self, events: _Events, event: _Event, *, is_partial: bool) -> None:
        events.ended.append(events.open.pop(event.first.stream))
        events.entries[event.place] = self._entry(event.first, event.texts, is_partial=is_partial)

    def _hold(self, events: _Events, lines: list[bytes]) -> int:
        """Hold the lines of the first open event and of all later ones. Return the number of events before it."""
        first = events.first_held()
        self._held = lines[first.line :] if first is not None else []
        self.open_bytes = sum(map(len, self._held)) + len(self._held)
        return len(events.entries) if first is None else first.place


class CriParser(ContainerParser):
    """Log files of containerd and CRI-O: /var/log/pods."""

    def _read(self, line: bytes) -> _Piece | None:
        fields = line.split(b" ", 3)
        if len(fields) != _CRI_FIELDS or fields[1] not in _STREAMS:
            return None
        moment, stream, tags, content = fields
        flag = tags.partition(b":")[0]  # further tags may follow
        time_ns = _time_of(moment)
        if time_ns is None or flag not in (b"P", b"F"):
            return None
        return _Piece(time_ns, stream, content.removesuffix(b"\r") if flag == b"F" else content, flag == b"P")

    def _entry(self, piece: _Piece, texts: list[Any], *, is_partial: bool) -> bytes:
        content = b"".join(texts) if len(texts) > 1 else texts[0]
        assert piece.time_ns is not None
        return b"".join((
            stamp(piece.time_ns), _BEFORE_MESSAGE[is_partial], str_header(len(content)), content,
            _AFTER_MESSAGE[piece.stream, is_partial],  # type: ignore[index]  # bytes, as in _STREAMS
        ))  # fmt: skip


def _time_of(moment: bytes) -> int | None:
    """Return the time in nanoseconds since the epoch, or None."""
    end = len(moment)
    if moment.endswith(b"Z"):
        end -= 1
    elif moment[-6:-5] in (b"+", b"-"):
        end -= 6
    if end < _SECOND_CHARS:
        return None
    second_ns = _second_of(moment[:_SECOND_CHARS], moment[end:])
    fraction = moment[_SECOND_CHARS:end]
    if second_ns is None or not fraction:
        return second_ns
    digits = fraction[1:]
    if fraction[:1] != b"." or not digits.isdigit():
        return None
    return second_ns + int(digits[:9].ljust(9, b"0"))


@lru_cache(maxsize=64)  # neighbouring lines usually share the second
def _second_of(second: bytes, zone: bytes) -> int | None:
    return jsonlines.parse_time((second + zone).decode("ascii", "replace"))


class DockerParser(ContainerParser):
    """Log files of Docker's driver ``json-file``: /var/lib/docker/containers."""

    def _read(self, line: bytes) -> _Piece | None:
        if line[:1] != b"{" or len(line) > JSON_BYTES_MAX or jsonlines.may_be_too_deep(line):
            return None
        value = jsonlines.decode_object(line)
        if value is None:
            return None
        log, stream = value.get("log"), value.get("stream")
        if not isinstance(log, str) or stream not in _STREAM_NAMES or not value.keys().isdisjoint(_OWN_FIELDS):
            return None
        del value["log"], value["stream"]
        content = log.removesuffix("\n")
        is_open = len(content) == len(log)
        if not is_open:
            content = content.removesuffix("\r")
        return _Piece(jsonlines.take_time(value), stream, content, is_open, value)

    def _entry(self, piece: _Piece, texts: list[Any], *, is_partial: bool) -> bytes:
        record = {"message": "".join(texts), "stream": piece.stream, **(piece.rest or {})}
        if is_partial:
            record["partial"] = True
        entry = jsonlines.entry_of(record, piece.time_ns, may_be_deep=False)
        assert entry is not None
        return entry
