"""
The acknowledgements of one connection. Those that are due at the same moment are sent together.

Always true:
- at most `ACKS_MAX` are sent in a step, which counts as the user's time on the loop;
- clients other than our own producers get each by itself: they read one reply at a time.

Not here: when a chunk is settled (hub.intake), sending without waiting (hub.outbox), the bytes (hub.wire.frame).
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from hub.turn import Turn
from hub.wire.chunkid import is_own
from hub.wire.frame import encode_ack

ACKS_MAX = 256
"""Acknowledgements sent in one step: a millisecond."""


class Send(Protocol):
    """Sends a reply, or *acks* acknowledgements."""

    def __call__(self, data: bytes, *, acks: int = 0) -> None: ...


class Acknowledgements:
    """Sends acknowledgements with *send*, during the *turn* of the user."""

    __slots__ = ("_send", "_turn", "waiting")

    def __init__(self, send: Send, turn: Turn) -> None:
        self._send = send
        self._turn = turn
        self.waiting: list[bytes] = []
        """The chunk ids that are not acknowledged yet."""

    def note(self, chunk_id: bytes) -> None:
        """Acknowledge *chunk_id* together with the others of this moment."""
        if not self.waiting:
            asyncio.get_running_loop().call_soon(self._send_some)
        self.waiting.append(chunk_id)

    def _send_some(self) -> None:
        """Send up to `ACKS_MAX`, and the rest in another step."""
        began = self._turn.clock()
        acks, self.waiting = self.waiting, []
        if len(acks) > ACKS_MAX:
            acks, self.waiting = acks[:ACKS_MAX], acks[ACKS_MAX:]
            asyncio.get_running_loop().call_soon(self._send_some)
        ours: list[bytes] = []
        for chunk_id in acks:
            if is_own(chunk_id):  # our own producers take several at once, others read one reply at a time
                ours.append(encode_ack(chunk_id))
            else:
                self._send(encode_ack(chunk_id), acks=1)
        if ours:
            self._send(b"".join(ours), acks=len(ours))
        self._turn.spend(self._turn.clock() - began)

    def close(self) -> None:
        """Send no more."""
        self._send = _send_nothing
        self.waiting = []

    async def send_all(self) -> None:
        """Send all, in the user's turns. Return when none waits."""
        while self.waiting:
            self._send_some()
            await self._turn.come()


def _send_nothing(data: bytes, *, acks: int = 0) -> None:
    """The `Send` of a connection that is closed."""
