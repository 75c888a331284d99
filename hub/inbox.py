"""
The one place where many connections meet the single receiver.

Connections put batches in; the receiver takes everything that has arrived, and says when it is done with it.

Always true:
- the order of batches from one connection is kept;
- held bytes (put in, and not yet released) exceed the limit by at most one batch; half-read frames count too;
- one connection holds at most its share, or one batch: a greedy one does not starve the rest;
- who waits for room is let in in the order of arrival;
- there is one receiver, and a second is refused.

Not here: parsing (hub.wire), durability (hub.journal).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from hub.errors import HubClosed, ReceiverTaken
from hub.halfframes import HalfFrames
from hub.message import Batch

INBOX_BYTES_MAX = 64 << 20
SHARE_BYTES_MAX = 4 << 20
"""One connection's part: the largest commit, so that a lone producer can keep the disk busy."""
BATCH_OVERHEAD_BYTES = 512
"""What a batch costs beside its entries, so that a million tiny ones are not free."""
LINGER_BYTES = 1 << 20
"""So much is worth a commit at once, even if nobody waits for an acknowledgement."""


class Share:
    """What one connection has in the inbox."""

    __slots__ = ("held_bytes", "waiting")

    def __init__(self) -> None:
        self.held_bytes = 0
        self.waiting: asyncio.Future[None] | None = None


class Inbox:
    """The single queue, bounded in bytes."""

    def __init__(self, *, bytes_max: int = INBOX_BYTES_MAX, share_bytes_max: int = SHARE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._share_bytes_max = share_bytes_max
        self._queue: asyncio.Queue[tuple[Batch, Share] | None] = asyncio.Queue()
        self._held_bytes = 0
        self._queued_bytes = 0
        self._door = asyncio.Lock()
        self._waiting = 0  # at the door, or on the way to it
        self._room = asyncio.Event()
        self._taken: list[tuple[int, Share]] = []
        self._due = asyncio.Event()  # somebody waits for an acknowledgement, or there is a lot
        self._is_closed = False
        self._has_receiver = False
        self.half_frames = HalfFrames(self._has_room_beside, self._room.set)
        """What was read and is no whole message yet; it counts in the same budget."""

    @property
    def held_bytes(self) -> int:
        """Bytes put in and not yet released."""
        return self._held_bytes

    async def put(self, batch: Batch, share: Share) -> None:
        """Put a batch in, when there is room for it. One task at a time may use a *share*. Raises HubClosed."""
        size = len(batch.entries) + BATCH_OVERHEAD_BYTES
        while share.held_bytes and share.held_bytes + size > self._share_bytes_max:
            share.waiting = asyncio.get_running_loop().create_future()
            await share.waiting
        if self._waiting or not self._fits(size):
            self._waiting += 1
            try:
                async with self._door:  # one after the other, in the order of arrival
                    while not self._fits(size) and not self._is_closed:
                        self._room.clear()
                        await self._room.wait()
                    self._admit(batch, share, size)
            finally:
                self._waiting -= 1
        else:
            self._admit(batch, share, size)

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

    async def take(self, bytes_max: int, linger_s: float = 0.0) -> list[Batch]:
        """
        Take all that has arrived, up to *bytes_max* or one batch; wait for the first. Empty when the inbox is closed.

        While nobody waits for an acknowledgement, up to *linger_s* more is waited for more.
        """
        first = await self._queue.get()
        if first is None:
            self._queue.put_nowait(None)
            return []
        if linger_s and not self._due.is_set() and not self._is_closed:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(linger_s):  # not wait_for, which can swallow being cancelled (3.11)
                    await self._due.wait()
        self._due.clear()
        batches = [first[0]]
        total = self._note_taken(*first)
        while total < bytes_max and not self._queue.empty():
            item = self._queue.get_nowait()
            if item is None:
                self._queue.put_nowait(None)
                break
            batches.append(item[0])
            total += self._note_taken(*item)
        if self._queued_bytes:
            self._due.set()
        return batches

    def release(self) -> None:
        """Say that everything taken so far is dealt with: its room is free again."""
        taken, self._taken = self._taken, []
        for size, share in taken:
            self._held_bytes -= size
            share.held_bytes -= size
            if share.waiting is not None and not share.waiting.done():
                share.waiting.set_result(None)
        self._room.set()
        self.half_frames.changed()

    def close(self) -> None:
        """Let nothing more in; what is in can still be taken."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.put_nowait(None)
            self._due.set()
            self._room.set()

    def _fits(self, size: int) -> bool:
        return not self._held_bytes or self._held_bytes + self.half_frames.held_bytes + size <= self._bytes_max

    def _has_room_beside(self, half_bytes: int) -> bool:
        return self._held_bytes + half_bytes < self._bytes_max

    def _admit(self, batch: Batch, share: Share, size: int) -> None:
        if self._is_closed:
            raise HubClosed
        self._held_bytes += size
        self._queued_bytes += size
        share.held_bytes += size
        self._queue.put_nowait((batch, share))
        if batch.chunk is not None or self._queued_bytes >= LINGER_BYTES:
            self._due.set()

    def _note_taken(self, batch: Batch, share: Share) -> int:
        size = len(batch.entries) + BATCH_OVERHEAD_BYTES
        self._taken.append((size, share))
        self._queued_bytes -= size
        return size
