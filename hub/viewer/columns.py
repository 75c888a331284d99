"""
The columns of the list: time, level, tag, text and fields, aligned over the rows of one screen.

Always true: a line is made only when it is shown; no text of a message is markup.

Not here: the widget (hub.viewer.listing), what a row contains (hub.viewer.row).
"""

from __future__ import annotations

import functools
import time
from collections.abc import Sequence
from typing import NamedTuple

from rich.ansi import AnsiDecoder
from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from hub.entries import NS
from hub.query.level import LEVELS
from hub.query.rendering import LEVEL_COLOURS, clamped
from hub.viewer.row import Row


def _style_of(colour: str) -> Style:
    """Return the style that the escape sequences *colour* turn on."""
    decoder = AnsiDecoder()
    decoder.decode_line(colour)
    return decoder.style


PLAIN, GREY, BOLD = Style(), Style(color="bright_black"), Style(bold=True)
TAG, HIT, CURSOR = Style(color="cyan"), Style(bold=True, underline=True), Style(reverse=True)
STYLES = tuple(_style_of(LEVEL_COLOURS[level]) for level in LEVELS)
"""By rank, the colours of `mpsr logs`."""
NAMES = ("TRACE", "DEBUG", "INFO", "NOTE", "WARN", "ERROR", "CRIT", "ALERT", "EMERG")
LETTERS = "TDINWECA!"
assert len(NAMES) == len(LETTERS) == len(LEVELS)
ERROR = LEVELS.index("error")
NARROW = 60
"""Below this width, times have no milliseconds, and levels are one letter."""
TAG_CELLS_MAX = 24


class Columns(NamedTuple):
    """How the lines of one screen are laid out: the width of the list, the tag's, and whether times have a date."""

    width: int
    tag_cells: int
    has_date: bool
    utc: bool
    shift: int = 0
    """Cells by which text and fields are shifted to the left."""
    hit: str = ""
    """The text that is searched for; in small letters, it stands for capital letters too."""

    @property
    def is_narrow(self) -> bool:
        """Whether there is little room."""
        return self.width < NARROW


def columns_of(
    rows: Sequence[Row], width: int, now_s: int, *, utc: bool, shift: int = 0, hit: str = "", tag_cells: int = 0
) -> Columns:
    """Return the columns that fit *rows*, with *tag_cells* for the tags, or more."""
    most = min(max(width // 5, 6), TAG_CELLS_MAX)
    tag_cells = max(tag_cells, *(cell_len(row.tag[:most]) for row in rows), 0)
    today = _day(now_s, utc)
    has_date = any(_day(row.time // NS, utc) != today for row in rows if not row.passed)
    return Columns(width, min(tag_cells, most), has_date, utc, shift, hit)


def line_of(row: Row, columns: Columns) -> list[Segment]:
    """Return the line of *row*."""
    if row.passed:
        said = f" {row.text}{row.passed:,} message{'s' * (row.passed != 1)} passed over (Enter shows them) "
        return [Segment(said.center(columns.width, "·")[: columns.width], GREY)]
    style = PLAIN if row.rank < 0 else STYLES[row.rank]
    names, cells = (LETTERS, 1) if columns.is_narrow else (NAMES, 5)
    level = "" if row.rank < 0 else names[row.rank]
    head = [
        Segment(f"{clock(row.time, columns.utc, has_date=columns.has_date, is_short=columns.is_narrow)} ", GREY),
        Segment(f"{level:<{cells}} ", style),
        Segment(f"{_fitted(row.tag, columns.tag_cells)} ", TAG),
    ]
    body = [*_marked(row.text, style if row.rank >= ERROR else PLAIN, columns.hit)]
    if row.fields:
        body += [Segment(" ", PLAIN), *_marked(row.fields, GREY, columns.hit)]
    return head + (_shifted(body, columns.shift) if columns.shift else body)


def _fitted(text: str, cells: int) -> str:
    return set_cell_size(text if cell_len(text) <= cells else f"{set_cell_size(text, cells - 1)}…", cells)


def _marked(text: str, style: Style, hit: str) -> list[Segment]:
    """Return *text* with the places marked at which *hit* is found."""
    searched = text.lower() if hit == hit.lower() else text
    if not hit or len(searched) != len(text):  # a letter that has another length in lower case
        return [Segment(text, style)]
    parts, at = [], 0
    while (found := searched.find(hit, at)) >= 0:
        parts += [Segment(text[at:found], style), Segment(text[found : found + len(hit)], style + HIT)]
        at = found + len(hit)
    return [*parts, Segment(text[at:], style)]


def _shifted(segments: list[Segment], cells: int) -> list[Segment]:
    total = sum(segment.cell_length for segment in segments)
    rest = [*Segment.divide(segments, [cells, total])][1] if cells < total else []
    return [Segment("<", GREY), *rest]


def clock(time_ns: int, utc: bool, *, has_date: bool, is_short: bool = False) -> str:
    """Return a time: with the date if it *has_date*, without milliseconds if it *is_short*."""
    seconds, nanoseconds = divmod(time_ns, NS)
    shown = _clock(seconds, utc, has_date)
    return shown if is_short else f"{shown}.{nanoseconds // 1_000_000:03d}"


@functools.lru_cache(maxsize=512)
def _clock(seconds: int, utc: bool, has_date: bool) -> str:
    return time.strftime("%m-%d %H:%M:%S" if has_date else "%H:%M:%S", _moment(seconds, utc))


@functools.lru_cache(maxsize=512)
def _day(seconds: int, utc: bool) -> tuple[int, ...]:
    return tuple(_moment(seconds, utc)[:3])


def _moment(seconds: int, utc: bool) -> time.struct_time:
    return (time.gmtime if utc else time.localtime)(clamped(seconds))


def zone_name(utc: bool) -> str:
    """Return the zone that is shown: ``UTC`` or ``UTC+01:00``."""
    minutes = 0 if utc else time.localtime().tm_gmtoff // 60
    return "UTC" if utc else f"UTC{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
