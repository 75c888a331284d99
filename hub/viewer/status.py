"""The first line, with the state, the filter and the zone, and the last one, with the keys."""

from __future__ import annotations

from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.segment import Segment
from rich.style import Style

from hub.escaping import escape
from hub.viewer.columns import BOLD, GREY, PLAIN
from hub.viewer.keys import LIVE, Key, hints
from hub.viewer.painted import NOTHING, Painted

GOOD, WAITING, BAD = Style(color="green", bold=True), Style(color="yellow", bold=True), Style(color="red", bold=True)


class Header(Painted):
    """The state at the left, the filter behind it, figures and the zone at the right: these are always whole."""

    def __init__(self) -> None:
        super().__init__(id="header")
        self._state = Segment("", PLAIN)
        self._middle = Segment("", PLAIN)
        self._right: Sequence[str] = ()

    def show(self, state: str, style: Style, middle: str, *, is_filter: bool, right: Sequence[str]) -> None:
        """Show these. Of the figures at the *right*, the first ones are left out where there is little room."""
        shown = Segment(f" {state} ", style), Segment(escape(middle), BOLD if is_filter else GREY), right
        if shown != (self._state, self._middle, self._right):
            self._state, self._middle, self._right = shown
            self.refresh()

    def paint(self, y: int) -> tuple[Sequence[Segment], Style]:
        room, shown = self.size.width - cell_len(self._state.text), len(self._right)
        while shown and len(right := "  ".join(self._right[-shown:])) + 2 > room:
            shown -= 1
        right = f" {right} " if shown else ""
        room -= len(right)
        middle = self._middle.text if cell_len(self._middle.text) <= room else f"{self._middle.text[: room - 1]}…"
        return [self._state, Segment(set_cell_size(middle, room), self._middle.style), Segment(right)], NOTHING


class Notice(Painted):
    """What has gone wrong or was not found, until the next key."""

    def __init__(self) -> None:
        super().__init__(id="notice")
        self.display = False
        self._text, self._style = "", WAITING

    def show(self, text: str, style: Style = WAITING) -> None:
        """Show *text*; nothing if it is empty."""
        self._text, self._style = escape(" ".join(text.split())), style
        self.display = bool(text)
        self.refresh()

    def paint(self, y: int) -> tuple[Sequence[Segment], Style]:
        return [Segment(f" {self._text}", self._style)], NOTHING


class Hints(Painted):
    """The keys, as many as fit."""

    def __init__(self) -> None:
        super().__init__(id="hints")
        self._table: tuple[Key, ...] = LIVE

    def show(self, table: tuple[Key, ...]) -> None:
        """Show the keys of *table*."""
        self._table = table
        self.refresh()

    def paint(self, y: int) -> tuple[Sequence[Segment], Style]:
        parts = []
        for name, words in hints(self.size.width, self._table):
            parts += [Segment(f" {name}", BOLD), Segment(f" {words} ", GREY)]
        return parts, NOTHING
