"""
What each user keeps in the spool folder: one look through it, user by user, within limits.

Files of one session that belong to different users are different spools: who knows the name of another's session can
make files with it, and they say nothing about that session.

Always true:
- what is no spool file is removed, unless it belongs to root or to the hub's user, who alone can have put it there;
- a user keeps at most `FILES_MAX` files; a file more is removed when it is seen;
- while the file system is short of room, a user keeps more than `1 / BYTES_SHARE` of it for `PATIENCE_S` at most;
- segments are unlinked and never cut short: the memory that a living process has mapped stays, and it goes on;
- a lock that is held is never removed, because a process without a lock passes for dead;
- what is removed is counted, so that it becomes a loss of that user's, and no limit depends on what others keep;
- what stays all the same, because it cannot be removed, is remembered and reported once.

Not bounded by this: locks that processes hold (their descriptors bound them); see hub.sources.spoolfolder for the rest.
Not here: reading what is left (hub.sources.deadspool), reporting (hub.sources.spool).
"""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Collection, Iterator, MutableMapping
from typing import NamedTuple

from hub.sources.spoolfolder import SpoolFolder
from hub.wire.spoolfile import is_unseen_lock, session_of, session_of_segment

FILES_MAX = 16_384
"""Files of one user: 4,096 producers with four each. Looking at them takes 60 ms."""
BYTES_SHARE = 4
"""A user may keep a quarter of the file system, and more of it while a quarter of it is free."""
ENTRIES_MAX = 1 << 20
"""Names that are looked at in one look: a folder that grows faster than it is read must not keep it from ending."""
PATIENCE_S = 60.0
"""A user may be over its share that long: a hub that comes back finds what has piled up, and needs time to read it."""
PATIENCE_RATIO = 60
"""Time below the share that gives one second of it back: nobody is over its share for more than a minute an hour."""
UNSEEN_S = 60.0
"""A lock gets its name at once; what has none after this time is what a killed process left."""
UNSEEN_BYTES_MAX = 4 << 10
"""One block: there is a process id in it."""
_STEP_ENTRIES = 256
_BLOCK = 512


class File(NamedTuple):
    """A file as it was seen."""

    name: str
    inode: int
    bytes: int


@dataclasses.dataclass(slots=True)
class Holding:
    """What one user keeps."""

    uid: int
    sessions: dict[str, list[File]] = dataclasses.field(default_factory=dict)
    """All files of each session, the lock too."""
    files: int = 0
    bytes: int = 0
    removed_files: int = 0
    """Spool files that were too much."""
    removed_bytes: int = 0
    foreign_files: int = 0
    """What is no spool file."""
    foreign_name: str = ""
    """One of these."""
    stuck_files: int = 0
    """What is no spool file or is too much and stays all the same, seen for the first time."""
    stuck_name: str = ""


class Patience:
    """How much longer each user may be over its share. Times are seconds of a clock that only rises."""

    def __init__(self) -> None:
        self._left_s: dict[int, float] = {}  # of those that have not all of it
        self._over: frozenset[int] = frozenset()
        self._at = 0.0

    def spent(self, over: Collection[int], now: float) -> set[int]:
        """Take note which users are *over* their share now; return those of them that have no patience left."""
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
    One look. *left_alone* are names that were given up, and their inodes; those that are gone are taken out of it.

    *now* is the time in seconds of a clock that only rises, *today* the same since the epoch.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        left_alone: MutableMapping[str, int],
        patience: Patience,
        *,
        now: float,
        today: float,
    ) -> None:
        self.holdings: dict[int, Holding] = {}
        self._folder = folder
        self._left_alone = left_alone
        self._patience = patience
        self._now = now
        self._today = today

    def steps(self) -> Iterator[None]:
        """Look, in steps of a bounded length. Raises OSError."""
        seen = set()
        for count, (name, there) in enumerate(self._folder.entries(), 1):
            if self._left_alone.get(name, there.st_ino) != there.st_ino:
                del self._left_alone[name]  # another file has this name now
            self._take(name, there)
            if name in self._left_alone:
                seen.add(name)
            if count % _STEP_ENTRIES == 0:
                yield
            if count == ENTRIES_MAX:
                break
        for name in self._left_alone.keys() - seen:
            del self._left_alone[name]
        yield from self._limit_bytes()

    def _take(self, name: str, there: os.stat_result) -> None:
        holding = self.holdings.get(there.st_uid)
        if holding is None:
            holding = self.holdings[there.st_uid] = Holding(there.st_uid)
        file = File(name, there.st_ino, there.st_blocks * _BLOCK)
        session = session_of_segment(name) or session_of(name)
        is_lock = session_of_segment(name) is None
        is_unseen = session is None and is_unseen_lock(name) and file.bytes <= UNSEEN_BYTES_MAX
        if not self._folder.is_sound(there) or (session is None and not is_unseen):
            self._take_foreign(holding, file, there)
            return
        holding.files += 1
        holding.bytes += file.bytes
        is_too_much = holding.files > FILES_MAX
        if is_unseen or (is_lock and is_too_much):
            if is_too_much or self._today - there.st_mtime > UNSEEN_S:
                self._remove_unlocked(holding, file)
        elif is_too_much:
            self._remove(holding, file)
        elif session is not None:
            holding.sessions.setdefault(session, []).append(file)

    def _take_foreign(self, holding: Holding, file: File, there: os.stat_result) -> None:
        """Remove what is no spool file."""
        is_ours = there.st_uid in (0, os.geteuid()) and (there.st_nlink == 1 or stat.S_ISDIR(there.st_mode))
        if not is_ours and self._folder.remove(file.name, file.inode, holding.uid):
            holding.foreign_files += 1
            holding.foreign_name = file.name
        else:
            holding.files += 1
            self._give_up(holding, file)

    def _limit_bytes(self) -> Iterator[None]:
        """While there is little room, remove what is too much of those that are out of patience, the same each time."""
        size, free = self._folder.room()
        bytes_max = size // BYTES_SHARE
        is_short = free < bytes_max
        over = [uid for uid, holding in self.holdings.items() if is_short and holding.bytes > bytes_max]
        for uid in self._patience.spent(over, self._now):
            holding = self.holdings[uid]
            for session in sorted(holding.sessions, reverse=True):
                if holding.bytes <= bytes_max:
                    break
                for file in holding.sessions[session]:
                    if session_of(file.name) is None:
                        self._remove(holding, file)
                yield

    def _remove(self, holding: Holding, file: File) -> None:
        """Remove a segment that is too much."""
        if self._folder.remove(file.name, file.inode, holding.uid):
            holding.removed_files += 1
            holding.removed_bytes += file.bytes
            holding.bytes -= file.bytes
        else:
            self._give_up(holding, file)

    def _remove_unlocked(self, holding: Holding, file: File) -> None:
        """Remove a lock, unless a process holds it: without it what that process writes would pass for a dead one's."""
        try:
            is_gone = not self._folder.is_unlocked(file.name) or self._folder.remove(file.name, file.inode, holding.uid)
        except OSError:
            is_gone = False
        if not is_gone:
            self._give_up(holding, file)

    def _give_up(self, holding: Holding, file: File) -> None:
        """Leave a file alone that stays: it is reported when it is seen for the first time."""
        if file.name not in self._left_alone and holding.files <= FILES_MAX:
            self._left_alone[file.name] = file.inode
            holding.stuck_files += 1
            holding.stuck_name = file.name
