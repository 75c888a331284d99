"""
Length-prefixed JSON: a four-byte big-endian length, then the JSON of this length.

A text is treated like a line (hub.wire.batcher): a JSON object is a request or a message, anything else is syslog or
plain text. Replies on such a connection have their length in front too.

Always true: half a text costs its own bytes.
"""

from __future__ import annotations

import struct

from hub.message import UNKNOWN_PEER, Loss, Origin, Peer
from hub.wire.batcher import SAMPLE_BYTES, TEXTS_MAX, WINDOW_BYTES, TextDecoder
from hub.wire.frame import FRAME_BYTES_MAX

_LENGTH = struct.Struct(">I")


def frame(line: bytes) -> bytes:
    """Return *line* with its length in front, without its newline."""
    text = line.removesuffix(b"\n")
    return _LENGTH.pack(len(text)) + text


class PrefixedDecoder(TextDecoder):
    """Cuts a byte stream by its lengths."""

    _kind = "text"

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        super().__init__(peer, origin, frame_bytes_max=frame_bytes_max)
        self._length = b""  # the received part of a length
        self._left: int | None = None  # bytes of the current text that have not arrived
        self._is_over = False  # whether the current text is over the limit

    @property
    def held_bytes(self) -> int:
        """Number of bytes held: a length, half a text, and received bytes that are not decoded yet."""
        return len(self._length) + super().held_bytes

    def _cut(self, data: bytes) -> bytes:
        at = 0
        for _ in range(TEXTS_MAX):
            if at >= min(len(data), WINDOW_BYTES):
                break
            at = self._take(data, at)
        return data[at:]

    def _end(self) -> None:
        if self._is_over:
            self._end_of_dropped()
        elif self._left is not None or self._length:
            sample = (self._length + self._half.begin(SAMPLE_BYTES))[:SAMPLE_BYTES]
            lost = len(self._length) + self._half.held_bytes
            self._batcher.add_loss(Loss("half a text at the end of the stream", lost_bytes=lost, sample=sample))
        self._half.take_parts()
        self._left, self._length, self._is_over = None, b"", False

    def _take(self, data: bytes, at: int) -> int:
        """Take a length, or the available bytes of a text. Return the offset where they end."""
        if self._left is None:
            length = self._length + data[at : at + _LENGTH.size - len(self._length)]
            at += len(length) - len(self._length)
            if len(length) < _LENGTH.size:
                self._length = length
                return at
            (self._left,) = _LENGTH.unpack(length)
            self._is_over = self._left > self._text_bytes_max
            self._length = b"" if self._is_over else length
        stop = min(at + self._left, len(data))
        if self._is_over:
            self._dropped += stop - at
            if len(self._sample) < SAMPLE_BYTES:
                self._sample = (self._sample + data[at : min(stop, at + SAMPLE_BYTES)])[:SAMPLE_BYTES]
        else:
            self._half.add(data[at:stop])
        self._left -= stop - at
        if not self._left:
            self._length, self._left, self._is_over = b"", None, False
            self._end_text()
        return stop
