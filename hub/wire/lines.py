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
from hub.wire.gathering import Gathering
from hub.wire.jsonrpc import Request

LINE_BYTES_MAX = 64 << 20
_PART_BYTES = 4 << 10  # smaller parts are joined as they come: an object each would cost more than its bytes


class LineDecoder:
    """Cut a byte stream into lines, and lines into messages. Feed it with `receive`, and say `finish` at the end."""

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = LINE_BYTES_MAX
    ) -> None:
        self._gathering = Gathering(peer, origin)
        self._line_bytes_max = frame_bytes_max
        self._parts: list[bytes] = []
        self._held = 0
        self._dropped = 0  # bytes of the line over the limit that is passing through

    @property
    def held_bytes(self) -> int:
        """How many bytes of a half line are held."""
        return self._held

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
            lines[0] = b"".join(self._parts)
            self._parts, self._held = [], 0
        for line in lines:
            self._line(line)
        self._hold(data[end + 1 :])
        return self._gathering.take()

    def finish(self) -> Sequence[Batch | Loss | Request]:
        """Return the last line, if it had no newline."""
        if self._dropped:
            self._end_of_dropped()
        elif self._held:
            self._line(b"".join(self._parts))
        self._parts, self._held = [], 0
        return self._gathering.take()

    def _hold(self, data: bytes) -> None:
        if not data:
            return
        if self._dropped:
            self._dropped += len(data)
        elif self._held + len(data) > self._line_bytes_max:
            self._dropped = self._held + len(data)
            self._parts, self._held = [b"".join((*self._parts, data[:64]))[:64]], 0
        else:
            if self._parts and len(self._parts[-1]) < _PART_BYTES:
                self._parts[-1] += data
            else:
                self._parts.append(data)
            self._held += len(data)

    def _end_of_dropped(self) -> None:
        sample = b"".join(self._parts)[:64]
        reason = f"a line over the limit of {self._line_bytes_max} bytes"
        self._gathering.add_loss(Loss(reason, lost_bytes=self._dropped, sample=sample))
        self._parts, self._held, self._dropped = [], 0, 0

    def _line(self, line: bytes) -> None:
        if len(line) > self._line_bytes_max:
            self._parts, self._dropped = [line[:64]], len(line)
            self._end_of_dropped()
        else:
            self._gathering.add(line.removesuffix(b"\r"))
