"""
The parts of its hub that a source may see: the journal, the figures, whether messages are stored.

A repeatable source asks `journal.position` where it goes on.

Not here: who may see it (hub.web.door).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hub.control.reading import Readings
from hub.journal.journal import Journal


class Shown:
    """
    The hub as its sources show it.

    *readings* is the thread that reads *journal*. *stats* returns the figures, and *is_stopping* whether a stop was
    requested.
    """

    def __init__(
        self,
        journal: Journal,
        readings: Readings,
        *,
        stats: Callable[[], dict[str, Any]],
        is_stopping: Callable[[], bool],
    ) -> None:
        self.journal = journal
        self.readings = readings
        self.stats = stats
        self.is_stopping = is_stopping

    @property
    def is_ready(self) -> bool:
        """Whether messages are stored: the last commit worked, and no stop was requested."""
        return not self.journal.is_failing and not self.is_stopping()
