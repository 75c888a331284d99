"""
Half a frame, in the parts that it came in.

Always true: what is held costs about its own bytes: small parts are joined as they come, for an object each would cost
more, and large ones are left as they are, for joining all at each would be quadratic.
"""

from __future__ import annotations

_PART_BYTES = 4 << 10


class Parts:
    """Bytes put behind one another, and taken all at once."""

    __slots__ = ("_parts", "held_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.held_bytes = 0

    def add(self, data: bytes) -> None:
        """Put *data* behind what is held."""
        if not data:
            return
        if self._parts and len(self._parts[-1]) < _PART_BYTES:
            self._parts[-1] += data
        else:
            self._parts.append(data)
        self.held_bytes += len(data)

    def take(self) -> bytes:
        """Return all that is held, and hold nothing."""
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts, self.held_bytes = [], 0
        return data
