"""
Feeds the service manager's watchdog while the receiver is idle or makes progress.

Always true: the watchdog is fed unless a call to the journal lasts longer than the watchdog's time. A call that fails
(a full disk, retried every second) has ended, so it does not stop the feeding. A stuck event loop needs no detection
here, because it feeds nothing.

Not here: the notify protocol (hub.service.systemd).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from hub.log import get_logger

FEEDINGS = 4
"""Feedings per watchdog time; sd_watchdog_enabled(3) recommends two."""
log = get_logger("mpsr.watchdog")


class Watchdog:
    """
    Calls *feed* while no call to the journal lasts longer than *limit_s* seconds; never if *limit_s* is None.

    Enter it around each call to the journal.
    """

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
        """Check and feed until cancelled by the owner."""
        while self._limit_s is not None:
            self.look(self._limit_s)
            await asyncio.sleep(self._limit_s / FEEDINGS)

    def look(self, limit_s: float) -> None:
        """Feed, unless a call to the journal has lasted longer than *limit_s*. Log the first time that it has."""
        busy_s = 0.0 if self._busy_since is None else self._clock() - self._busy_since
        if busy_s <= limit_s:
            self._is_starving = False
            self._feed()
        elif not self._is_starving:
            self._is_starving = True
            log.error("journal.stuck", seconds=round(busy_s, 1), action="the watchdog is not fed; the hub is restarted")
