"""
Takes messages from a durable pull consumer of a stream: as they come, and never more than a request has asked for.

One request is under way at a time. It ends when it has brought all that it asked for, with a status of the server, or
when the time is over in which the server must have ended it (after a connection was made again, it does not).

Always true: what has arrived and is not taken is bounded by one request, in messages and in bytes. A message that is
larger than a request may be is asked for by itself.

Not here: what the messages hold (hub.sources.jetstream).
Source: ADR-13 of NATS, "Pull Subscribe internals".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from hub.waiting import until_set

MESSAGES_MAX, BYTES_MAX = 64, 4 << 20
EXPIRES_S = 5.0
GRACE_S = 2.0
"""How long after its end by the clock a request may still bring something."""
PAUSE_S = 0.5
"""The pause after a request that the server has refused."""
ENDED = frozenset(("404 no messages", "408 request timeout", "409 batch completed", "409 leadership change"))
GONE = frozenset(("404 consumer not found", "409 consumer deleted", "503"))


class Pulled(Protocol):
    """A message of NATS."""

    subject: str
    reply: str
    data: bytes

    @property
    def headers(self) -> dict[str, str] | None: ...


class ConsumerGone(Exception):
    """There is no such consumer (any more)."""


class Pull:
    """
    *send* sends a request with a number, which is the last token of the subject that its statuses come with, and has
    the replies given to `receive`. *clock* is that of the loop.
    """

    def __init__(self, send: Callable[[bytes, int], Awaitable[None]], clock: Callable[[], float]) -> None:
        self._send = send
        self._clock = clock
        self._waiting: list[Pulled] = []
        self._number = 0  # of the request that is under way
        self._expected = 0
        self._ends_at = 0.0
        self._is_gone = self._is_stopped = False
        self._is_single = False  # the next request asks for one message of any size
        self._has_brought = False
        self._pauses_until = 0.0
        self.arrived = asyncio.Event()

    @property
    def waiting(self) -> Sequence[Pulled]:
        """What has come and is not taken."""
        return self._waiting

    def stop(self) -> None:
        """Ask for nothing more; `next` returns what has come."""
        self._is_stopped = True
        self.arrived.set()

    def receive(self, message: Pulled) -> None:
        """Take what has come: a message, or a status of the server, which has no reply subject."""
        if message.reply:
            self._waiting.append(message)
            self._expected -= 1
            self._has_brought = True
        elif message.subject.rpartition(".")[2] == str(self._number):  # else it is of an earlier request
            headers = message.headers or {}
            self._end(f"{headers.get('Status', '')} {headers.get('Description', '')}".strip().lower())
        self.arrived.set()

    async def next(self, timeout: float) -> list[Pulled]:
        """Return what has come, after at most *timeout* seconds. Raises ConsumerGone, and what *send* raises."""
        if not self._waiting and not self._is_stopped:
            self.arrived.clear()
            await self._ask()
            if (pause_s := self._pauses_until - self._clock()) > 0:
                timeout = min(timeout, pause_s)
            await until_set(self.arrived, timeout)
        if self._is_gone and not self._waiting:
            raise ConsumerGone
        taken, self._waiting = self._waiting, []
        return taken

    async def _ask(self) -> None:
        now = self._clock()
        if now < self._pauses_until or (self._expected > 0 and now < self._ends_at + GRACE_S):
            return
        request = {"batch": 1 if self._is_single else MESSAGES_MAX, "expires": int(EXPIRES_S * 1e9)}
        if not self._is_single:
            request["max_bytes"] = BYTES_MAX
        self._is_single = self._has_brought = False
        self._expected, self._ends_at = request["batch"], now + EXPIRES_S
        self._number += 1
        await self._send(json.dumps(request).encode(), self._number)

    def _end(self, status: str) -> None:
        if status.startswith("100"):  # a heartbeat
            return
        self._expected = 0
        self._is_gone = self._is_gone or status in GONE
        is_full = "exceeds maxbytes" in status  # the next message does not fit into what is left of the request
        self._is_single = is_full and not self._has_brought
        if not is_full and status not in ENDED:
            self._pauses_until = self._clock() + PAUSE_S
