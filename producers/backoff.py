"""
When to connect again after a failure: later each time, with jitter.

Always true: the delay doubles from `BACKOFF_MIN_S` to `BACKOFF_MAX_S`; after a success the shortest comes again.

Not here: the delays themselves (hub.delays).
"""

from __future__ import annotations

import random
from collections.abc import Callable

from hub.delays import Delays

BACKOFF_MIN_S = 0.02
BACKOFF_MAX_S = 1.0


class Backoff:
    """The delays before one connection. Times are seconds of any monotonic clock."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._delays = Delays(BACKOFF_MIN_S, BACKOFF_MAX_S, jitter)
        self._retry_at = 0.0

    def failed(self, now: float) -> None:
        """Note a failure at *now*."""
        self._retry_at = now + self._delays.next_s()

    def succeeded(self) -> None:
        """Begin again with the shortest delay."""
        self._delays.succeeded()

    def left_s(self, now: float) -> float:
        """Return how many seconds to wait before the next attempt."""
        return max(self._retry_at - now, 0.0)
