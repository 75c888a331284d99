"""
JSON with its length in front: four bytes, big-endian, then so many bytes of JSON.

What a text may be is the same as on a line (hub.wire.gathering): an object is a command or a message, and what is no
object is plain text. Commands are answered with a line.

Always true: a text over the limit costs that text, one loss, and the stream goes on behind it; half a text costs its
own bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire.frame import FRAME_BYTES_MAX
from hub.wire.gathering import Gathering
from hub.wire.jsonrpc import Request
from hub.wire.parts import Parts

_LENGTH = struct.Struct(">I")


class PrefixedDecoder:
    """Cut a byte stream by its lengths. Feed it with `receive`, and say `finish` at the end."""

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        self._gathering = Gathering(peer, origin)
        self._text_bytes_max = frame_bytes_max
        self._half = Parts()
        self._needed = _LENGTH.size
        self._dropping = 0  # bytes still to come of a text over the limit

    @property
    def held_bytes(self) -> int:
        """How many bytes of a half text are held."""
        return self._half.held_bytes

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Request]:
        """Return what *data* completes."""
        if self._dropping:
            dropped = min(self._dropping, len(data))
            self._dropping -= dropped
            data = data[dropped:]
        self._half.add(data)
        if self._half.held_bytes >= self._needed:
            self._cut(self._half.take())
        return self._gathering.take()

    def finish(self) -> Sequence[Batch | Loss | Request]:
        """Return the loss of the half text that the stream ended in, if it did."""
        if self._half.held_bytes or self._dropping:
            tail = self._half.take()
            lost = len(tail) + self._dropping
            self._gathering.add_loss(Loss("half a text at the end of the stream", lost_bytes=lost, sample=tail[:64]))
        self._dropping = 0
        return self._gathering.take()

    def _cut(self, data: bytes) -> None:
        at = 0
        while len(data) - at >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(data, at)
            start, end = at + _LENGTH.size, at + _LENGTH.size + length
            if length > self._text_bytes_max:
                sample = data[start : min(start + 64, end)]
                reason = f"a text over the limit of {self._text_bytes_max} bytes"
                self._gathering.add_loss(Loss(reason, lost_bytes=length, sample=sample))
                self._dropping = max(end - len(data), 0)
            elif end > len(data):
                break
            else:
                self._gathering.add(data[start:end])
            at = min(end, len(data))
        tail = data[at:]
        self._half.add(tail)
        whole = len(tail) >= _LENGTH.size
        self._needed = _LENGTH.size + (_LENGTH.unpack_from(tail)[0] if whole else 0)
