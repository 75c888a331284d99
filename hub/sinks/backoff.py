"""
How long to wait before the next try: longer after each failure, up to a limit, and never exactly as long as others.

Always true: a delay is between half and all of its step; the steps double from `FIRST_S` to `MOST_S`.
"""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST_S, MOST_S = 0.25, 30.0


class Backoff:
    """*dice* returns a number from 0 to 1."""

    def __init__(self, dice: Callable[[], float] = random.random) -> None:
        self._dice = dice
        self._step_s = FIRST_S

    def next_s(self) -> float:
        """Return the seconds to wait after one more failure."""
        step_s, self._step_s = self._step_s, min(self._step_s * 2, MOST_S)
        return step_s * (0.5 + self._dice() / 2)

    def succeeded(self) -> None:
        """Begin again with the shortest delay."""
        self._step_s = FIRST_S
