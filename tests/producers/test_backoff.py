"""Backoff: the delays before a new connection, with a fake clock and fixed jitter."""

from __future__ import annotations

import pytest

from producers.backoff import BACKOFF_MAX_S, BACKOFF_MIN_S, Backoff


def test_the_delays() -> None:
    """They double up to the longest; a success begins anew."""
    backoff, now, waited = Backoff(lambda: 1.0), 1000.0, []
    assert backoff.left_s(now) == 0
    for _ in range(10):
        backoff.failed(now)
        waited.append(backoff.left_s(now))
        now += waited[-1]
        assert backoff.left_s(now) == pytest.approx(0)
    assert waited == [pytest.approx(min(BACKOFF_MIN_S * 2**number, BACKOFF_MAX_S)) for number in range(10)]
    backoff.succeeded()
    backoff.failed(now)
    assert backoff.left_s(now) == pytest.approx(BACKOFF_MIN_S)


def test_jitter() -> None:
    """Clients of one hub do not come back at the same moment: half of a delay is by chance."""
    backoff = Backoff(lambda: 0.0)
    backoff.failed(0.0)
    assert backoff.left_s(0.0) == pytest.approx(BACKOFF_MIN_S / 2)
