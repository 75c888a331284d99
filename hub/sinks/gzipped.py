"""
Gzip for what travels, at the cheapest level.

Always true: the result is a gzip member, whichever library makes it. ISA-L is five times as fast as zlib.

Not here: files that are finished (hub.sinks.packing), what arrives (hub.wire.compression).
Source: RFC 1952.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zlib import compressobj
else:
    try:
        from isal.isal_zlib import compressobj
    except ImportError:  # no wheel for this platform
        from zlib import compressobj

_LEVEL, _BITS = 1, 31
"""The second means gzip."""


def gzipped(data: bytes | memoryview) -> bytes:
    """Return *data* compressed."""
    compressor = compressobj(_LEVEL, wbits=_BITS)
    return compressor.compress(data) + compressor.flush()
