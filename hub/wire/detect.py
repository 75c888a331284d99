"""
Which protocol a connection speaks: its first byte decides, once.

Always true: every first byte has a decoder; no text protocol begins with a byte of a msgpack array (0x90 and up).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hub.message import Batch, Loss, Origin, Peer
from hub.wire.forward import ForwardDecoder
from hub.wire.jsonrpc import Request
from hub.wire.length_prefixed import PrefixedDecoder
from hub.wire.lines import LineDecoder
from hub.wire.payload import Unopened

Unit = Batch | Loss | Request | Unopened
"""What comes off the wire: messages, word of what could not be kept, a command, a payload still to be opened."""


class Decoder(Protocol):
    """
    Bytes in, units out: no socket, no clock, no waiting.

    One `receive` of up to 256 KiB is a short step, a few milliseconds, whatever the bytes are. While the decoder
    `has_more`, it holds bytes that it has not decoded: give others a turn, then call ``receive(b"")``. `finish` decodes
    all that is left, however long that takes.
    """

    @property
    def held_bytes(self) -> int: ...

    @property
    def has_more(self) -> bool: ...

    def receive(self, data: bytes) -> Sequence[Unit]: ...

    def finish(self) -> Sequence[Unit]: ...


class DecoderClass(Protocol):
    """How a decoder is made: for the bytes of one peer, whose acknowledgements go to *origin*."""

    def __call__(self, peer: Peer, origin: Origin | None, *, frame_bytes_max: int) -> Decoder: ...


_FORWARD_FIRST_BYTES = (*range(0x90, 0xA0), 0xDC, 0xDD, 0xC0)
_BY_FIRST_BYTE: dict[int, DecoderClass] = {
    0x00: PrefixedDecoder,  # the first byte of a length below 16 MiB
    **dict.fromkeys(_FORWARD_FIRST_BYTES, ForwardDecoder),
}
DECODERS: tuple[DecoderClass, ...] = tuple(_BY_FIRST_BYTE.get(first, LineDecoder) for first in range(256))


def decoder_class(first_byte: int) -> DecoderClass:
    """Return what decodes a connection that begins with *first_byte*."""
    return DECODERS[first_byte]
