"""
Lines: a byte stream to batches, requests and losses.

Each line is decided by itself: a JSON object is a command or a message (hub.wire.jsonlines), everything else is text
(hub.wire.text). Nothing is refused: a line that fails its guess is text. A last line without a newline counts.

Always true:
- neighbouring messages of one tag that arrived together are one batch, in order;
- a line over the limit costs that line: one loss, and the stream goes on behind it;
- a slow sender costs no more than a fast one: what was searched is not searched again.
"""

from __future__ import annotations

from collections.abc import Sequence

from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire.frame import FRAME_BYTES_MAX
from hub.wire.gathering import Gathering
from hub.wire.jsonrpc import Request
from hub.wire.parts import Parts


class LineDecoder:
    """Cut a byte stream into lines, and lines into messages. Feed it with `receive`, and say `finish` at the end."""

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        self._gathering = Gathering(peer, origin)
        self._line_bytes_max = frame_bytes_max
        self._half = Parts()
        self._dropped = 0  # bytes of the line over the limit that is passing through
        self._sample = b""  # of it

    @property
    def held_bytes(self) -> int:
        """How many bytes of a half line are held."""
        return self._half.held_bytes

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Request]:
        """Return what *data* completes."""
        end = data.rfind(b"\n")
        if end == -1:
            self._hold(data)
            return self._gathering.take()
        lines = data[:end].split(b"\n")
        self._hold(lines[0])
        if self._dropped:
            self._end_of_dropped()
            del lines[0]
        else:
            lines[0] = self._half.take()
        for line in lines:
            self._line(line)
        self._hold(data[end + 1 :])
        return self._gathering.take()

    def finish(self) -> Sequence[Batch | Loss | Request]:
        """Return the last line, if it had no newline."""
        if self._dropped:
            self._end_of_dropped()
        elif self._half.held_bytes:
            self._line(self._half.take())
        return self._gathering.take()

    def _hold(self, data: bytes) -> None:
        if not data:
            return
        if self._dropped:
            self._dropped += len(data)
        elif self._half.held_bytes + len(data) > self._line_bytes_max:
            self._dropped = self._half.held_bytes + len(data)
            self._sample = (self._half.take()[:64] + data[:64])[:64]
        else:
            self._half.add(data)

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
