"""
Whether the hub answers, how far its journal reaches, and how fast it grows: asked every `PULSE_S`.

Not here: asking (hub.viewer.store), how it looks (hub.viewer.status).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from hub.viewer.rates import rate
from hub.viewer.store import Away, Store

PULSE_S = 1.0
FIRST_EVERY = 30
"""How many beats the first sequence is taken for the same: it changes when messages expire."""


class Pulse:
    """The pulse of *store*."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self.first = 0
        self.end = 0
        self.rate = 0.0
        """Messages a second, between the last two beats."""
        self.away_since: float | None = None
        """Seconds since the epoch."""
        self._store = store
        self._clock = clock
        self._at: float | None = None
        self._beats = 0

    async def beat(self) -> bool:
        """Ask once. Return whether the journal is another one than before, which is shorter. Raises Refused."""
        try:
            end = await self._store.end()
            if self._beats % FIRST_EVERY == 0 or end < self.end:
                found = await self._store.following({}, 1)
                self.first = found.messages[0].sequence if found.messages else 0
        except Away:
            self.away_since = self.away_since or time.time()
            self._at, self.rate = None, 0.0
            return False
        self._beats += 1
        now, is_other, self.away_since = self._clock(), end < self.end, None
        self.rate = 0.0 if self._at is None or is_other else rate(end, self.end, now - self._at)
        self._at, self.end = now, end
        return is_other

    def share(self, sequence: int) -> float:
        """Return where *sequence* is in the journal, from 0 to 1."""
        span = self.end - self.first
        return min(max((sequence - self.first) / span, 0.0), 1.0) if span > 0 else 1.0
