"""
The journal's times, independent of how the machine's clock is set.

A clock can be set wrong by a flat battery, a paused virtual machine or a typing error. `received` never decreases, so a
date far ahead would stay for ever. When the clock is set ahead, `received` follows by up to `JUMP_S` at once, and then
gains at most `CATCH_UP` seconds for each second that passes. At the start of a hub it follows by up to `STOP_S` at
once. When the clock is right again, `received` stands still until the clock has reached it. An error of one minute
costs hours at most, not years.

Age is measured by the real clock, limited to `received`. A clock that was wrong for a minute neither expires messages
years early nor keeps them for years.

Always true:
- `received` never decreases;
- `steady` never decreases, and setting the clock does not move it;
- `real` is at most `received`.

Source: clock_gettime(2). CLOCK_BOOTTIME advances while the machine sleeps, CLOCK_MONOTONIC does not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from hub.entries import NS

JUMP_S = 3600
CATCH_UP = 100
STOP_S = 30 * 86_400
"""After a longer stop, `received` catches up as after any other jump."""
PLAUSIBLE_S = 1_735_689_600
"""
The beginning of 2025. No hub ran before, so an earlier time means that the clock is not set yet. The step from there to
the real time is not limited.
"""


class Moment(NamedTuple):
    """One reading, in nanoseconds: *received* and *real* since the epoch, *steady* since an arbitrary fixed moment."""

    received: int
    real: int
    steady: int
    ahead: int
    """Machine's clock minus *received*: positive if the clock is ahead, negative if it is behind. Normally zero."""


def steady_ns() -> int:
    """Return nanoseconds of a clock that cannot be set."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boottime is None else time.clock_gettime_ns(boottime)


class Clock:
    """The clock of one run of a journal. *last* is the time of receipt of its newest message."""

    def __init__(
        self, last: int = 0, *, wall: Callable[[], int] = time.time_ns, steady: Callable[[], int] = steady_ns
    ) -> None:
        self._wall = wall
        self._steady = steady
        self._last = last
        self._read_at = steady()
        self._allowance = STOP_S * NS

    def read(self) -> Moment:
        """Return the current times."""
        wall, steady = self._wall(), self._steady()
        elapsed = max(steady - self._read_at, 0)
        self._read_at += elapsed
        if self._last < PLAUSIBLE_S * NS:
            self._last = max(self._last, wall)
        else:
            self._last = self._follow(wall, elapsed)
        return Moment(self._last, min(wall, self._last), self._read_at, wall - self._last)

    def _follow(self, wall: int, elapsed: int) -> int:
        """Return the new *received*: the machine's clock, as far as the allowance permits."""
        expected = self._last + elapsed
        # The larger allowance after a stop is used up first; it is not renewed.
        self._allowance = max(self._allowance, min(self._allowance + elapsed * CATCH_UP, JUMP_S * NS))
        received = max(self._last, min(wall, expected + self._allowance))
        self._allowance -= max(received - expected, 0)
        return received
