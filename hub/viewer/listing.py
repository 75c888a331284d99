"""The list of messages: draws the rows of the window that are on the screen, and nothing else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from rich.segment import Segment
from rich.style import Style
from textual import events

from hub.viewer.columns import CURSOR, GREY, Columns, columns_of, line_of
from hub.viewer.painted import NOTHING, Painted
from hub.viewer.window import Window

WHEEL_LINES = 3


class Listing(Painted):
    """Draws *window*. *moved* is called when the mouse has moved it."""

    def __init__(self, window: Window, moved: Callable[[], None]) -> None:
        super().__init__(id="listing")
        self.utc = False
        self.shift = 0
        self.hit = ""
        self.has_cursor = False
        self.tag_cells = 0
        """The width of the tags so far: a column that grows and shrinks would be hard to read."""
        self.empty = ""
        """What is shown in the place of messages."""
        self._window = window
        self._moved = moved
        self._columns = Columns(1, 0, has_date=False, utc=False)

    def redraw(self) -> None:
        """Draw what the window shows now."""
        rows, width = self._window.visible(), self.size.width
        least = min(self.tag_cells, width // 4)
        self._columns = columns_of(
            rows, width, int(time.time()), utc=self.utc, shift=self.shift, hit=self.hit, tag_cells=least
        )
        self.tag_cells = self._columns.tag_cells
        self.refresh()

    def paint(self, y: int) -> tuple[Sequence[Segment], Style]:
        window = self._window
        if not window.rows:
            return [Segment(f" {self.empty}" if y == 0 else "", GREY)], NOTHING
        at = window.top + y
        if at >= len(window.rows):
            return (), NOTHING
        line = line_of(window.rows[at], self._columns)
        if self.has_cursor and at == window.cursor:
            return [Segment(part.text, (part.style or NOTHING) + CURSOR) for part in line], CURSOR
        return line, NOTHING

    def on_resize(self, event: events.Resize) -> None:
        self._window.resize(event.size.height)
        self.redraw()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self._scroll(WHEEL_LINES)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self._scroll(-WHEEL_LINES)

    def on_click(self, event: events.Click) -> None:
        window = self._window
        window.move(window.top + event.y - window.cursor)
        self.has_cursor = True
        self._moved()

    def _scroll(self, lines: int) -> None:
        self._window.scroll(lines)
        self.has_cursor = True
        self._moved()
