"""
The one place where many connections meet the single receiver.

Connections put batches in; the receiver takes what has arrived, and releases it when it is done with it.

Always true:
- the order of batches from one user is kept, and what is taken together is in the order of arrival;
- while more waits than is taken at once, each user's batches are taken in turn: none waits for all of another's;
- there is one receiver, and a second is refused.

Not here: parsing (hub.wire), durability (hub.journal), how much may be put in (hub.budget, asked before by hub.intake).
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
from collections import deque
from collections.abc import Iterator
from operator import itemgetter

from hub.budget import ITEM_BYTES, READ_BYTES, Account, Budget, Holding
from hub.errors import HubClosed, ReceiverTaken
from hub.message import Batch

LINGER_BYTES = 1 << 20
"""So much is worth a commit at once, even if nobody waits for an acknowledgement."""
ROUND_BYTES = READ_BYTES
"""What is taken of one user before it is the next one's turn."""

CROWD_BYTES = 4 << 20
"""More than that in the inbox is a crowd, of which the users are served in turn: what one commit does not take."""

TAKEN_MAX = 2048
"""Batches taken at once: a commit of that many tiny ones takes 10 ms, and larger ones are no faster."""

_Item = tuple[int, Batch, Holding, int]  # number of arrival, batch, whose, bytes
_ARRIVAL, _BATCH, _SIZE = itemgetter(0), itemgetter(1), itemgetter(3)


class Taken(list[Batch]):
    """The batches that were taken together; `release` says that they are dealt with."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: Budget, items: list[_Item]) -> None:
        super().__init__(map(_BATCH, items))
        self._budget = budget
        self._held: dict[Holding, int] = {}
        for _, _, holding, size in items:
            self._held[holding] = self._held.get(holding, 0) + size

    def release(self) -> None:
        """Free their room. A second time does nothing."""
        held, self._held = self._held, {}
        for holding, size in held.items():
            self._budget.release(holding, size)


class Inbox:
    """The single queue; what is in it counts in *budget*."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget = budget or Budget()
        self._arrivals = 0
        self._ready: deque[Account] = deque()  # users with batches to take
        self._queued = 0
        self._queued_bytes = 0
        self._arrived = asyncio.Event()
        self._due = asyncio.Event()  # somebody waits for an acknowledgement, or there is a lot
        self._is_closed = False
        self._has_receiver = False

    @property
    def held_bytes(self) -> int:
        """Bytes put in and not yet released."""
        return self.budget.queued_bytes

    def put(self, batch: Batch, holding: Holding) -> None:
        """Put a batch in. Raises HubClosed."""
        if self._is_closed:
            raise HubClosed
        size = len(batch.entries) + ITEM_BYTES
        account = holding.account
        if not account.queue:
            self._ready.append(account)
        self._arrivals += 1
        account.queue.append((self._arrivals, batch, holding, size))
        self.budget.enqueue(holding, size)
        self._queued += 1
        self._queued_bytes += size
        self._arrived.set()
        if batch.chunk is not None or self._queued_bytes >= LINGER_BYTES:
            self._due.set()

    @contextlib.contextmanager
    def receiving(self) -> Iterator[None]:
        """Be the receiver. Raises ReceiverTaken if there is one."""
        if self._has_receiver:
            raise ReceiverTaken
        self._has_receiver = True
        try:
            yield
        finally:
            self._has_receiver = False

    async def take(self, bytes_max: int, linger_s: float = 0.0) -> Taken:
        """
        Take what has arrived, up to *bytes_max* or one batch, and `TAKEN_MAX`; wait for the first. Empty when the inbox
        is closed.

        While nobody waits for an acknowledgement, up to *linger_s* more is waited for more.
        """
        while not self._ready and not self._is_closed:
            self._arrived.clear()
            await self._arrived.wait()
        if linger_s and not self._due.is_set() and not self._is_closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger_s):  # not wait_for, which can swallow being cancelled (3.11)
                    await self._due.wait()
        self._due.clear()
        taken = Taken(self.budget, self._take(bytes_max))
        if self._queued_bytes:
            self._due.set()
        return taken

    def close(self) -> None:
        """Let nothing more in; what is in can still be taken."""
        self._is_closed = True
        self._arrived.set()
        self._due.set()
        self.budget.close()

    def _take(self, bytes_max: int) -> list[_Item]:
        is_crowded = self._queued_bytes > max(bytes_max, CROWD_BYTES) or self._queued > TAKEN_MAX
        in_turn = is_crowded or len(self._ready) == 1
        items = self._take_in_turn(bytes_max) if in_turn else self._take_by_arrival(bytes_max)
        self._queued -= len(items)
        self._queued_bytes -= sum(map(_SIZE, items))
        return items

    def _take_by_arrival(self, bytes_max: int) -> list[_Item]:
        items: list[_Item] = []
        for item in heapq.merge(*(account.queue for account in self._ready)):
            items.append(item)
            bytes_max -= item[3]
            if bytes_max <= 0:  # before there are `TAKEN_MAX`: there are no more
                break
        for _, _, holding, _ in items:
            holding.account.queue.popleft()
        self._ready = deque(account for account in self._ready if account.queue)
        return items

    def _take_in_turn(self, bytes_max: int) -> list[_Item]:
        items: list[_Item] = []
        while bytes_max > 0 and self._ready and len(items) < TAKEN_MAX:
            account = self._ready.popleft()
            round_bytes = min(bytes_max, ROUND_BYTES)
            bytes_max -= round_bytes
            while round_bytes > 0 and account.queue and len(items) < TAKEN_MAX:
                items.append(account.queue.popleft())
                round_bytes -= items[-1][3]
            bytes_max += round_bytes  # what is left of it, or what it was too much
            if account.queue:
                self._ready.append(account)
        items.sort(key=_ARRIVAL)
        return items
