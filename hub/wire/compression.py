"""
Decompresses payloads: gzip members and zstd frames, one or more in sequence.

Always true: the output is limited, also in proportion to the input (a bomb costs the limit and a few MiB), and so is
the work. A payload that is cut off is `BadCompression`, never taken for a whole one.
Not here: the meaning of the bytes (hub.wire.payload), the thread on which this runs (hub.opener).
Source: CompressedPackedForward of the Fluent Forward protocol; fluentd appends compressed pieces to one chunk.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import NamedTuple, Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import zstandard

PIECES_MAX = 10_000
"""Each piece costs a new context, even if it is tiny."""
RATIO_MAX = 1032
"""
Maximum output bytes per input byte: the maximum of gzip. The output is stored, and displaces messages of other users; a
zstd frame can expand 2 KiB to 64 MiB. Logs reach ratios of 5 to 50, repetitive text 500.
"""
FLOOR_BYTES = 64 << 10
"""The output limit is never below this: in small payloads the ratio can be high."""


class TooLarge(Exception):  # becomes a Loss before it leaves hub.wire
    """The output would exceed the limit."""


class BadCompression(Exception):  # becomes a Loss before it leaves hub.wire
    """The data is not in the declared format, or is cut off."""


class TooManyPieces(BadCompression):
    """The payload has more pieces than the caller allows."""


class _Piece(Protocol):
    """Decompressor of one gzip member or zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes | memoryview, /) -> bytes: ...


class _Method(NamedTuple):
    """How to create a decompressor, and the maximum number of bytes that one byte can expand to."""

    piece: Callable[[], _Piece]
    expansion: int


_OUTPUT_BYTES = 4 << 20  # per window: the cost of a bomb beyond the limit
_WINDOW_BYTES_MIN = 32  # smaller windows would cost more than their output


def output_bytes_max(payload_bytes: int, bytes_max: int) -> int:
    """Return the output limit for *payload_bytes* compressed bytes, at most *bytes_max*."""
    return min(max(FLOOR_BYTES, RATIO_MAX * payload_bytes), bytes_max)


def decompress(payload: memoryview, method: str, limit: int, *, pieces_max: int = PIECES_MAX) -> list[bytes]:
    """
    Return the decompressed *payload* in parts, at most *limit* bytes. Raises TooLarge, BadCompression, TooManyPieces;
    KeyError for an unknown *method*.
    """
    make, expansion = METHODS[method]
    window_bytes = max(min(limit, _OUTPUT_BYTES) // expansion, _WINDOW_BYTES_MIN)
    parts: list[bytes] = []
    room, at, pieces = limit, 0, 0
    while at < len(payload):
        if (pieces := pieces + 1) > pieces_max:
            raise TooManyPieces(f"more than {pieces_max} pieces")
        piece = make()
        while not piece.eof:
            window = payload[at : at + window_bytes]
            if not window:
                raise BadCompression(f"it ends in the middle of {method}")
            try:
                part = piece.decompress(window)
            except FAULTS as error:
                raise BadCompression(str(error)) from error
            at += len(window)
            room -= len(part)
            if room < 0:
                raise TooLarge
            parts.append(part)
        at -= len(piece.unused_data)
    return parts


if sys.version_info >= (3, 14):
    FAULTS: tuple[type[Exception], ...] = (zlib.error, zstd.ZstdError)
    _zstd_piece: Callable[[], _Piece] = zstd.ZstdDecompressor
else:
    FAULTS = (zlib.error, zstandard.ZstdError)

    def _zstd_piece() -> _Piece:
        return zstandard.ZstdDecompressor().decompressobj()  # its own context: other threads may decompress too


# Expansion of one byte: 1,032 bytes in gzip; in zstd, four bytes can be a block of 128 KiB.
METHODS = {
    "gzip": _Method(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), 1032),
    "zstd": _Method(_zstd_piece, 32 << 10),
}
