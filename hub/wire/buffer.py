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

    def begin(self, size: int) -> bytes:
        """Return the first *size* bytes of what is held, or less: those of the first parts."""
        return b"".join(self._parts[:2])[:size]

    def take(self) -> bytes:
        """Return all that is held, and hold nothing."""
        parts = self.take_parts()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def take_parts(self) -> list[bytes]:
        """Return all that is held, as it is held, and hold nothing: joining a large frame takes long."""
        parts, self._parts, self.held_bytes = self._parts, [], 0
        return parts
