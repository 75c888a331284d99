"""
What moves the window: opening at the end, following, scrolling beyond what is loaded, the next error, another time.

Always true:
- one move at a time changes the window; a later one ends it;
- what is fetched is a few screens, at most every `FOLLOW_S`, whatever the rate; what a follower passes over is a row
  with its number, and can be read by going there;
- after the hub was away, following goes on at its cursor.

Not here: where messages come from (hub.viewer.store), keys (hub.viewer.keys).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from hub.message import Message
from hub.query.level import LEVELS, rank_of_name
from hub.viewer.row import Row, row_of
from hub.viewer.store import Filters, Found, Store
from hub.viewer.window import Window

FOLLOW_S, QUIET_S = 0.1, 0.25
"""How often a follower looks: while messages arrive, and while none do."""

SCREENS = 4
"""How many screens are loaded beside the one that is shown."""


class Moves:
    """Moves *window* over the messages of *store* that match `filters`. *changed* is called when it has moved."""

    def __init__(self, store: Store, window: Window, changed: Callable[[], None]) -> None:
        self.filters: Filters = {}
        self.is_following = False
        self.passed_over = 0
        """How many messages the follower has passed over since it began."""
        self.followed = 0
        """The last sequence that a follower has shown or passed over."""
        self._store = store
        self._window = window
        self._changed = changed

    async def follow(self, *, is_fresh: bool) -> None:
        """Show the last messages, and those that arrive, until it is cancelled. *is_fresh*: with other filters."""
        window = self._window
        if is_fresh or not window.rows or not window.is_end:
            found = await self._store.last(self.filters, 2 * window.height)
            window.show([*map(row_of, found.messages)], is_start=found.is_all, is_end=True)
        window.to_end()
        self.is_following, self.passed_over = True, 0
        self._changed()
        try:
            await self._follow()
        finally:
            self.is_following = False
            self.followed = window.last
            window.is_end = False  # more may arrive
            self._changed()

    async def _follow(self) -> None:
        window = self._window
        while True:
            began = time.monotonic()
            rows = await self.arrived()
            if rows:
                window.append(rows)
                window.to_end()
                self._changed()
            if window.lacks_before:  # the screen has grown
                await self._extend_before()
                window.to_end()
                self._changed()
            took_s = time.monotonic() - began
            await asyncio.sleep(max((FOLLOW_S if rows else QUIET_S) - took_s, took_s, 0.01))

    async def arrived(self) -> list[Row]:
        """Return the rows of what has arrived: of the last screen, and one for what was passed over."""
        window = self._window
        cursor, count = window.last, 2 * window.height
        found = await self._store.last(self.filters, count, after=cursor)
        rows = [*map(row_of, found.messages)]
        if rows and not found.is_all:
            passed = rows[0].sequence - cursor - 1
            if passed:
                self.passed_over += passed
                rows.insert(0, Row(cursor + 1, text="up to " if self.filters else "", passed=passed))
        return rows

    async def extend(self) -> None:
        """Load what is next to the screen."""
        window = self._window
        while window.lacks_before or window.lacks_after:
            if window.lacks_before:
                await self._extend_before()
            else:
                found = await self._store.following(self.filters, SCREENS * window.height, after=window.last)
                window.is_end = found.is_all
                window.append([*map(row_of, found.messages)])
            self._changed()

    async def _extend_before(self) -> None:
        window = self._window
        first = window.rows[0].sequence if window.rows else None
        found = await self._store.last(self.filters, SCREENS * window.height, before=first)
        window.is_start = found.is_all
        window.prepend([*map(row_of, found.messages)])

    async def show_at(self, sequence: int) -> None:
        """Show the messages around *sequence*."""
        count = 2 * self._window.height
        before = await self._store.last(self.filters, count, before=sequence)
        after = await self._store.following(self.filters, count, after=sequence - 1)
        self._show(before, after, sequence)

    async def show_start(self) -> None:
        """Show the first messages."""
        await self.show_at(1)

    async def show_time(self, time_ns: int) -> bool:
        """Show the messages around the first one received at *time_ns* or later. Return whether there is one."""
        since = max(time_ns, self.filters.get("since", 0))
        found = await self._store.following({**self.filters, "since": since}, 1)
        if found.messages:
            await self.show_at(found.messages[0].sequence)
        return bool(found.messages)

    async def show_level(self, level: str, *, forward: bool) -> bool:
        """Show the next message of *level* or worse, or the one before. Return whether there is one."""
        sequence = self.place
        filters = {**self.filters, "level": worse(level, self.filters.get("level"))}
        if forward:
            found = await self._store.following(filters, 1, after=sequence)
        else:
            found = await self._store.last(filters, 1, before=sequence)
        if not found.messages:
            return False
        await self.show_at(found.messages[0].sequence)
        return True

    @property
    def place(self) -> int:
        """The sequence at the cursor."""
        row = self._window.row
        return 0 if row is None else row.sequence

    async def message(self, sequence: int) -> Message | None:
        """Return the whole message, if it is still there."""
        found = await self._store.following({}, 1, after=sequence - 1)
        return found.messages[0] if found.messages and found.messages[0].sequence == sequence else None

    def _show(self, before: Found, after: Found, sequence: int) -> None:
        rows = [*map(row_of, (*before.messages, *after.messages))]
        self._window.show(rows, at=sequence, is_start=before.is_all, is_end=after.is_all)
        self._changed()


def worse(level: str, other: Any) -> str:
    """Return the worse of two levels. One that is not known is left to the hub, which knows what to say."""
    if other is None:
        return level
    if str(other).isdecimal():  # a severity of syslog
        return str(other) if int(other) <= 3 else level
    rank = rank_of_name(str(other))
    return str(other) if rank is None or rank > LEVELS.index(level) else level
