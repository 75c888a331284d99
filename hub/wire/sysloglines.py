"""
Lines of syslog: how one is recognised, where it ends on a stream, and how it is stored.

A frame begins with a priority, ``<0>`` to ``<191>``, or with the number of its bytes and a space before that (RFC 6587,
octet counting). On a stream it ends

- after that number of bytes;
- else at a newline, or at a NUL before `<`, a digit or the end of what was read. Python's `SysLogHandler` sends a NUL
  and no newline. Such a frame keeps the newlines inside it, unless a frame begins after one. Any other NUL is data.

The line is stored whole (hub.entries). A receiver of datagrams stores the result of `datagram_line` in the same way.

Always true: each frame is decided on its own; each search goes over the bytes at hand once.
Not here: the fields of a line (hub.syslogfields).
Source: RFC 6587, section 3.4; RFC 5426; logging.handlers.SysLogHandler.
"""

from __future__ import annotations

import re

from hub.entries import before_syslog, str_header

TAG = b"syslog"
COUNT_BYTES_MAX = 15
"""The longest beginning of a frame that may have to wait for the rest: nine digits, a space, a priority."""
PRIORITIES = frozenset(
    b"<%s>" % str(pri).zfill(width).encode() for pri in range(192) for width in (1, 2, 3) if len(str(pri)) <= width
)
_MESSAGE = b"\x81\xa7message"
match_count = re.compile(rb"([1-9][0-9]{0,8}) (?=<[0-9]{1,3}>)").match
_BEGIN = rb"(?:[1-9][0-9]{0,8}(?: (?:<[0-9]{0,3})?)?|<[0-9]{0,3})\Z"  # of a frame, and no more has been read
_match_begin = re.compile(_BEGIN).match
_AFTER_NUL = frozenset((b"", b"<", *(b"%d" % digit for digit in range(10))))
_find_nul = re.compile(rb"\0(?=[<0-9]|\Z)").search
_find_frame = re.compile(rb"\n(?=<[0-9]{1,3}>|[1-9][0-9]{0,8} <[0-9]|\Z|%b)" % _BEGIN).search


def is_syslog(line: bytes, at: int = 0) -> bool:
    """Return whether a priority is at *at*."""
    return line[at : line.find(b">", at + 2, at + 5) + 1] in PRIORITIES


def ends_frame(data: bytes, nul: int) -> bool:
    """Return whether the NUL at *nul* ends a frame."""
    return data[nul + 1 : nul + 2] in _AFTER_NUL


def may_begin(data: bytes, at: int) -> bool:
    """Return whether *data* ends in the middle of a count or a priority that begins at *at*."""
    return len(data) - at <= COUNT_BYTES_MAX and _match_begin(data, at) is not None


def before_line() -> bytes:
    """Return the bytes of an entry before the header of a line that is received now."""
    return before_syslog() + _MESSAGE


def encode_entry(line: bytes) -> bytes:
    """Return the entry of *line*, received now."""
    return before_line() + str_header(len(line)) + line


def datagram_line(datagram: bytes) -> bytes:
    """Return the line in a datagram, or in a counted frame: without one newline or NUL at its end."""
    return datagram[:-1] if datagram.endswith((b"\n", b"\0")) else datagram


class Ends:
    """Finds the ends of frames in *data*. The offsets asked for never decrease."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._newline = self._nul = self._frame = -2  # where the next one is; -1: there is none; -2: not searched

    def of_text(self, at: int, *, with_nul: bool) -> int:
        """Return where a text at *at* ends, at a newline or, *with_nul*, at a NUL; -1 if its end is not there."""
        newline = self._next_newline(at)
        nul = self._next_nul(at) if with_nul else -1
        return newline if nul == -1 or -1 < newline < nul else nul

    def of_syslog(self, at: int, *, expects_nul: bool) -> int:
        """
        Return the same for a frame of syslog. *expects_nul*: the last one ended with a NUL, so that this one is held
        until its NUL arrives.
        """
        newline = self._newline if self._newline >= at or self._newline == -1 else self._next_newline(at)
        nul = self._nul if self._nul >= at or self._nul == -1 else self._next_nul(at)
        if nul == -1:
            return -1 if expects_nul and newline != -1 and self._next_frame(at) == -1 else newline
        if newline == -1 or nul < newline:
            return nul
        return newline if -1 < self._next_frame(at) < nul else nul

    def _next_newline(self, at: int) -> int:
        if self._newline != -1 and self._newline < at:
            self._newline = self._data.find(b"\n", at)
        return self._newline

    def _next_nul(self, at: int) -> int:
        if self._nul != -1 and self._nul < at:
            nul = self._data.find(b"\0", at)
            if nul != -1 and not ends_frame(self._data, nul):
                found = _find_nul(self._data, nul)
                nul = -1 if found is None else found.start()
            self._nul = nul
        return self._nul

    def _next_frame(self, at: int) -> int:
        """Return the next newline after which a frame begins, or nothing has been read yet."""
        if self._frame != -1 and self._frame < at:
            found = _find_frame(self._data, at)
            self._frame = -1 if found is None else found.start()
        return self._frame
