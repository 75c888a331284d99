"""
Cuts whole lines out of an open file, from a place on.

    place                        read
      │ line \\n line \\n … line \\n half a li│

A read ends at its last newline; half a line stays in the file and is read again. The end of a line that is longer than
a read is searched for first, without keeping what was searched.

Always true:
- the bytes before the place are read and compared each time: a file that was truncated and written again is noticed;
- memory is bounded by one read, or by one line within the limit; a line over it costs that line.

Not here: opening and checking the file (hub.sources.followed).
"""

from __future__ import annotations

import enum
import errno
import os
from typing import NamedTuple

from hub.sources.filecheck import Truncated

SAMPLE_BYTES = 64
LINES_MAX = 16_384
"""Lines of one batch: many more, all of them empty, take the interpreter for too long."""
_REST_BYTES = 64 << 10  # half a line up to that size is simply read again


class Kind(enum.Enum):
    """What a cut has found."""

    LINES = "whole lines"
    REST = "no newline up to the end of the file"
    MORE = "no newline yet: cut again"
    LARGE = "the end of a line larger than the read: cut again with room for it"
    OVERSIZE = "the end of a line over the limit"


class Cut(NamedTuple):
    """The lines, with their newlines; or the length of what was found, and the first bytes of a line over the limit."""

    kind: Kind
    data: bytes = b""
    size: int = 0


class LineCutter:
    """What is remembered about a long line between two cuts."""

    __slots__ = ("_found", "_searched")

    def __init__(self) -> None:
        self._searched = 0  # bytes from the place on that have no newline
        self._found = 0  # the length of a line larger than a read

    def cut(self, fd: int, offset: int, tail: bytes, *, bytes_max: int, line_bytes_max: int) -> Cut:
        """
        Return the lines from *offset* on, at most *bytes_max* bytes. *tail* are the bytes before it.

        Raises Truncated, or OSError.
        """
        if self._searched and not self._found:
            return self._search(fd, offset, tail, bytes_max, line_bytes_max)
        if self._found > bytes_max:
            return Cut(Kind.LARGE, size=self._found)
        length = len(tail)
        block = os.pread(fd, length + (self._found or bytes_max), offset - length)
        if not block.startswith(tail):
            raise Truncated
        end = block.rfind(b"\n", length) + 1
        if end:
            self._found = self._searched = 0
            return Cut(Kind.LINES, block[length:end])
        if self._found:
            raise Truncated  # the end of the line was there
        read = len(block) - length
        if read < bytes_max:
            self._searched = read if read > _REST_BYTES else 0
            return Cut(Kind.REST, size=read)
        self._searched = read
        return Cut(Kind.MORE, size=read)

    def _search(self, fd: int, offset: int, tail: bytes, bytes_max: int, line_bytes_max: int) -> Cut:
        """Look for the end of a long line."""
        block = os.pread(fd, bytes_max, offset + self._searched)
        end = block.find(b"\n")
        if end == -1:
            self._searched += len(block)
            if len(block) == bytes_max and not block.strip(b"\0"):
                self._searched = _data_from(fd, offset + self._searched) - offset
            return Cut(Kind.REST if len(block) < bytes_max else Kind.MORE, size=self._searched)
        size = self._searched + end + 1
        if size - 1 <= line_bytes_max:
            self._found = size
            return Cut(Kind.LARGE, size=size)
        sample = os.pread(fd, len(tail) + SAMPLE_BYTES, offset - len(tail))
        if not sample.startswith(tail):
            raise Truncated
        self._searched = 0
        return Cut(Kind.OVERSIZE, sample[len(tail) :], size)


def some_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the first `LINES_MAX` lines of *data* without their newlines, and the bytes that they are."""
    lines = data.split(b"\n", LINES_MAX)
    rest = lines.pop()
    return lines, data[: -len(rest)] if rest else data


def _data_from(fd: int, place: int) -> int:
    """Return where the data of an open file goes on from *place*: the hole of a sparse file has no end of a line."""
    try:
        return os.lseek(fd, place, os.SEEK_DATA)
    except OSError as error:
        return max(os.fstat(fd).st_size, place) if error.errno == errno.ENXIO else place
