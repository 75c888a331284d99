"""
What the hub says to one client: acknowledgements and replies, sent on our own socket object.

Not through a stream writer or transport: one that hits EPIPE takes the unread input with it, and the input is what we
are here for.

Always true:
- sending never waits and never raises; a client that does not read costs at most `bytes_max`, whatever the replies:
  a reply that is larger is not begun, and a small one counts with what it costs beside its bytes;
- what is begun is finished or nothing more is sent: half a reply is never followed by another;
- one step sends at most `SENDS_MAX` replies: a client with many to read does not hold up the loop;
- past the limit replies are dropped and counted, all from then on, and when the client begins to read again `on_stale`
  is called: it must reconnect to learn what it missed.

Source: send(2), EPIPE and EAGAIN. A dup of the descriptor is watched, for the event loop owns the original.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable

OUTBOX_BYTES_MAX = 256 << 10
REPLY_OVERHEAD_BYTES = 64
"""What a kept reply costs beside its bytes, so that thousands of small ones are not free."""
SENDS_MAX = 256
"""Replies sent in one step: a millisecond."""
_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)


class Outbox:
    """Sends, and holds what the kernel does not take yet."""

    def __init__(self, sock: socket.socket, *, on_stale: Callable[[], None], bytes_max: int = OUTBOX_BYTES_MAX) -> None:
        self._sock = sock
        self._on_stale = on_stale
        self._bytes_max = bytes_max
        self._unsent: deque[bytes] = deque()
        self._unsent_bytes = 0
        self._watched = -1
        self._emptied: asyncio.Future[None] | None = None
        self._is_broken = False
        self.dropped = 0
        """Replies that were not sent because the client did not read."""

    def send(self, data: bytes) -> None:
        """Send *data*, one whole reply, as far as the kernel takes it; keep the rest for later."""
        if self._is_broken:
            return
        if self._unsent or self.dropped or len(data) + REPLY_OVERHEAD_BYTES > self._bytes_max:
            self._keep(data)
            return
        sent = self._try(data)
        if sent < len(data) and not self._is_broken:
            self._keep(data[sent:])

    async def emptied(self, timeout_s: float) -> None:
        """Wait until all that is kept is sent, or the client is gone, but no longer than *timeout_s*."""
        if not self._unsent:
            return
        self._emptied = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._emptied

    def close(self) -> None:
        """Forget what is unsent."""
        self._is_broken = True
        self._unsent.clear()
        self._unwatch()

    def _keep(self, data: bytes) -> None:
        cost = len(data) + REPLY_OVERHEAD_BYTES
        if self.dropped or self._unsent_bytes + cost > self._bytes_max:
            self.dropped += 1
            if self.dropped == 1 and not self._unsent:  # it alone is too large: nothing is to be read before it
                self._on_stale()
            return
        self._unsent.append(data)
        self._unsent_bytes += cost
        if self._watched == -1:
            try:
                self._watched = os.dup(self._sock.fileno())
            except OSError:  # out of descriptors: the client learns by our closing
                self.close()
                self._on_stale()
                return
            asyncio.get_running_loop().add_writer(self._watched, self._flush)

    def _try(self, data: bytes) -> int:
        try:
            return self._sock.send(data, _FLAGS)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:  # the client is gone; what it sent is still being read
            self.close()
            return 0

    def _flush(self) -> None:
        for _ in range(SENDS_MAX):
            if not self._unsent:
                self._unwatch()
                if self.dropped:
                    self._on_stale()
                return
            data = self._unsent[0]
            sent = self._try(data)
            if self._is_broken:
                return
            self._unsent_bytes -= sent
            if sent < len(data):
                self._unsent[0] = data[sent:]
                return
            self._unsent_bytes -= REPLY_OVERHEAD_BYTES
            self._unsent.popleft()

    def _unwatch(self) -> None:
        if self._watched != -1:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                asyncio.get_running_loop().remove_writer(self._watched)
            os.close(self._watched)
            self._watched = -1
        if self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)
