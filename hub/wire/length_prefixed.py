"""
Length-prefixed JSON: a four-byte big-endian length, then the JSON of this length.

A text is treated like a line (hub.wire.batcher): a JSON object is a request or a message, anything else is plain text.

Always true:
- a text over the limit costs that text: it becomes one loss of the received bytes, and the stream continues after it;
- half a text costs its own bytes;
- one `receive` decodes a limited number of texts, and the next call the others.

Not here: replies. They are lines without a length (hub.connection).
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
_WINDOW_BYTES = 256 << 10  # one read: JSON of this size takes 6 ms at most


class PrefixedDecoder:
    """Cuts a byte stream by its lengths. Feed it with `receive`, and call `finish` at the end of the stream."""

    def __init__(
        self, peer: Peer = UNKNOWN_PEER, origin: Origin | None = None, *, frame_bytes_max: int = FRAME_BYTES_MAX
    ) -> None:
        self._gathering = Gathering(peer, origin)
        self._text_bytes_max = frame_bytes_max
        self._rest = b""  # received, not decoded yet
        self._length = b""  # the received part of a length
        self._left: int | None = None  # bytes of the current text that have not arrived
        self._half = Parts()
        self._dropped = 0  # bytes of the current text that were discarded, if it is over the limit
        self._sample = b""

    @property
    def held_bytes(self) -> int:
        """Number of bytes held: half a text, and received bytes that are not decoded yet."""
        return self._half.held_bytes + len(self._length) + len(self._rest)

    @property
    def has_more(self) -> bool:
        """Whether `receive` has work to do without new bytes."""
        return bool(self._rest)

    def receive(self, data: bytes) -> Sequence[Batch | Loss | Request | Unopened]:
        """Return the items that *data* completes, or the first part of them."""
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
        """Return everything that is left, including the loss of half a text at the end of the stream."""
        items: list[Batch | Loss | Request | Unopened] = []
        while self._rest:
            items += self.receive(b"")
        if self._is_over:
            self._end_of_dropped()
        elif self._left is not None or self._length:
            sample = (self._length + self._half.begin(64))[:64]
            lost = len(self._length) + self._half.held_bytes
            self._gathering.add_loss(Loss("half a text at the end of the stream", lost_bytes=lost, sample=sample))
        self._half.take_parts()
        self._left, self._length = None, b""
        return [*items, *self._gathering.take()]

    @property
    def _is_over(self) -> bool:
        """Whether the current text is over the limit."""
        return self._left is not None and self._left + self._half.held_bytes + self._dropped > self._text_bytes_max

    def _take(self, data: bytes, at: int) -> int:
        """Take a length, or the available bytes of a text. Return the offset where they end."""
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
