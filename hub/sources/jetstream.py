"""
Blocks of other hubs, pulled from a NATS JetStream stream: each message once, in the order of its hub.

The consumer is durable, and its name has our hub id, so each collecting hub gets everything. A round takes what has
come, opens it, and puts it into the inbox; when all of it is committed, it is acknowledged to the stream. While that
takes long, the stream is told that the work is in progress. What a hub that was killed has not acknowledged comes again
after `ACK_WAIT_S`: the source waits for that before it begins, so that the order is kept.

Always true: a block and the position of its hub are committed together, and acknowledged after that. Whatever comes a
second time, at any later time, is not stored again (hub.sources.hubplace).

Not here: what becomes of a message (hub.sources.jetstreamblocks), its format (hub.wire.shipped), the requests of the
consumer (hub.sources.jetstreampull), the connection (hub.natsclient).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from hub.endpoint import Endpoint
from hub.entries import NS, join
from hub.errors import SourceError
from hub.message import Batch, Peer, Position
from hub.natsclient import NO_CONSUMER, NO_STREAM, NatsClient, NatsFault
from hub.sources.hubplace import PREFIX, Kind
from hub.sources.jetstreamblocks import REPORT_S, JetstreamBlocks
from hub.sources.jetstreampull import MESSAGES_MAX, ConsumerGone, Pull, Pulled
from hub.sources.kinds import Jetstream
from hub.sources.positioned import REFRESH_S, PositionedSource
from hub.sources.shown import Shown
from hub.sources.source import Lag

ACK_WAIT_S = 5.0
PROGRESS_S = 1.5
AGAIN_S = 1.0
"""After which time a block that came too early is to come again."""
LOOK_S = 5.0
REFRESHED_AT_ONCE = 256
_ACK, _TERM, _PROGRESS = b"+ACK", b"+TERM", b"+WPI"
_AGAIN = b"-NAK " + json.dumps({"delay": int(AGAIN_S * NS)}).encode()
_ANSWERS = {Kind.NEW: _ACK, Kind.OLD: _ACK, Kind.EARLY: _AGAIN, None: _TERM}


class Place(NamedTuple):
    """Where a message is in its stream, when it was stored there, and how many come after it."""

    sequence: int
    time: int
    pending: int

    @classmethod
    def of(cls, reply: str) -> Place | None:
        """Return the place in a reply subject; None if it is no such subject of JetStream."""
        parts = reply.split(".")
        if parts[:2] != ["$JS", "ACK"] or len(parts) < 9:
            return None
        numbers = parts[4:9] if len(parts) == 9 else parts[6:11]  # domain and account stand before them
        try:
            _, sequence, _, stored, pending = map(int, numbers)
        except ValueError:
            return None
        return cls(sequence, stored, pending)


class JetstreamSource(PositionedSource):
    """Reads the stream of *table*. *shown* has the hub's journal, which knows the positions."""

    def __init__(self, table: Jetstream, endpoint: Endpoint, shown: Shown) -> None:
        super().__init__(table, endpoint, shown, comm="jetstream", tag=b"")
        self._table = table
        own = shown.journal.hub_id
        self._client = NatsClient(f"mpsr {own.hex()}", self._note_lost)
        self._durable = f"mpsr-{own.hex()}-{table.subject.replace('.', '_')}"
        clock = asyncio.get_running_loop().time
        self._pull = Pull(self._request, clock)
        self._blocks = JetstreamBlocks(
            self._intake, self._journal, own=own, subject=table.subject, is_settled=self._is_settled, clock=clock
        )
        self._clock = clock
        self._inbox = ""
        self._is_lost = False
        self._refreshed_at = float("-inf")  # a hub that is often restarted refreshes, too
        self._to_refresh: list[Position] = []
        self._delivered = 0  # the place in the stream up to which something was delivered before this source
        self._owed = 0  # how much of that was not acknowledged
        self._came_again: set[int] = set()  # the places of those that have come again
        self._owed_until = 0.0  # what is deleted from the stream never comes
        self._early: dict[int, bytes] = {}  # those that came too early, and are to come again: their hubs
        self._newest: Place | None = None
        self._check_rules()

    @property
    def lag(self) -> Lag:
        """The age of what is being read; unknown before the first message."""
        place = self._newest
        if place is None:
            return Lag()
        return Lag(seconds=max(time.time_ns() - place.time, 0) / NS if place.pending else 0.0)

    async def run(self) -> None:
        """Read until `stop` is called; return when what was taken is stored. Raises SourceError."""
        try:
            await self._begin()
            while not self._is_stopping:
                if self._is_lost:
                    raise self._client.lost
                await self._refresh()
                await self._round(await self._pull.next(REPORT_S if self._blocks.has_losses else LOOK_S))
            await self._round(await self._pull.next(0))
            await self._take(self._blocks.report(is_last=True))
            await self._intake.all_settled()
            with contextlib.suppress(NatsFault):
                await self._client.flush()  # what is acknowledged does not come again: the next source need not wait
        except ConsumerGone:
            raise SourceError(self.where, "the stream or its consumer was deleted") from None
        except NatsFault as error:
            raise SourceError(self.where, str(error)) from error
        finally:
            self._intake.budget.keep(self._intake.holding, 0)
            await self._client.close()
            self._ended.set()

    async def stop(self, timeout: float) -> None:
        """Read no more, and return when what was taken is stored, at most *timeout* seconds later."""
        self._pull.stop()
        await super().stop(timeout)

    def _note_lost(self) -> None:
        self._is_lost = True
        self._pull.stop()

    async def _begin(self) -> None:
        """Connect, find or make the consumer, and wait until what was not acknowledged by a hub before comes again."""
        client, stream = self._client, self._table.stream
        await client.open(self._table)
        self._inbox = await client.subscribe(self._pull.receive)
        try:
            info = await client.ask(f"CONSUMER.INFO.{stream}.{self._durable}")
        except NatsFault as error:
            if error.code == NO_STREAM:
                raise SourceError(
                    self.where, f"there is no stream {stream} (a sink of type jetstream makes it)"
                ) from error
            if error.code != NO_CONSUMER:
                raise
            info = await self._make_consumer()
        self._owed = int(info.get("num_ack_pending", 0))
        self._delivered = int(info.get("delivered", {}).get("stream_seq", 0))
        if self._owed:
            await self._wait(ACK_WAIT_S)
        self._owed_until = self._clock() + 2 * ACK_WAIT_S

    async def _make_consumer(self) -> dict[str, Any]:
        config = {
            "durable_name": self._durable,
            "filter_subject": f"{self._table.subject}.*",
            "ack_policy": "explicit",
            "ack_wait": int(ACK_WAIT_S * NS),
            "max_ack_pending": 4 * MESSAGES_MAX,
            "deliver_policy": "all",
        }
        stream = self._table.stream
        return await self._client.ask(
            f"CONSUMER.DURABLE.CREATE.{stream}.{self._durable}", {"stream_name": stream, "config": config}
        )

    async def _request(self, request: bytes, number: int) -> None:
        await self._intake.budget.room_to_read(self._intake.holding)
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._table.stream}.{self._durable}"
        await self._client.publish(subject, request, reply=f"{self._inbox}.{number}")

    async def _round(self, messages: Sequence[Pulled]) -> None:
        """Store *messages*, and acknowledge them."""
        found = ((Place.of(message.reply), message) for message in messages)
        placed = sorted(((place, message) for place, message in found if place is not None), key=itemgetter(0))
        self._came_again.update(place.sequence for place, _ in placed if place.sequence <= self._delivered)
        progress = asyncio.create_task(self._tell_progress(messages), name="mpsr-jetstream-progress")
        try:
            kinds = await self._store(placed)
        finally:
            progress.cancel()
            await asyncio.wait((progress,))
        for (place, message), kind in zip(placed, kinds, strict=True):
            if kind is not Kind.EARLY:
                self._newest = place
            await self._client.publish(message.reply, _ANSWERS[kind])

    async def _store(self, placed: Sequence[tuple[Place, Pulled]]) -> list[Kind | None]:
        """Return what has become of each message, when it is committed."""
        budget, holding = self._intake.budget, self._intake.holding
        left = sum(len(message.data) for _, message in placed)
        budget.arrived(holding, left)
        kinds: list[Kind | None] = []
        for place, message in placed:
            taken = await self._blocks.take(message, place.sequence)
            if taken.items:
                budget.decoded(holding, len(taken.items))
                await self._take(taken.items)
            kinds.append(taken.kind)
            self._early.pop(place.sequence, None)
            if taken.kind is Kind.EARLY:
                self._early[place.sequence] = taken.hub
            left -= len(message.data)
            budget.keep(holding, left)
        budget.keep(holding, 0)
        await self._take(self._blocks.report())
        await self._intake.all_settled()
        self._blocks.committed()
        return kinds

    def _is_settled(self, hub: bytes, before: int) -> bool:
        """Return whether nothing of *hub* that is before the place *before* of the stream can come (again)."""
        if any(known == hub and place < before for place, known in self._early.items()):
            return False
        return len(self._came_again) >= self._owed or self._clock() >= self._owed_until

    async def _tell_progress(self, messages: Sequence[Pulled]) -> None:
        """Tell the stream again and again that *messages*, and what has come behind them, are being worked on."""
        with contextlib.suppress(NatsFault):  # then they come again
            while True:
                await asyncio.sleep(PROGRESS_S)
                for message in (*messages, *self._pull.waiting):
                    await self._client.publish(message.reply, _PROGRESS)

    async def _refresh(self) -> None:
        """
        Store the positions again each day, or they would be forgotten after 30 days, and what comes again then would be
        stored twice. One that has moved meanwhile stays as it is.
        """
        now = self._clock()
        if now >= self._refreshed_at + REFRESH_S:
            self._refreshed_at = now
            self._to_refresh = self._journal.positions(PREFIX)
        some, self._to_refresh = self._to_refresh[:REFRESHED_AT_ONCE], self._to_refresh[REFRESHED_AT_ONCE:]
        if some:
            await self._take(refreshing(some, self._intake.peer))


def refreshing(positions: Sequence[Position], peer: Peer) -> list[Batch]:
    """Return batches that store *positions* again, each unless it has moved."""
    none = join((), 0)
    return [Batch(b"", none, 0, None, peer, positions=(each,), continues=each) for each in positions]
