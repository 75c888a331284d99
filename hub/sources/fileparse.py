"""
Whole lines of a file to messages: the format of a line, and which lines belong together.

Nothing is remembered between two reads. Lines that may continue are left in the file, and are read again with what
follows them, so the place reached is always at the end of an event.

Always true: each line is in one message, or in one loss; their sizes add up to the bytes that are taken.
Not here: formats (hub.wire.parsers), tracebacks (hub.wire.multiline), reading (hub.sources.followed).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import msgspec

from hub.entries import UNSTAMPED, join, str_header
from hub.message import Loss
from hub.wire.multiline import Join, Joined, Joiner, Moment
from hub.wire.parsers import PARSERS, Parser

EVENT_BYTES_MAX = 1 << 20
"""What lines may be joined to."""
MATCH_BYTES_MAX = 4096
"""How much of a line is compared with an expression."""
SAMPLE_BYTES = 64
_NOW = Moment(0, 0)
_encode = msgspec.msgpack.Encoder().encode


class Run(NamedTuple):
    """Messages that follow each other in a file, and their size in it in bytes; or the loss of these bytes."""

    entries: bytes
    messages: int
    size: int
    loss: Loss | None = None


class LineJoiner(Protocol):
    """Joins lines to messages."""

    @property
    def held_lines(self) -> int:
        """How many of the last lines may be continued."""

    def add(self, lines: list[bytes], moment: Moment, block: bytes) -> list[Joined]:
        """Return the messages that are complete."""

    def flush(self) -> list[Joined]:
        """Return the held lines."""


class StartJoiner:
    """Joins lines up to the next one that *expression* matches at its start."""

    def __init__(self, expression: re.Pattern[bytes]) -> None:
        self._match = expression.match
        self._held: list[bytes] = []
        self._held_bytes = 0

    @property
    def held_lines(self) -> int:
        return len(self._held)

    def add(self, lines: list[bytes], moment: Moment, block: bytes) -> list[Joined]:
        messages: list[bytes] = []
        for line in lines:
            is_full = self._held_bytes + len(line) >= EVENT_BYTES_MAX
            if self._held and (is_full or self._match(line[:MATCH_BYTES_MAX])):
                messages.append(self._take())
            self._held.append(line)
            self._held_bytes += len(line) + 1
        return [Joined(messages, moment)] if messages else []

    def flush(self) -> list[Joined]:
        return [Joined([self._take()], _NOW)] if self._held else []

    def _take(self) -> bytes:
        message = b"\n".join(self._held)
        self._held, self._held_bytes = [], 0
        return message


def joiner_of(multiline: str | None) -> Callable[[], LineJoiner] | None:
    """Return what makes a joiner for the setting ``multiline``. Raises ValueError for an expression that is none."""
    if multiline is None:
        return None
    if multiline in ("auto", "indent"):
        join_kind = Join(multiline)
        return lambda: Joiner(join_kind, bytes_max=EVENT_BYTES_MAX)
    try:
        expression = re.compile(multiline.encode())
    except re.error as error:
        raise ValueError(f"multiline is neither auto, indent nor a regular expression: {error}") from None
    return lambda: StartJoiner(expression)


class FileParser:
    """Parses the lines of files: *parse* names their format."""

    def __init__(self, parse: str = "text", multiline: str | None = None) -> None:
        self._parser: Callable[[], Parser] = PARSERS[parse]
        self._joiner = joiner_of(multiline)

    def runs(
        self, data: bytes, lines: list[bytes] | None = None, *, line_bytes_max: int, is_last: bool
    ) -> Iterator[Run]:
        """
        Yield what *data* is, whole lines with their newlines. *lines* are the same without these, if they are known.
        With *is_last*, nothing is left in the file.
        """
        if lines is None:
            lines = data.split(b"\n")
            lines.pop()
        if len(data) <= line_bytes_max or max(map(len, lines), default=0) <= line_bytes_max:
            yield from self._some(lines, data, len(data), is_last=is_last)
            return
        begin = 0
        for number, line in enumerate(lines):
            if len(line) > line_bytes_max:
                if number > begin:
                    yield from self._some(lines[begin:number], data, _size_of(lines[begin:number]), is_last=True)
                yield Run(b"", 0, len(line) + 1, oversize(len(line), line[:SAMPLE_BYTES], line_bytes_max))
                begin = number + 1
        if begin < len(lines):
            yield from self._some(lines[begin:], data, _size_of(lines[begin:]), is_last=is_last)

    def _some(self, lines: list[bytes], data: bytes, size: int, *, is_last: bool) -> Iterator[Run]:
        """Yield what *lines* of *data* are, *size* bytes with their newlines."""
        if self._joiner is not None:
            yield from self._joined(lines, data, size, is_last=is_last)
            return
        parser = self._parser()
        entries, count = parser.parse(lines)
        held = parser.open_bytes
        if size > held:
            yield Run(entries, count, size - held)
        if held and is_last:
            entries, count = parser.finish()
            yield Run(entries, count, held)

    def _joined(self, lines: list[bytes], data: bytes, size: int, *, is_last: bool) -> Iterator[Run]:
        assert self._joiner is not None
        joiner = self._joiner()
        bare = [line.removesuffix(b"\r") for line in lines] if b"\r" in data else lines
        joined = joiner.add(bare, _NOW, data)
        if is_last:
            joined += joiner.flush()
        if held := joiner.held_lines:
            size -= _size_of(lines[-held:])
        if not size:
            return
        if len(joined) == 1 and joined[0].level is None:
            entries, count = self._parser().parse(joined[0].messages)
            yield Run(entries, count, size)
            return
        parts: list[bytes] = []
        for messages, _, level in joined:
            fields: dict[str, Any] = {} if level is None else {"level": level}
            parts += (text_entry(message, fields) for message in messages)
        yield Run(join(parts, len(parts)), len(parts), size)


def _size_of(lines: list[bytes]) -> int:
    """Return how many bytes *lines* are with their newlines."""
    return sum(map(len, lines)) + len(lines)


def text_entry(line: bytes, fields: dict[str, Any]) -> bytes:
    """Return the entry of a line with further fields."""
    pairs = b"".join(_encode(one) for pair in fields.items() for one in pair)
    return b"".join((UNSTAMPED, bytes((0x81 + len(fields),)), pairs, _encode("message"), str_header(len(line)), line))


def oversize(size: int, sample: bytes, line_bytes_max: int) -> Loss:
    """Return the loss of a line over the limit."""
    return Loss(f"a line over the limit of {line_bytes_max} bytes", lost_bytes=size, sample=sample)
