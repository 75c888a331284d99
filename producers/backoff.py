"""
When to connect again after a failure: later each time, with jitter.

Always true: the delay doubles from `BACKOFF_MIN_S` to `BACKOFF_MAX_S`, and begins anew after a success.
"""

from __future__ import annotations

import random
from collections.abc import Callable

BACKOFF_MIN_S = 0.02
BACKOFF_MAX_S = 1.0


class Backoff:
    """The delays before one connection. Times are seconds of any monotonic clock."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._retry_at = 0.0
        self._delay_s = BACKOFF_MIN_S

    def failed(self, now: float) -> None:
        """Note a failure at *now*."""
        self._retry_at = now + self._delay_s * (0.5 + self._jitter() / 2)
        self._delay_s = min(self._delay_s * 2, BACKOFF_MAX_S)

    def succeeded(self) -> None:
        """Begin anew with the shortest delay."""
        self._delay_s = BACKOFF_MIN_S

    def left_s(self, now: float) -> float:
        """Return how many seconds to wait before the next attempt."""
        return max(self._retry_at - now, 0.0)
