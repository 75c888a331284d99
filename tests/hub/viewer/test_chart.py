"""The histogram in block characters."""

from __future__ import annotations

from collections import Counter

from rich.segment import Segment

from hub.query.level import NO_RANK
from hub.query.timeline import Bar
from hub.viewer.chart import bar_at, chart
from hub.viewer.columns import GREY, PLAIN, STYLES

BARS = [Bar(60, Counter({2: 16})), Bar(70, Counter()), Bar(80, Counter({2: 1, 5: 0})), Bar(90, Counter({2: 7, 5: 1}))]


def test_heights_and_colours() -> None:
    """The highest fills all lines, the lowest is seen, and the worst level from warnings on gives the colour."""
    upper, lower = chart(BARS, 2)
    assert "".join(segment.text for segment in upper) == "█   "
    assert "".join(segment.text for segment in lower) == "█ ▁█"
    assert [segment.style for segment in lower] == [PLAIN, GREY, PLAIN, STYLES[5]]
    assert chart([Bar(0, Counter({NO_RANK: 3}))], 1) == [[Segment("█", GREY)]]
    assert chart([], 2) == [[], []]


def test_the_column_of_a_time() -> None:
    """It is marked; times outside have none."""
    assert [bar_at(BARS, 10, second * 1_000_000_000) for second in (59, 60, 75, 99, 100)] == [None, 0, 1, 3, None]
    assert bar_at([], 10, 0) is None
    (line,) = chart(BARS, 1, marked=1)
    assert [segment.text for segment in line if segment.style and segment.style.reverse] == [" "]
