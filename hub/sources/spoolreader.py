"""
What one user left: its dead sessions, one after the other, in steps of a bounded length.

Always true:
- a step takes about `STEP_S` of CPU time, and gives the event loop no more than `STEP_ITEMS` and one piece to do;
- a session is removed in the step after all of it is stored, its lock last;
- what cannot be removed, what cannot be read, and what only a newer hub can read is left alone from then on.

Not here: reading one session (hub.sources.deadspool), storing what comes out (hub.sources.spool).
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from typing import Any, NamedTuple

from hub.access import Groups
from hub.intake import Intake
from hub.message import Peer
from hub.sources.deadspool import DeadSpool, Part
from hub.sources.holdings import File, Holding
from hub.sources.spoolfolder import SpoolFolder
from hub.users import User
from hub.wire.spoolfile import session_of

STEP_S = 0.003
"""CPU time. The interpreter passes itself on to a thread that waits after 5 ms."""
STEP_ITEMS = 128
"""With a piece of the smallest frames 500: 4 ms on the event loop, in the user's turn."""
STEP_SPOOLS = 64
"""Sessions that end in one step, and are committed together."""
_FOR_NOW = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO}
"""What another look may find otherwise."""


class Step(NamedTuple):
    """What one step on the thread did."""

    parts: list[tuple[Intake, Part]]
    ended: list[DeadSpool]
    notes: list[tuple[str, dict[str, Any]]]
    """Events for the log, and their fields."""


class SpoolReader:
    """
    Reads what *user* left in *folder*. A step is done on a thread, and meanwhile the event loop leaves it alone.

    *accept* makes the intake of a peer; *left_alone* are names that are passed over, and their inodes.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        user: User,
        *,
        accept: Callable[[Peer], Intake],
        left_alone: MutableMapping[str, int],
        frame_bytes_max: int,
    ) -> None:
        self.user = user
        self.offered: Holding | None = None
        """What a look found since the last step."""
        self.groups: Groups = None
        self.wants_groups = False
        """Whether it cannot go on before `learn_groups`."""
        self.current: DeadSpool | None = None
        self.held_bytes = 0
        """What is held of half a frame."""
        self.stored: list[DeadSpool] = []
        """What is to be removed."""
        self._general = accept(Peer(uid=user.uid, verified=False))
        self._folder = folder
        self._accept = accept
        self._left_alone = left_alone
        self._frame_bytes_max = frame_bytes_max
        self._parts: Iterator[Part] = iter(())
        self._waiting: dict[str, list[File]] = {}
        self._to_remove: list[File] = []
        self._knows_groups = False

    @property
    def intake(self) -> Intake:
        """What accepts the messages of the current session, or reports about the user while there is none."""
        return self._general if self.current is None or self.current.intake is None else self.current.intake

    @property
    def is_done(self) -> bool:
        is_idle = self.current is None and not self._waiting
        return is_idle and self.offered is None and not self.stored and not self._to_remove

    def take_offer(self) -> Holding | None:
        """Go on with what the last look found, if there was one; return it."""
        holding, self.offered = self.offered, None
        if holding is not None:
            self._waiting = dict(sorted(holding.sessions.items(), reverse=True))
            if self.current is not None:
                self._waiting.pop(self.current.session, None)
        return holding

    def learn_groups(self, groups: Groups) -> None:
        """Go on, with the groups that the user database knows."""
        self.groups, self._knows_groups, self.wants_groups = groups, True, False

    # On the thread.

    def step(self, bytes_max: int) -> Step:
        """Remove what is stored; read on, about *bytes_max* at most."""
        step = Step([], [], [])
        ends_at, read_bytes, items = time.thread_time() + STEP_S, 0, 0
        for spool in self.stored:
            # From its end on: the lock comes last.
            self._to_remove += sorted(spool.files, key=lambda file: session_of(file.name) is None)
        self.stored = []
        self._remove_stored(ends_at, step)
        while (
            read_bytes < bytes_max
            and items < STEP_ITEMS
            and len(step.ended) < STEP_SPOOLS
            and time.thread_time() < ends_at
            and (self.current is not None or self._next(step))
        ):
            part = self._read_on(step)
            read_bytes += part.read_bytes
            items += len(part.items)
        return step

    def _next(self, step: Step) -> bool:
        """Look at the next session, and begin with it if it is dead; False if there is none now."""
        if not self._waiting:
            return False
        session, files = self._waiting.popitem()
        try:
            if self._is_left_alone(files) or not self._folder.is_dead(session, self.user.uid):
                return True
        except OSError as error:
            self._give_up(files, session, error, step)
            return True
        if not self._knows_groups:
            self._waiting[session] = files
            self.wants_groups = True
            return False
        self._begin(session, files)
        return True

    def _begin(self, session: str, files: Sequence[File]) -> None:
        uid = self.user.uid
        self.current = DeadSpool(
            self._folder,
            uid,
            session,
            files,
            accept=self._accept,
            admits=lambda gid: self._folder.admits(uid, gid, self.groups),
            frame_bytes_max=self._frame_bytes_max,
        )
        self._parts = self.current.parts()

    def _read_on(self, step: Step) -> Part:
        """Do one part of the current session, if there is one; note its end."""
        spool, part = self.current, Part()
        if spool is None:
            return part
        try:
            part = next(self._parts)
        except StopIteration:
            self._end(spool, step)
        except OSError as error:
            self._give_up(spool.files, spool.session, error, step)
            self.current = None
        self.held_bytes = part.held_bytes
        if spool.intake is not None and (part.read_bytes or part.items or part.is_refused or self.current is None):
            step.parts.append((spool.intake, part))
        return part

    def _end(self, spool: DeadSpool, step: Step) -> None:
        self.current = None
        if not spool.newer_version:
            step.ended.append(spool)
            return
        self._leave_alone(spool.files)
        fields = {"session": spool.session, "version": spool.newer_version, "action": "left to a newer hub"}
        step.notes.append(("spool.newer", fields))

    def _remove_stored(self, ends_at: float, step: Step) -> None:
        """Remove what belongs to this user of the sessions that are stored, the lock of each last."""
        stuck: list[File] = []
        while self._to_remove and time.thread_time() < ends_at:
            file = self._to_remove.pop()
            if not self._folder.remove(file.name, file.inode, self.user.uid):
                stuck.append(file)
        if stuck:
            self._leave_alone(stuck)
            fields = {"files": len(stuck), "name": stuck[0].name, "action": "what is in it is stored"}
            step.notes.append(("spool.not_removed", fields))

    def _give_up(self, files: Sequence[File], session: str, error: OSError, step: Step) -> None:
        if error.errno not in _FOR_NOW:
            self._leave_alone(files)
        step.notes.append(("spool.unreadable", {"session": session, "error": error.strerror}))

    def _leave_alone(self, files: Sequence[File]) -> None:
        for file in files:
            self._left_alone[file.name] = file.inode

    def _is_left_alone(self, files: Sequence[File]) -> bool:
        return any(self._left_alone.get(file.name) == file.inode for file in files)
