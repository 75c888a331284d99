"""
hub.journal.clock: the journal's times when the machine's clock is set wrong, and right again.
"""

from __future__ import annotations

import random

import pytest

from hub.entries import NS
from hub.journal.clock import CATCH_UP, JUMP_S, PLAUSIBLE_S, STOP_S, Clock, Moment, steady_ns

NOW_S = PLAUSIBLE_S + 10**7
YEAR_S, DAY_S = 365 * 86_400, 86_400


class Machine:
    """Two clocks: a steady one, and one that is *wrong_s* ahead. Times are in seconds."""

    def __init__(self, *, last_s: float = NOW_S, stopped_s: float = 0) -> None:
        self.now_s, self.wrong_s = float(last_s + stopped_s), 0.0
        self.clock = Clock(int(last_s * NS), wall=lambda: int((self.now_s + self.wrong_s) * NS), steady=self._steady)

    def _steady(self) -> int:
        return int(self.now_s * NS) + 12_345

    def after(self, seconds: float, *, wrong_s: float | None = None) -> tuple[float, float]:
        """Return `received` and `real` after *seconds*, ahead of the true time."""
        moment = self.read_after(seconds, wrong_s=wrong_s)
        return moment.received / NS - self.now_s, moment.real / NS - self.now_s

    def read_after(self, seconds: float, *, wrong_s: float | None = None) -> Moment:
        self.now_s += seconds
        if wrong_s is not None:
            self.wrong_s = wrong_s
        moment = self.clock.read()
        assert moment.received + moment.ahead == int((self.now_s + self.wrong_s) * NS)
        assert moment.expiry <= moment.real <= moment.received
        return moment


def test_a_clock_that_goes_on_is_followed() -> None:
    """While the clock is not set, all times are the machine's."""
    machine = Machine()
    for seconds in (0, 1, 0.001, 3600, 10 * DAY_S):
        assert machine.after(seconds) == (0, 0)


def test_twenty_years_ahead_for_one_commit_are_an_hour() -> None:
    """
    A clock that was years ahead leaves `received` one hour ahead, and one hour after the clock is right the lead is
    gone.
    """
    machine = Machine()
    machine.after(1)
    machine.after(60)
    received, _ = machine.after(1, wrong_s=20 * YEAR_S)
    assert received == pytest.approx(JUMP_S, abs=60)
    received, real = machine.after(1, wrong_s=0)
    assert received == pytest.approx(JUMP_S, abs=60)  # `received` stands still: it never decreases
    assert real == 0
    assert machine.after(JUMP_S + 60) == (0, 0)


@pytest.mark.parametrize("stopped_s", [0, DAY_S])
def test_a_wrong_clock_expires_nothing_but_hours_early(stopped_s: float) -> None:
    """The time by which things expire is an hour ahead at most, also at the first reading after a stop."""
    machine = Machine()
    machine.now_s += stopped_s
    assert machine.read_after(1, wrong_s=20 * YEAR_S).expiry / NS <= NOW_S + JUMP_S + 1 + stopped_s
    for _ in range(75):
        moment = machine.read_after(1)
    assert moment.expiry / NS <= machine.now_s + JUMP_S + 76 * CATCH_UP
    assert machine.read_after(1, wrong_s=0).expiry / NS <= machine.now_s


def test_expiry_is_right_again_hours_after_a_long_stop() -> None:
    """Nothing expires early because of a stop, and the delay is over after a hundredth of it."""
    machine = Machine(stopped_s=20 * DAY_S)
    moment = machine.read_after(1)
    assert (moment.received, moment.real) == (machine.now_s * NS, machine.now_s * NS)
    for _ in range(int(20 * DAY_S / CATCH_UP / 10) + 10):
        moment = machine.read_after(10)
    assert moment.expiry == moment.real


def test_a_start_years_ahead_is_bounded_too() -> None:
    """After a boot with a wrong date, `received` is ahead by at most the allowance for a stop."""
    machine = Machine()
    assert machine.after(1, wrong_s=20 * YEAR_S)[0] == pytest.approx(STOP_S, abs=60)
    assert machine.after(1, wrong_s=0)[1] == 0
    assert machine.after(STOP_S) == (0, 0)


@pytest.mark.parametrize("stopped_s", [1, DAY_S, STOP_S - 1])
def test_a_stop_is_no_jump(stopped_s: float) -> None:
    """After a stop of up to a month, `received` follows the clock at once."""
    assert Machine(stopped_s=stopped_s).after(0) == (0, 0)


@pytest.mark.parametrize("late_s", [10 * DAY_S, 5 * YEAR_S])
def test_a_clock_that_stays_ahead_is_caught_up_with(late_s: float) -> None:
    """After a pause of the machine without its clocks, `received` is late, and right after a hundredth of that time."""
    machine = Machine()
    machine.after(1)
    machine.wrong_s = late_s  # the clock is right from now on: it is the steady one that missed something
    steps = 0
    while (late := late_s - machine.after(10)[0]) > 0:
        assert late <= late_s
        steps += 1
    assert steps * 10 <= late_s / (CATCH_UP - 1) + 20


def test_a_clock_that_was_never_set_is_left_at_once() -> None:
    """On a computer whose clock starts in 1970, `received` follows the network's time at once."""
    machine = Machine(last_s=1000)
    assert machine.after(1, wrong_s=NOW_S)[0] == NOW_S
    assert machine.after(DAY_S)[0] == NOW_S


def test_the_first_message_of_a_journal_has_the_clocks_time() -> None:
    """Without an earlier message, the first time is that of the clock."""
    now = [NOW_S * NS]
    clock = Clock(wall=lambda: now[0], steady=lambda: now[0] - 7)
    for _ in range(3):
        assert tuple(clock.read()) == (now[0], now[0], now[0], now[0] - 7, 0)
        now[0] += DAY_S * NS


def test_nothing_ever_goes_back_and_no_age_runs_ahead() -> None:
    """However the clock is set, `received` rises by no more than the allowance, and `real` is never above it."""
    rng = random.Random(3)
    machine = Machine()
    machine.after(0)
    last, elapsed = machine.clock.read(), 0.0
    for _ in range(5000):
        seconds = rng.choice((0, 0.001, 1, 100))
        elapsed += seconds
        machine.after(seconds, wrong_s=rng.choice((0, 0, 1, -5000, 20 * YEAR_S, rng.random() * DAY_S)))
        moment = machine.clock.read()
        assert moment.received >= last.received
        assert moment.steady >= last.steady
        assert moment.real <= moment.received
        assert moment.received <= (NOW_S + JUMP_S + (CATCH_UP + 1) * elapsed + 1) * NS
        last = moment


def test_the_steady_clock_goes_on() -> None:
    """The steady clock is a clock of the system, in nanoseconds."""
    assert 0 < steady_ns() <= steady_ns()
