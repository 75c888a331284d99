"""Clock: it is the monotonic clock, also while `time.monotonic` is replaced."""

from __future__ import annotations

import time

import pytest

from producers import clock


def test_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """It agrees with `time.monotonic`, and goes on when that stands still."""
    assert time.monotonic() <= clock.now() <= time.monotonic()
    before = clock.now()
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    assert clock.now() >= before
    assert clock.now() > 0.0
