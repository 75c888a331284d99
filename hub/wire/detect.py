"""
Selects the protocol of a connection by its first byte, once.

Always true: every first byte has a decoder. Bytes that begin a msgpack array (0x90 to 0x9F, 0xDC, 0xDD) and nil (0xC0)
select Forward; no JSON, syslog or ASCII line begins with one. 0xDC and 0xDD also begin UTF-8 characters (U+0700 to
U+077F): a connection whose text begins with one is taken for Forward.
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

Item = Batch | Loss | Request | Unopened
"""An item: messages, a loss, a request, or a payload that still has to be opened."""


class Decoder(Protocol):
    """
    Bytes in, items out: no socket, no clock, no waiting.

    One `receive` of up to 256 KiB takes a few milliseconds at most, whatever the bytes are. While `has_more` is true,
    the decoder holds bytes that it has not decoded: let other connections run, then call ``receive(b"")``. `finish`
    decodes everything that is left, without a limit on time.
    """

    @property
    def held_bytes(self) -> int: ...

    @property
    def has_more(self) -> bool: ...

    def receive(self, data: bytes) -> Sequence[Item]: ...

    def finish(self) -> Sequence[Item]: ...


class DecoderClass(Protocol):
    """Constructor of a decoder: for the bytes of one peer, whose acknowledgements go to *origin*."""

    def __call__(self, peer: Peer, origin: Origin | None, *, frame_bytes_max: int) -> Decoder: ...


_FORWARD_FIRST_BYTES = (*range(0x90, 0xA0), 0xDC, 0xDD, 0xC0)
_BY_FIRST_BYTE: dict[int, DecoderClass] = {
    0x00: PrefixedDecoder,  # the first byte of a length below 16 MiB
    **dict.fromkeys(_FORWARD_FIRST_BYTES, ForwardDecoder),
}
DECODERS: tuple[DecoderClass, ...] = tuple(_BY_FIRST_BYTE.get(first, LineDecoder) for first in range(256))


def decoder_class(first_byte: int) -> DecoderClass:
    """Return the decoder for a connection that begins with *first_byte*."""
    return DECODERS[first_byte]
