"""
The journal's times, independent of how the machine's clock is set.

Clocks are set wrong: by a flat battery, a virtual machine that was paused, a typing error. `received` never decreases,
so a date far ahead would stay for ever. It follows a clock that is set ahead by `JUMP_S` at once, and from then on
`CATCH_UP` times as fast as time passes. When the clock is right again, `received` stands still until the clock has
reached it: hours later, not years. At the first reading after a stop it is unknown how long the stop lasted, and the
clock is followed by `STOP_S` at once.

Age is measured by the real clock, never ahead of `received`. The time by which things expire follows the clock by
`JUMP_S` only, after a stop too: a wrong clock deletes nothing that would not have expired within hours.

Always true:
- `received` never decreases, and neither does `steady`, which no setting of the clock moves;
- `real` is at most `received`, and `expiry` at most `real`.

Not covered: a journal whose very first message is received while the clock is wrong has nothing to compare it with.

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

_ALLOWANCE_MAX = JUMP_S * NS


class Moment(NamedTuple):
    """One reading, in nanoseconds: *received*, *real* and *expiry* since the epoch, *steady* since any fixed moment."""

    received: int
    real: int
    expiry: int
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
        self._received = _Follower(last, first_s=STOP_S)
        self._expiry = _Follower(last, first_s=JUMP_S)
        self._read_at = steady()

    def read(self) -> Moment:
        """Return the current times."""
        wall, steady = self._wall(), self._steady()
        elapsed = max(steady - self._read_at, 0)
        self._read_at += elapsed
        received = self._received.follow(wall, elapsed)
        real = min(wall, received)
        expiry = min(real, self._expiry.follow(wall, elapsed))
        return Moment(received, real, expiry, self._read_at, wall - received)


class _Follower:
    """A time that never decreases, and follows the wall's as far as it is allowed: at first by *first_s*."""

    def __init__(self, last: int, *, first_s: int) -> None:
        self._last = last
        self._allowance = first_s * NS

    def follow(self, wall: int, elapsed: int) -> int:
        """Return the time now, *elapsed* nanoseconds after the last call."""
        if self._last < PLAUSIBLE_S * NS:
            self._last = max(self._last, wall)
            return self._last
        expected = self._last + elapsed
        if self._allowance < _ALLOWANCE_MAX:
            self._allowance = min(self._allowance + elapsed * CATCH_UP, _ALLOWANCE_MAX)
        if wall > self._last:
            self._last = min(wall, expected + self._allowance)
        self._allowance = min(self._allowance - max(self._last - expected, 0), _ALLOWANCE_MAX)
        return self._last
