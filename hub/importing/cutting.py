"""
The content of a log, cut into chunks: messages, and where the content goes on after them.

Always true:
- a chunk ends where a line or an event does, so that reading can begin there again;
- every byte is in one chunk, except lines of a journal's export that cannot be kept: they are counted in `left_out`;
- a line of more than `LINE_BYTES_MAX` becomes several messages: memory is bounded.

Not here: the formats (hub.wire.parsers, hub.wire.journalexport), reading (hub.importing.contents).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from hub.entries import ARRAY_HEADER_BYTES
from hub.importing.formats import JOURNALD
from hub.wire.journalexport import BadExport, JournalExport
from hub.wire.parsers import PARSERS, Parsed, Parser

LINE_BYTES_MAX = 256 << 10
LINES_MAX = 8192
"""Of one chunk. With both limits, and what an entry takes beside its line, the smallest journal accepts the frame."""
ENTRY_BYTES_MAX = 16 << 20
"""Of an entry of a journal's export."""


class Chunk(NamedTuple):
    """Messages: their entries without the header of an array, their number, and where the content goes on."""

    entries: bytes
    messages: int
    end: int


class BadContent(Exception):
    """The content is not of the format that it began with; its text says why."""


class Cutter(Protocol):
    """Cuts one content, from *start* on."""

    left_out: int
    """How many messages could not be kept."""

    def take(self, data: bytes) -> Iterator[Chunk]:
        """Yield the chunks that are complete with *data*. Raises BadContent."""

    def finish(self) -> Iterator[Chunk]:
        """Yield what is left at the end of the content. Raises BadContent."""


def cutter(kind: str, start: int) -> Cutter:
    """Return the cutter for a format (hub.importing.formats), for a content from *start* on."""
    return ExportCutter(start) if kind == JOURNALD else LineCutter(PARSERS[kind](), start)


class LineCutter:
    """Cuts lines."""

    left_out = 0

    def __init__(self, parser: Parser, start: int) -> None:
        self._parser = parser
        self._at = start  # after the last whole line
        self._half = bytearray()  # of a line

    def take(self, data: bytes) -> Iterator[Chunk]:
        """Yield the lines that are complete with *data*."""
        end = data.rfind(b"\n")
        if end != -1:
            lines = (data[:end] if not self._half else bytes(self._half + data[:end])).split(b"\n")
            self._half.clear()
            for at in range(0, len(lines), LINES_MAX):
                some = lines[at : at + LINES_MAX]
                self._at += sum(map(len, some)) + len(some)
                yield from self._chunk(self._parser.parse(some))
        self._half += data[end + 1 :]
        while len(self._half) > LINE_BYTES_MAX:
            piece = bytes(self._half[:LINE_BYTES_MAX])
            del self._half[:LINE_BYTES_MAX]
            yield from self._piece(piece)

    def finish(self) -> Iterator[Chunk]:
        """Yield the last line, if it has no newline, and events that have not ended."""
        if self._half:
            yield from self._piece(bytes(self._half))
            self._half.clear()
        else:
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

    def __init__(self, start: int) -> None:
        self.left_out = 0
        self._export = JournalExport(entry_bytes_max=ENTRY_BYTES_MAX)
        self._at = start

    def take(self, data: bytes) -> Iterator[Chunk]:
        """Yield the entries that are complete with *data*."""
        packed: list[bytes] = []
        self._at += len(data)
        fault = None
        try:
            while data or self._export.has_more:
                for entry in self._export.receive(data):
                    each = None if entry.is_cut else entry.packed()
                    if each is None:
                        self.left_out += 1
                    else:
                        packed.append(each)
                data = b""
        except BadExport as error:
            fault = error
        if packed:
            yield Chunk(b"".join(packed), len(packed), self._at - self._export.open_bytes)
        if fault is not None:
            raise BadContent(f"it is no export of a journal from some place on: {fault}") from fault

    def finish(self) -> Iterator[Chunk]:
        """Yield nothing. Raises BadContent if an entry is not whole."""
        if self._export.open_bytes:
            raise BadContent("it ends in the middle of an entry")
        yield from ()
