"""
The content of a log, cut into chunks: messages, and where the content goes on after them.

Always true:
- a chunk ends where a line or an event does, so that reading can begin there again;
- every byte is in one chunk, except lines of a journal's export that cannot be kept: they are counted in `left_out`;
- a line of more than `LINE_BYTES_MAX` becomes several messages: memory is bounded;
- a chunk has at most the bytes that it is allowed, so that the hub accepts its frame. If that is little, a line is cut
  and an event is given up at a quarter of it.

Not here: the formats (hub.wire.parsers, hub.wire.journalexport), reading (hub.importing.contents).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from hub.entries import ARRAY_HEADER_BYTES
from hub.importing.formats import JOURNALD
from hub.wire.journalexport import ENTRIES_MAX, BadExport, Entry, JournalExport
from hub.wire.parsers import PARSERS, Parsed, Parser

LINE_BYTES_MAX = 256 << 10
LINES_MAX = 8192
"""Maximum lines of one chunk."""
LINE_GROWTH, LINE_COST_BYTES = 3, 256
"""In an entry, a line takes at most three times its bytes (numbers in JSON), and the bytes of the fields beside it."""
ENTRY_BYTES_MAX = 16 << 20
"""Maximum bytes of an entry of a journal's export."""
CHUNK_BYTES_MIN = 512
"""The smallest limit for a chunk: a short line needs it."""
_AT_ONCE_BYTES = 1 << 20
"""The smallest limit for a chunk with which many entries of an export are read at once."""


class Chunk(NamedTuple):
    """Messages: their entries without the header of an array, their number, and where the content goes on."""

    entries: bytes
    messages: int
    end: int


class BadContent(Exception):
    """The content is not of the format that it began with; the text is the reason."""


class Cutter(Protocol):
    """Cuts one content, from *start* on."""

    left_out: int
    """How many messages could not be kept."""

    def take(self, data: bytes) -> Iterator[Chunk]:
        """Yield the chunks that are complete with *data*. Raises BadContent."""

    def finish(self) -> Iterator[Chunk]:
        """Yield the rest, at the end of the content. Raises BadContent."""


def cutter(kind: str, start: int, *, chunk_bytes_max: int) -> Cutter:
    """
    Return the cutter for a format (hub.importing.formats), for a content from *start* on. The entries of a chunk take
    at most *chunk_bytes_max*.
    """
    chunk_bytes_max = max(chunk_bytes_max, CHUNK_BYTES_MIN)
    if kind == JOURNALD:
        return ExportCutter(start, chunk_bytes_max)
    return LineCutter(PARSERS[kind](), start, chunk_bytes_max)


class LineCutter:
    """Cuts lines."""

    left_out = 0

    def __init__(self, parser: Parser, start: int, chunk_bytes_max: int) -> None:
        self._parser = parser
        self._open_bytes_max = chunk_bytes_max // 4  # of an event
        self._lines_bytes_max = chunk_bytes_max - self._open_bytes_max
        self._line_bytes_max = min((self._lines_bytes_max - LINE_COST_BYTES) // LINE_GROWTH, LINE_BYTES_MAX)
        self._at = start  # after the last whole line
        self._half = bytearray()  # of a line

    def take(self, data: bytes) -> Iterator[Chunk]:
        """Yield the lines that are complete with *data*."""
        end = data.rfind(b"\n")
        if end != -1:
            lines = (data[:end] if not self._half else bytes(self._half + data[:end])).split(b"\n")
            self._half.clear()
            for at in range(0, len(lines), LINES_MAX):
                yield from self._lines(lines[at : at + LINES_MAX])
        self._half += data[end + 1 :]
        while len(self._half) > self._line_bytes_max:
            piece = bytes(self._half[: self._line_bytes_max])
            del self._half[: self._line_bytes_max]
            yield from self._piece(piece)

    def finish(self) -> Iterator[Chunk]:
        """Yield the last line, if it has no newline, and events that have not ended."""
        if self._half:
            yield from self._piece(bytes(self._half))
            self._half.clear()
        else:
            yield from self._chunk(self._parser.finish())

    def _lines(self, lines: list[bytes]) -> Iterator[Chunk]:
        """Yield whole lines: at once, if a chunk may have as much, or half of them and then the others."""
        size = sum(map(len, lines)) + len(lines)
        if LINE_GROWTH * size + LINE_COST_BYTES * len(lines) > self._lines_bytes_max:
            if len(lines) > 1:
                half = len(lines) // 2
                yield from self._lines(lines[:half])
                yield from self._lines(lines[half:])
                return
            while len(lines[0]) > self._line_bytes_max:
                yield from self._piece(lines[0][: self._line_bytes_max])
                lines = [lines[0][self._line_bytes_max :]]
            size = len(lines[0]) + 1
        self._at += size
        yield from self._chunk(self._parser.parse(lines))
        if self._parser.open_bytes > self._open_bytes_max:
            yield from self._chunk(self._parser.finish())

    def _piece(self, line: bytes) -> Iterator[Chunk]:
        """Yield what ends with *line*, which has no newline."""
        first, last = self._parser.parse([line]), self._parser.finish()
        self._at += len(line)
        entries = first[0] + last[0][ARRAY_HEADER_BYTES:]
        yield from self._chunk((entries, first[1] + last[1]))

    def _chunk(self, parsed: Parsed) -> Iterator[Chunk]:
        entries, count = parsed
        if count:
            yield Chunk(entries[ARRAY_HEADER_BYTES:], count, self._at - self._parser.open_bytes)


class ExportCutter:
    """Cuts entries of a systemd journal."""

    def __init__(self, start: int, chunk_bytes_max: int) -> None:
        self.left_out = 0
        self._chunk_bytes_max = chunk_bytes_max
        self._at_once = ENTRIES_MAX if chunk_bytes_max >= _AT_ONCE_BYTES else 1
        # Some fields are stored under two names. What is read at once has this size, and that of a block.
        self._export = JournalExport(entry_bytes_max=min(chunk_bytes_max // 4, ENTRY_BYTES_MAX))
        self._at = start

    def take(self, data: bytes) -> Iterator[Chunk]:
        """Yield the entries that are complete with *data*. Raises BadContent."""
        packed: list[bytes] = []
        size = end = 0
        self._at += len(data)
        fault = None
        try:
            while data or self._export.has_more:
                some = self._packed(self._export.receive(data, entries_max=self._at_once))
                data = b""
                some_bytes = sum(map(len, some))
                if packed and size + some_bytes > self._chunk_bytes_max:
                    yield Chunk(b"".join(packed), len(packed), end)
                    packed, size = [], 0
                packed += some
                size += some_bytes
                end = self._at - self._export.open_bytes
        except BadExport as error:
            fault = error
        if packed:
            yield Chunk(b"".join(packed), len(packed), end)
        if fault is not None:
            raise BadContent(f"it is no export of a journal from some place on: {fault}") from fault

    def finish(self) -> Iterator[Chunk]:
        """Yield nothing. Raises BadContent if an entry is not whole."""
        if self._export.open_bytes:
            raise BadContent("it ends in the middle of an entry")
        yield from ()

    def _packed(self, entries: list[Entry]) -> list[bytes]:
        """Return *entries* as the hub stores them. Those that cannot be kept are counted."""
        packed = [None if entry.is_cut else entry.packed() for entry in entries]
        kept = [each for each in packed if each is not None and len(each) <= self._chunk_bytes_max]
        self.left_out += len(packed) - len(kept)
        return kept
