"""
Lines: a byte stream to batches, requests and losses.

Each line is decided on its own: a JSON object is a request or a message, everything else is text (hub.wire.batcher). No
line is refused: a line that is not valid JSON is text. A last line without a newline counts.

Always true: a slow sender costs no more than a fast one; searched bytes are not searched again.
"""

from __future__ import annotations

from hub.wire.batcher import SAMPLE_BYTES, TEXTS_MAX, WINDOW_BYTES, TextDecoder


class LineDecoder(TextDecoder):
    """Cuts a byte stream into lines, and lines into messages."""

    _kind = "line"

    def _cut(self, data: bytes) -> bytes:
        at = 0
        if self._half.held_bytes or self._dropped:
            at = self._end_half(data)
        stop = data.rfind(b"\n", at, at + WINDOW_BYTES)
        if stop == -1:
            at = self._end_half(data, at)  # of a line longer than one read, if its end has arrived
        else:
            lines = data[at:stop].split(b"\n", TEXTS_MAX)
            if len(lines) > TEXTS_MAX:
                stop -= len(lines.pop()) + 1
            for line in lines:
                self._add(line)
            at = stop + 1
        if data.find(b"\n", at) != -1:
            return data[at:]
        self._hold(data[at:])
        return b""

    def _end(self) -> None:
        if self._half.held_bytes or self._dropped:
            self._end_text()

    def _end_half(self, data: bytes, at: int = 0) -> int:
        """
        Append the end of the line at *at* to the held part, if it has arrived. Return the offset to continue with.
        """
        end = data.find(b"\n", at)
        if end == -1:
            return at
        self._hold(data[at:end])
        self._end_text()
        return end + 1

    def _hold(self, data: bytes) -> None:
        if self._dropped:
            self._dropped += len(data)
        elif self._half.held_bytes + len(data) > self._text_bytes_max:
            self._dropped = self._half.held_bytes + len(data)
            self._sample = (self._half.begin(SAMPLE_BYTES) + data[:SAMPLE_BYTES])[:SAMPLE_BYTES]
            self._half.take_parts()
        else:
            self._half.add(data)

    def _add(self, text: bytes) -> None:
        if len(text) > self._text_bytes_max:
            self._sample, self._dropped = text[:SAMPLE_BYTES], len(text)
            self._end_of_dropped()
        else:
            self._batcher.add(text.removesuffix(b"\r"))
