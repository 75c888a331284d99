"""
What the files of one user share: the queue of those to be read, and what is stored before that.

Always true: `rows` and `losses` are given to the intake before anything else is read; what belongs to no owner is
stored before the next look.
Not here: which file is read when (hub.sources.readorder), the reading (hub.sources.filereading).
"""

from __future__ import annotations

from collections import deque

from hub.message import Loss, Peer, Position
from hub.ration import Lines
from hub.sources.followed import Followed


class Owner:
    """What one user's files share. *peer* is that of its intake."""

    def __init__(self, uid: int, gid: int) -> None:
        self.uid, self.gid = uid, gid
        self.peer = Peer(uid=uid, gid=gid, comm="files", verified=False)
        self.ready: deque[Followed] = deque()
        self.rows: deque[Position] = deque()
        """Positions to write before anything else is read: of files that were found, or are gone."""
        self.losses: list[Loss] = []
        self.files = 0
        self.gone: dict[bytes, None] = {}
        """The files that were given up and whose rows are kept, in the order of that."""
        self.lines = Lines()

    @property
    def has_work(self) -> bool:
        return bool(self.ready or self.rows or self.losses)


class Owners:
    """The owners of all files of a source, by the number of the user."""

    def __init__(self) -> None:
        self.by_uid: dict[int, Owner] = {}

    def owner(self, uid: int, gid: int) -> Owner:
        """Return what the files of a user share."""
        found = self.by_uid.get(uid)
        if found is None:
            found = self.by_uid[uid] = Owner(uid, gid)
        return found

    def of(self, file: Followed) -> Owner:
        """Return what *file* shares with others."""
        return self.owner(file.uid, file.gid)


class Unowned:
    """Positions that do not belong to the intake of an owner, and losses that go with them."""

    def __init__(self) -> None:
        self.positions: list[Position] = []
        self.losses: list[Loss] = []

    def take(self) -> tuple[list[Position], list[Loss]]:
        """Return all of them, and begin anew."""
        taken = self.positions, self.losses
        self.positions, self.losses = [], []
        return taken
