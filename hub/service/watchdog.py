"""
Whether the hub is alive: the receiver is idle, or gets on.

Always true: the manager's watchdog is fed as long as no call to the journal lasts longer than the watchdog's time; a
call that fails (a full disk, tried again each second) has ended, so it is no reason to starve.
Not here: how the manager is told (hub.service.systemd). A stuck event loop needs nothing: it feeds nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hub.log import get_logger

FEEDINGS = 4
"""So many fit into the watchdog's time; systemd wants two at least."""
log = get_logger("mpsr.watchdog")


class Watchdog:
    """Calls *feed* while all is well, never if *limit_s* is None. Enter it around each call to the journal."""

    def __init__(
        self, feed: Callable[[], None], limit_s: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._feed = feed
        self._limit_s = limit_s
        self._clock = clock
        self._busy_since: float | None = None
        self._is_starving = False

    def __enter__(self) -> None:
        self._busy_since = self._clock()

    def __exit__(self, *_: object) -> None:
        self._busy_since = None

    async def run(self) -> None:
        """Look after it for ever; cancelled by its owner."""
        while self._limit_s is not None:
            self.look(self._limit_s)
            await asyncio.sleep(self._limit_s / FEEDINGS)

    def look(self, limit_s: float) -> None:
        """Feed, unless the journal is stuck for longer than *limit_s*."""
        busy_s = 0.0 if self._busy_since is None else self._clock() - self._busy_since
        if busy_s <= limit_s:
            self._is_starving = False
            self._feed()
        elif not self._is_starving:
            self._is_starving = True
            log.error("journal.stuck", seconds=round(busy_s, 1), action="the watchdog is not fed; the hub is restarted")
