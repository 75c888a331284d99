"""
Memory: one budget for what the hub holds, in bytes; each user gets a share of it.

It counts batches in the inbox, frames that are not whole, bytes that have arrived and are not decoded, what was decoded
and is not in the inbox yet, and replies that clients do not read. A user may hold half of what the other users leave
free: the first that takes all it can gets half of the budget, the second a quarter, and a newcomer always finds room.

Always true:
- a user over its share neither reads nor decodes, and its replies are dropped. Three exceptions keep it from standing
  still. Each of its connections may hold `FREE_BYTES`, one piece of a read more, and one of replies. While none of its
  bytes are decoded and not yet stored, or the inbox holds less than one commit, its connections decode what they have
  read, one after the other. And one connection in the whole hub at a time (the *favoured* one) may go on until its
  frame is whole and stored. Users take turns at this: of those that wait, it is one that was never favoured, or longest
  ago;
- a connection whose last read was not small waits for room for a large one, as long as its user has something in the
  inbox: a thousand connections that read a few KB each take twice the processor time of large reads in turn;
- requests that run have a budget of their own, so that a user whose messages fill its share can still ask;
- so the hub holds at most the budget, one frame more, one opened payload for each thread (hub.opener), and
  `FREE_BYTES` and two times `PIECE_BYTES` for each connection; the last part alone is 240 MB for 10,000 connections.
  The rest waits in the kernel's buffers, which the number of connections bounds;
- no user waits for memory that another user's waiting connections want: each has a queue of its own;
- a connection is closed only if it holds more than one read of an unfinished frame, others wait for memory, and it has
  sent less than one read in `STALL_S`. The user that holds most comes first. No connection is closed for a user that
  holds more, nor while the hub has paused reading it.

Not here: the counters of a user and of a connection (hub.holding), the order of the queued batches (hub.inbox), what a
connection that is broken off reports (hub.connection).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping

from hub.holding import Account, Holding

INBOX_BYTES_MAX = 64 << 20
RUNNING_BYTES_MAX = 32 << 20
"""For requests that run, and the replies of batches that are not whole."""
SHARE_BYTES_MAX = 4 << 20
"""
Bytes that one connection may have in the inbox: the largest commit of the journal, so that one producer can fill it.
"""
READ_BYTES = 256 << 10
"""The largest read: larger ones are no faster, and hold up the loop."""
FREE_BYTES = 16 << 10
"""Bytes that each connection may hold undecoded, however much its user holds: small messages always get through."""
PIECE_BYTES = 4 << 10
"""
The smallest read, and what replies may take in any case: so that near the limit no connection is read byte by byte.
"""
STALL_S = 10.0
COMMITS = 16
"""A sixteenth of the budget is a commit. With less in the inbox, the journal would soon have nothing to do."""
ITEM_BYTES = 512
"""Bytes counted for a batch or a loss in addition to its own, so that a million tiny ones are not free."""
LOOK_S = 1.0
"""How often the hub looks for connections that stall, while others wait for memory."""


def half_of_rest(limit: int, others: int) -> int:
    """Return the share of one user: half of what the others leave free."""
    return (limit - others) // 2


class Budget:
    """The memory of one hub."""

    def __init__(
        self,
        *,
        bytes_max: int = INBOX_BYTES_MAX,
        share_bytes_max: int = SHARE_BYTES_MAX,
        stall_s: float = STALL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bytes_max = bytes_max
        self._share_bytes_max = share_bytes_max
        self._commit_bytes = bytes_max // COMMITS
        self._stall_s = stall_s
        self._clock = clock
        self.loose_bytes: int = 0
        """Bytes that are not in the inbox, of all connections."""
        self.queued_bytes: int = 0
        """Bytes in the inbox."""
        self._running_bytes = 0
        self.buffer: memoryview[int] = memoryview(bytearray(READ_BYTES))
        """The buffer that all connections read into, one after the other."""
        self._favoured: Holding | None = None
        self._favoured_at = 0.0
        self._is_whole = False  # the favoured one's frame: it is being stored
        self._large: set[Holding] = set()  # connections in the middle of a frame that hold more than one read
        self._waiting: dict[Account, None] = {}  # users with connections that wait
        self._sated: set[Holding] = set()  # connections that wait until less of their own is in the inbox
        self._released_at = 0.0
        self._is_waking = False
        self._has_released = False  # something has left the inbox since the last time that connections were woken
        self._looking: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def released_at(self) -> float:
        """When something was last taken from the inbox and settled."""
        return self._released_at

    def room(self, account: Account) -> int:
        """Return how many bytes more a user may hold; below zero if it is over its share."""
        # half_of_rest(bytes_max, all - held) - held, in one step
        return (self._bytes_max - self.loose_bytes - self.queued_bytes - account.held_bytes) // 2

    # Bytes that are held.

    def arrived(self, holding: Holding, size: int) -> None:
        """Count *size* bytes that were read."""
        holding.loose_bytes += size
        holding.account.held_bytes += size
        self.loose_bytes += size
        if holding.loose_bytes - holding.decoded_bytes > READ_BYTES:
            holding.moved_bytes += size
            if holding.moved_bytes >= READ_BYTES or holding not in self._large:
                self._large.add(holding)
                self._note_moved(holding)

    def decoded(self, holding: Holding, items: int) -> None:
        """Count *items* that are on their way into the inbox, until `keep` is called."""
        size, account = items * ITEM_BYTES, holding.account
        holding.decoded_bytes += size
        account.decoded_bytes += size
        holding.loose_bytes += size
        account.held_bytes += size
        self.loose_bytes += size

    def keep(self, holding: Holding, size: int) -> None:
        """
        Count *size* bytes as held outside the inbox from now on: the rest has become whole batches, or was discarded.
        """
        account, before = holding.account, holding.loose_bytes
        if holding is self._favoured and size < before - holding.decoded_bytes:
            self._is_whole = True
        account.decoded_bytes -= holding.decoded_bytes
        holding.decoded_bytes = 0
        holding.loose_bytes = size
        account.held_bytes += size - before
        self.loose_bytes += size - before
        if size <= READ_BYTES:
            self._large.discard(holding)
        self._freed(holding)

    def enqueue(self, holding: Holding, size: int) -> None:
        """Count a batch that goes into the inbox."""
        if not self.queued_bytes:
            self._released_at = self._clock()  # until now there was nothing to release
        self._count_queued(holding, size)

    def release(self, sizes: Mapping[Holding, int]) -> None:
        """Subtract what has left the inbox: bytes of each holding."""
        self._released_at = self._clock()
        self._has_released = True
        for holding, size in sizes.items():
            self._count_queued(holding, -size)
            holding.wake()
            self._freed(holding)

    def keep_reply(self, holding: Holding, size: int) -> bool:
        """Count *size* bytes of a reply that waits for its client; False if that is over the share of its user."""
        if not self.may_keep_reply(holding, size):
            return False
        self._count_reply(holding, size)
        return True

    def may_keep_reply(self, holding: Holding, size: int) -> bool:
        """Return whether *size* bytes more of replies may wait for the client of *holding*."""
        return holding.reply_bytes + size <= PIECE_BYTES or self.room(holding.account) >= size

    def free_reply(self, holding: Holding, size: int) -> None:
        """Subtract *size* bytes of replies."""
        self._count_reply(holding, -size)
        if self._waiting:
            self._wake_soon()

    def may_run(self, account: Account, size: int) -> bool:
        """Return whether requests of a user may hold *size* bytes more."""
        others = self._running_bytes - account.running_bytes
        return account.running_bytes + size <= half_of_rest(RUNNING_BYTES_MAX, others)

    def count_running(self, account: Account, change: int) -> None:
        """Count what requests hold."""
        account.running_bytes += change
        self._running_bytes += change

    def hold_up(self, holding: Holding, is_held_up: bool) -> None:
        """Note whether the hub has paused reading; meanwhile the client is not expected to send."""
        holding.is_held_up = is_held_up
        if not is_held_up:
            self._note_moved(holding)

    def end(self, holding: Holding) -> None:
        """Note that *holding* will read no more; what it has read is still decoded."""
        holding.end()

    def close(self) -> None:
        """End all waits."""
        self._is_closed = True
        lanes = [lane for account in self._waiting for lane in (account.readers, account.decoders, account.busy)]
        for holding in itertools.chain(self._sated, *lanes):
            holding.wake()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    # What may be done.

    def readable_bytes(self, holding: Holding) -> int:
        """Return how many bytes may be read now; 0 if `room_to_read` has to be waited for."""
        room = self.room(holding.account)
        if room >= READ_BYTES or self._is_favoured(holding):
            return READ_BYTES
        free = FREE_BYTES - holding.loose_bytes
        least = max(free, PIECE_BYTES) if free > 0 else 0
        return max(least, room if room >= PIECE_BYTES else 0)

    def may_read(self, holding: Holding) -> bool:
        """Return whether `room_to_read` need not be waited for."""
        return self.readable_bytes(holding) > 0 and self._is_worthwhile(holding)

    async def room_to_read(self, holding: Holding) -> None:
        """Return when *holding* may read on, or has ended."""
        if not self._is_worthwhile(holding):
            await self._wait(holding, holding.account.busy, self._is_worthwhile)
        if not holding.has_ended and not self.readable_bytes(holding):
            await self._wait(holding, holding.account.readers, self._may_read_on)

    def may_open(self, holding: Holding) -> bool:
        """Return whether *holding* may grow much larger."""
        return self.room(holding.account) >= PIECE_BYTES or self._is_favoured(holding) or self._is_closed

    async def room_to_open(self, holding: Holding) -> None:
        """Return when *holding* may open a payload, whose contents may be of any size."""
        if not self.may_open(holding):
            await self._wait(holding, holding.account.readers, self.may_open)

    def may_decode(self, holding: Holding) -> bool:
        """Return whether `room_to_decode` need not be waited for."""
        account = holding.account
        return (
            holding.queued_bytes < self._share_bytes_max
            and not account.decoders
            and self._has_room_for_batches(holding)
        )

    async def room_to_decode(self, holding: Holding) -> None:
        """Return when the inbox has room for what *holding* has read."""
        if holding.queued_bytes >= self._share_bytes_max:
            await self._wait_for_own(holding)
        lane = holding.account.decoders
        if lane or not self._has_room_for_batches(holding):
            await self._wait(holding, lane, self._has_room_for_batches)

    def _is_worthwhile(self, holding: Holding) -> bool:
        """
        Return whether a read is worth its cost now: there is room for a large one, or not more of it in a moment, or
        the client sends little, or is in the middle of a frame.
        """
        account = holding.account
        may_wait = holding.is_busy and account.queued_bytes and holding.loose_bytes < FREE_BYTES
        return not may_wait or self.room(account) >= READ_BYTES or holding.has_ended

    def _may_read_on(self, holding: Holding) -> bool:
        return holding.has_ended or self.may_open(holding)

    def _has_room_for_batches(self, holding: Holding) -> bool:
        account = holding.account
        return not (account.queued_bytes or account.decoded_bytes) or self._room_for_batches(account) > 0

    def _room_for_batches(self, account: Account) -> int:
        """Return how many bytes a user may decode: what it has read is held already."""
        return max(self.room(account), self._commit_bytes - self.queued_bytes - account.decoded_bytes)

    def _is_favoured(self, holding: Holding) -> bool:
        return holding is self._favoured and not self._is_whole

    # Waiting.

    async def _wait_for_own(self, holding: Holding) -> None:
        """Wait until less of what *holding* has put in is in the inbox."""
        self._sated.add(holding)
        try:
            while holding.queued_bytes >= self._share_bytes_max and not self._is_closed:
                holding.woken = asyncio.get_running_loop().create_future()
                await holding.woken
        finally:
            self._sated.discard(holding)

    async def _wait(self, holding: Holding, lane: deque[Holding], may: Callable[[Holding], bool]) -> None:
        """Wait in *lane* until *may* allows it, or the budget is closed."""
        lane.append(holding)
        self._waiting[holding.account] = None
        self._wake_soon()
        self._look_later()
        try:
            while not self._is_closed:
                holding.woken = asyncio.get_running_loop().create_future()
                await holding.woken
                if may(holding):
                    return
        finally:
            lane.remove(holding)
            self._wake_soon()  # for the next

    def _freed(self, holding: Holding) -> None:
        """Some memory is free: pass it on."""
        if holding is self._favoured and self._is_whole and not holding.queued_bytes:
            self._favoured = None
        if self._waiting:
            self._wake_soon()

    def _wake_soon(self) -> None:
        """Wake the connections that may go on, once in each round of the loop."""
        if self._waiting and not self._is_waking:
            self._is_waking = True
            asyncio.get_running_loop().call_soon(self._wake)

    def _wake(self) -> None:
        self._is_waking = False
        for account in list(self._waiting):
            if not account.readers and not account.decoders and not account.busy:
                del self._waiting[account]
                continue
            room = self.room(account)
            if room >= PIECE_BYTES:
                _wake_first(account.readers, room)
            if account.busy:
                self._wake_busy(account, room)
            if account.decoders and self._has_room_for_batches(account.decoders[0]):
                _wake_first(account.decoders, self._room_for_batches(account))
        self._has_released = False
        self._favour_next()

    def _wake_busy(self, account: Account, room: int) -> None:
        """Wake those that find room for a large read; without it, one after each commit, or if none will follow."""
        if room < READ_BYTES:
            if account.queued_bytes and not self._has_released:
                return
            account.busy[0].is_busy = False
        _wake_first(account.busy, room)

    def _favour_next(self) -> None:
        """
        Let one connection go on: of the user that was favoured longest ago or never; among those, of the user that
        holds least.
        """
        if self._favoured is None:
            accounts = [each for each in self._waiting if each.readers and self.room(each) < PIECE_BYTES]
            if accounts:
                account = min(accounts, key=lambda account: (account.favoured_at, account.held_bytes))
                self._favoured = account.readers[0]
                self._favoured_at = account.favoured_at = self._clock()
                self._is_whole = False
                self._favoured.wake()

    # Connections that stall.

    def _look_later(self) -> None:
        if self._looking is None and not self._is_closed:
            self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look_again)

    def _look_again(self) -> None:
        self._looking = None
        self.look()
        if self._waiting:
            self._wake_soon()
            self._look_later()

    def look(self) -> None:
        """Break off connections that stall while others wait for memory, until there is room for those."""
        before = self._clock() - self._stall_s
        waiting = [account for account in self._waiting if account.readers]
        if not waiting or (self.queued_bytes and self._released_at <= before):  # it is the disk that has stalled
            return
        self._look_at_favoured(waiting, before)
        waiter = min(waiting, key=lambda account: account.held_bytes)
        room = self.room(waiter)
        for holding in plan_break_off(self._large, waiter, before):
            if room >= PIECE_BYTES:
                return
            room += holding.loose_bytes if holding.account is waiter else holding.loose_bytes // 2
            if holding.break_off is not None:
                holding.break_off()

    def _look_at_favoured(self, waiting: Collection[Account], before: float) -> None:
        """
        Favour the next connection if this one stalls, or has no whole frame after `STALL_S` while another user waits.
        """
        favoured = self._favoured
        if favoured is None or self._is_whole or self._favoured_at > before:
            return
        if favoured.moved_at <= before or any(account is not favoured.account for account in waiting):
            self._favoured = None
            if favoured in self._large and favoured.break_off is not None:
                favoured.break_off()

    # Counting.

    def _count_queued(self, holding: Holding, size: int) -> None:
        holding.queued_bytes += size
        holding.account.queued_bytes += size
        holding.account.held_bytes += size
        self.queued_bytes += size

    def _count_reply(self, holding: Holding, size: int) -> None:
        holding.reply_bytes += size
        holding.account.held_bytes += size
        self.loose_bytes += size

    def _note_moved(self, holding: Holding) -> None:
        holding.moved_bytes = 0
        holding.moved_at = self._clock()


def plan_break_off(large: Iterable[Holding], waiter: Account, before: float) -> list[Holding]:
    """
    Return the connections that have stalled since *before*, those that hold most first; none of a user that holds less
    than *waiter*.
    """
    stalled = [
        holding
        for holding in large
        if not holding.is_held_up and holding.moved_at <= before and holding.account.held_bytes >= waiter.held_bytes
    ]
    return sorted(stalled, key=lambda holding: (holding.account.held_bytes, holding.loose_bytes), reverse=True)


def _wake_first(lane: deque[Holding], room: int) -> None:
    """Wake as many connections as will find *room*, and at least one."""
    for holding, _ in zip(lane, range(max(1, room // READ_BYTES)), strict=False):
        holding.wake()
