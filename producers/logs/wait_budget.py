"""
How long an application may still be made to wait for room: so long in total per outage of the hub, however many wait.

An outage begins with the first wait, and is over when the hub has acknowledged half of what waited for it then.

Always true: time in which several threads wait counts once; no lock is held, so neither a fork nor a signal handler
can hang here (two threads that begin and end in the same instant may be counted wrongly by one wait).
Not here: the waiting itself (producers.logs.emitter).
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Patience:
    """Allows *wait_s_max* seconds of waiting in each outage."""

    def __init__(self, wait_s_max: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._wait_s_max = wait_s_max
        self._clock = clock
        self._spent_s = 0.0
        self._waiting: set[object] = set()
        self._since = 0.0  # when the first of those began
        self._outage: tuple[int, int] | None = None  # acknowledged and pending when it began

    def begin(self, who: object, *, acknowledged: int, pending: int) -> float:
        """Note that *who* is about to wait; return for how many seconds it may. `end` is to follow."""
        now = self._clock()
        if self._outage is None or self._is_over(acknowledged, self._outage):
            self._outage = acknowledged, pending
            self._spent_s = 0.0
            self._waiting.clear()
        if not self._waiting:
            self._since = now
        self._waiting.add(who)
        return max(self._wait_s_max - self._spent_s - (now - self._since), 0.0)

    def end(self, who: object) -> None:
        """*who* waits no longer."""
        if who not in self._waiting:  # an outage ended meanwhile
            return
        self._waiting.discard(who)
        if not self._waiting:
            self._spent_s += self._clock() - self._since

    @staticmethod
    def _is_over(acknowledged: int, outage: tuple[int, int]) -> bool:
        acknowledged_then, pending_then = outage
        # Fewer than then: this is a forked child, and another backlog.
        return acknowledged < acknowledged_then or 2 * (acknowledged - acknowledged_then) >= pending_then
