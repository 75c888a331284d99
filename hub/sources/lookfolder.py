"""
One folder that is looked through: which names in it match, what they were, and what has happened since.

Always true: the names of unknown files that are kept, of all folders together, are at most `STRANGERS_MAX`.
Not here: looking through it (hub.sources.looking).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hub.sources import generations
from hub.sources.fileglob import Exclusion, Glob

if TYPE_CHECKING:
    from hub.sources.followed import Followed

STRANGERS_MAX = 100_000
"""Names of unknown files that are kept, of all folders together."""


class Folder:
    """A folder that is looked through: which names in it match, and what links lead to."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.globs: list[Glob] = []
        self.linked: dict[str, tuple[str, Glob]] = {}
        self.places: dict[str, Followed] = {}
        """The followed files in it, by name."""
        self.added: dict[str, Followed] = {}
        """Those that were found during a look, by other means."""
        self.strangers: dict[str, dict[str, int]] = {}
        """
        Names of unknown files, with the inodes that they were listed with, by the names that they may have had before a
        rotation.
        """
        self.known_strangers: dict[str, dict[str, int]] = {}
        """What *strangers* were after the last look."""
        self.dirty: set[str] | None = set()
        """The names that events were about since the last look; None: all."""
        self.names = 0
        """How many names the last look has found in it."""
        self.looks = 0
        """How often it was looked through."""
        self.look_number = 0
        """The number of the last look that it was part of."""
        self.next_look_at = 0.0
        self.looked_ns = 0
        """When it was known for the last time which generations are in it, by the clock that stamps files."""

    def is_due(self, now: float) -> bool:
        """Return whether something has happened in it, and the last look was long enough ago."""
        return self.dirty != set() and self.next_look_at <= now

    def note_changed(self, name: str | None) -> None:
        """A name has come, gone or changed; None: any."""
        if name is None or self.dirty is None:
            self.dirty = None
        else:
            self.dirty.add(name)

    def glob_of(self, name: str, exclusion: Exclusion) -> tuple[Glob | None, str]:
        """Return the glob that a name matches, and the path that the file is known by."""
        path = os.path.join(self.path, name)
        for glob in self.globs:
            if glob.takes(self.path, name, exclusion):
                return glob, path
        if name in self.linked:
            link, glob = self.linked[name]
            return glob, link
        return None, path

    def link(self, name: str, link: str, glob: Glob) -> None:
        """Take note that a link, which a glob matches, leads to *name*, and to no other name any longer."""
        if self.linked.get(name, ("",))[0] == link:
            return
        for old, (of_link, _) in list(self.linked.items()):
            if of_link == link:
                del self.linked[old]
        self.linked[name] = link, glob
        self.dirty = None


class Folders:
    """The folders of a source, by path."""

    def __init__(self) -> None:
        self.by_path: dict[str, Folder] = {}
        self._strangers: dict[Folder, int] = {}
        self._stranger_names = 0

    def get(self, path: str) -> Folder | None:
        """Return the folder at a path, if it is looked through."""
        return self.by_path.get(path)

    def remove(self, path: str) -> None:
        """Look through a folder no longer."""
        folder = self.by_path.pop(path, None)
        if folder is not None:
            self.forget_strangers(folder)

    def add_stranger(self, folder: Folder, name: str, ino: int) -> bool:
        """Take note of a file that nobody follows. Return whether there is room for it."""
        for base in generations.bases_of(name):
            if self._stranger_names >= STRANGERS_MAX:
                return False
            folder.strangers.setdefault(base, {})[name] = ino
            self._strangers[folder] = self._strangers.get(folder, 0) + 1
            self._stranger_names += 1
        return True

    def forget_strangers(self, folder: Folder) -> None:
        """Begin anew with a folder."""
        self._stranger_names -= self._strangers.pop(folder, 0)
        folder.strangers = {}
