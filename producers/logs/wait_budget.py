"""
How long an application may still wait for room: a fixed time in total per outage of the hub, for all threads together.

An outage begins with the first wait. It ends when the hub has acknowledged half of the messages that were pending then.

Always true: time during which several threads wait counts once. No lock is held, so neither a fork nor a signal handler
can deadlock here; two threads that begin and end at the same instant may be counted wrongly by one wait.
Not here: the waiting itself (producers.logs.emitter).
"""

from __future__ import annotations

from collections.abc import Callable

from producers import clock


class WaitBudget:
    """Allows *wait_s_max* seconds of waiting in each outage."""

    def __init__(self, wait_s_max: float, monotonic: Callable[[], float] = clock.now) -> None:
        self._wait_s_max = wait_s_max
        self._clock = monotonic
        self._spent_s = 0.0
        self._waiting: set[object] = set()
        self._since = 0.0  # when the first of the current waits began
        self._outage: tuple[int, int] | None = None  # acknowledged and pending messages at its begin

    def begin(self, who: object, *, acknowledged: int, pending: int) -> float:
        """
        Note that the waiter *who* is about to wait. Return for how many seconds it may. A call of `end` must follow.
        """
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
        """Note that the waiter *who* no longer waits."""
        if who not in self._waiting:  # its outage has ended meanwhile
            return
        self._waiting.discard(who)
        if not self._waiting:
            self._spent_s += self._clock() - self._since

    @staticmethod
    def _is_over(acknowledged: int, outage: tuple[int, int]) -> bool:
        acknowledged_then, pending_then = outage
        # Fewer than at the begin: this is a forked child, with another backlog.
        return acknowledged < acknowledged_then or 2 * (acknowledged - acknowledged_then) >= pending_then
