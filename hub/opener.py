"""
Payloads that take long to open (compressed ones, very large ones), on threads of their own.

Always true:
- a user has one payload at a time that is being opened, so that its others, and not another user's, wait for it;
- the event loop's own threads (journal, spool, name service) never wait for a payload.

Not here: what is in a payload (hub.wire.payload), who may send one (hub.intake).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from hub.budget import Budget, Holding
from hub.message import Batch, Loss
from hub.users import User
from hub.wire.payload import Unopened

THREADS = 2
"""Decompression lets other threads run; with two, a slow payload does not delay the quick ones of other users."""


class Opener:
    """Opens payloads. *budget* is the hub's: what comes out has to have room."""

    def __init__(self, budget: Budget, *, threads: int = THREADS) -> None:
        self._budget = budget
        self._free = asyncio.Semaphore(threads)
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="mpsr-open")

    async def open(self, payload: Unopened, user: User, holding: Holding) -> Sequence[Batch | Loss]:
        """Return what is inside, when it is the user's turn, a thread is free and there is room."""
        async with user.opening:
            while True:
                await self._budget.room_to_open(holding)
                async with self._free:
                    if self._budget.may_open(holding):  # else somebody else's payload has filled it meanwhile
                        return await asyncio.get_running_loop().run_in_executor(self._executor, payload.open)

    def close(self) -> None:
        """Let the threads end when they are done with what they have begun."""
        self._executor.shutdown(wait=False, cancel_futures=True)
