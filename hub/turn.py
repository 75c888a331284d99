"""
Time on the event loop: what the connections of one user together get before all others have their turn.

A user works up to `TURN_S` within one round of the loop; then its connections wait until the loop has been round.
A step that takes longer than that is paid for with the rounds after it. Who waits is served in the order of arrival.

    await turn.come()
    with turn:
        ...  # a step, without an await

Always true:
- in one round of the loop a user's steps take `TURN_S` and one step more, however many connections it has;
- where nobody has used up its time, nothing waits: a step costs two readings of the clock.

Not here: cutting the work into steps (hub.intake, hub.wire).
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType

TURN_S = 0.005
"""A round with four busy users takes 20 ms. One user delays the others by no more than a commit does."""
WOKEN_MAX = 64
"""How many of those that wait look in each round whether it is their turn: enough cheap steps to fill one."""


class Turn:
    """One user's time on the loop; a context manager around each step."""

    __slots__ = ("_began", "_clock", "_is_renewed", "_used_s", "_waiting")

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = 0.0
        self._used_s = 0.0
        self._is_renewed = True
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def is_spent(self) -> bool:
        """Whether the time of this round is used up: go on after `come`."""
        return self._used_s >= TURN_S

    def spend(self, seconds: float) -> None:
        """Take note of time that a step has taken."""
        self._used_s += seconds
        if self._is_renewed:
            self._is_renewed = False
            asyncio.get_running_loop().call_soon(self._renew)

    async def come(self) -> None:
        """Return when the next step may be done: at once, unless the user's time is used up or others wait for it."""
        if self._used_s < TURN_S and not self._waiting:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter
            while self._used_s >= TURN_S or self._waiting[0] is not waiter:  # noqa: ASYNC110  after `_renew` of each round
                await asyncio.sleep(0)
        finally:
            self._waiting.remove(waiter)

    def __enter__(self) -> None:
        self._began = self._clock()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.spend(self._clock() - self._began)

    def _renew(self) -> None:
        """The loop has been round: pay for this round, and wake the first of those that wait."""
        self._used_s = max(self._used_s - TURN_S, 0.0)
        self._is_renewed = not self._used_s and not self._waiting
        if not self._is_renewed:
            asyncio.get_running_loop().call_soon(self._renew)
        for waiter, _ in zip(self._waiting, range(WOKEN_MAX), strict=False):
            if not waiter.done():
                waiter.set_result(None)
