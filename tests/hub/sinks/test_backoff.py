"""hub.sinks.backoff: the pauses grow, have a limit, and differ."""

from __future__ import annotations

import pytest

from hub.sinks.backoff import FIRST_S, MOST_S, Backoff


@pytest.mark.parametrize("dice", [0.0, 0.5, 1.0])
def test_steps_double_up_to_the_limit(dice: float) -> None:
    """Each delay is from half to all of its step."""
    backoff = Backoff(lambda: dice)
    share = 0.5 + dice / 2
    assert [backoff.next_s() for _ in range(9)] == [
        share * min(FIRST_S * 2**number, MOST_S) for number in range(9)
    ]  # fmt: skip
    backoff.succeeded()
    assert backoff.next_s() == share * FIRST_S


def test_two_do_not_keep_step() -> None:
    """The delays of two sinks that failed at the same time differ."""
    assert Backoff().next_s() != Backoff().next_s()
