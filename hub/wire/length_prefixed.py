"""
JSON with its length in front: four bytes, big-endian, then so many bytes of JSON.

What a text may be is the same as on a line (hub.wire.batcher): an object is a command or a message, and what is no
object is plain text. Commands are answered with a line.

Always true: a text over the limit costs that text, one loss of the bytes that came, and the stream goes on behind it;
half a text costs its own bytes; one `receive` takes a bounded number of texts, the next call the others.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire.batcher import TEXTS_MAX, Gathering
from hub.wire.buffer import Parts
from hub.wire.frame import FRAME_BYTES_MAX, INLINE_BYTES
from hub.wire.jsonrpc import Request
from hub.wire.payload import Unopened

_LENGTH = struct.Struct(">I")
_WINDOW_BYTES = 256 << 10  # one read: that much JSON takes 6 ms at worst


class PrefixedDecoder:
    """Cut a byte stream by its lengths. Feed it with `receive`, and say `finish` at the end."""

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        self._gathering = Gathering(peer, origin)
        self._text_bytes_max = frame_bytes_max
        self._rest = b""  # arrived, and not decoded yet
        self._length = b""  # the part of a length that is there
        self._left: int | None = None  # bytes still to come of the text that is on its way
        self._half = Parts()
        self._dropped = 0  # bytes of it that came, if it is over the limit
        self._sample = b""

    @property
    def held_bytes(self) -> int:
        """How many bytes are held: half a text, and what is not decoded yet."""
        return self._half.held_bytes + len(self._length) + len(self._rest)

    @property
    def has_more(self) -> bool:
        """Whether `receive` has something to do although nothing new has arrived."""
        return bool(self._rest)

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return what *data* completes, or the first part of it."""
        if self._rest:
            data, self._rest = self._rest + data, b""
        at = 0
        for _ in range(TEXTS_MAX):
            if at >= min(len(data), _WINDOW_BYTES):
                break
            at = self._take(data, at)
        self._rest = data[at:]
        return self._gathering.take()

    def finish(self) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return all that is left, the loss of the half text that the stream ended in too."""
        units: list[Batch | Loss | Request | Unopened] = []
        while self._rest:
            units += self.receive(b"")
        if self._is_over:
            self._end_of_dropped()
        elif self._left is not None or self._length:
            sample = (self._length + self._half.begin(64))[:64]
            lost = len(self._length) + self._half.held_bytes
            self._gathering.add_loss(Loss("half a text at the end of the stream", lost_bytes=lost, sample=sample))
        self._half.take_parts()
        self._left, self._length = None, b""
        return [*units, *self._gathering.take()]

    @property
    def _is_over(self) -> bool:
        """Whether the text that is on its way is over the limit."""
        return self._left is not None and self._left + self._half.held_bytes + self._dropped > self._text_bytes_max

    def _take(self, data: bytes, at: int) -> int:
        """Take a length, or what is there of a text; return where that ends."""
        if self._left is None:
            length = self._length + data[at : at + _LENGTH.size - len(self._length)]
            at += len(length) - len(self._length)
            if len(length) < _LENGTH.size:
                self._length = length
                return at
            (self._left,) = _LENGTH.unpack(length)
            self._length = b"" if self._is_over else length
        stop = min(at + self._left, len(data))
        if self._is_over:
            self._dropped += stop - at
            if len(self._sample) < 64:
                self._sample = (self._sample + data[at : min(stop, at + 64)])[:64]
        else:
            self._half.add(data[at:stop])
        self._left -= stop - at
        if not self._left:
            self._end_text()
        return stop

    def _end_text(self) -> None:
        self._length = b""
        if self._dropped:
            self._end_of_dropped()
        elif self._half.held_bytes > INLINE_BYTES:
            self._gathering.add_large(self._half.take_parts())
        else:
            self._gathering.add(self._half.take())
        self._left = None

    def _end_of_dropped(self) -> None:
        reason = f"a text over the limit of {self._text_bytes_max} bytes"
        self._gathering.add_loss(Loss(reason, lost_bytes=self._dropped, sample=self._sample))
        self._left, self._dropped, self._sample = None, 0, b""
