"""
The connections to a page that have not shown the token: few, and not for long.

Every user of this host can connect to the port of a page, and all of them look alike there. Without a share of their
own, the connections of one user could keep the others out.

Always true: there are at most `STRANGERS_MAX`. For one more, the oldest is closed, if possible one that waits for no
answer. One is closed after `STRANGER_S`, unless it waits for an answer.

Not here: the token (hub.web.pagedoor), the bound on all connections (hub.web.pageserver).
"""

from __future__ import annotations

import asyncio
from typing import Protocol

STRANGERS_MAX = 24
"""A browser opens six connections to load the page."""
STRANGER_S = 10.0


class Connection(Protocol):
    """A connection."""

    @property
    def is_answering(self) -> bool: ...

    def abort(self) -> None: ...


class Strangers:
    """The connections of one server that have not shown the token, the oldest first."""

    def __init__(self, *, count_max: int = STRANGERS_MAX, after_s: float = STRANGER_S) -> None:
        self._count_max = count_max
        self._after_s = after_s
        self._timers: dict[Connection, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        return len(self._timers)

    def add(self, connection: Connection) -> None:
        """Take note of a fresh connection."""
        if len(self._timers) >= self._count_max:
            oldest = next((each for each in self._timers if not each.is_answering), next(iter(self._timers)))
            self.remove(oldest)
            oldest.abort()
        self._watch(connection)

    def remove(self, connection: Connection) -> None:
        """Take note that a connection has shown the token, or has ended."""
        if (timer := self._timers.pop(connection, None)) is not None:
            timer.cancel()

    def _watch(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        self._timers[connection] = loop.call_later(self._after_s, self._look_at, connection)

    def _look_at(self, connection: Connection) -> None:
        if connection.is_answering:
            self._watch(connection)
        else:
            self.remove(connection)
            connection.abort()
