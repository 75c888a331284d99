"""
Compressed payloads: gzip members and zstd frames, several in a row.

Always true: what is made of a payload is bounded, by its own size too (a bomb costs the limit and some MiB), and so is
the work; one that ends in the middle is spoilt, never taken for a whole one.
Not here: what the bytes mean (hub.wire.payload), on which thread this runs (hub.connection).
Source: CompressedPackedForward of the Fluent Forward protocol; fluentd appends compressed pieces into one chunk.
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
"""Each costs a new context, however small it is."""
RATIO_MAX = 1032
"""
So many bytes may come out of one: as many as gzip can make of one. What comes out is stored, and pushes out what others
have stored; a frame of zstd can make 64 MiB of 2 KiB. Logs reach 5 to 50, a text that repeats itself 500.
"""
FLOOR_BYTES = 64 << 10
"""And of a payload of any size, so much may come out: small ones have nothing but their repetition."""


class TooLarge(Exception):  # becomes a Loss before it leaves hub.wire
    """More than the limit would come out."""


class Spoilt(Exception):  # becomes a Loss before it leaves hub.wire
    """Not what it says it is, or cut short."""


class TooManyPieces(Spoilt):
    """More pieces than its reader is willing to open."""


class _Piece(Protocol):
    """What decompresses one gzip member or zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes | memoryview, /) -> bytes: ...


class _Method(NamedTuple):
    """How pieces are opened, and how many bytes one byte can become."""

    piece: Callable[[], _Piece]
    expansion: int


_OUTPUT_BYTES = 4 << 20  # of one window: what a bomb costs beyond the limit
_WINDOW_BYTES_MIN = 32  # fewer at a time would cost more than what comes out of them


def output_bytes_max(payload_bytes: int, bytes_max: int) -> int:
    """Return how much may come out of *payload_bytes* compressed bytes: *bytes_max* at most."""
    return min(max(FLOOR_BYTES, RATIO_MAX * payload_bytes), bytes_max)


def decompress(payload: memoryview, method: str, limit: int, *, pieces_max: int = PIECES_MAX) -> bytes:
    """Return what *payload* holds, at most *limit* bytes. Raises TooLarge, Spoilt, or KeyError for another method."""
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
                raise Spoilt(f"it ends in the middle of {method}")
            try:
                part = piece.decompress(window)
            except _FAULTS as error:
                raise Spoilt(str(error)) from error
            at += len(window)
            room -= len(part)
            if room < 0:
                raise TooLarge
            parts.append(part)
        at -= len(piece.unused_data)
    return b"".join(parts)


if sys.version_info >= (3, 14):
    _FAULTS: tuple[type[Exception], ...] = (zlib.error, zstd.ZstdError)
    _zstd_piece: Callable[[], _Piece] = zstd.ZstdDecompressor
else:
    _FAULTS = (zlib.error, zstandard.ZstdError)

    def _zstd_piece() -> _Piece:
        return zstandard.ZstdDecompressor().decompressobj()  # its own context: others may be open on other threads


# What a byte can become: in gzip 1,032 bytes; in zstd, four bytes can be a block of 128 KiB.
METHODS = {
    "gzip": _Method(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), 1032),
    "zstd": _Method(_zstd_piece, 32 << 10),
}
