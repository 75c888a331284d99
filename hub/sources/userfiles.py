"""
The files of each user in the spool folder, found by one scan (a *look*), with limits per user.

The files of one user whose names begin with the same 22 characters are a *spool*. Files of other users with such names
belong to other spools, and do not affect it.

Always true:
- a file that is not a spool file is removed, unless it belongs to root or to the hub's user and only they can have put
  it there;
- a user keeps at most `FILES_MAX` files; each further file is removed when it is found;
- while the file system is short of room, a user keeps more than `1 / BYTES_SHARE` of it for at most `PATIENCE_S`;
- segments are unlinked and never truncated, so that a living process can still use the memory that it has mapped;
- a held lock is never removed, because a process without a lock counts as dead;
- removed files are counted and reported as a loss of their user, and no limit depends on what other users keep;
- a file that cannot be removed is remembered and reported once.

Not bounded here: locks that processes hold (their descriptor limits bound them); see hub.sources.spoolfolder.
Not here: reading the spools (hub.sources.deadspool), reporting (hub.sources.spool).
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Collection, Iterator, MutableMapping
from typing import NamedTuple

from hub.sources.spoolfolder import SpoolFolder
from hub.wire.spoolfile import is_unseen_lock, name_of_lock, name_of_segment

FILES_MAX = 16_384
"""Maximum files per user: 4,096 producers with four each. Scanning them takes 60 ms."""
BYTES_SHARE = 4
"""A user may keep a quarter of the file system, and more while a quarter of the file system is free."""
ENTRIES_MAX = 1 << 24
"""Maximum names per look, so that a look ends even if the folder grows faster than it is read."""
PATIENCE_S = 60.0
"""Longest time that a user may exceed its share: a hub that restarts needs time to read what has accumulated."""
PATIENCE_RATIO = 60
"""Seconds within the share that restore one second of patience: a user exceeds it for at most a minute per hour."""
UNSEEN_S = 60.0
"""A lock is renamed at once. One that still has its temporary name after this time was left by a killed process."""
UNSEEN_BYTES_MAX = 4 << 10
"""Largest size of a lock: one block, which holds a process id."""
_STEP_ENTRIES = 256
_BLOCK = 512


Known = tuple[int, int]
"""Inode and owner: an inode alone is used again at once, and by another user."""


class File(NamedTuple):
    """A file as it was found."""

    name: str
    inode: int
    size_bytes: int


@dataclasses.dataclass(slots=True)
class UserFiles:
    """The files of one user."""

    uid: int
    spools: dict[str, list[File]] = dataclasses.field(default_factory=dict)
    """All files of each spool, including the lock, by what their names begin with."""
    files: int = 0
    size_bytes: int = 0
    removed_files: int = 0
    """Spool files removed because they exceeded a limit."""
    removed_bytes: int = 0
    foreign_files: int = 0
    """Removed files that are not spool files."""
    foreign_name: str = ""
    """The name of one of them."""
    stuck_files: int = 0
    """Files that should be removed but cannot be, found for the first time."""
    stuck_name: str = ""


class Patience:
    """The time that each user may still exceed its share. Times are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._left_s: dict[int, float] = {}  # of users that have spent some of it
        self._over: frozenset[int] = frozenset()
        self._at = 0.0

    def spent(self, over: Collection[int], now: float) -> set[int]:
        """Record which users exceed their share (*over*) now; return those that have no patience left."""
        passed_s, self._at = now - self._at, now
        for uid in set(self._left_s) - self._over:
            self._left_s[uid] += passed_s / PATIENCE_RATIO
            if self._left_s[uid] >= PATIENCE_S:
                del self._left_s[uid]
        for uid in self._over:
            self._left_s[uid] = max(self._left_s.get(uid, PATIENCE_S) - passed_s, 0.0)
        self._over = frozenset(over)
        return {uid for uid in over if not self._left_s.get(uid, PATIENCE_S)}


