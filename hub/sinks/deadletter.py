"""
What a sink has to report: messages that are lost for it, and messages that it can never deliver.

A loss is a message under `mpsr.loss`, like every other one. What can never be delivered is a message under `mpsr.dead`:
the sink, the reason, the sequence and the tag of the message, its size, and its bytes as JSON, up to `BYTES_MAX`. The
message itself stays in the journal.

Always true: when a report returns, it is committed, with a position that says what it covers (hub.sinks.reported). Only
while the journal takes nothing, it is in memory: a sink that
the journal waits for must not wait for the journal.

Not here: what is lost or refused (hub.sinks.runner).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence

import msgspec

from hub import entries as codec
from hub.access import Gate
from hub.endpoint import Endpoint
from hub.journal.journal import Journal
from hub.message import DEAD_TAG, Batch, Loss, Message, Peer, Position
from hub.query.rendering import render_json

BYTES_MAX = 256 << 10
LOOK_S = 0.1
"""How often a report that is not committed looks whether the journal takes anything."""


class Reports:
    """Reports to *endpoint*, whose messages *journal* stores. For the event loop."""

    def __init__(self, endpoint: Endpoint, journal: Journal) -> None:
        self._endpoint = endpoint
        self._journal = journal
        self._peer = own_peer()

    async def lost(self, name: str, count: int, reason: str, positions: tuple[Position, ...] = ()) -> None:
        """Report that *count* messages are lost for the sink *name*, together with *positions*. Raises HubClosed."""
        intake = self._endpoint.intake(self._peer, Gate(self._endpoint.access, self._peer, lambda: None))
        await intake.lose(Loss(f"sink {name}: {reason}", count, positions=positions))
        await self._settled(asyncio.ensure_future(intake.all_settled()))

    async def dead(self, letters: Sequence[Batch]) -> None:
        """Store *letters* of messages that can never be delivered, made by `dead_letters`. Raises HubClosed."""
        intake = self._endpoint.intake(self._peer, Gate(self._endpoint.access, self._peer, lambda: None))
        for letter in letters:
            await intake.ready()
            intake.store(letter)
        await self._settled(asyncio.ensure_future(intake.all_settled()))

    async def _settled(self, settling: asyncio.Future[None]) -> None:
        try:
            while not settling.done() and not self._journal.is_failing:
                await asyncio.wait((settling,), timeout=LOOK_S)
        finally:
            settling.cancel()


def dead_letters(
    name: str,
    messages: Iterable[Message],
    reason: str,
    size: int | None = None,
    *,
    position_after: Callable[[Sequence[int]], Position | None] = lambda _: None,
) -> list[Batch]:
    """
    Return the messages under `DEAD_TAG` for *messages*, in batches of about `BYTES_MAX`. *size*: the only message was
    not decoded. *position_after* is called with the sequences of each batch, in order; what it returns is committed
    with it. Rendering many takes long: not for the event loop.
    """
    batches: list[Batch] = []
    packed: list[bytes] = []
    sequences: list[int] = []
    length = 0
    for message in messages:
        packed.append(_packed(name, message, reason, size))
        sequences.append(message.sequence)
        length += len(packed[-1])
        if length >= BYTES_MAX:
            batches.append(_batch(packed, position_after(sequences)))
            packed, sequences, length = [], [], 0
    return [*batches, _batch(packed, position_after(sequences))] if packed else batches


def _batch(packed: Sequence[bytes], position: Position | None) -> Batch:
    entries, positions = codec.join(packed, len(packed)), () if position is None else (position,)
    return Batch(DEAD_TAG, entries, len(packed), None, own_peer(), positions=positions)


def _packed(name: str, message: Message, reason: str, size: int | None) -> bytes:
    record: dict[str, object] = {"sink": str(name), "reason": reason, "sequence": message.sequence, "tag": message.tag}
    if size is None:
        entry = render_json(message).encode("utf-8", "replace")
        record |= {"bytes": len(entry), "entry": entry[:BYTES_MAX].decode("utf-8", "ignore")}
    else:
        record["bytes"] = size
    return codec.UNSTAMPED + msgspec.msgpack.encode(record)


def own_peer() -> Peer:
    """Return the peer of messages that the hub itself stores."""
    return Peer(os.getpid(), os.geteuid(), os.getegid(), "mpsr")
