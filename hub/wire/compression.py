"""
Compressed payloads: gzip members and zstd frames, several in a row.

Always true: no more than the limit is ever made of a payload, however small it looks (a bomb costs the limit, once);
one that ends in the middle is spoilt, never taken for a whole one.
Not here: what the bytes mean (hub.wire.payload), on which thread this runs (hub.connection).
Source: CompressedPackedForward of the Fluent Forward protocol; fluentd appends compressed pieces into one chunk.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Callable
from typing import Protocol

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import zstandard

_GZIP = 16 + zlib.MAX_WBITS


class TooLarge(Exception):  # becomes a Loss before it leaves hub.wire
    """More than the limit would come out."""


class Spoilt(Exception):  # becomes a Loss before it leaves hub.wire
    """Not what it says it is, or cut short."""


class _Member(Protocol):
    """What decompresses one gzip member or zstd frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def decompress(payload: memoryview, method: str, limit: int) -> bytes:
    """Return what *payload* holds, at most *limit* bytes. Raises TooLarge, Spoilt, or KeyError for another method."""
    make, parts, room, rest = METHODS[method], [], limit, bytes(payload)
    while rest:
        member = make()
        try:
            part = member.decompress(rest, room + 1)
        except _FAULTS as error:
            raise Spoilt(str(error)) from error
        if len(part) > room:
            raise TooLarge
        if not member.eof:
            raise Spoilt(f"it ends in the middle of {method}")
        parts.append(part)
        room -= len(part)
        rest = member.unused_data
    return b"".join(parts)


def _gzip_member() -> _Member:
    return zlib.decompressobj(_GZIP)


if sys.version_info >= (3, 14):
    _FAULTS: tuple[type[Exception], ...] = (zlib.error, zstd.ZstdError)

    def _zstd_frame() -> _Member:
        return zstd.ZstdDecompressor()

else:
    _FAULTS = (zlib.error, zstandard.ZstdError)

    class _ZstdFrame:
        """zstandard's streams take a limit but do not tell a cut frame; its objects tell, but take no limit: both."""

        def __init__(self) -> None:
            self._frame = zstandard.ZstdDecompressor().decompressobj()

        @property
        def eof(self) -> bool:
            return self._frame.eof

        @property
        def unused_data(self) -> bytes:
            return self._frame.unused_data

        def decompress(self, data: bytes, max_length: int, /) -> bytes:
            stream = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data))
            if len(beginning := stream.read(max_length)) == max_length:
                return beginning
            return self._frame.decompress(data)

    def _zstd_frame() -> _Member:
        return _ZstdFrame()


METHODS: dict[str, Callable[[], _Member]] = {"gzip": _gzip_member, "zstd": _zstd_frame}
