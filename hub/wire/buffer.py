"""
Half a frame, as the parts in which it arrived.

Always true: the memory used is close to the bytes held. Small parts are joined on arrival, because an object for each
would cost more. Large parts are not joined, because joining everything on each arrival would be quadratic.
"""

from __future__ import annotations

_PART_BYTES = 4 << 10


class ByteBuffer:
    """Bytes that are appended, and taken all at once."""

    __slots__ = ("_parts", "held_bytes")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.held_bytes = 0

    def add(self, data: bytes) -> None:
        """Append *data*."""
        if not data:
            return
        if self._parts and len(self._parts[-1]) < _PART_BYTES:
            self._parts[-1] += data
        else:
            self._parts.append(data)
        self.held_bytes += len(data)

    def begin(self, size: int) -> bytes:
        """Return the first *size* held bytes, or fewer: it reads only the first two parts."""
        return b"".join(self._parts[:2])[:size]

    def take(self) -> bytes:
        """Return all held bytes joined, and clear the buffer."""
        parts = self.take_parts()
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def take_parts(self) -> list[bytes]:
        """Return all held parts, and clear the buffer. Joining a large frame takes long, so this does not."""
        parts, self._parts, self.held_bytes = self._parts, [], 0
        return parts
