"""
Time on the event loop: how long the connections of one user together may work before all others have their turn.

A user works up to `TURN_S` within one round of the loop; then its connections wait for the next round. A step that
takes longer is paid for with the rounds after it. Connections of one user are served in the order in which they began
to wait. Users that have to wait share one turn: ten of them take no more of a round than one does.

    await turn.come()
    with turn:
        ...  # a step, without an await

Always true:
- in one round of the loop a user's steps take `TURN_S` and one step more, however many connections it has, and so do
  the steps of all users together that had to wait;
- a user that uses less than half of that in each round never waits for another one, and its step costs two readings of
  the clock.

Not here: cutting the work into steps (hub.intake, hub.wire).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

TURN_S = 0.003
"""An answer takes a few rounds: users that ask for too much delay it by 20 to 40 ms."""
_UNNOTICED_S = TURN_S / 2
"""
Used time below this is not renewed: renewing in each round would cost a tenth of the throughput of small messages.
"""
WOKEN_MAX = 64
"""
Maximum waiting connections that check in a round whether it is their turn: enough cheap steps to fill the round. They
are one more than twice those that went on in the round before: a check costs as much as a small step.
"""


class Round:
    """One round of the loop, for all users."""

    __slots__ = ("_active", "used_s", "waiting")

    def __init__(self) -> None:
        self._active: dict[Turn, None] = {}  # turns that have used time, in the order in which they began to
        self.used_s: float = 0.0
        """The time that users which had to wait have used in this round."""
        self.waiting: int = 0
        """How many users wait."""

    def renew_later(self, turn: Turn) -> None:
        """Renew the time of *turn* at the next round of the loop."""
        if not self._active:
            asyncio.get_running_loop().call_soon(self._renew)
        self._active[turn] = None

    def _renew(self) -> None:
        self.used_s = 0.0
        part_s = TURN_S / max(self.waiting, 1)
        for turn in list(self._active):
            if turn.renew(part_s):
                del self._active[turn]
        if self._active:
            # Before everything that is woken now: in each round this comes first.
            asyncio.get_running_loop().call_soon(self._renew)


class _Waiter:
    """A step that waits until it may check whether it is its turn."""

    __slots__ = ("_woken",)

    def __init__(self) -> None:
        self._woken: asyncio.Future[None] | None = None

    async def woken(self) -> None:
        """Return at the next `wake`."""
        self._woken = asyncio.get_running_loop().create_future()
        await self._woken

    def wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


class Turn:
    """One user's time on the loop; a context manager around each step. *shared* is the loop's, for all users."""

    __slots__ = ("_began", "_begun", "_had_to_wait", "_is_active", "_shared", "_used_s", "_waiting", "clock")

    def __init__(self, shared: Round | None = None, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._shared = shared or Round()
        self.clock: Callable[[], float] = clock
        """Returns seconds. Where a `with` would cost too much, the time between two readings is passed to `spend`."""
        self._began = 0.0
        self._begun = 0  # steps of those that waited, since the last renewal
        self._used_s = 0.0
        self._is_active = False
        self._had_to_wait = False
        self._waiting: deque[_Waiter] = deque()

    @property
    def is_free(self) -> bool:
        """Whether `come` need not be waited for."""
        return self._used_s < TURN_S and not self._waiting

    @property
    def is_spent(self) -> bool:
        """Whether the time of this round is used up: await `come` before going on."""
        return self._used_s >= TURN_S

    def spend(self, seconds: float) -> None:
        """Take note of time that a step has taken."""
        self._used_s += seconds
        if self._had_to_wait:
            self._shared.used_s += seconds
        if self._used_s >= _UNNOTICED_S and not self._is_active:
            self._is_active = True
            self._shared.renew_later(self)

    async def come(self) -> None:
        """Return when the next step may be done: at once, unless the user's time is used up or others wait for it."""
        if self.is_free:
            return
        waiter = _Waiter()
        self._shared.waiting += not self._waiting
        self._waiting.append(waiter)
        self._had_to_wait = True
        try:
            await waiter.woken()
            while not self._may_begin(waiter):
                await waiter.woken()
            self._begun += 1
        finally:
            self._waiting.remove(waiter)
            self._shared.waiting -= not self._waiting

    def renew(self, seconds: float) -> bool:
        """
        Give back *seconds* of the used time, and wake the first of those that wait. Return True if nothing is left to
        do.
        """
        self._used_s = max(self._used_s - seconds, 0.0)
        woken, self._begun = min(2 * self._begun + 1, WOKEN_MAX), 0
        for waiter, _ in zip(self._waiting, range(woken), strict=False):
            waiter.wake()
        if self._used_s or self._waiting:
            return False
        self._is_active = self._had_to_wait = False
        return True

    def _may_begin(self, waiter: _Waiter) -> bool:
        return self._used_s < TURN_S and self._waiting[0] is waiter and self._shared.used_s < TURN_S

    def __enter__(self) -> None:
        self._began = self.clock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.spend(self.clock() - self._began)
