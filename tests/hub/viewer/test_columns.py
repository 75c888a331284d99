"""The lines of the list: aligned, cut, shifted, highlighted."""

from __future__ import annotations

import re

from rich.color import ColorSystem
from rich.segment import Segment

from hub.query.level import LEVELS
from hub.query.rendering import LEVEL_COLOURS
from hub.viewer.columns import GREY, HIT, STYLES, Columns, columns_of, line_of, zone_name
from hub.viewer.row import Row

SECOND = 1_000_000_000
NOW_S = 1_764_266_400  # 2025-11-27 18:00 UTC
ROWS = [
    Row(1, NOW_S * SECOND + 5_000_000, 5, "web", "Pool exhausted", "a=1"),
    Row(2, NOW_S * SECOND, -1, "shop.db", "ok"),
]


def text(row: Row, columns: Columns) -> str:
    return "".join(segment.text for segment in line_of(row, columns))


def test_levels_have_the_colours_of_the_lines() -> None:
    """A terminal gets the same escape codes for a level as from `mpsr logs`; there is more than one colour."""
    for level, style in zip(LEVELS, STYLES, strict=True):
        before = style.render("x", color_system=ColorSystem.STANDARD).partition("x")[0]
        assert sorted(re.findall(r"\d+", before)) == sorted(re.findall(r"\d+", LEVEL_COLOURS[level])), level
    assert len(set(STYLES)) > 3


def test_columns_are_aligned() -> None:
    """Tags are as wide as the widest, or as they were; a time of another day has a date in all rows."""
    columns = columns_of(ROWS, 100, NOW_S, utc=True)
    assert [text(row, columns) for row in ROWS] == [
        "18:00:00.005 ERROR web     Pool exhausted a=1",
        "18:00:00.000       shop.db ok",
    ]
    narrow = columns_of(ROWS, 40, NOW_S, utc=True, tag_cells=3)
    assert text(ROWS[0], narrow) == "18:00:00 E web     Pool exhausted a=1"
    assert text(ROWS[1], columns_of(ROWS, 30, NOW_S, utc=True)) == "18:00:00   shop.… ok"
    assert text(ROWS[1], columns_of(ROWS, 100, NOW_S + 86_400, utc=True)).startswith("11-27 18:00:00.000 ")
    assert columns_of([], 1, NOW_S, utc=True).tag_cells == 0
    assert zone_name(utc=True) == "UTC"


def test_hits_and_shifts() -> None:
    """A text in small letters marks capital letters too; a shift leaves time, level and tag where they are."""
    columns = columns_of(ROWS, 100, NOW_S, utc=True, hit="pool")
    marked = [segment.text for segment in line_of(ROWS[0], columns) if segment.style and segment.style.underline]
    assert (marked, HIT.underline) == (["Pool"], True)
    assert text(ROWS[0], columns._replace(hit="", shift=5)) == "18:00:00.005 ERROR web     <exhausted a=1"
    assert text(ROWS[0], columns._replace(shift=500)) == "18:00:00.005 ERROR web     <"


def test_what_was_passed_over() -> None:
    """It is a line with its number."""
    columns = columns_of(ROWS, 70, NOW_S, utc=True)
    (line,) = line_of(Row(3, text="up to ", passed=12_340), columns)
    assert line == Segment(" up to 12,340 messages passed over (Enter shows them) ".center(70, "·"), GREY)
