"""
The globs of one source: what is its, and since when it looks for that.

Always true: a glob has a position that says when it was looked for first. What was there then is read from its end,
unless everything is read from its start.

Not here: what a glob matches (hub.sources.fileglob).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from hub.message import Position
from hub.sources.fileglob import Exclusion, Glob


class SourceGlobs:
    """*globs* without what *exclusion* has. They are looked for first at *began_ns*, unless a position has a time."""

    def __init__(self, globs: Sequence[Glob], exclusion: Exclusion, *, began_ns: int) -> None:
        self.all = globs
        self.exclusion = exclusion
        self.first: set[Glob] = set(globs)
        """Those that are looked for first."""
        self.began_ns = began_ns
        self._first_looks = {glob.name: began_ns for glob in globs}

    def note_position(self, position: Position) -> None:
        """Take note of a position of the journal, if it is that of a glob."""
        for glob in self.all:
            if position.name == glob.name:
                self.first.discard(glob)
                self._first_looks[glob.name] = position.number

    def position(self, glob: Glob) -> Position:
        """Return when a glob was looked for first."""
        return Position(glob.name, self._first_looks[glob.name])

    def first_ns(self, path: str) -> int:
        """Return when files at *path* were looked for first: nothing that was made before that is new."""
        return min((self._first_looks[glob.name] for glob in self.all if glob.has(path)), default=self.began_ns)

    def has(self, path: str) -> bool:
        """Return whether a glob matches *path*, and it is not excluded."""
        is_excluded = self.exclusion.has(*os.path.split(path))
        return any(glob.has(path) and (glob.is_plain or not is_excluded) for glob in self.all)
