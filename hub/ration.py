"""
How often something may happen: lines of the hub's log, and messages about losses.

Always true: what a client can cause again and again costs the hub a bounded number of log lines each second, and the
lines that are left out are counted in the next line of their kind.

Not here: whose ration it is (hub.users).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

LINE_S = 1.0
"""Seconds between two lines of one kind: enough to see that it goes on, too few to fill a disk."""
FIELD_CHARS_MAX = 1000
"""Of one value in a line: a client may have chosen it."""

Clock = Callable[[], float]


class Ration:
    """One line every *every_s* seconds."""

    __slots__ = ("_clock", "_every_s", "_left_out", "_next_at")

    def __init__(self, every_s: float = LINE_S, *, clock: Clock = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._next_at = float("-inf")
        self._left_out = 0

    def take(self) -> int | None:
        """Return how many were left out since the last one, or None if this one is to be left out too."""
        now = self._clock()
        if now < self._next_at:
            self._left_out += 1
            return None
        self._next_at = now + self._every_s
        left_out, self._left_out = self._left_out, 0
        return left_out


class Lines:
    """The log lines that one user can cause: a `Ration` for each kind of event."""

    __slots__ = ("_clock", "_rations")

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._rations: dict[str, Ration] = {}  # by event: a name in our code, so there are few

    def log(self, write: Callable[..., object], event: str, **fields: object) -> None:
        """Call *write* (such as ``log.warning``), unless there was a line about such an *event* a moment ago."""
        ration = self._rations.get(event)
        if ration is None:
            ration = self._rations[event] = Ration(clock=self._clock)
        left_out = ration.take()
        if left_out is None:
            return
        if left_out:
            fields["left_out"] = left_out
        write(event, **{key: _shortened(value) for key, value in fields.items()})


def _shortened(value: object) -> object:
    return value if not isinstance(value, str) or len(value) <= FIELD_CHARS_MAX else value[:FIELD_CHARS_MAX] + "..."


class Allowance:
    """*per_s* in each second, and up to one second's worth at once; beyond that the caller waits."""

    __slots__ = ("_at", "_clock", "_per_s", "_sleep", "_used")

    def __init__(
        self,
        per_s: float,
        *,
        clock: Clock = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._per_s = per_s
        self._clock = clock
        self._sleep = sleep
        self._used = 0.0  # of the allowance, at `_at`
        self._at = clock()

    async def take(self) -> None:
        """Take one; return when it may be used. Callers are served in the order of their calls."""
        # A leaky bucket that may run over: what is over it is the queue of those that wait.
        now = self._clock()
        self._used = max(self._used - (now - self._at) * self._per_s, 0.0) + 1.0
        self._at = now
        if self._used > self._per_s:
            await self._sleep((self._used - self._per_s) / self._per_s)
