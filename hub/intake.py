"""
The one rule by which what a source has sent is accepted: connections, spools of dead producers, and others to come.

A source waits for `ready`, decodes, and gives what came out to `take`. The intake is the origin of its batches.

Always true:
- nothing of a peer that may not send is accepted, nor opened;
- what cannot be kept becomes a message under `LOSS_TAG`, a counter, a row (hub.losses) and a line in the log; no
  more than `LOSSES_PER_S` messages a second for one user: beyond that its sources wait;
- the hub's own tags are the hub's: what a client sends under one of them is stored under that tag + `CLIENT_SUFFIX`;
- the order of what a source gives is kept, and a user's work takes its turn on the loop.

Not here: requests (hub.dispatch), how much a user may hold (hub.budget), decoding (hub.wire).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from hub.access import Access, Gate
from hub.budget import Budget
from hub.entries import join
from hub.errors import HubClosed
from hub.holding import Holding
from hub.inbox import Inbox
from hub.limits import Limits
from hub.log import get_logger
from hub.losses import Losses
from hub.message import CLIENT_SUFFIX, OWN_TAGS, Batch, Loss, Peer
from hub.metrics import Metrics
from hub.opener import Opener
from hub.users import User
from hub.wire.payload import Unopened

LIMITED_S = 1.0
"""
How long after a rate limit has dropped messages this is reported, and how often a sender that waits looks at the rules.
"""
LIMITED_TAGS_MAX = 16
"""Maximum tags with a report each; the drops under further tags share one report."""
BATCHES_MAX = 256
"""Batches put into the inbox in one step: half a millisecond."""

Data = Batch | Loss | Unopened
NO_LIMITS = Limits()
log = get_logger("mpsr.intake")


class Tally:
    """Counts what one intake, or several, have accepted."""

    __slots__ = ("bytes", "losses", "messages", "unsettled")

    def __init__(self) -> None:
        self.messages: int = 0
        """How many messages were accepted, losses not counted."""
        self.bytes: int = 0
        """Their bytes, as they are stored."""
        self.losses: int = 0
        """How many were lost, as far as they can be counted."""
        self.unsettled: int = 0
        """Batches that were put in and are not settled."""

    def add(self, other: Tally) -> None:
        """Add the counts of *other*."""
        self.messages += other.messages
        self.bytes += other.bytes
        self.losses += other.losses


class Admission(NamedTuple):
    """In whose name an intake accepts, at whose expense, by which rules, and what it shares with the others."""

    peer: Peer
    user: User
    inbox: Inbox
    opener: Opener
    metrics: Metrics
    gate: Gate | None = None
    """What the peer may do; None: everything."""
    tally: Tally | None = None
    """Counts what is accepted, for several intakes together."""
    limits: Limits = NO_LIMITS
    losses: Losses | None = None


class Intake:
    """
    Accepts what one source gives.

    *holding* has the bytes that the source holds. *on_settled* is called with the chunk id of each batch that is
    settled. *is_awaited* means that the sender waits until all is settled, also without chunk ids.
    """

    def __init__(
        self,
        admission: Admission,
        *,
        holding: Holding | None = None,
        on_settled: Callable[[bytes], None] | None = None,
        is_awaited: bool = False,
    ) -> None:
        self.peer: Peer = admission.peer
        self.user: User = admission.user
        self.budget: Budget = admission.inbox.budget
        self.holding: Holding = holding or Holding(self.user.account)
        self.metrics: Metrics = admission.metrics
        self.gate: Gate = admission.gate or Gate(Access(), self.peer, frozenset)
        self.tally: Tally = admission.tally or Tally()
        self._on_settled = on_settled
        self._is_awaited = is_awaited
        self._inbox = admission.inbox
        self._opener = admission.opener
        self._limits = admission.limits
        self._losses = admission.losses or Losses()
        self._dropped: dict[bytes, tuple[int, int]] = {}  # by a rate limit, not reported: messages and bytes, by tag
        self._reporting: asyncio.TimerHandle | None = None
        self._unsettled: set[Batch] = set()
        self._settled: asyncio.Future[None] | None = None

    @property
    def messages(self) -> int:
        """How many messages were accepted, losses not counted."""
        return self.tally.messages

    @property
    def is_ready(self) -> bool:
        """Whether `ready` need not be waited for."""
        return self.budget.may_decode(self.holding) and self.user.turn.is_free

    async def ready(self) -> None:
        """Return when there is room for what comes next, and it is the user's turn on the loop."""
        if not self.budget.may_decode(self.holding):
            await self.budget.room_to_decode(self.holding)
        if not self.user.turn.is_free:
            await self.user.turn.come()

    def take_now(self, items: Sequence[Data | object]) -> int:
        """Accept the first batches of *items*, as many as make a short step; return how many. `take` does the rest."""
        if self._limits.are_any or not self.gate.may("send"):
            return 0
        try:
            return self._take_batches(items, 0)
        except HubClosed:
            return 0

    async def take(self, items: Sequence[Data]) -> bool:
        """Accept *items*; False when nothing that follows them is to be read. Raises HubClosed."""
        at, turn = 0, self.user.turn
        while at < len(items):
            if turn.is_spent:
                await turn.come()
            item = items[at]
            if not self.gate.may("send"):
                self.refuse("send", getattr(item, "count", 1))
                return False
            if isinstance(item, Batch):
                if not self._limits.are_any or await self._is_within_limit(item):
                    with turn:
                        at = self._take_batches(items, at, 1 if self._limits.are_any else BATCHES_MAX)
                else:
                    at += 1
                continue
            at += 1
            if isinstance(item, Loss):
                await self.lose(item)
                if item.fatal:
                    return False
            elif not await self.take(await self.open(item)):
                return False
        return True

    async def open(self, payload: Unopened) -> Sequence[Batch | Loss]:
        """Return the contents of *payload*, without accepting them."""
        return await self._opener.open(payload, self.user, self.holding)

    async def lose(self, loss: Loss) -> None:
        """Report what was lost, within the user's allowance. Raises HubClosed."""
        await self.user.losses.take()
        with self.user.turn:
            self._report(loss)

    def store(self, batch: Batch) -> None:
        """Put in a batch of the hub's own, which may have one of the hub's tags. Raises HubClosed."""
        self._put(msgspec.structs.replace(batch, origin=self))

    def refuse(self, what: str, count: int) -> None:
        """Count a refusal of this peer, and report it, at most once a second for each user. Raises HubClosed."""
        self.metrics.refused += count
        if unreported := self.gate.refuse(count):
            who = self.peer.comm if self.peer.is_remote else f"uid {self.peer.uid}"
            self._report(Loss(f"refused: {who} may not {what}", unreported))

    def acknowledge(self, batch: Batch) -> None:
        """Take note that *batch* is settled. Does nothing for a batch that it did not put in, or a second time."""
        try:
            self._unsettled.remove(batch)
        except KeyError:
            return
        self.tally.unsettled -= 1
        if not self._unsettled and self._settled is not None and not self._settled.done():
            self._settled.set_result(None)
        if batch.chunk_id is None or self._on_settled is None:
            return
        for chunk in batch.chunks:
            self._on_settled(chunk.chunk_id)
        if not batch.chunks:
            self._on_settled(batch.chunk_id)

    def lift_limits(self) -> None:
        """Ignore the rate limits from now on: the source ends, and what it has read would be cut off while it waits."""
        self._limits = NO_LIMITS

    async def all_settled(self) -> None:
        """Return when everything that was accepted is settled, and what was dropped is reported."""
        self._report_dropped()
        while self._unsettled:
            self._settled = asyncio.get_running_loop().create_future()
            await self._settled

    async def _is_within_limit(self, batch: Batch) -> bool:
        """
        Return when the rate limits let *batch* through; False if it was dropped. Raises HubClosed.

        What continues a log that is imported is never dropped: its sender can wait, and would take it for stored.
        """
        if not batch.count:
            return True
        size = len(batch.entries)
        wait_s, when = self._limits.take(self.peer.uid, batch.tag, batch.count, size)
        while wait_s:
            if when == "drop" and batch.continues is None:
                self._drop(batch)
                return False
            await asyncio.sleep(min(wait_s, LIMITED_S))
            wait_s, when = self._limits.take(self.peer.uid, batch.tag, batch.count, size)
        return True

    def _drop(self, batch: Batch) -> None:
        """
        Count what a rate limit drops, and report it in a while. Its chunk is acknowledged, or it would be resent,
        and its positions are committed, or it would be read again.
        """
        count, size = self._dropped.get(batch.tag, (0, 0))
        self._dropped[batch.tag] = count + batch.count, size + len(batch.entries)
        self.metrics.limited += batch.count
        if batch.chunk_id is not None or batch.positions:
            origin = batch.origin or self  # otherwise the source would not learn that its positions are settled
            self._put(msgspec.structs.replace(batch, entries=join((), 0), count=0, crc=None, origin=origin))
        if self._reporting is None:
            self._reporting = asyncio.get_running_loop().call_later(LIMITED_S, self._report_dropped)

    def _report_dropped(self) -> None:
        if self._reporting is not None:
            self._reporting.cancel()
            self._reporting = None
        dropped, self._dropped = list(self._dropped.items()), {}
        reports = dropped[:LIMITED_TAGS_MAX]
        if rest := dropped[LIMITED_TAGS_MAX:]:
            reports.append((b"", (sum(count for _, (count, _) in rest), sum(size for _, (_, size) in rest))))
        try:
            for tag, (count, size) in reports:
                self._report(Loss("over the rate limit", count, size, tag=tag))
        except HubClosed:  # nothing more is stored
            log.warning("message.lost", reason="over the rate limit", count=sum(count for _, (count, _) in reports))

    def _take_batches(self, items: Sequence[object], at: int, batches_max: int = BATCHES_MAX) -> int:
        """Put in the batches from *at* on, as many as make a short step; return where the rest begins."""
        for number in range(at, min(at + batches_max, len(items))):
            batch = items[number]
            if not isinstance(batch, Batch):
                return number
            if batch.tag in OWN_TAGS:
                batch = msgspec.structs.replace(batch, tag=batch.tag + CLIENT_SUFFIX)
            if batch.origin is None:  # positions alone: the source would not learn that they are settled
                batch = msgspec.structs.replace(batch, origin=self)
            self._put(batch)
            self.tally.messages += batch.count
            self.tally.bytes += len(batch.entries)
        return min(at + batches_max, len(items))

    def _report(self, loss: Loss) -> None:
        peer = self.peer
        self.metrics.losses += loss.count
        self.tally.losses += loss.count
        self._losses.note(loss, peer)
        self.user.lines.log(
            log.warning, "message.lost", reason=loss.reason, count=loss.count, peer_pid=peer.pid, comm=peer.comm
        )
        self._put(loss.as_batch(peer=peer, origin=self))

    def _put(self, batch: Batch) -> None:
        self._inbox.put(batch, self.holding, is_awaited=self._is_awaited)
        self._unsettled.add(batch)
        self.tally.unsettled += 1
