"""
Lines: a byte stream to batches, requests and losses.

Each line is decided by itself: a JSON object is a command or a message (hub.wire.jsonlines), everything else is text
(hub.wire.text). Nothing is refused: a line that fails its guess is text. A last line without a newline counts.

Always true:
- neighbouring messages of one tag that arrived together are one batch, in order;
- a line over the limit costs that line: one loss, and the stream goes on behind it;
- a slow sender costs no more than a fast one: what was searched is not searched again;
- one `receive` takes a bounded number of lines: what is left over is decoded by the next call.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire.batcher import TEXTS_MAX, Gathering
from hub.wire.buffer import Parts
from hub.wire.frame import FRAME_BYTES_MAX, INLINE_BYTES
from hub.wire.jsonrpc import Request
from hub.wire.payload import Unopened

_WINDOW_BYTES = 256 << 10  # one read: that much JSON takes 6 ms at worst


class LineDecoder:
    """Cut a byte stream into lines, and lines into messages. Feed it with `receive`, and say `finish` at the end."""

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        self._gathering = Gathering(peer, origin)
        self._line_bytes_max = frame_bytes_max
        self._rest = b""  # arrived, and not decoded yet
        self._half = Parts()
        self._dropped = 0  # bytes of the line over the limit that is passing through
        self._sample = b""  # of it

    @property
    def held_bytes(self) -> int:
        """How many bytes are held: half a line, and what is not decoded yet."""
        return self._half.held_bytes + len(self._rest)

    @property
    def has_more(self) -> bool:
        """Whether `receive` has something to do although nothing new has arrived."""
        return bool(self._rest)

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return what *data* completes, or the first part of it."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        if self._half.held_bytes or self._dropped:
            at = self._end_half(data)
        stop = data.rfind(b"\n", at, at + _WINDOW_BYTES)
        if stop == -1:
            at = self._end_half(data, at)  # of a line of more than one read, if its end is there
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
        """Return all that is left, the last line too if it had no newline."""
        units: list[Batch | Loss | Request | Unopened] = []
        while self._rest:
            units += self.receive(b"")
        self._end_line()
        return [*units, *self._gathering.take()]

    def _end_half(self, data: bytes, at: int = 0) -> int:
        """Put the end of the line at *at* behind what is held, if it is there; return where to go on."""
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
        """What is held is a whole line, if anything is."""
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
