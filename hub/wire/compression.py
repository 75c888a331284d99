"""
Compressed payloads: gzip members and zstd frames, several in a row.

Always true: what is made of a payload is bounded, however small it looks (a bomb costs the limit and some MiB), and
so is the work; one that ends in the middle is spoilt, never taken for a whole one.
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


class TooLarge(Exception):  # becomes a Loss before it leaves hub.wire
    """More than the limit would come out."""


class Spoilt(Exception):  # becomes a Loss before it leaves hub.wire
    """Not what it says it is, or cut short."""


class _Piece(Protocol):
    """What decompresses one gzip member or zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes | memoryview, /) -> bytes: ...


class _Method(NamedTuple):
    """How pieces are opened; so many bytes at a time that what comes out of them is some MiB at most."""

    piece: Callable[[], _Piece]
    window_bytes: int


def decompress(payload: memoryview, method: str, limit: int) -> bytes:
    """Return what *payload* holds, at most *limit* bytes. Raises TooLarge, Spoilt, or KeyError for another method."""
    make, window_bytes = METHODS[method]
    parts: list[bytes] = []
    room, at, pieces = limit, 0, 0
    while at < len(payload):
        if (pieces := pieces + 1) > PIECES_MAX:
            raise Spoilt(f"more than {PIECES_MAX} pieces")
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
    "gzip": _Method(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), 4096),
    "zstd": _Method(_zstd_piece, 256),
}
