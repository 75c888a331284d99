"""
State shared by all connections of one user: memory, number of connections, time on the loop, losses, log lines.

A user is a uid as the kernel reports it. Peers that the kernel does not identify (macOS) share one user.

Always true: a uid has one `User` while it is in use. Afterwards the `RECENT_MAX` users created last are kept, so that
reconnecting does not give a user a fresh ration.

Not here: the size of a share (hub.budget), a turn (hub.turn), a ration (hub.ration).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from weakref import WeakValueDictionary

from hub.budget import half_of_rest
from hub.holding import Account
from hub.ration import Allowance, Lines
from hub.turn import Round, Turn
from hub.waiting import until_set

LOSSES_PER_S = 100.0
"""Maximum messages about losses per second and user: 30 KB of journal."""
RECENT_MAX = 1024


class User:
    """One uid and its shares."""

    __slots__ = (
        "__weakref__", "account", "connections", "lines", "losses", "opening", "queries", "querying", "reading",
        "streams", "turn", "uid",
    )  # fmt: skip

    def __init__(
        self,
        uid: int,
        shared: Round | None = None,
        *,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.uid: int = uid
        self.connections: int = 0
        """The number of open connections."""
        self.account: Account = Account()
        self.turn: Turn = Turn(shared)
        self.losses: Allowance = Allowance(LOSSES_PER_S, sleep=sleep)
        self.lines: Lines = Lines()
        """The log lines that this user causes."""
        self.opening: asyncio.Lock = asyncio.Lock()
        """Held while a payload of this user is opened."""
        self.queries: int = 0
        """The number of queries that are answered or wait."""
        self.querying: asyncio.Lock = asyncio.Lock()
        """Held while a query of this user is answered."""
        self.reading: asyncio.Lock = asyncio.Lock()
        """Held during a step of reading the journal for this user."""
        self.streams: int = 0
        """The number of tails."""

    def may_connect(self, connections: int, connections_max: int) -> bool:
        """
        Return whether this user may open one more connection while *connections* of all users are open.

        The limit is half of what the other users leave free, and at least one.
        """
        return self.connections < max(half_of_rest(connections_max, connections - self.connections), 1)


class Users:
    """The users of a hub, by uid."""

    def __init__(self) -> None:
        self._users: WeakValueDictionary[int, User] = WeakValueDictionary()
        self._recent: deque[User] = deque(maxlen=RECENT_MAX)
        self._round = Round()
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the waits of losses: the hub stops, and losses that wait would be cut off."""
        self._stopping.set()

    async def _sleep(self, seconds: float) -> None:
        """Return after *seconds*, or when the hub stops."""
        await until_set(self._stopping, seconds)

    def of(self, uid: int) -> User:
        """Return the user with *uid*."""
        user = self._users.get(uid)
        if user is None:
            user = self._users[uid] = User(uid, self._round, sleep=self._sleep)
            self._recent.append(user)
        return user
