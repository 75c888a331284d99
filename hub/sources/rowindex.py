"""
The rows of the journal whose files are not followed: not found yet, or given up.

Always true: a row is found by the identity of its file, by the number of its inode, and by the path of the file.
Not here: what a row has (hub.sources.filerow), when one is judged to be of no use (hub.sources.filesgone).
"""

from __future__ import annotations

import os
from typing import NamedTuple, TypeVar

from hub.message import Position
from hub.sources.fileidentity import Identity
from hub.sources.filerow import FileRow, row_path

K = TypeVar("K")


class Row(NamedTuple):
    """A position, and what its detail says."""

    position: Position
    row: FileRow


class RowIndex:
    """Rows by the names of their positions."""

    def __init__(self) -> None:
        self._rows: dict[bytes, Row] = {}
        self._by_ino: dict[int, set[bytes]] = {}
        self._by_path: dict[bytes, set[bytes]] = {}
        self._paths: dict[bytes, set[bytes]] = {}  # by their last part

    def __contains__(self, name: bytes) -> bool:
        return name in self._rows

    def get(self, name: bytes) -> Row | None:
        """Return the row of a file."""
        return self._rows.get(name)

    def all(self) -> list[Row]:
        """Return all rows."""
        return list(self._rows.values())

    def has_ino(self, ino: int) -> bool:
        """Return whether a file with this inode has a row."""
        return ino in self._by_ino

    def has_path(self, path: str) -> bool:
        """Return whether a file of this path has a row."""
        return row_path(path) in self._by_path

    def of_path(self, path: str) -> list[Row]:
        """Return the rows of the files of a path, by name."""
        return [self._rows[name] for name in sorted(self._by_path.get(row_path(path), ()))]

    def paths_of(self, base: str) -> set[bytes]:
        """Return the paths, as rows have them, whose last part is *base*."""
        return self._paths.get(os.fsencode(base), set())

    def renumbered(self, identity: Identity, path: str) -> bytes | None:
        """Return the name of the same file of *path* on a device that had another number."""
        for name in self._by_path.get(row_path(path), ()):
            if name.split(b":", 2)[2] == identity.handle and name != identity.name:
                return name
        return None

    def add(self, name: bytes, row: Row) -> None:
        """Add a row, or replace it."""
        self._rows[name] = row
        self._by_ino.setdefault(row.row.ino, set()).add(name)
        self._by_path.setdefault(row.row.path, set()).add(name)
        self._paths.setdefault(os.path.basename(row.row.path), set()).add(row.row.path)

    def forget(self, name: bytes) -> Row:
        """Remove a row, and return it."""
        found = self._rows.pop(name)
        _discard(self._by_ino, found.row.ino, name)
        _discard(self._by_path, found.row.path, name)
        if found.row.path not in self._by_path:
            _discard(self._paths, os.path.basename(found.row.path), found.row.path)
        return found


def _discard(index: dict[K, set[bytes]], key: K, name: bytes) -> None:
    names = index.get(key)
    if names is not None:
        names.discard(name)
        if not names:
            del index[key]
