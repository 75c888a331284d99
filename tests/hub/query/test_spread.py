"""hub.query.spread: against sorting all values."""

from __future__ import annotations

import random
from typing import Any

import pytest

from hub.entries import NS
from hub.message import Message
from hub.query import spread
from hub.query.spread import ERROR, Sketch, Spread, number_of


def message(second: int, record: dict[str, Any]) -> Message:
    """Return a message that was received in this second."""
    return Message("t", 0, record, 1, second * NS)


def test_quantiles() -> None:
    """Each quantile is as near to the one of the sorted values as promised, for numbers of any size and sign."""
    draw = random.Random(1)
    values = [draw.choice((-1, 1)) * 10 ** draw.uniform(-6, 9) for _ in range(2000)] + [0.0] * 20
    sketch = Sketch()
    for value in values:
        sketch.add(value)
    values.sort()
    for part in (0.0, 0.05, 0.5, 0.95, 1.0):
        exact = values[int(part * (len(values) - 1))]
        assert sketch.quantile(part) == pytest.approx(exact, rel=1.01 * ERROR)
    assert (sketch.least, sketch.most, sketch.count) == (values[0], values[-1], len(values))


def test_merged_sketches() -> None:
    """Two together are the one of all values."""
    one, two, both = Sketch(), Sketch(), Sketch()
    for number in range(100):
        (one if number % 3 else two).add(number)
        both.add(number)
    one.merge(two)
    assert (one.classes, one.count, one.least, one.most) == (both.classes, both.count, both.least, both.most)


def test_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are at most as many bars as wanted, and as many steps as are kept; no value is lost."""
    monkeypatch.setattr(spread, "STEPS_KEPT", 16)
    values = Spread("record.http.ms")
    values.add(message(1_000_000 + second, {"http": {"ms": second}}) for second in range(0, 600, 7))
    values.add([message(1_000_000, {"ms": 1}), message(1_000_000, {"http": {"ms": "no number"}})])
    bars = values.bars(20)
    assert len(bars) <= 20
    assert sum(bar.sketch.count for bar in bars) == values.count == 86
    assert [bar.begin_s for bar in bars] == list(range(bars[0].begin_s, bars[-1].begin_s + 1, values.step_s))
    assert bars[0].begin_s <= 1_000_000
    assert (bars[0].sketch.least, bars[-1].sketch.most) == (0, 595)
    assert Spread("x").bars(5) == []


def test_bars_over_centuries() -> None:
    """Where even the longest step gives too many bars, the first ones are shown."""
    values = Spread("n")
    values.add([message(second, {"n": 1}) for second in (0, 1 << 40)])
    assert len(values.bars(10)) == 10


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (5, 5.0),
        (0.5, 0.5),
        ("12.5", 12.5),
        (" 3 ", 3.0),
        ("1ms", None),
        ("", None),
        (True, None),
        (None, None),
        ([1], None),
        (float("nan"), None),
        (float("inf"), None),
        ("inf", None),
        (1 << 2000, None),
    ],
)
def test_numbers(value: object, number: float | None) -> None:
    """Finite numbers count, and texts that are one."""
    assert number_of(value) == number
