"""
Whether bytes are in other bytes: what queries do most, to decode nothing in vain.

Not here: at which places (hub.query.candidates).
"""

from __future__ import annotations

_REVERSE_BYTES_MAX = 32
"""
Up to this length, a search from the end takes a third to a half of the time of ``in``. In the worst case it takes that
many steps for each byte.
"""


def contains(packed: bytes, part: bytes) -> bool:
    """Return whether *part* is in *packed*."""
    return packed.rfind(part) != -1 if len(part) <= _REVERSE_BYTES_MAX else part in packed
