"""
The formats of the lines of a file, in a table.

| format | a line is |
|---|---|
| `text` | the `message` of a record, without a time |
| `json` | a record, if it is an object; its `time` is removed as in hub.wire.jsonlines; any other line is text |
| `syslog` | a line of syslog, with or without a priority; it is stored whole, and taken apart when it is read |
| `cri`, `docker` | a line, or a part of one, of a container (hub.wire.containerlogs) |

No line is invalid: a line that does not fit the format is text, whole. The tag is that of the source: a `tag` in an
object stays in the record, because the lines of one read are one batch, whose position is that of the file.

Always true:
- the bytes of a line are kept as they are, without a carriage return at its end;
- a line of text or syslog costs no statement of Python.

Not here: where a line ends, and which lines are one event (the callers).
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from typing import Protocol

from hub.entries import array_header, join
from hub.wire import jsonlines, sysloglines, text
from hub.wire.containerlogs import CriParser, DockerParser
from hub.wire.jsonlines import JSON_BYTES_MAX

Parsed = tuple[bytes, int]
"""The entries (hub.entries), and their number."""


class Parser(Protocol):
    """Parses the lines of one file, in their order."""

    @property
    def open_bytes(self) -> int:
        """
        How many bytes at the end of the parsed lines belong to events that are not complete, newlines included. The
        position of the file is before them. These events are among the entries of a later `parse`, or of `finish`.
        """

    def parse(self, lines: list[bytes]) -> Parsed:
        """Return the messages in *lines*: whole lines, without their newlines."""

    def finish(self) -> Parsed:
        """Return the events that are not complete, as they are: nothing more follows."""


def _parse(lines: list[bytes], before: bytes) -> Parsed:
    """Return the messages in *lines*. *before* are the bytes of an entry before the header of its line."""
    entries = _join(lines, before)
    if b"\r" in entries:  # it may also be a part of a length, or in the middle of a line
        entries = _join([line.removesuffix(b"\r") for line in lines], before)
    return entries, len(lines)


def _join(lines: list[bytes], before: bytes) -> bytes:
    parts = [b""] * (2 * len(lines) + 1)
    parts[0] = array_header(len(lines))
    parts[1::2] = map(text.heads(before).__getitem__, map(len, lines))
    parts[2::2] = lines
    return b"".join(parts)


class _LineParser(abc.ABC):
    """A format in which each line is a message, and none is open."""

    open_bytes = 0

    @abc.abstractmethod
    def parse(self, lines: list[bytes]) -> Parsed: ...

    def finish(self) -> Parsed:
        """Return nothing."""
        return join((), 0), 0


class TextParser(_LineParser):
    """Lines of text."""

    def parse(self, lines: list[bytes]) -> Parsed:
        """Return a message for each line."""
        return _parse(lines, text.BEFORE_LINE)


class SyslogParser(_LineParser):
    """Lines of syslog."""

    def parse(self, lines: list[bytes]) -> Parsed:
        """Return a message for each line."""
        return _parse(lines, sysloglines.before_line())


class JsonParser(_LineParser):
    """JSON objects, one on a line."""

    def parse(self, lines: list[bytes]) -> Parsed:
        """Return a message for each line."""
        return join(map(_json_entry, lines), len(lines)), len(lines)


def _json_entry(line: bytes) -> bytes:
    if line[:1] == b"{" and len(line) <= JSON_BYTES_MAX and (value := jsonlines.decode_object(line)) is not None:
        time_ns = jsonlines.take_time(value)
        entry = jsonlines.entry_of(value, time_ns, may_be_deep=jsonlines.may_be_too_deep(line))
        if entry is not None:
            return entry
    return text.encode_entry(line.removesuffix(b"\r"))


PARSERS: Mapping[str, Callable[[], Parser]] = {
    "text": TextParser,
    "json": JsonParser,
    "syslog": SyslogParser,
    "cri": CriParser,
    "docker": DockerParser,
}
"""By the name of the format."""
