"""
The histogram as columns of block characters, a few lines high, in the colour of the worst level of each.

Always true: a column that has messages is seen; the columns are as many as fit.

Not here: counting (hub.query.timeline), the widget (hub.viewer.strip).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from rich.segment import Segment
from rich.style import Style

from hub.query.timeline import Bar
from hub.viewer.columns import GREY, PLAIN, STYLES

BLOCKS = " ▁▂▃▄▅▆▇█"
WARNING = 4


def chart(bars: Sequence[Bar], lines: int, *, marked: int | None = None) -> list[list[Segment]]:
    """Return *lines* lines, a cell for each of *bars*. The column *marked* is that of the cursor."""
    most = max((bar.messages for bar in bars), default=0)
    eighths = [_eighths(bar.messages, most, lines) for bar in bars]
    styles = [_style(bar, number == marked) for number, bar in enumerate(bars)]
    drawn = []
    for line in reversed(range(lines)):
        cells = [BLOCKS[min(max(height - 8 * line, 0), 8)] for height in eighths]
        together = groupby(zip(cells, styles, strict=True), key=lambda cell: cell[1])
        drawn.append([Segment("".join(cell for cell, _ in some), style) for style, some in together])
    return drawn


def bar_at(bars: Sequence[Bar], step_s: int, time_ns: int) -> int | None:
    """Return the number of the bar in which a time is, or None."""
    if not bars:
        return None
    number = (time_ns // 1_000_000_000 - bars[0].begin_s) // step_s
    return number if 0 <= number < len(bars) else None


def _eighths(count: int, most: int, lines: int) -> int:
    return max(round(8 * lines * count / most), 1) if count else 0


def _style(bar: Bar, is_marked: bool) -> Style:
    worst = max((rank for rank, count in bar.counts.items() if count), default=-1)
    style = STYLES[worst] if worst >= WARNING else GREY if worst < 0 else PLAIN
    return style + Style(reverse=True) if is_marked else style
