"""
Faults of paths, each logged once.

Always true: at most `COMPLAINTS_MAX` are remembered; of one kind, at most one line a second is logged (hub.ration).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from hub.ration import Lines

COMPLAINTS_MAX = 1000


class Complaints:
    """The complaints of one source."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._made: OrderedDict[tuple[str, str], None] = OrderedDict()

    def log(self, write: Callable[..., object], event: str, path: str, **fields: Any) -> None:
        """Log a fault of a path, unless it was logged."""
        if (event, path) not in self._made:
            if len(self._made) >= COMPLAINTS_MAX:
                self._made.popitem(last=False)
            self._made[event, path] = None
            self._lines.log(write, event, path=path, **fields)

    def end(self, event: str, path: str) -> None:
        """The path has no fault any more: the next one is logged."""
        if self._made:
            self._made.pop((event, path), None)
