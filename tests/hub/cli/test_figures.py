"""hub.cli.figures: the table of `--by`, the bars of `--histogram`."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from hub.cli.figures import bars_max, histogram, table
from hub.query import counting
from hub.query.counting import Table
from hub.query.level import LEVELS, NO_RANK
from hub.query.timeline import Bar

INFO, ERROR = LEVELS.index("info"), LEVELS.index("error")


def counts_of(*values: str | None) -> Table:
    counts = Table(["a\x1bb"])
    for value in values:
        counts.add_count((value,), 1000)
    return counts


def test_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers stand below each other, values cannot control a terminal, and all other values have one row."""
    monkeypatch.setattr(counting, "VALUES_MAX", 2)
    counts = counts_of("x\n\x1b", None, "x\n\x1b", "y")
    assert [*table(counts, is_json=False)] == [
        "COUNT      %  A\\X1BB",
        "2,000   50.0  x\\x0a\\x1b",
        "1,000   25.0  (none)",
        "1,000   25.0  (other values)",
    ]
    assert [json.loads(line) for line in table(counts, is_json=True)] == [
        {"a\x1bb": "x\n\x1b", "count": 2000},
        {"a\x1bb": None, "count": 1000},
        {"a\x1bb": None, "others": True, "count": 1000},
    ]
    assert [*table(counts_of(), is_json=False)] == [*table(counts_of(), is_json=True)] == []


def test_a_histogram() -> None:
    """A bar is as long as its part of the longest; a single message is seen; JSON has the levels."""
    counts = Counter({INFO: 900, ERROR: 1, NO_RANK: 99}), Counter[int](), Counter({INFO: 1})
    bars = [Bar(60 * minute, each) for minute, each in enumerate(counts)]
    shown = [*histogram(bars, step_s=60, is_json=False, coloured=False, utc=True)]
    assert shown[0] == f"1970-01-01 00:00  1,000  {54 * chr(0x2588)}"
    assert shown[1:] == ["1970-01-01 00:01      0", "1970-01-01 00:02      1  \u258f"]
    (line, *_) = histogram(bars, step_s=60, is_json=False, coloured=True, utc=True)
    assert "\x1b[31m\u2588\x1b[0m" in line
    assert line.count("\u2588") == 54
    (begin, *_) = map(json.loads, histogram(bars, step_s=60, is_json=True, coloured=False, utc=True))
    assert begin == {
        "from": "1970-01-01T00:00:00.000000000Z",
        "to": "1970-01-01T00:01:00.000000000Z",
        "count": 1000,
        "levels": {"info": 900, "error": 1, "": 99},
    }
    assert [*histogram([], step_s=1, is_json=False, coloured=True, utc=True)] == []


def test_labels() -> None:
    """Days have no clock, seconds have theirs, and there is a date unless all is of today."""

    def label(step: int) -> str:
        (line,) = histogram([Bar(90_061, Counter({0: 1}))], step_s=step, is_json=False, coloured=False, utc=True)
        return line.partition("  ")[0]

    assert [label(step) for step in (1, 60, 86_400)] == ["1970-01-02 01:01:01", "1970-01-02 01:01", "1970-01-02"]


def test_bars_without_a_terminal() -> None:
    """There are 40 at most."""
    assert bars_max() == 40
