"""hub.query.spreadby: against one spread for each value."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hub.query import spread
from hub.query.spread import Spread
from hub.query.spreadby import SpreadBy
from tests.hub.query.test_spread import message

VALUES = ("a", "b", None)


def sample(count: int, seconds: int) -> list[Any]:
    draw = random.Random(count)
    records: list[dict[str, Any]] = [{"user": "a"}, {"user": "b"}, {"user": "c"}, {"user": "d"}, {}]
    return [
        message(1_000_000 + draw.randrange(seconds), {**draw.choice(records), "ms": number}) for number in range(count)
    ]


@pytest.mark.parametrize("name", ["ms", None])
@pytest.mark.parametrize("seconds", [5, 600, 100_000])
def test_each_value_has_its_own_distribution(monkeypatch: pytest.MonkeyPatch, name: str | None, seconds: int) -> None:
    """Each series holds what a spread of its messages alone holds, in bars that all have in common."""
    monkeypatch.setattr(spread, "STEPS_KEPT", 64)
    messages, spreads = sample(500, seconds), SpreadBy(name, "user", VALUES)
    spreads.add(messages[:200])
    spreads.add(messages[200:])
    series = spreads.bars(20)
    assert len(series) == len(VALUES) + 1
    begins = [bar.begin_s for bar in series[0]]
    assert len(begins) <= 20
    assert begins == list(range(begins[0], begins[-1] + 1, spreads.step_s))
    for value, bars in zip((*VALUES, "others"), series, strict=True):
        alone = Spread(name)
        mine = [each for each in messages if each.record.get("user") == value]
        alone.add(mine if value != "others" else [each for each in messages if each.record.get("user") in ("c", "d")])
        assert [bar.begin_s for bar in bars] == begins
        assert sum(bar.sketch.count for bar in bars) == alone.count > 0
        found = {bar.begin_s: bar.sketch.count for bar in bars if bar.sketch.count}
        wanted: dict[int, int] = {}
        for bar in alone.bars(1_000_000):
            if bar.sketch.count:
                begin = bar.begin_s // spreads.step_s * spreads.step_s
                wanted[begin] = wanted.get(begin, 0) + bar.sketch.count
        assert found == wanted
    assert spreads.count == len(messages)


def test_nothing() -> None:
    """Without messages there are no bars."""
    assert SpreadBy("ms", "user", ["a"]).bars(10) == [[], []]
