"""
The rows that are loaded: a stretch of what matches, with the place of the screen and of the cursor in it.

Always true:
- rows are in the order of their sequences, each once;
- at most `ROWS_MAX` are kept: what is added at one end is dropped at the other;
- the cursor is a row, and on the screen.

Not here: where rows come from (hub.viewer.moves), how they look (hub.viewer.columns).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from hub.viewer.row import Row

ROWS_MAX = 2000
"""A row has at most a few kilobytes."""


class Window:
    """The rows that are loaded. *height* lines of the screen show those from *top* on."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.top = 0
        self.cursor = 0
        self.height = 1
        self.is_start = False
        """Whether nothing that matches is before the first row."""
        self.is_end = False
        """Whether nothing that matches was after the last row when it was loaded."""

    @property
    def row(self) -> Row | None:
        """The row at the cursor."""
        return self.rows[self.cursor] if self.rows else None

    @property
    def last(self) -> int:
        """The last sequence; 0 without rows."""
        return self.rows[-1].last if self.rows else 0

    @property
    def lacks_before(self) -> bool:
        """Whether the screen is so near to the first row that earlier ones should be loaded."""
        return not self.is_start and self.top < self.height

    @property
    def lacks_after(self) -> bool:
        """Whether the screen is so near to the last row that later ones should be loaded."""
        return not self.is_end and self.top + 2 * self.height > len(self.rows)

    def visible(self) -> Sequence[Row]:
        """Return the rows on the screen."""
        return self.rows[self.top : self.top + self.height]

    def show(self, rows: Sequence[Row], *, at: int | None = None, is_start: bool = False, is_end: bool = False) -> None:
        """Show other rows: with the cursor at the sequence *at*, in the middle of the screen, or at the end."""
        self.rows = list(rows)
        self.is_start, self.is_end = is_start, is_end
        if at is None:
            self.to_end()
            return
        sequences = [row.sequence for row in self.rows]
        self.cursor = max(min(bisect_left(sequences, at), len(sequences) - 1), 0)
        self.top = self.cursor - self.height // 2
        self._fit()

    def append(self, rows: Sequence[Row]) -> None:
        """Add later rows, and stay at the same place."""
        self.rows += [row for row in rows if row.sequence > self.last or not self.rows]
        surplus = len(self.rows) - ROWS_MAX
        if surplus > 0:
            del self.rows[:surplus]
            self.is_start = False
            self.top, self.cursor = self.top - surplus, self.cursor - surplus
        self._fit()

    def prepend(self, rows: Sequence[Row]) -> None:
        """Add earlier rows, and stay at the same place."""
        self.rows[:0] = rows
        if len(self.rows) > ROWS_MAX:
            del self.rows[ROWS_MAX:]
            self.is_end = False
        self.top, self.cursor = self.top + len(rows), self.cursor + len(rows)
        self._fit()

    def to_end(self) -> None:
        """Show the last rows."""
        self.cursor = max(len(self.rows) - 1, 0)
        self.top = len(self.rows) - self.height
        self._fit()

    def move(self, by: int) -> None:
        """Move the cursor."""
        self.cursor += by
        self._fit()

    def move_to_rank(self, rank: int, *, forward: bool) -> bool:
        """
        Move the cursor to the next row of this *rank* or a higher one, or to the one before. False if it is not known:
        there is none among the rows, or messages between them were passed over.
        """
        after, before = self.rows[self.cursor + 1 :], reversed(self.rows[: self.cursor])
        for number, row in enumerate(after if forward else before, 1):
            if row.passed:
                return False
            if row.rank >= rank:
                self.move(number if forward else -number)
                return True
        return False

    def scroll(self, by: int) -> None:
        """Move the screen. The cursor stays on it."""
        self.top = max(min(self.top + by, len(self.rows) - self.height), 0)
        self.cursor = max(min(self.cursor, self.top + self.height - 1), self.top)
        self._fit()

    def page(self, by: int) -> None:
        """Move screen and cursor by screens."""
        lines = by * max(self.height - 1, 1)
        self.top += lines
        self.cursor += lines
        self._fit()

    def resize(self, height: int) -> None:
        """Take note that the screen has *height* lines."""
        is_at_end = self.top + self.height >= len(self.rows)
        self.height = max(height, 1)
        if is_at_end:
            self.top = len(self.rows) - self.height
        self._fit()

    def _fit(self) -> None:
        self.cursor = max(min(self.cursor, len(self.rows) - 1), 0)
        self.top = max(min(self.top, len(self.rows) - self.height), 0)
        self.top = max(min(self.top, self.cursor), self.cursor - self.height + 1)
