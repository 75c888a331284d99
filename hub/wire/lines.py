"""
Lines: a byte stream to batches, requests and losses.

Each line is decided on its own: a JSON object is a request or a message (hub.wire.jsonlines), everything else is text
(hub.wire.text). No line is refused: a line that is not valid JSON is text. A last line without a newline counts.

Always true:
- adjacent messages of one tag that arrived together form one batch, in order;
- a line over the limit costs that line: it becomes one loss, and the stream continues after it;
- a slow sender costs no more than a fast one: searched bytes are not searched again;
- one `receive` decodes a limited number of lines, and the next call the others.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire.batcher import TEXTS_MAX, Gathering
from hub.wire.buffer import Parts
from hub.wire.frame import FRAME_BYTES_MAX, INLINE_BYTES
from hub.wire.jsonrpc import Request
from hub.wire.payload import Unopened

_WINDOW_BYTES = 256 << 10  # one read: JSON of this size takes 6 ms at most


class LineDecoder:
    """Cuts a byte stream into lines, and lines into messages. Feed it with `receive`, and call `finish` at the end."""

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        self._gathering = Gathering(peer, origin)
        self._line_bytes_max = frame_bytes_max
        self._rest = b""  # received, not decoded yet
        self._half = Parts()
        self._dropped = 0  # bytes discarded of the current line, if it is over the limit
        self._sample = b""  # of that line

    @property
    def held_bytes(self) -> int:
        """Number of bytes held: half a line, and received bytes that are not decoded yet."""
        return self._half.held_bytes + len(self._rest)

    @property
    def has_more(self) -> bool:
        """Whether `receive` has work to do without new bytes."""
        return bool(self._rest)

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return the items that *data* completes, or the first part of them."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        if self._half.held_bytes or self._dropped:
            at = self._end_half(data)
        stop = data.rfind(b"\n", at, at + _WINDOW_BYTES)
        if stop == -1:
            at = self._end_half(data, at)  # of a line longer than one read, if its end has arrived
        else:
            lines = data[at:stop].split(b"\n", TEXTS_MAX)
            if len(lines) > TEXTS_MAX:
                stop -= len(lines.pop()) + 1
            for line in lines:
                self._line(line)
            at = stop + 1
        if data.find(b"\n", at) != -1:
            self._rest = data[at:]
        else:
            self._hold(data[at:])
        return self._gathering.take()

    def finish(self) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return everything that is left, including a last line without a newline."""
        items: list[Batch | Loss | Request | Unopened] = []
        while self._rest:
            items += self.receive(b"")
        self._end_line()
        return [*items, *self._gathering.take()]

    def _end_half(self, data: bytes, at: int = 0) -> int:
        """
        Append the end of the line at *at* to the held part, if it has arrived. Return the offset to continue with.
        """
        end = data.find(b"\n", at)
        if end == -1:
            return at
        self._hold(data[at:end])
        self._end_line()
        return end + 1

    def _hold(self, data: bytes) -> None:
        if not data:
            return
        if self._dropped:
            self._dropped += len(data)
        elif self._half.held_bytes + len(data) > self._line_bytes_max:
            self._dropped = self._half.held_bytes + len(data)
            self._sample = (self._half.begin(64) + data[:64])[:64]
            self._half.take_parts()
        else:
            self._half.add(data)

    def _end_line(self) -> None:
        """Decode the held bytes as a whole line, if any."""
        if self._dropped:
            self._end_of_dropped()
        elif self._half.held_bytes > INLINE_BYTES:
            self._gathering.add_large(self._half.take_parts())
        elif self._half.held_bytes:
            self._line(self._half.take())

    def _end_of_dropped(self) -> None:
        reason = f"a line over the limit of {self._line_bytes_max} bytes"
        self._gathering.add_loss(Loss(reason, lost_bytes=self._dropped, sample=self._sample))
        self._dropped = 0

    def _line(self, line: bytes) -> None:
        if len(line) > self._line_bytes_max:
            self._sample, self._dropped = line[:64], len(line)
            self._end_of_dropped()
        else:
            self._gathering.add(line.removesuffix(b"\r"))
