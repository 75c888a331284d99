"""
What a sink has to report: messages that are lost for it, and messages that it can never deliver.

A loss is a message under `mpsr.loss`, like every other one. What can never be delivered is a message under `mpsr.dead`:
the sink, the reason, the sequence and the tag of the message, its size, and its bytes as JSON, up to `BYTES_MAX`. The
message itself stays in the journal.

Always true: when a report returns, it is committed. Only while the journal takes nothing, it is in memory: a sink that
the journal waits for must not wait for the journal.

Not here: what is lost or refused (hub.sinks.runner).
"""

from __future__ import annotations

import asyncio
import os

import msgspec

from hub import entries as codec
from hub.access import Gate
from hub.endpoint import Endpoint
from hub.journal.journal import Journal
from hub.message import DEAD_TAG, Batch, Loss, Message, Peer
from hub.query.rendering import render_json

BYTES_MAX = 256 << 10
LOOK_S = 0.1
"""How often a report that is not committed looks whether the journal takes anything."""


class Reports:
    """Reports to *endpoint*, whose messages *journal* stores. For the event loop."""

    def __init__(self, endpoint: Endpoint, journal: Journal) -> None:
        self._endpoint = endpoint
        self._journal = journal
        self._peer = Peer(os.getpid(), os.geteuid(), os.getegid(), "mpsr")

    async def lost(self, name: str, count: int, reason: str) -> None:
        """Report that *count* messages are lost for the sink *name*. Raises HubClosed."""
        intake = self._endpoint.intake(self._peer, Gate(self._endpoint.access, self._peer, lambda: None))
        await intake.lose(Loss(f"sink {name}: {reason}", count))
        await self._settled(asyncio.ensure_future(intake.all_settled()))

    async def dead(self, name: str, message: Message, reason: str, size: int | None = None) -> None:
        """Store *message*, which the sink *name* can never deliver. *size*: it was not decoded. Raises HubClosed."""
        intake = self._endpoint.intake(self._peer, Gate(self._endpoint.access, self._peer, lambda: None))
        await intake.ready()
        intake.store(dead_letter(name, message, reason, size, peer=self._peer))
        await self._settled(asyncio.ensure_future(intake.all_settled()))

    async def _settled(self, settling: asyncio.Future[None]) -> None:
        try:
            while not settling.done() and not self._journal.is_failing:
                await asyncio.wait((settling,), timeout=LOOK_S)
        finally:
            settling.cancel()


def dead_letter(name: str, message: Message, reason: str, size: int | None, *, peer: Peer) -> Batch:
    """Return the message under `DEAD_TAG` for *message*."""
    record: dict[str, object] = {"sink": str(name), "reason": reason, "sequence": message.sequence, "tag": message.tag}
    if size is None:
        entry = render_json(message).encode("utf-8", "replace")
        record |= {"bytes": len(entry), "entry": entry[:BYTES_MAX].decode("utf-8", "ignore")}
    else:
        record["bytes"] = size
    packed = codec.UNSTAMPED + msgspec.msgpack.encode(record)
    return Batch(DEAD_TAG, codec.join((packed,), 1), 1, None, peer)
