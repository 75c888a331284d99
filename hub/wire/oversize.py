"""
A payload over the limit, on its way into nothing: its length is known, so what is behind it can be read.

Always true: nothing of it is held but a sample; what is counted is what came.
"""

from __future__ import annotations

from hub.message import Loss
from hub.wire.frame import Option


def oversize_reason(limit: int) -> str:
    """Return how it is said that a frame is too large."""
    return f"a frame over the limit of {limit} bytes"


class Oversize:
    """Swallows *size* bytes; *has_option* says whether options are behind them."""

    def __init__(self, size: int, tag: bytes, has_option: bool, limit: int) -> None:
        self.left = size
        self.has_option = has_option
        self._size, self._tag, self._limit = size, tag, limit
        self._sample = b""

    def swallow(self, data: bytes) -> bytes:
        """Return what of *data* is behind the payload."""
        dropped = min(len(data), self.left)
        self.left -= dropped
        self._sample += data[: min(dropped, 64 - len(self._sample))]
        return data[dropped:]

    def loss(self, option: Option) -> Loss:
        """Return word of it."""
        swallowed = self._size - self.left
        reason = oversize_reason(self._limit)
        return Loss(reason, max(option.size or 1, 1), swallowed, self._sample, self._tag, option.chunk)
