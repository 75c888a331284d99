"""The pane beside the list, or over it in a small terminal: a message in full, or the keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.cells import chop_cells
from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import BindingType

from hub.viewer.columns import GREY
from hub.viewer.keys import MOVES, bindings
from hub.viewer.painted import NOTHING, Painted
from hub.viewer.record import Line

WHEEL_LINES = 3


class Pane(Painted, can_focus=True):
    """Shows lines, wrapped to its width. Where it has the focus, the keys scroll it."""

    BINDINGS: ClassVar[list[BindingType]] = bindings(MOVES)

    def __init__(self, name: str) -> None:
        super().__init__(id=name)
        self.top = 0
        self._lines: Sequence[Line] = ()
        self._wrapped: list[Line] = []

    def show(self, lines: Sequence[Line]) -> None:
        """Show *lines* from the first one on."""
        self._lines, self.top = lines, 0
        self._wrap()

    def scroll_by(self, lines: int) -> None:
        """Scroll, as far as there are lines."""
        self.top = max(min(self.top + lines, len(self._wrapped) - self.size.height), 0)
        self.refresh()

    def action_move(self, by: int) -> None:
        self.scroll_by(by)

    def action_page(self, by: int) -> None:
        self.scroll_by(by * max(self.size.height - 1, 1))

    def paint(self, y: int) -> tuple[Sequence[Segment], Style]:
        bar = "▲" if y == 0 and self.top else "│"
        if y == self.size.height - 1 and self.top + self.size.height < len(self._wrapped):
            bar = "▼"
        edge = Segment(f"{bar} ", GREY)
        at = self.top + y
        return [edge, Segment(*self._wrapped[at])] if at < len(self._wrapped) else [edge], NOTHING

    def on_resize(self, event: events.Resize) -> None:
        self._wrap()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        self.scroll_by(WHEEL_LINES)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        self.scroll_by(-WHEEL_LINES)

    def _wrap(self) -> None:
        width = max(self.size.width - 2, 1)
        self._wrapped = [(part, style) for text, style in self._lines for part in chop_cells(text, width) or [""]]
        self.scroll_by(0)
