"""
Selects the protocol of a connection by its first bytes, once.

    0x00                              length-prefixed JSON: the first byte of a length below 16 MiB
    an array of 2 to 4 with a tag     Forward: the headers of the array and of a str or bin
    nil, up to `NILS_MAX` times       Forward, if a frame follows, or nothing
    anything else                     lines

No byte decides for Forward alone: 0xC0, 0xDC and 0xDD are letters in Latin-1, and 0xDC and 0xDD begin UTF-8 characters
(U+0700 to U+077F). At most `NILS_MAX` + 5 bytes are held until the decision.

Always true:
- every stream has a decoder, and no byte is lost by the decision; if a stream ends before it has decided, its bytes are
  text, except nils;
- the decision does not depend on the pieces in which the bytes arrive.

A text is taken for Forward only if its first two bytes are 0x92 to 0x94 and one of 0xA0 to 0xBF, 0xC4 to 0xC6, 0xD9 to
0xDB. No UTF-8 or Latin-1 text begins with 0x92 to 0x94. In Windows-1252 they are quotation marks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hub.message import UNKNOWN_PEER, Batch, Loss, Origin, Peer
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import FRAME_BYTES_MAX
from hub.wire.jsonrpc import Request
from hub.wire.length_prefixed import PrefixedDecoder
from hub.wire.lines import LineDecoder
from hub.wire.payload import Unopened

Item = Batch | Loss | Request | Unopened
"""An item: messages, a loss, a request, or a payload that still has to be opened."""

NILS_MAX = 64
"""This number of nils is Forward, whatever follows: a client may send a heartbeat for days before its first frame."""
_NIL = b"\xc0"
_ARRAYS = (
    *(bytes((0x90 | size,)) for size in (2, 3, 4)),
    *(b"\xdc" + size.to_bytes(2, "big") for size in (2, 3, 4)),
    *(b"\xdd" + size.to_bytes(4, "big") for size in (2, 3, 4)),
)
_BEGINNINGS = frozenset(array[0] for array in _ARRAYS)
_STRINGS = bytes((*range(0xA0, 0xC0), 0xC4, 0xC5, 0xC6, 0xD9, 0xDA, 0xDB))
"""First bytes of a str or bin in msgpack."""
_DECISION_BYTES_MAX = NILS_MAX + max(map(len, _ARRAYS)) + 1


class Decoder(Protocol):
    """
    Bytes in, items out: no socket, no clock, no waiting.

    One `receive` of up to 256 KiB takes a few milliseconds at most, whatever the bytes are. While `has_more` is true,
    the decoder holds bytes that it has not decoded: let other connections run, then call ``receive(b"")``. `finish`
    decodes everything that is left, without a limit on time. `limit` changes the size of the largest frame, for the
    next one at the latest.

    While `waits` is true, it holds whole messages that belong together with some that have not come. Call `release`
    from time to time: what has waited since the last call, or everything, is then returned by `receive`.
    """

    @property
    def held_bytes(self) -> int: ...

    @property
    def has_more(self) -> bool: ...

    @property
    def waits(self) -> bool: ...

    def release(self, *, everything: bool = False) -> None: ...

    def receive(self, data: bytes) -> Sequence[Item]: ...

    def finish(self) -> Sequence[Item]: ...

    def limit(self, frame_bytes_max: int) -> None: ...


class DecoderClass(Protocol):
    """Constructor of a decoder: for the bytes of one peer, whose acknowledgements go to *origin*."""

    def __call__(self, peer: Peer, origin: Origin | None, *, frame_bytes_max: int) -> Decoder: ...


def decide(data: bytes) -> DecoderClass | None:
    """Return the decoder for a stream that begins with *data*, or None if the decision needs more bytes."""
    if data.startswith(b"\0"):
        return PrefixedDecoder
    begin = data[:_DECISION_BYTES_MAX]
    frame = begin.lstrip(_NIL)
    if len(begin) - len(frame) >= NILS_MAX:
        return ForwardDecoder
    if frame and frame[0] not in _BEGINNINGS:
        return LineDecoder
    for array in _ARRAYS:
        if frame.startswith(array) and len(frame) > len(array):
            return ForwardDecoder if frame[len(array)] in _STRINGS else LineDecoder
        if array.startswith(frame):
            return None
    return LineDecoder


_PROTOCOLS: Mapping[type, str] = {ForwardDecoder: "forward", PrefixedDecoder: "length-prefixed", LineDecoder: "lines"}


def protocol_of(decoder: Decoder) -> str:
    """Return the name of what *decoder* decodes; empty if it has not decided yet, or is none of these."""
    return _PROTOCOLS.get(type(decoder), "")


class DetectingDecoder:
    """
    The decoder of a connection. It holds the first bytes until they select a decoder, which decodes everything.

    *on_selected* gets that decoder: from then on, it can be called without this one between.
    """

    def __init__(
        self,
        peer: Peer = UNKNOWN_PEER,
        origin: Origin | None = None,
        *,
        frame_bytes_max: int = FRAME_BYTES_MAX,
        on_selected: Callable[[Decoder], None] | None = None,
    ) -> None:
        self._peer = peer
        self._origin = origin
        self._frame_bytes_max = frame_bytes_max
        self._on_selected = on_selected
        self._first = b""
        self._decoder: Decoder | None = None

    @property
    def held_bytes(self) -> int:
        """Number of bytes held by the decoder, or until the decision."""
        return self._decoder.held_bytes if self._decoder is not None else len(self._first)

    @property
    def has_more(self) -> bool:
        """Whether `receive` has work to do without new bytes."""
        return self._decoder is not None and self._decoder.has_more

    @property
    def waits(self) -> bool:
        """Whether the decoder holds whole messages that wait for others."""
        return self._decoder is not None and self._decoder.waits

    def release(self, *, everything: bool = False) -> None:
        """Let `receive` return what has waited since the last call, or everything."""
        if self._decoder is not None:
            self._decoder.release(everything=everything)

    def receive(self, data: bytes) -> Sequence[Item]:
        """Return the items that *data* completes, or the first part of them."""
        if self._decoder is not None:
            return self._decoder.receive(data)
        data, self._first = self._first + data, b""
        if (decoder_class := decide(data)) is not None:
            return self._select(decoder_class).receive(data)
        self._first = data
        return ()

    def finish(self) -> Sequence[Item]:
        """Return everything that is left. Bytes that have not decided are text, except nils."""
        if self._decoder is not None:
            return self._decoder.finish()
        first, self._first = self._first, b""
        if not first.strip(_NIL):
            return ()
        decoder = self._select(LineDecoder)
        return [*decoder.receive(first), *decoder.finish()]

    def limit(self, frame_bytes_max: int) -> None:
        """Change the limit, for the next frame at the latest."""
        self._frame_bytes_max = frame_bytes_max
        if self._decoder is not None:
            self._decoder.limit(frame_bytes_max)

    def close(self) -> None:
        """Call *on_selected* no more."""
        self._on_selected = None

    def _select(self, decoder_class: DecoderClass) -> Decoder:
        self._decoder = decoder_class(self._peer, self._origin, frame_bytes_max=self._frame_bytes_max)
        on_selected, self._on_selected = self._on_selected, None
        if on_selected is not None:
            on_selected(self._decoder)
        return self._decoder
