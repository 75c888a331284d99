"""
In which order the generations of a file are read.

    app.log.2 ◀─ app.log.1 ◀─ app.log         each waits until the one before it was read to its end

Always true:
- an older generation of a file is read to its end before a younger one is begun, except one that cannot be read;
- while it is not known yet which generations there are of a path, none of it is read;
- a file is in the queue of its owner at most once.

Not here: which generations there are (hub.sources.rotations).
"""

from __future__ import annotations

import itertools
import time

from hub.sources.ages import Age, keys
from hub.sources.fileset import FileSet
from hub.sources.followed import Followed

GENERATIONS_MAX = 256
"""Older generations that a file waits for."""


class ReadOrder:
    """The order of the generations of *files*, and the queues of their owners."""

    def __init__(self, files: FileSet) -> None:
        self.disordered: set[str] = set()
        """Paths of which it is not known yet which generations there are."""
        self._files = files

    def link(self, path: str) -> None:
        """Put the generations of *path* into their order. One that another begins to wait for is read to its end."""
        files = self._files.by_path.get(path, [])
        ages = [Age(max(file.identity.born_ns, file.begun_ns), file.written_ns, file.entry) for file in files]
        key_of = dict(zip(files, keys(ages), strict=True))
        files.sort(key=lambda file: (not file.is_rotated, key_of[file]))
        before = [file.after for file in files]
        for file in files:
            file.before = file.after = None
        for older, younger in itertools.pairwise(files):
            older.after, younger.before = younger, older
        for file, after in zip(files, before, strict=True):
            is_lost = file.missing_at is not None and file.fd == -1
            if file.after is not None and file.after is not after and file.is_drained and not is_lost:
                file.drain()
                self.ready(file)

    def note_begun(self, path: str) -> None:
        """Take note that what the present look has seen at *path* is younger than all other generations."""
        for file in self._files.by_path.get(path, []):
            if file.seen_home == self._files.look_number:
                self.note_youngest(file)

    def note_youngest(self, file: Followed) -> None:
        """
        Take note that what is in *file*, which is at its path, was begun after all other generations were made: younger
        ones are copies of it, made before it was truncated. Nothing shows that any more once it has another name.
        """
        others = [each for each in self._files.by_path[file.path] if each.is_rotated]
        made_ns = max((max(each.identity.born_ns, each.begun_ns) for each in others), default=0)
        if 0 < file.identity.born_ns <= made_ns:
            file.begun_ns = max(file.begun_ns, made_ns + 1)

    def ready(self, file: Followed) -> None:
        """Read *file* when its turn comes."""
        if file.is_queued or file.is_blocked or file.is_unreadable or self.waits(file):
            return
        if not self._files.is_followed(file):
            return
        if file.unread_since is None and file.unread_bytes:
            file.unread_since = time.time()
        file.is_queued = True
        self._files.owners.of(file).ready.append(file)

    def waits(self, file: Followed) -> bool:
        """Return whether an older generation is to be read first, or is looked for."""
        if file.path in self.disordered:
            return True
        older, left = file.before, GENERATIONS_MAX
        while older is not None and left:
            if not older.is_drained and not older.is_unreadable:
                return True
            older, left = older.before, left - 1
        return False

    def ready_younger(self, file: Followed) -> None:
        """Let the generations be read that have waited for *file*: others that they wait for let them be read later."""
        younger = file.after
        while younger is not None:
            self.ready(younger)
            younger = younger.after if younger.is_drained or younger.is_unreadable else None
