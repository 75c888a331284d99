"""
The one place where many connections meet the single receiver.

Connections put batches in; the receiver takes what has arrived, and releases it when it is done with it.

Always true:
- the order of batches from one user is kept, and what is taken together is in the order of arrival;
- while more waits than one commit takes, users take turns: none waits for all of another's batches;
- there is one receiver, and a second is refused.

Not here: parsing (hub.wire), durability (hub.journal), how much may be put in (hub.budget, asked before by hub.intake).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator
from operator import itemgetter

from hub.budget import ITEM_BYTES, READ_BYTES, Budget
from hub.errors import HubClosed, ReceiverTaken
from hub.holding import Account, Holding
from hub.message import Batch

LINGER_BYTES = 1 << 20
"""Bytes with which a commit begins at once, even if no sender waits for an acknowledgement."""
ROUND_BYTES = READ_BYTES
"""Bytes taken from one user before the next user's turn."""

CROWD_BYTES = 4 << 20
TAKEN_MAX = 2048
"""
With more bytes or batches than these, the inbox is crowded, and users are served in turn. A commit of 2,048 tiny
batches takes 10 ms, and larger ones are no faster.
"""

POSITION_BYTES = 512
"""Bytes counted for a position."""

_Queued = tuple[int, Batch, Holding, int]  # number of arrival, batch, whose, bytes
_ARRIVAL, _BATCH, _SIZE = itemgetter(0), itemgetter(1), itemgetter(3)


class _Lanes:
    """The waiting batches, in a lane for each user. None, the end, comes out when nothing else is left."""

    def __init__(self) -> None:
        self._ready: deque[Account] = deque()  # users with something in their lane; the first one's turn it is
        self._round_bytes = ROUND_BYTES  # bytes left of that turn
        self._count = 0
        self._has_end = False
        self.held_bytes = 0

    def __len__(self) -> int:
        return self._count + self._has_end

    def add(self, item: _Queued | None, *, is_first: bool = False) -> None:
        """Put *item* after those of its user, or before them."""
        if item is None:
            self._has_end = True
            return
        lane = item[2].account.queue
        if not lane:
            self._ready.append(item[2].account)
        lane.appendleft(item) if is_first else lane.append(item)
        self._count += 1
        self.held_bytes += _SIZE(item)

    def next(self) -> _Queued | None:
        """Take out the oldest batch; in a crowded inbox, that of the user whose turn it is."""
        if not self._count:
            self._has_end = False
            return None
        if len(self._ready) == 1 or self.held_bytes > CROWD_BYTES or self._count > TAKEN_MAX:
            account = self._ready[0]
        else:
            account = min(self._ready, key=lambda account: _ARRIVAL(account.queue[0]))
        item: _Queued = account.queue.popleft()
        self._count -= 1
        self.held_bytes -= _SIZE(item)
        self._round_bytes -= _SIZE(item)
        if not account.queue:
            self._ready.remove(account)
        elif self._round_bytes <= 0:
            self._ready.rotate(-1)
        if not account.queue or self._round_bytes <= 0:
            self._round_bytes = ROUND_BYTES
        return item

    def take(self, bytes_max: int, items_max: int) -> list[_Queued]:
        """Take out as many as `next` would return until *bytes_max* is reached, in any order."""
        if self.held_bytes <= min(bytes_max, CROWD_BYTES) and self._count <= min(items_max, TAKEN_MAX):
            items = [item for account in self._ready for item in account.queue]
            for account in self._ready:
                account.queue.clear()
            self._ready.clear()
            self._round_bytes = ROUND_BYTES
            self._count = self.held_bytes = 0
            return items
        items = []
        while bytes_max > 0 and self._count and len(items) < items_max and (item := self.next()) is not None:
            items.append(item)
            bytes_max -= _SIZE(item)
        return items


class _FairQueue(asyncio.Queue[_Queued | None]):
    """The queue of asyncio, with users instead of batches taking turns."""

    _queue: _Lanes

    def _init(self, maxsize: int) -> None:
        self._queue = _Lanes()

    def _put(self, item: _Queued | None) -> None:
        self._queue.add(item)

    def _get(self) -> _Queued | None:
        return self._queue.next()

    @property
    def held_bytes(self) -> int:
        return self._queue.held_bytes

    def get_more(self, bytes_max: int, items_max: int) -> list[_Queued]:
        """Take out what does not have to be waited for; the last one may exceed *bytes_max*."""
        return self._queue.take(bytes_max, items_max)

    def put_back(self, item: _Queued) -> None:
        """Let *item* be the first of its user again."""
        self._queue.add(item, is_first=True)


class Taken(list[Batch]):
    """The batches that were taken together; call `release` when they are dealt with."""

    __slots__ = ("_budget", "_held")

    def __init__(self, budget: Budget, items: list[_Queued]) -> None:
        super().__init__(map(_BATCH, items))
        self._budget = budget
        self._held: dict[Holding, int] = {}
        for _, _, holding, size in items:
            self._held[holding] = self._held.get(holding, 0) + size

    def release(self) -> None:
        """Free their room. A second time does nothing."""
        held, self._held = self._held, {}
        if held:
            self._budget.release(held)


class Inbox:
    """The single queue; what is in it counts in *budget*."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget: Budget = budget or Budget()
        self._queue = _FairQueue()
        self._arrivals = 0
        self._first_bytes = 0  # of the batch that lingers
        self._due = asyncio.Event()  # a sender waits for an acknowledgement, or enough has arrived
        self._is_closed = False
        self._has_receiver = False

    @property
    def held_bytes(self) -> int:
        """Bytes put in and not yet released."""
        return self.budget.queued_bytes

    def put(self, batch: Batch, holding: Holding, *, is_awaited: bool = False) -> None:
        """
        Put a batch in. *is_awaited*: its sender waits until it is settled, as with any chunk id. Raises HubClosed.
        """
        if self._is_closed:
            raise HubClosed
        size = len(batch.entries) + ITEM_BYTES + len(batch.positions) * POSITION_BYTES
        self._arrivals += 1
        self.budget.enqueue(holding, size)
        self._queue.put_nowait((self._arrivals, batch, holding, size))
        if is_awaited or batch.chunk_id is not None or self._first_bytes + self._queue.held_bytes >= LINGER_BYTES:
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
        Take all that has arrived, up to *bytes_max* or one batch; wait for the first. Empty when the inbox is closed.

        While no sender waits for an acknowledgement, wait for more for up to *linger_s*.
        """
        first = await self._queue.get()
        if first is None:
            self._queue.put_nowait(None)
            return Taken(self.budget, [])
        if linger_s and not self._due.is_set() and not self._is_closed:
            await self._linger(first, linger_s)
        self._due.clear()
        items = [first, *self._queue.get_more(bytes_max - _SIZE(first), TAKEN_MAX - 1)]
        items.sort(key=_ARRIVAL)
        if self._queue.held_bytes:
            self._due.set()
        return Taken(self.budget, items)

    def close(self) -> None:
        """Accept nothing more. What is in the inbox can still be taken."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put_nowait(None)
            self._due.set()
            self.budget.close()

    async def _linger(self, first: _Queued, linger_s: float) -> None:
        self._first_bytes = _SIZE(first)
        try:
            async with asyncio.timeout(linger_s):  # not wait_for, which can swallow being cancelled (3.11)
                await self._due.wait()
        except TimeoutError:
            pass
        except BaseException:
            self._queue.put_back(first)
            raise
        finally:
            self._first_bytes = 0
