"""
Files of Parquet for the sealed segments of a journal, which a later query reads in a fraction of the time.

A file is named after its segment as that is: the sequences, the size and the checksum of the header. So a segment that
compaction has rewritten gets a new file.

Always true:
- a file has its name only when it is whole; one whose segment is gone is removed by the next query with a cache;
- a segment with a gap gets an empty file, and is read itself whenever it is needed;
- files are written and removed by one process at a time, and none is removed while a query reads them;
- only their owner can read them.

Not here: rows (hub.query.sqlrows), where the folder is (hub.cli.sql).
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

from hub.journal.files import DiskFiles
from hub.journal.indexfile import Identity, identify
from hub.journal.segment import SEQUENCE_MAX, list_segments
from hub.query.sqlrows import WHOLE, Cached, Stretch

_SUFFIX, _NEW_SUFFIX = ".parquet", ".parquet.tmp"
_LOCK = "lock"
Write = Callable[[Stretch, str], bool]
"""Writes the messages of a stretch to a file, and returns whether there is no gap between them."""


class _Piece(NamedTuple):
    """A segment: its sequences, and the name of its file; empty if it can have none."""

    stretch: Stretch
    name: str


class Cache:
    """The files in *folder* for the journal in *journal*. Until it is closed, no file is removed."""

    def __init__(self, folder: str, journal: str) -> None:
        self._folder = folder
        self._files = DiskFiles(journal)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        self._lock = os.open(os.path.join(folder, _LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def close(self) -> None:
        """Let other processes remove files."""
        os.close(self._lock)

    def bring_up(self, write: Write) -> Cached:
        """
        Write the files that are missing, remove those that are not wanted, and return where the messages are. While
        another process writes files, all messages are in the journal.
        """
        hold = _held(self._lock, fcntl.LOCK_EX)
        if hold:
            pieces = self._pieces()
            self._remove({piece.name for piece in pieces})
            for piece in pieces:
                if piece.name and not os.path.exists(self._path(piece.name)):
                    self._write(piece, write)
        if not _held(self._lock, fcntl.LOCK_SH):
            return Cached()
        return self._found()

    def _found(self) -> Cached:
        paths: list[str] = []
        live: list[Stretch] = []
        for number, piece in enumerate(self._pieces()):
            path = self._path(piece.name)
            if piece.name and _size(path):
                paths.append(path)
                continue
            first = piece.stretch.first if number else 1  # nothing before the oldest segment counts as missing
            if live and live[-1].end == first:
                first = live.pop().first
            live.append(Stretch(first, piece.stretch.end))
        return Cached(tuple(paths), tuple(live)) if paths else Cached((), WHOLE)

    def _pieces(self) -> list[_Piece]:
        """Return all segments. The last one is not sealed."""
        firsts = list_segments(self._files)
        found = [
            _Piece(Stretch(first, following), _name(identify(self._files, first, following)))
            for first, following in itertools.pairwise(firsts)
        ]
        return [*found, *(_Piece(Stretch(first, SEQUENCE_MAX), "") for first in firsts[-1:])]

    def _remove(self, wanted: set[str]) -> None:
        for name in os.listdir(self._folder):
            if name.endswith((_SUFFIX, _NEW_SUFFIX)) and name not in wanted:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._path(name))

    def _write(self, piece: _Piece, write: Write) -> None:
        path = self._path(piece.name)
        new = path.removesuffix(_SUFFIX) + _NEW_SUFFIX
        with private_files():
            is_whole = write(piece.stretch, new)
        fd = os.open(new, os.O_WRONLY | os.O_CLOEXEC)
        try:
            if not is_whole:
                os.ftruncate(fd, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(new, path)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)


def _name(identity: Identity | None) -> str:
    """Return the name of the file of the segment with this identity."""
    if identity is None:
        return ""
    _, first, *others, crc, expired = identity
    return "-".join((f"{first:020d}", *map(str, others), f"{crc:08x}", str(expired))) + _SUFFIX


def _size(path: str) -> int:
    """Return the size of a file; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _held(lock: int, kind: int) -> bool:
    """Return whether the lock could be had at once. It replaces the one that is held."""
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def private_files() -> Iterator[None]:
    """Files that are created inside the ``with`` belong to their owner alone."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
