"""
CRC-32, the checksum of the journal and of spool files.

Always true: the result is that of `zlib.crc32`, whichever library computes it. ISA-L is eight times as fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zlib import crc32
else:
    try:
        from isal.isal_zlib import crc32
    except ImportError:  # no wheel for this platform
        from zlib import crc32

__all__ = ["crc32"]
