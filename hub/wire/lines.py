"""
Lines: a byte stream to batches, requests and losses.

Each line is decided on its own: a JSON object is a request or a message, ``<PRI>`` begins a line of syslog, everything
else is text (hub.wire.batcher). No line is refused: a line that is not valid JSON is text. A last line without a
newline counts.

A frame of syslog may also end at a NUL, or have its length in front (hub.wire.sysloglines). A read is cut at all its
newlines at once, up to the first such frame. From there on it is cut frame by frame, which takes longer.

Always true:
- a slow sender costs no more than a fast one; searched bytes are not searched again;
- a NUL is data until the connection has sent a line of syslog.
"""

from __future__ import annotations

import enum

from hub.message import UNKNOWN_PEER, Origin, Peer
from hub.wire import sysloglines
from hub.wire.batcher import SAMPLE_BYTES, TEXTS_MAX, WINDOW_BYTES, TextDecoder
from hub.wire.frame import FRAME_BYTES_MAX, INLINE_BYTES
from hub.wire.sysloglines import COUNT_BYTES_MAX, Ends

_DIGITS = b"123456789"


class _End(enum.Enum):
    """How a frame ends."""

    NEWLINE = 0
    NUL = 1
    COUNT = 2


class LineDecoder(TextDecoder):
    """Cuts a byte stream into lines, and lines into messages."""

    _kind = "line"

    def __init__(
        self,
        peer: Peer = UNKNOWN_PEER,
        origin: Origin | None = None,
        *,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        takes_requests: bool = True,
    ) -> None:
        super().__init__(peer, origin, frame_bytes_max=frame_bytes_max, takes_requests=takes_requests)
        self._end_of_frame = _End.NEWLINE
        self._small_bytes_max = 0  # a larger frame is opened elsewhere, or is over the limit
        self._left = 0  # bytes of the current frame that have not arrived, if its length was in front
        self._is_syslog = False  # whether the current frame is one of syslog
        self._expects_nul = False  # whether the last frame of syslog ended with a NUL

    def _cut(self, data: bytes) -> bytes:
        if 0 < self._half.held_bytes <= COUNT_BYTES_MAX and not self._left:
            data = self._half.take() + data  # it may be the beginning of a count or of a priority
        at = self._end_half(data) if self._half.held_bytes or self._dropped else 0
        if at == -1:
            return b""
        has_nul = b"\0" in data
        stop = data.rfind(b"\n", at, at + WINDOW_BYTES)
        if (
            stop == -1
            or stop - at > self._text_bytes_max
            or (self._batcher.has_syslog and (has_nul or self._expects_nul))
        ):
            return self._cut_frames(data, at)
        lines = data[at:stop].split(b"\n", TEXTS_MAX)
        may_be_more = at + WINDOW_BYTES < len(data)
        if len(lines) > TEXTS_MAX:
            stop -= len(lines.pop()) + 1
            may_be_more = True
        bare = [line.removesuffix(b"\r") for line in lines] if b"\r" in data else lines
        taken = self._batcher.add_lines(bare, may_be_syslog=b"<" in data, ends_with_nul=has_nul)
        if taken < len(lines):
            return self._cut_frames(data, at + sum(map(len, lines[:taken])) + taken)
        return data[stop + 1 :] if may_be_more else self._cut_frames(data, stop + 1)

    def _cut_frames(self, data: bytes, at: int) -> bytes:
        """Take the frames from *at* on, each on its own. Return what is left for the next call."""
        stop = min(len(data), at + WINDOW_BYTES)
        if b"\0" in data:
            at = self._take_run(data, at, stop)
        ends, taken = Ends(data), list[bytes]()
        self._small_bytes_max = min(INLINE_BYTES, self._text_bytes_max)
        while 0 <= at < stop and len(taken) < TEXTS_MAX:
            at = self._take_frame(data, at, ends, taken)
        self._add_all(taken)
        return data[at:] if at != -1 else b""

    def _take_run(self, data: bytes, at: int, stop: int) -> int:
        """
        Take the frames of syslog between *at* and *stop* at once if each of them ends with a NUL and has no newline.
        Return the offset after them, or *at*.
        """
        last = data.rfind(b"\0", at, stop)
        if last <= at or last - at > self._text_bytes_max or not sysloglines.ends_frame(data, last):
            return at
        if data.find(b"\n", at, last) != -1:
            return at
        frames = data[at:last].split(b"\0", TEXTS_MAX)
        if len(frames) > TEXTS_MAX:
            last -= len(frames.pop()) + 1
        if max(map(len, frames)) > INLINE_BYTES or not all(map(sysloglines.is_syslog, frames)):
            return at
        self._batcher.add_syslog(frames)
        self._is_syslog = True
        self._note_end(0)
        return last + 1

    def _take_frame(self, data: bytes, at: int, ends: Ends, taken: list[bytes]) -> int:
        """
        Append the frame at *at* to *taken*. Return the offset after it, or -1 if its end is not there: then it is held.
        """
        if data[at] in _DIGITS and (count := sysloglines.match_count(data, at)) is not None:
            return self._take_counted(data, count.end(), int(count[1]), taken)
        self._is_syslog = sysloglines.is_syslog(data, at)
        is_open = not self._is_syslog and sysloglines.may_begin(data, at)
        end = -1 if is_open else self._find_end(at, ends)
        if end == -1:
            self._add_all(taken)
            self._hold(data[at:])
            return -1
        self._note_end(data[end])
        if end - at > self._small_bytes_max:
            self._add_all(taken)
            self._hold(data[at:end])
            self._end_text()
        else:
            is_cr = data[end - 1 : end] == b"\r" and data[end]
            taken.append(data[at : end - 1] if is_cr else data[at:end])
        return end + 1

    def _take_counted(self, data: bytes, start: int, size: int, taken: list[bytes]) -> int:
        """Take the frame of *size* bytes at *start*, as `_take_frame` does."""
        stop = start + size
        if stop <= len(data) and size <= self._small_bytes_max:
            taken.append(sysloglines.datagram_line(data[start:stop]))
            return stop
        self._add_all(taken)
        self._end_of_frame, self._is_syslog = _End.COUNT, True
        if stop <= len(data):
            self._hold(data[start:stop])
            self._end_text()
            return stop
        self._left = stop - len(data)
        if size > self._text_bytes_max:
            self._dropped = len(data) - start
            self._sample = data[start : start + SAMPLE_BYTES]
        else:
            self._half.add(data[start:])
        return -1

    def _add_all(self, texts: list[bytes]) -> None:
        """Add *texts*, which are whole, and empty the list."""
        self._batcher.add_lines(texts, may_be_syslog=True, ends_with_nul=False)
        texts.clear()

    def _end_half(self, data: bytes) -> int:
        """Add *data* to the held frame up to its end. Return the offset after that, or -1 if it is not there."""
        if self._left:
            at = min(self._left, len(data))
            self._left -= at
            self._hold(data[:at])
            if self._left:
                return -1
            self._end_text()
            return at
        end = self._find_end(0, Ends(data))
        if end == -1:
            self._hold(data)
            return -1
        self._hold(data[:end])
        self._note_end(data[end])
        self._end_text()
        return end + 1

    def _find_end(self, at: int, ends: Ends) -> int:
        if self._is_syslog:
            return ends.of_syslog(at, expects_nul=self._expects_nul)
        return ends.of_text(at, with_nul=self._batcher.has_syslog)

    def _note_end(self, byte: int) -> None:
        """Note that *byte* ends the current frame."""
        self._end_of_frame = _End.NEWLINE if byte else _End.NUL
        if self._is_syslog:
            self._batcher.has_syslog = True
            self._expects_nul = not byte

    def _end(self) -> None:
        if self._half.held_bytes or self._dropped:
            self._end_of_frame = _End.COUNT if self._left else _End.NEWLINE
            self._left = 0
            self._end_text()

    def _hold(self, data: bytes) -> None:
        if self._dropped:
            self._dropped += len(data)
            if len(self._sample) < SAMPLE_BYTES:
                self._sample += data[: SAMPLE_BYTES - len(self._sample)]
        elif self._half.held_bytes + len(data) > self._text_bytes_max:
            self._dropped = self._half.held_bytes + len(data)
            self._sample = (self._half.begin(SAMPLE_BYTES) + data[:SAMPLE_BYTES])[:SAMPLE_BYTES]
            self._half.take_parts()
        else:
            self._half.add(data)

    def _add(self, text: bytes) -> None:
        if self._end_of_frame is _End.NEWLINE:
            text = text.removesuffix(b"\r")
        self._batcher.add(sysloglines.datagram_line(text) if self._end_of_frame is _End.COUNT else text)
