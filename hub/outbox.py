"""
Acknowledgements and replies to one client, sent on our own socket object.

A stream writer or transport is not used: when it meets EPIPE, it discards the unread input, which must be kept.

Always true:
- `send` never waits and never raises;
- a client that does not read costs at most `bytes_max`, and all clients of a user no more than its share of the memory
  (hub.budget). A larger reply is not begun, and each kept reply counts `REPLY_OVERHEAD_BYTES` in addition to its size;
- a reply that has been begun is finished, or nothing more is sent: part of a reply is never followed by another reply;
- one step sends at most `SENDS_MAX` replies, so that a client with many replies does not hold up the event loop;
- an acknowledgement is counted once: as sent when the kernel has all of it, or as dropped when it is given up while the
  client is connected. Acknowledgements that a client misses by disconnecting are not counted;
- beyond the limit, that reply and all later ones are dropped and counted. When the replies kept before are sent,
  `on_stale` is called: the client must reconnect to learn what it missed;
- what waits for `room` is never dropped: it is sent when nothing is kept any longer, and its user has memory for it.

Source: send(2), EPIPE and EAGAIN. A duplicate of the descriptor is watched, because the event loop owns the original.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable

from hub.budget import Budget
from hub.holding import Account, Holding
from hub.metrics import Metrics

OUTBOX_BYTES_MAX = 256 << 10
REPLY_OVERHEAD_BYTES = 64
"""Bytes counted for a kept reply in addition to its size, so that thousands of small replies are not free."""
ROOM_S = 0.05
"""How often a stream that waits for room checks whether its user has memory again."""
SENDS_MAX = 256
"""Maximum replies sent in one step; a step takes about 1 ms."""
_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


class Outbox:
    """Sends replies, and holds those that the kernel does not accept yet."""

    def __init__(
        self,
        sock: socket.socket,
        *,
        on_stale: Callable[[], None],
        metrics: Metrics | None = None,
        budget: Budget | None = None,
        holding: Holding | None = None,
        bytes_max: int = OUTBOX_BYTES_MAX,
    ) -> None:
        self._sock = sock
        self._budget = budget or Budget()
        self._holding = holding or Holding(Account())
        self._on_stale = on_stale
        self._bytes_max = bytes_max
        self._metrics = metrics or Metrics()
        # Replies, and how many acknowledgements each holds. An empty deque takes 600 bytes: an idle client has none.
        self._unsent: deque[tuple[bytes, int]] | None = None
        self._unsent_bytes = 0
        self._watched = -1
        self._waiting: list[asyncio.Future[None]] = []  # until nothing is kept, or the client has disconnected
        self._is_broken = False
        self.dropped = 0
        """Replies dropped because the client did not read; each of several joined acknowledgements counts."""

    def send(self, data: bytes, *, acks: int = 0) -> None:
        """
        Send *data*, one whole reply or *acks* joined acknowledgements, as far as the kernel accepts it. Keep the rest
        for later.
        """
        if self._is_broken:
            return
        if self._unsent or self.dropped or len(data) + REPLY_OVERHEAD_BYTES > self._bytes_max:
            self._keep(data, acks)
            return
        sent = self._try(data)
        if sent == len(data):
            self._metrics.acks += acks
        elif not self._is_broken:
            self._keep(data[sent:], acks)

    async def emptied(self, timeout: float) -> None:
        """Wait until every kept reply is sent or the client has disconnected, at most *timeout*."""
        if not self._unsent:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._until_emptied()

    async def room(self, size: int) -> bool:
        """
        Return when *size* bytes can be sent, or kept, without others before them. False if nothing more will be sent:
        the client has disconnected, or replies were dropped.
        """
        cost = size + REPLY_OVERHEAD_BYTES
        while not self._is_broken and not self.dropped:
            if self._unsent:
                await self._until_emptied()
            elif self._budget.may_keep_reply(self._holding, cost):
                return True
            else:
                await asyncio.sleep(ROOM_S)
        return False

    async def _until_emptied(self) -> None:
        if self._unsent:
            emptied = asyncio.get_running_loop().create_future()
            self._waiting.append(emptied)
            await emptied

    def close(self) -> None:
        """Discard unsent replies: the client has not read them in time. Later calls of `send` do nothing."""
        self._metrics.acks_dropped += sum(acks for _, acks in self._unsent or ())
        self._break()
        self._on_stale = _do_nothing

    def _break(self) -> None:
        self._is_broken = True
        self._unsent = None
        self._free(self._unsent_bytes)
        self._unwatch()

    def _keep(self, data: bytes, acks: int) -> None:
        cost = len(data) + REPLY_OVERHEAD_BYTES
        is_too_much = self.dropped or self._unsent_bytes + cost > self._bytes_max
        if is_too_much or not self._budget.keep_reply(self._holding, cost):
            is_first = not self.dropped
            self.dropped += acks or 1
            self._metrics.acks_dropped += acks
            if is_first and not self._unsent:  # it alone exceeds the limit, and no kept reply comes before it
                self._on_stale()
            return
        if self._unsent is None:
            self._unsent = deque()
        self._unsent.append((data, acks))
        self._unsent_bytes += cost
        if self._watched == -1:
            try:
                self._watched = os.dup(self._sock.fileno())
            except OSError:  # out of descriptors: closing the connection informs the client
                self._on_stale()
                self.close()
                return
            asyncio.get_running_loop().add_writer(self._watched, self._flush)

    def _try(self, data: bytes) -> int:
        try:
            return self._sock.send(data, _FLAGS)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:  # the client has disconnected; its input is still read
            self._break()
            return 0

    def _flush(self) -> None:
        for _ in range(SENDS_MAX):
            if not self._unsent:
                self._unsent = None
                self._unwatch()
                if self.dropped:
                    self._on_stale()
                return
            data, acks = self._unsent[0]
            sent = self._try(data)
            if self._is_broken:
                return
            if sent < len(data):
                self._unsent[0] = data[sent:], acks
                self._free(sent)
                return
            self._unsent.popleft()
            self._free(sent + REPLY_OVERHEAD_BYTES)
            self._metrics.acks += acks

    def _free(self, size: int) -> None:
        self._unsent_bytes -= size
        self._budget.free_reply(self._holding, size)

    def _unwatch(self) -> None:
        if self._watched != -1:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                asyncio.get_running_loop().remove_writer(self._watched)
            os.close(self._watched)
            self._watched = -1
        waiting, self._waiting = self._waiting, []
        for emptied in waiting:
            if not emptied.done():
                emptied.set_result(None)


def _do_nothing() -> None:
    """The callback of a closed outbox."""
