"""Producers and their rates."""

from __future__ import annotations

from typing import Any

from hub.viewer.rates import age, ordered, producers_of, rated, short


def peer(pid: int, messages: int, **more: Any) -> dict[str, Any]:
    own = {"pid": pid, "uid": 1, "comm": "web", "protocol": "forward", "connected_s": 5.0}
    return {**own, "messages": messages, "bytes": 10 * messages, "losses": 0, **more}


def test_rates_are_differences() -> None:
    """A process is one row for all of its connections; one that is seen first, or has a lower counter, has no rate."""
    before = producers_of([peer(1, 100), peer(1, 50), peer(2, 900)])
    now = producers_of([peer(1, 120), peer(1, 80, connected_s=9.0), peer(2, 3), peer(3, 7, unit="a.service", losses=2)])
    one, two, three = rated(now, before, 2.0)
    assert (one.connections, one.messages, one.connected_s, one.rate, one.bytes_rate) == (2, 200, 9.0, 25.0, 250.0)
    assert (two.rate, three.rate, three.place, three.lost) == (0.0, 0.0, "a.service", 2)
    assert [each.pid for each in ordered([one, two, three], "rate")] == [1, 3, 2]
    assert [each.pid for each in ordered([one, two, three], "lost")] == [3, 1, 2]
    assert [each.rate for each in rated(now, before, 0.0)] == [0.0, 0.0, 0.0]


def test_short_numbers() -> None:
    """They have five characters at most."""
    numbers = (0, 7, 999, 999.6, 1234, 9_949, 9_960, 123_456, 999_499, 999_500, 5e9, 1e15)
    assert [short(number) for number in numbers] == [
        "0", "7", "999", "1.0k", "1.2k", "9.9k", "10k", "123k", "999k", "1.0M", "5.0G", "1P",
    ]  # fmt: skip
    assert [age(seconds) for seconds in (0, 59, 60, 3600, 90_000)] == ["0s", "59s", "1m", "1h", "1d"]
