"""
Keeps what a source has read from its files with keys, tokens and certificates.

It reads the files again when they change.

Always true: files that cannot be used are logged once, and those read before stay in force.

Not here: how often the files are checked (hub.sources.configured), which files are refused (hub.secretfile).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from hub.errors import SourceError
from hub.log import get_logger
from hub.secretfile import stamp_of
from hub.service.tables import type_of
from hub.sources.kinds import SourceTable

T = TypeVar("T")
log = get_logger("mpsr.sources")


class Renewed(Generic[T]):
    """
    The *value* that *read* returns of the files at *paths*, for the source of *table*.

    Creating it reads them. Raises SourceError, as *read* does.
    """

    def __init__(self, table: SourceTable, paths: Sequence[str | None], read: Callable[[], T]) -> None:
        self._table = table
        self._paths = [path for path in paths if path is not None]
        self._read = read
        self.stamps = self._stamps()  # before the files are read: a change meanwhile is seen by the next look
        """The stamps of the files as they were when last read."""
        self.value: T = read()

    def look(self) -> None:
        """Read the files again, if they have changed."""
        if (now := self._stamps()) == self.stamps:
            return
        self.stamps = now
        kind, where = type_of(self._table), self._table.where
        try:
            self.value = self._read()
        except SourceError as error:
            log.error(
                "source.failed", type=kind, path=where, error=error.reason, action="those read before stay in use"
            )
        else:
            log.info("source.renewed", type=kind, path=where)

    def _stamps(self) -> list[tuple[int, ...]]:
        return [stamp_of(path) for path in self._paths]
