"""
How long to wait before the next try: longer after each failure, up to a limit.

Always true: a delay is from half to all of its step, by chance, so that those that failed together do not try again
together; the steps double.

Not here: what is tried again (hub.sinks.runner, producers.backoff).
"""

from __future__ import annotations

import random
from collections.abc import Callable


class Delays:
    """The steps begin with *first_s* seconds, and end with *most_s*. *jitter* returns a number from 0 to 1."""

    def __init__(self, first_s: float, most_s: float, jitter: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._jitter = jitter
        self._step_s = first_s

    def next_s(self) -> float:
        """Return the seconds to wait after one more failure."""
        step_s, self._step_s = self._step_s, min(self._step_s * 2, self._most_s)
        return step_s * (0.5 + self._jitter() / 2)

    def succeeded(self) -> None:
        """Begin again with the shortest delay."""
        self._step_s = self._first_s
