"""
Rate limits for the hub's log lines and for messages about losses.

Always true: an event that a client can repeat costs the hub a bounded number of log lines per second. Lines left out
are counted, and the next line of the same kind reports the count.

Not here: the objects that belong to a user (hub.users).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

LINE_S = 1.0
"""Seconds between two lines of one kind: enough to show that it continues, too few to fill a disk."""
FIELD_CHARS_MAX = 1000
"""Longest value in a line; a client may have chosen it."""

Clock = Callable[[], float]


class Ration:
    """Allow one line per *every_s* seconds."""

    __slots__ = ("_clock", "_every_s", "_left_out", "_next_at")

    def __init__(self, every_s: float = LINE_S, *, clock: Clock = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._next_at = float("-inf")
        self._left_out = 0

    def take(self) -> int | None:
        """Return the number of lines left out since the last one; None if this line is to be left out too."""
        now = self._clock()
        if now < self._next_at:
            self._left_out += 1
            return None
        self._next_at = now + self._every_s
        left_out, self._left_out = self._left_out, 0
        return left_out


class Lines:
    """The log lines that one user causes: one `Ration` per kind of event."""

    __slots__ = ("_clock", "_rations")

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._rations: dict[str, Ration] = {}  # by event; events are names in our code, so they are few

    def log(self, write: Callable[..., object], event: str, **fields: object) -> None:
        """Call *write* (such as ``log.warning``), unless a line about *event* was written less than `LINE_S` ago."""
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
    """*per_s* uses per second on average, in bursts of up to one second's uses; beyond that, the caller waits."""

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
        """Take one use; return when it is available. Callers are served in the order of their calls."""
        # A leaky bucket that may overflow. The overflow is the queue of waiting callers.
        now = self._clock()
        self._used = max(self._used - (now - self._at) * self._per_s, 0.0) + 1.0
        self._at = now
        if self._used > self._per_s:
            await self._sleep((self._used - self._per_s) / self._per_s)
