"""
Frames of zstd whose size is known, for the packed segments of a journal.

Always true: `decompress` returns as many bytes as were asked for, or raises ZstdFault. Any thread may call both.
Not here: payloads of clients, whose size is not known (hub.wire.compression).
Source: RFC 8878.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 14):
    from compression import zstd

    _FAULT: type[Exception] = zstd.ZstdError
else:
    import zstandard

    _FAULT: type[Exception] = zstandard.ZstdError


class ZstdFault(Exception):
    """The bytes are no frame of this size; translated by the callers."""


def compress(data: bytes | memoryview, level: int) -> bytes:
    """Return *data* as one frame."""
    if sys.version_info >= (3, 14):
        return zstd.compress(data, level)
    return zstandard.ZstdCompressor(level=level).compress(data)


def decompress(frame: bytes | memoryview, size: int) -> bytes:
    """Return the *size* bytes that *frame* holds. A damaged frame may ask for any amount of memory: check it before."""
    try:
        if sys.version_info >= (3, 14):
            data = zstd.ZstdDecompressor().decompress(frame, max_length=size)
        else:
            data = zstandard.ZstdDecompressor().decompress(frame, max_output_size=size)
    except _FAULT as error:
        raise ZstdFault(str(error)) from error
    if len(data) != size:
        raise ZstdFault(f"{len(data)} bytes instead of {size}")
    return data
