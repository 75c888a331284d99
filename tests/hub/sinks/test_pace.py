"""hub.sinks.pace: how a sink lets the event loop go first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from hub.sinks.pace import AFTER_S, REST_S_MAX, REST_S_MIN, Pace, clock_of_this_thread


def test_a_sink_yields_to_a_busy_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """It pauses three times as long as both have worked, and leaves the loop a moment in any case."""
    slept: list[float] = []
    own, loop = [0.0], [1.0]
    monkeypatch.setattr(time, "sleep", slept.append)
    pace = Pace(lambda: loop[0], lambda: own[0])
    for own_s, loop_s in ((0.004, 0.003), (0.004, 0.0), (AFTER_S / 2, 1.0), (0.001, 0.0), (0.004, 1.0), (1.0, 1.0)):
        own[0] += own_s
        loop[0] += loop_s
        pace.rest()
    assert [round(pause_s, 6) for pause_s in slept] == [0.009, REST_S_MIN, 0.0033, 0.012, REST_S_MAX]


def test_a_thread_reads_the_clock_of_another() -> None:
    """The clock of a thread that waits stands still while another one works."""
    clocks: list[Callable[[], float]] = []
    may_end, is_made = threading.Event(), threading.Event()

    def work() -> None:
        clocks.append(clock_of_this_thread())
        is_made.set()
        may_end.wait(30)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        assert is_made.wait(30)
        own, before_s = clock_of_this_thread(), clocks[0]()
        until = own() + 0.02
        while own() < until:
            pass
        assert clocks[0]() - before_s < 0.01
    finally:
        may_end.set()
        thread.join()