class Look:
    """
    One scan of the folder.

    *left_alone* maps names that were given up to inode and owner. An entry is removed when its name is missing or
    belongs to another file.
    *now* is the time of a monotonic clock, *today* the time since the epoch, both in seconds.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        left_alone: MutableMapping[str, Known],
        patience: Patience,
        *,
        now: float,
        today: float,
    ) -> None:
        self.by_user: dict[int, UserFiles] = {}
        self._folder = folder
        self._left_alone = left_alone
        self.is_complete = True
        """Whether every name was seen. No spool of an incomplete look may be read: it may lack its first segment."""
        self._patience = patience
        self._now = now
        self._today = today

    def steps(self) -> Iterator[None]:
        """Scan the folder in steps of bounded length. Raises OSError."""
        seen = set()
        for count, (name, there) in enumerate(self._folder.entries(), 1):
            if count > ENTRIES_MAX:
                self.is_complete = False
                break
            known = there.st_ino, there.st_uid
            if self._left_alone.get(name, known) != known:
                del self._left_alone[name]  # another file has this name now
            self._take(name, there)
            if name in self._left_alone:
                seen.add(name)
            if count % _STEP_ENTRIES == 0:
                yield
        if self.is_complete:
            for name in self._left_alone.keys() - seen:
                del self._left_alone[name]
        yield from self._limit_bytes()

    def _take(self, name: str, there: os.stat_result) -> None:
        kept = self.by_user.get(there.st_uid)
        if kept is None:
            kept = self.by_user[there.st_uid] = UserFiles(there.st_uid)
        file = File(name, there.st_ino, there.st_blocks * _BLOCK)
        spool = name_of_segment(name) or name_of_lock(name)
        is_lock = name_of_segment(name) is None
        is_unseen = spool is None and is_unseen_lock(name) and file.size_bytes <= UNSEEN_BYTES_MAX
        if not self._folder.is_sound(there) or (spool is None and not is_unseen):
            self._take_foreign(kept, file, there)
            return
        kept.files += 1
        kept.size_bytes += file.size_bytes
        is_too_much = kept.files > FILES_MAX
        if is_unseen or (is_lock and is_too_much):
            if is_too_much or self._today - there.st_mtime > UNSEEN_S:
                self._remove_unlocked(kept, file)
        elif is_too_much:
            self._remove(kept, file)
        elif spool is not None:
            kept.spools.setdefault(spool, []).append(file)

    def _take_foreign(self, kept: UserFiles, file: File, there: os.stat_result) -> None:
        """Remove a file that is not a spool file."""
        is_ours = there.st_uid in (0, os.geteuid()) and (there.st_nlink == 1 or stat.S_ISDIR(there.st_mode))
        if not is_ours and self._folder.remove(file.name, file.inode, kept.uid):
            kept.foreign_files += 1
            kept.foreign_name = file.name
        else:
            kept.files += 1
            self._give_up(kept, file)

    def _limit_bytes(self) -> Iterator[None]:
        """
        While the file system is short of room, remove excess segments of users without patience.

        The spools are taken in the same order each time.
        """
        size, free = self._folder.room()
        bytes_max = size // BYTES_SHARE
        is_short = free < bytes_max
        over = [uid for uid, kept in self.by_user.items() if is_short and kept.size_bytes > bytes_max]
        for uid in self._patience.spent(over, self._now):
            kept = self.by_user[uid]
            for spool in sorted(kept.spools, reverse=True):
                if kept.size_bytes <= bytes_max:
                    break
                for file in kept.spools[spool]:
                    if name_of_lock(file.name) is None:
                        self._remove(kept, file)
                yield

    def _remove(self, kept: UserFiles, file: File) -> None:
        """Remove an excess segment."""
        if self._folder.remove(file.name, file.inode, kept.uid):
            kept.removed_files += 1
            kept.removed_bytes += file.size_bytes
            kept.size_bytes -= file.size_bytes
        else:
            self._give_up(kept, file)

    def _remove_unlocked(self, kept: UserFiles, file: File) -> None:
        """Remove a lock unless a process holds it: without a lock, that process would count as dead."""
        try:
            is_gone = not self._folder.is_unlocked(file.name) or self._folder.remove(file.name, file.inode, kept.uid)
        except OSError:
            is_gone = False
        if not is_gone:
            self._give_up(kept, file)

    def _give_up(self, kept: UserFiles, file: File) -> None:
        """Leave a file that cannot be removed, and count it the first time."""
        if file.name not in self._left_alone and kept.files <= FILES_MAX:
            self._left_alone[file.name] = file.inode, kept.uid
            kept.stuck_files += 1
            kept.stuck_name = file.name
