"""
The counters of the memory budget: an `Account` for each user, a `Holding` for each connection or other source.

Always true: only the budget changes the counters, and each byte counts in both.

Not here: what may be held, and who goes on when memory is short (hub.budget).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


class Account:
    """The bytes that one user holds, and its connections that wait for memory."""

    __slots__ = (
        "busy", "decoded_bytes", "decoders", "favoured_at", "held_bytes", "queue", "queued_bytes", "readers",
        "running_bytes",
    )  # fmt: skip

    def __init__(self) -> None:
        self.held_bytes: int = 0
        """Bytes that this user holds."""
        self.queued_bytes: int = 0
        """Bytes in the inbox."""
        self.decoded_bytes: int = 0
        """Bytes decoded and not yet in the inbox."""
        self.queue: deque[Any] = deque()
        """Batches in the inbox that the receiver has not taken."""
        self.running_bytes: int = 0
        """Bytes that its running requests hold."""
        self.favoured_at: float = 0.0
        """When one of its connections was last the favoured one."""
        self.readers: deque[Holding] = deque()
        """Connections that wait for room to read on in the middle of a frame, or to open a payload."""
        self.decoders: deque[Holding] = deque()
        """Connections that wait for room in the inbox for what they have read."""
        self.busy: deque[Holding] = deque()
        """Connections that could read a little, and wait for room for a large read."""


class Holding:
    """The bytes that one connection, or another source, holds. One task at a time waits with it."""

    __slots__ = (
        "account", "break_off", "decoded_bytes", "has_ended", "is_busy", "is_held_up", "loose_bytes", "moved_at",
        "moved_bytes", "queued_bytes", "reply_bytes", "woken",
    )  # fmt: skip

    def __init__(self, account: Account, break_off: Callable[[], None] | None = None) -> None:
        self.account: Account = account
        self.break_off: Callable[[], None] | None = break_off
        """Closes the connection; None if there is none, or it has ended."""
        self.loose_bytes: int = 0
        """Bytes that are not in the inbox: half a frame, not decoded, or decoded a moment ago."""
        self.decoded_bytes: int = 0
        """Bytes decoded and not yet in the inbox."""
        self.queued_bytes: int = 0
        """Bytes in the inbox."""
        self.reply_bytes: int = 0
        """Bytes of replies that the client does not read."""
        self.moved_at: float = 0.0
        """When it had last sent as much as one read takes, in the middle of a frame."""
        self.moved_bytes: int = 0
        """Bytes that it has sent since."""
        self.is_busy: bool = False
        """Whether its last read was not small, so that its client has probably sent more."""
        self.is_held_up: bool = False
        """Whether the hub has paused reading it."""
        self.has_ended: bool = False
        """Whether it will read no more."""
        self.woken: asyncio.Future[None] | None = None

    def end(self) -> None:
        """Note that it will read no more, and forget its connection."""
        self.has_ended = True
        self.break_off = None
        self.wake()

    def wake(self) -> None:
        """Wake its task, if it waits."""
        if self.woken is not None and not self.woken.done():
            self.woken.set_result(None)
