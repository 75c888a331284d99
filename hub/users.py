"""
What all connections of one user share: memory, number of connections, time on the loop, losses, log lines.

A user is a uid, as the kernel reports it. Peers that the kernel does not name (macOS) are one user together.

Always true: while somebody uses a uid's `User` there is one; afterwards the last `RECENT_MAX` that came are remembered,
so that nobody gets a fresh ration by connecting again.
Not here: what a share is (hub.budget), a turn (hub.turn), a ration (hub.ration).
"""

from __future__ import annotations

import asyncio
from collections import deque
from weakref import WeakValueDictionary

from hub.budget import Account, half_of_rest
from hub.ration import Allowance, Lines
from hub.turn import Round, Turn

LOSSES_PER_S = 100.0
"""Messages about losses that one user can cause in a second: 30 KB of journal."""
RECENT_MAX = 1024


class User:
    """One uid."""

    __slots__ = ("__weakref__", "account", "connections", "lines", "losses", "opening", "turn", "uid")

    def __init__(self, uid: int, shared: Round | None = None) -> None:
        self.uid = uid
        self.connections = 0
        """How many are open."""
        self.account = Account()
        self.turn = Turn(shared)
        self.losses = Allowance(LOSSES_PER_S)
        self.lines = Lines()
        """The lines of the hub's log that it causes."""
        self.opening = asyncio.Lock()
        """Held by the one payload of this user that is being opened."""

    def may_connect(self, connections: int, connections_max: int) -> bool:
        """Return whether one of *connections* more may be this user's: half of what the others leave free, or one."""
        return self.connections < max(half_of_rest(connections_max, connections - self.connections), 1)


class Users:
    """The users of a hub, by uid."""

    def __init__(self) -> None:
        self._users: WeakValueDictionary[int, User] = WeakValueDictionary()
        self._recent: deque[User] = deque(maxlen=RECENT_MAX)
        self._round = Round()

    def of(self, uid: int) -> User:
        """Return the user with *uid*."""
        user = self._users.get(uid)
        if user is None:
            user = self._users[uid] = User(uid, self._round)
            self._recent.append(user)
        return user
