"""hub.delays: the pauses grow, have a limit, and differ."""

from __future__ import annotations

import pytest

from hub.delays import Delays


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
def test_steps_double_up_to_the_limit(jitter: float) -> None:
    """Each delay is from half to all of its step; after a success the first step comes again."""
    delays = Delays(0.25, 30.0, lambda: jitter)
    share = 0.5 + jitter / 2
    assert [delays.next_s() for _ in range(9)] == [share * min(0.25 * 2**number, 30.0) for number in range(9)]
    delays.succeeded()
    assert delays.next_s() == share * 0.25


def test_two_do_not_keep_step() -> None:
    """The delays of two that failed at the same time differ."""
    assert Delays(0.25, 30.0).next_s() != Delays(0.25, 30.0).next_s()
