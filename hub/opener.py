"""
Opens payloads that take long to open (compressed or very large ones) on its own threads.

Always true:
- at most one payload of a user is opened at a time, so one user occupies at most one of the `THREADS` threads;
- other threads (the journal's, the spool's, the event loop's default pool) never wait for a payload.

Not here: the contents of a payload (hub.wire.payload), access (hub.intake).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hub.budget import Budget
from hub.holding import Holding
from hub.message import Batch, Loss
from hub.users import User
from hub.wire.payload import Unopened

THREADS = 2
"""Decompression lets other threads run. With two threads, the slow payloads of one user delay no other user."""


class Opener:
    """Opens payloads. The opened payload counts against *budget*, the hub's budget."""

    def __init__(self, budget: Budget, *, threads: int = THREADS) -> None:
        self._budget = budget
        self._free = asyncio.Semaphore(threads)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="mpsr-open")

    async def open(self, payload: Unopened, user: User, holding: Holding) -> Sequence[Batch | Loss]:
        """Return the contents of *payload*. Waits for the user's turn, a free thread and room in the budget."""
        async with user.opening:
            while True:
                await self._budget.room_to_open(holding)
                async with self._free:
                    if self._budget.may_open(holding):  # false if another payload took the room meanwhile
                        return await asyncio.get_running_loop().run_in_executor(self._executor, payload.open)

    def close(self) -> None:
        """Cancel waiting work. Running work finishes."""
        self._executor.shutdown(wait=False, cancel_futures=True)
