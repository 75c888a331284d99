"""The line in which the filter is edited. It recalls the earlier filters."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.widgets import Input

HISTORY_MAX = 100


class SearchBox(Input):
    """Edits the filter. *ended* is called with the text, or with None if it is to stay as it was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", show=False),
        Binding("up", "recall(-1)", show=False),
        Binding("down", "recall(1)", show=False),
    ]

    def __init__(self, ended: Callable[[str | None], None]) -> None:
        super().__init__(placeholder="text  tag:app.*  level:warning  status>=500  since:2h", compact=True, id="search")
        self.display = False
        self._ended = ended
        self._history: list[str] = []
        self._at = 0

    def open(self, text: str) -> None:
        """Begin to edit *text*, or the last filter if there is none now."""
        self.value = text or (self._history[-1] if self._history else "")
        self._at = len(self._history)
        self.display = True
        self.focus()
        self.select_all()

    def remember(self, text: str) -> None:
        """Keep a filter, to recall it."""
        if text:
            self._history = [*(each for each in self._history if each != text), text][-HISTORY_MAX:]

    def action_leave(self) -> None:
        self._ended(None)

    def action_recall(self, by: int) -> None:
        """Show an earlier filter, or a later one."""
        self._at = max(min(self._at + by, len(self._history)), 0)
        self.value = self._history[self._at] if self._at < len(self._history) else ""
        self.cursor_position = len(self.value)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._ended(self.value.strip())
