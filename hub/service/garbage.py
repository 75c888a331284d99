"""
Decides when a full garbage collection takes place: while it is quick, and at least once an hour.

A full collection stops the event loop for 4 to 8 µs for each connection, which is 80 ms with ten thousand of them, and
many clients that connect at once cause several collections a second. It finds next to nothing: connections that have
ended leave no reference cycles (tests/hub/test_listener.py), and everything else is freed when its last reference goes.

Not here: younger objects, which the interpreter collects as always, in less than a millisecond.
Source: gc.set_threshold and gc.freeze in Python's documentation; Python 3.14 collects in small steps by itself.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

LOOK_S = 60.0
CONNECTIONS_FEW = 1000
"""A full collection takes less than 8 ms up to this number."""
COLLECT_S = 3600.0
"""The longest time between two full collections, however many connections there are."""
_NEVER = 1 << 30


class FullCollections:
    """Takes full collections out of the interpreter's hands while `run` runs. *connections* counts them."""

    def __init__(
        self,
        connections: Callable[[], int],
        *,
        collect: Callable[[], object] = gc.collect,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = connections
        self._collect = collect
        self._clock = clock
        self._collected_at = clock()

    async def run(self) -> None:
        """Look every `LOOK_S`, until cancelled. Objects that exist at the start are never looked at."""
        young, middle, old = gc.get_threshold()
        gc.freeze()
        gc.set_threshold(young, middle, _NEVER)
        try:
            while True:
                await asyncio.sleep(LOOK_S)
                self.look()
        finally:
            gc.set_threshold(young, middle, old)
            gc.unfreeze()

    def look(self) -> None:
        """Collect if there are few connections, or if it is time."""
        if self._connections() <= CONNECTIONS_FEW or self._clock() - self._collected_at >= COLLECT_S:
            self._collect()
            self._collected_at = self._clock()
