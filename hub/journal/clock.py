"""
The times that a journal gives, whatever happens to the machine's clock.

Clocks are set wrong: by a flat battery, a virtual machine that was paused, a typing error. `received` never decreases,
so a date far ahead would stay for ever. It follows a clock that is set ahead by `JUMP_S` at once, and from then on
`CATCH_UP` times as fast as time passes; after a stop, by `STOP_S` at once. When the clock is right again, `received`
stands still until the clock has reached it: at most hours later, not years.

Age is measured by the real clock, never ahead of `received`: nothing expires years early because the clock was wrong
for a minute, and nothing is kept for years because it was.

Always true:
- `received` never decreases, and neither does `steady`, which no setting of the clock moves;
- `real` is at most `received`.

Source: clock_gettime(2). CLOCK_BOOTTIME goes on while the machine sleeps, CLOCK_MONOTONIC does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from hub.entries import NS

JUMP_S = 3600
CATCH_UP = 100
STOP_S = 30 * 86_400
"""A hub that was stopped for longer than this catches up like after any other jump."""
PLAUSIBLE_S = 1_735_689_600
"""The beginning of 2025. No hub ran before, so a clock that says so has not been set yet: leaving it is no jump."""


class Moment(NamedTuple):
    """One reading, in nanoseconds: *received* and *real* since the epoch, *steady* since any fixed moment."""

    received: int
    real: int
    steady: int
    ahead: int
    """How far the machine's clock is ahead of *received*; negative if it is behind. Zero while all is well."""


def steady_ns() -> int:
    """Return nanoseconds of a clock that cannot be set."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boottime is None else time.clock_gettime_ns(boottime)


class Clock:
    """Gives the times of one life of a journal, whose newest message was received at *last*."""

    def __init__(
        self, last: int = 0, *, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = steady_ns
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._last = last
        self._read_at = steady()
        self._allowance = STOP_S * NS

    def read(self) -> Moment:
        """Return the times now."""
        wall, steady = self._wall(), self._steady()
        elapsed = max(steady - self._read_at, 0)
        self._read_at += elapsed
        if self._last < PLAUSIBLE_S * NS:
            self._last = max(self._last, wall)
        else:
            self._last = self._follow(wall, elapsed)
        return Moment(self._last, min(wall, self._last), self._read_at, wall - self._last)

    def _follow(self, wall: int, elapsed: int) -> int:
        """Return what is received now: the time on the wall as far as it is allowed."""
        expected = self._last + elapsed
        # What is left of the allowance for a stop is used up first; it is not renewed.
        self._allowance = max(self._allowance, min(self._allowance + elapsed * CATCH_UP, JUMP_S * NS))
        received = max(self._last, min(wall, expected + self._allowance))
        self._allowance -= max(received - expected, 0)
        return received
