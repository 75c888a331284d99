"""
Replies on their way to one WebSocket: the counterpart of hub.outbox, with a task that writes.

Always true:
- `send` never waits and never raises;
- a client that does not read costs at most `OUTBOX_BYTES_MAX`, and all clients of a user no more than its share of the
  memory (hub.budget). Beyond that nothing more is sent, and `on_stale` is called: the client must connect again;
- what waits for `room` is never dropped: it is sent when nothing is kept any longer, and its user has memory for it.

Not here: frames (aiohttp), replies (hub.dispatch).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from hub.intake import Intake
from hub.outbox import OUTBOX_BYTES_MAX, REPLY_OVERHEAD_BYTES, ROOM_S
from hub.waiting import until_set


class SocketOutbox:
    """Sends with *write*, which returns when the client has room for more. What is kept belongs to *intake*."""

    def __init__(
        self, write: Callable[[bytes], Awaitable[None]], intake: Intake, *, on_stale: Callable[[], None]
    ) -> None:
        self._write = write
        self._budget = intake.budget
        self._holding = intake.holding
        self._on_stale = on_stale
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._has_some = asyncio.Event()
        self._is_empty = asyncio.Event()
        self._is_empty.set()
        self._is_over = False

    def send(self, data: bytes) -> None:
        """Send *data*, one whole reply, as soon as those before it are sent."""
        if self._is_over:
            return
        cost = len(data) + REPLY_OVERHEAD_BYTES
        if self._unsent_bytes + cost > OUTBOX_BYTES_MAX or not self._budget.keep_reply(self._holding, cost):
            self.close()
            self._on_stale()
            return
        self._unsent.append(data)
        self._unsent_bytes += cost
        self._is_empty.clear()
        self._has_some.set()

    async def room(self, size: int) -> bool:
        """Return when *size* bytes can be sent without others before them; False if nothing more will be sent."""
        while not self._is_over:
            if self._unsent:
                await self._is_empty.wait()
            elif self._budget.may_keep_reply(self._holding, size + REPLY_OVERHEAD_BYTES):
                return True
            else:
                await asyncio.sleep(ROOM_S)
        return False

    async def emptied(self, timeout: float) -> None:
        """Return when everything is sent, at most *timeout* seconds later."""
        await until_set(self._is_empty, timeout)

    async def run(self) -> None:
        """Write what is sent, until it is cancelled. Raises ConnectionError when the client has left."""
        while True:
            await self._has_some.wait()
            while self._unsent:
                data = self._unsent[0]
                await self._write(data)
                if self._is_over:
                    return
                self._unsent.popleft()
                self._free(len(data) + REPLY_OVERHEAD_BYTES)
            self._has_some.clear()
            self._is_empty.set()

    def close(self) -> None:
        """Discard what is not sent. Later calls of `send` do nothing."""
        self._is_over = True
        self._unsent.clear()
        self._free(self._unsent_bytes)
        self._is_empty.set()

    def _free(self, size: int) -> None:
        self._unsent_bytes -= size
        self._budget.free_reply(self._holding, size)
