"""The histogram above the list: columns, and below them when they begin and end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events

from hub.entries import NS
from hub.quantities import Duration
from hub.query.timeline import Bar
from hub.viewer.chart import bar_at, chart
from hub.viewer.columns import GREY, clock
from hub.viewer.painted import NOTHING, Painted
from hub.viewer.store import Histogram

EMPTY = Histogram((), 1, 0)


class HistogramStrip(Painted):
    """Shows a histogram. *chosen* is called with the time of a column that is clicked, in nanoseconds."""

    def __init__(self, chosen: Callable[[int], None]) -> None:
        super().__init__(id="strip")
        self.utc = False
        self._chosen = chosen
        self._histogram = EMPTY
        self._cells = 1
        self._time_ns: int | None = None
        self._lines: list[list[Segment]] = []

    def show(self, histogram: Histogram) -> None:
        """Show *histogram*."""
        self._histogram = histogram
        self.draw()

    def mark(self, time_ns: int | None) -> None:
        """Mark the column of a time, that of the message at the cursor."""
        if time_ns != self._time_ns:
            self._time_ns = time_ns
            self.draw()

    def draw(self) -> None:
        """Draw again."""
        bars, lines = self._histogram.bars, max(self.size.height - 1, 1)
        self._cells = max(self.size.width // max(len(bars), 1), 1)
        at = None if self._time_ns is None else bar_at(bars, self._histogram.step_s, self._time_ns)
        wide: list[Bar] = [bar for bar in bars for _ in range(self._cells)]
        self._lines = chart(wide, lines, marked=None if at is None else at * self._cells)
        self.refresh()

    def paint(self, y: int) -> tuple[Sequence[Segment], Style]:
        if y < len(self._lines):
            return self._lines[y], NOTHING
        return [Segment(self._labels(), GREY)], NOTHING

    def on_resize(self, event: events.Resize) -> None:
        self.draw()

    def on_click(self, event: events.Click) -> None:
        number = event.x // self._cells
        if number < len(self._histogram.bars):
            self._chosen(self._histogram.bars[number].begin_s * NS)

    def _labels(self) -> str:
        bars, step_s, messages = self._histogram
        if not bars:
            return ""
        begin, end = bars[0].begin_s, bars[-1].begin_s + step_s
        has_date = end - begin >= 86_400
        first, last = (clock(each * NS, self.utc, has_date=has_date, is_short=True) for each in (begin, end))
        middle = f"{messages:,} in bars of {Duration(step_s).text}"
        width = min(len(bars) * self._cells, self.size.width)
        room = width - len(first) - len(last)
        return f"{first}{middle:^{room}}{last}" if room > len(middle) + 2 else f"{first} {middle}"
