"""
Bytes that were read and are no whole message yet, over all connections: they count in the inbox's budget.

While the budget is spent, connections wait here before they read on, and one of them at a time is let through until its
frame is whole, so that something always becomes whole. Who has stood still in the middle of a frame for `STALL_S`
meanwhile is broken off, the longest first, until there is room.

Always true:
- what is read beyond the budget is at most one read of each connection, and one frame;
- nobody is broken off while there is room, nor for being held up by us.

Not here: whole batches (hub.inbox), what is said of a broken connection (hub.connection).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Protocol

STALL_S = 10.0
LOOK_S = 1.0
"""How often those who wait look for one that stands still."""


class Reading(Protocol):
    """A connection, as far as this file knows."""

    has_ended: bool
    """Whether it will read no more."""

    def break_off(self) -> None:
        """End at once: it has stood still while others wait."""


class _Half:
    """What one connection holds, and when it last got something."""

    __slots__ = ("held_bytes", "is_waiting", "moved_at")

    def __init__(self) -> None:
        self.held_bytes = 0
        self.is_waiting = False
        self.moved_at = 0.0


class HalfFrames:
    """The half frames of all connections. *has_room* is asked with their bytes; *on_room* is called when some go."""

    def __init__(
        self,
        has_room: Callable[[int], bool],
        on_room: Callable[[], None],
        *,
        stall_s: float = STALL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._has_room = has_room
        self._on_room = on_room
        self._stall_s = stall_s
        self._clock = clock
        self._halves: dict[Reading, _Half] = {}
        self._favoured: Reading | None = None
        self._changed = asyncio.Event()
        self.held_bytes = 0
        """Bytes of all of them."""

    @property
    def is_spent(self) -> bool:
        """Whether there is no room for more."""
        return not self._has_room(self.held_bytes)

    def note(self, reading: Reading, held_bytes: int, *, moved: bool) -> None:
        """Say what *reading* holds now; *moved* if it got something just now."""
        half = self._halves.get(reading)
        if half is None:
            if not held_bytes:
                return
            half = self._halves[reading] = _Half()
        gone = half.held_bytes - held_bytes
        self.held_bytes -= gone
        half.held_bytes = held_bytes
        if moved:
            half.moved_at = self._clock()
        if not held_bytes:
            del self._halves[reading]
            if reading is self._favoured:
                self._favoured = None
        if gone > 0:
            self.changed()
            self._on_room()

    def changed(self) -> None:
        """There may be room now: let those who wait look."""
        self._changed.set()

    async def room(self, reading: Reading) -> None:
        """Return when *reading* may read on: at once if it holds nothing, for then it is in the middle of nothing."""
        while self.is_spent and reading is not self._favoured and not reading.has_ended:
            half = self._halves.get(reading)
            if half is None:
                return
            if self._favoured is None:
                self._favoured = reading
                return
            half.is_waiting = True
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._changed.wait()
            half.is_waiting = False
            half.moved_at = self._clock()  # it was we who held it up
            self._break_off_stalled()

    def _break_off_stalled(self) -> None:
        """Break off those who stand still, the longest first, until there is room."""
        before = self._clock() - self._stall_s
        stalled = [
            (half.moved_at, reading, half.held_bytes)
            for reading, half in self._halves.items()
            if not half.is_waiting and half.moved_at <= before
        ]
        left = self.held_bytes
        for _, reading, held_bytes in sorted(stalled, key=lambda row: row[0]):
            if self._has_room(left):
                return
            left -= held_bytes
            reading.break_off()
