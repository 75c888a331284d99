"""A widget whose lines are made one by one when they are shown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

NOTHING = Style()


class Painted(Widget):
    """A widget that makes each line when it is drawn. Text is text: nothing in it is markup."""

    def paint(self, y: int) -> tuple[Sequence[Segment], Style]:
        """Return the line *y*, and the style of the rest of it."""
        raise NotImplementedError

    def render_line(self, y: int) -> Strip:
        segments, rest = self.paint(y)
        return Strip(segments).adjust_cell_length(self.size.width, rest)
