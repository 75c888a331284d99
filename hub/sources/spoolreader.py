"""
Reads the dead spools of one user, one after the other, in steps of bounded length.

Always true:
- a step takes about `STEP_S` of CPU time, and gives the event loop at most `STEP_ITEMS` items plus those of one piece;
- a spool is removed in the step after all of it is stored, its lock last;
- files that cannot be removed, cannot be read, or need a newer hub are left alone afterwards.

Not here: reading one spool (hub.sources.deadspool), storing the result (hub.sources.spool).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, NamedTuple

from hub.access import Groups
from hub.intake import Intake
from hub.message import Peer
from hub.sources.deadspool import DeadSpool, Stretch
from hub.sources.spoolfolder import SpoolFolder
from hub.sources.userfiles import File, Known, UserFiles
from hub.users import User
from hub.wire.spoolfile import name_of_lock

STEP_S = 0.003
"""CPU time of a step. The interpreter switches to a waiting thread after 5 ms."""
STEP_ITEMS = 128
"""With a piece of the smallest frames there are 500 items: 4 ms on the event loop, in the user's turn."""
STEP_SPOOLS = 64
"""Maximum spools that end in one step; they are committed together."""
_FOR_NOW = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
"""Errors that may be over by the next look."""


class Step(NamedTuple):
    """The result of one step on the thread."""

    stretches: list[tuple[Intake, Stretch]]
    ended: list[DeadSpool]
    notes: list[tuple[str, dict[str, Any]]]
    """Log events and their fields."""


class SpoolReader:
    """
    Reads the spools of *user* in *folder*. A step runs on a thread; the event loop does not use the reader meanwhile.

    *accept* makes the intake for a peer. *left_alone* maps names that are skipped to their files.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        user: User,
        *,
        accept: Callable[[Peer], Intake],
        left_alone: MutableMapping[str, Known],
        frame_bytes_max: int,
    ) -> None:
        self.user = user
        self.offered: UserFiles | None = None
        """The result of a look since the last step."""
        self.groups: Groups = None
        self.wants_groups = False
        """Whether `learn_groups` must be called before the next step."""
        self.current: DeadSpool | None = None
        self.held_bytes = 0
        """Bytes held of an incomplete frame."""
        self.stored: list[DeadSpool] = []
        """Stored spools that the next step removes."""
        self._general = accept(Peer(uid=user.uid, verified=False))
        self._folder = folder
        self._accept = accept
        self._left_alone = left_alone
        self._frame_bytes_max = frame_bytes_max
        self._stretches: Iterator[Stretch] = iter(())
        self._waiting: dict[str, list[File]] = {}
        self._to_remove: list[File] = []
        self._knows_groups = False

    @property
    def intake(self) -> Intake:
        """The intake of the current spool; without one, the intake for reports about the user."""
        return self._general if self.current is None or self.current.intake is None else self.current.intake

    @property
    def is_done(self) -> bool:
        is_idle = self.current is None and not self._waiting
        return is_idle and self.offered is None and not self.stored and not self._to_remove

    def take_offer(self) -> UserFiles | None:
        """Continue with the result of the last look, if there is a new one; return it."""
        kept, self.offered = self.offered, None
        if kept is not None:
            self._waiting = dict(sorted(kept.spools.items(), reverse=True))
            if self.current is not None:
                self._waiting.pop(self.current.name, None)
        return kept

    def learn_groups(self, groups: Groups) -> None:
        """Continue with the user's groups from the user database."""
        self.groups, self._knows_groups, self.wants_groups = groups, True, False

    # On the thread.

    def step(self, bytes_max: int) -> Step:
        """Remove stored spools, then read on; *bytes_max* is exceeded by at most one stretch."""
        step = Step([], [], [])
        ends_at, read_bytes, items = time.thread_time() + STEP_S, 0, 0
        for spool in self.stored:
            # Taken from the end, so the lock comes last.
            self._to_remove += sorted(spool.files, key=lambda file: name_of_lock(file.name) is None)
        self.stored = []
        self._remove_stored(ends_at, step)
        while (
            read_bytes < bytes_max
            and items < STEP_ITEMS
            and len(step.ended) < STEP_SPOOLS
            and time.thread_time() < ends_at
            and (self.current is not None or self._next(step))
        ):
            stretch = self._read_on(step)
            read_bytes += stretch.read_bytes
            items += len(stretch.items)
        return step

    def _next(self, step: Step) -> bool:
        """
        Check the next spool, and begin it if it is dead.

        Return False if no spool is waiting, or if the groups are needed first.
        """
        if not self._waiting:
            return False
        name, files = self._waiting.popitem()
        try:
            if self._is_left_alone(files) or not self._folder.is_dead(name, self.user.uid):
                return True
        except OSError as error:
            self._give_up(files, name, error, step)
            return True
        if not self._knows_groups:
            self._waiting[name] = files
            self.wants_groups = True
            return False
        self._begin(name, files)
        return True

    def _begin(self, name: str, files: Sequence[File]) -> None:
        uid = self.user.uid
        self.current = DeadSpool(
            self._folder,
            uid,
            name,
            files,
            accept=self._accept,
            admits=lambda gid: self._folder.admits(uid, gid, self.groups),
            frame_bytes_max=self._frame_bytes_max,
        )
        self._stretches = self.current.stretches()

    def _read_on(self, step: Step) -> Stretch:
        """Read one stretch of the current spool, if there is one; record its end."""
        spool, stretch = self.current, Stretch()
        if spool is None:
            return stretch
        try:
            stretch = next(self._stretches)
        except StopIteration:
            self._end(spool, step)
        except OSError as error:
            self._give_up(spool.files, spool.name, error, step)
            self.current = None
        self.held_bytes = stretch.held_bytes
        has_news = stretch.read_bytes or stretch.items or stretch.is_refused or self.current is None
        if spool.intake is not None and has_news:
            step.stretches.append((spool.intake, stretch))
        return stretch

    def _end(self, spool: DeadSpool, step: Step) -> None:
        self.current = None
        if not spool.newer_version:
            step.ended.append(spool)
            return
        self._leave_alone(spool.files)
        fields = {"name": spool.name, "version": spool.newer_version, "action": "left to a newer hub"}
        step.notes.append(("spool.newer", fields))

    def _remove_stored(self, ends_at: float, step: Step) -> None:
        """Remove this user's files of the stored spools, the lock of each last."""
        stuck: list[File] = []
        while self._to_remove and time.thread_time() < ends_at:
            file = self._to_remove.pop()
            if not self._folder.remove(file.name, file.inode, self.user.uid):
                stuck.append(file)
        if stuck:
            self._leave_alone(stuck)
            fields = {"files": len(stuck), "name": stuck[0].name, "action": "what is in it is stored"}
            step.notes.append(("spool.not_removed", fields))

    def _give_up(self, files: Sequence[File], name: str, error: OSError, step: Step) -> None:
        if error.errno not in _FOR_NOW:
            self._leave_alone(files)
        step.notes.append(("spool.unreadable", {"name": name, "error": error.strerror}))

    def _leave_alone(self, files: Sequence[File]) -> None:
        for file in files:
            self._left_alone[file.name] = file.inode, self.user.uid

    def _is_left_alone(self, files: Sequence[File]) -> bool:
        return any(self._left_alone.get(file.name) == (file.inode, self.user.uid) for file in files)
