"""
The messages of a stream, made into what is stored: batches with the position of their hub, and losses.

Always true:
- a publisher speaks for the hub that its subject names, and for no other; our own messages are left out, wherever they
  come back from;
- what is no block is counted, and reported once a second (`REPORT_S`): however much of it there is, nothing waits for
  it;
- what is missing before a block is reported with it: in the same round, or in a later one if there was such a report
  within the second.

Not here: whether a block is new (hub.sources.hubplace), the stream and its acknowledgements (hub.sources.jetstream).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from hub.checksum import crc32
from hub.intake import Data, Intake
from hub.log import get_logger
from hub.message import Batch, Home, Loss, Position
from hub.sources.hubplace import PREFIX, Kind, judge, name_of, position_of, without_first
from hub.sources.jetstreampull import Pulled
from hub.wire.payload import Unopened
from hub.wire.shipped import PAYLOAD_BYTES_MAX, BadBlock, Label, unpack_entries, unpack_label

REPORT_S = 1.0
REASONS_MAX = 16
"""Different losses that are counted apart within a second; the rest share one."""
HUBS_MAX = 10_000
"""Each has a row in our journal, with which each of its segments begins."""
MISSING = "lost between the hub {} on {} and this one"
log = get_logger("mpsr.jetstream")


class Known(Protocol):
    """The part of a journal that knows positions."""

    def position(self, name: bytes) -> Position | None: ...

    def positions(self, prefix: bytes) -> list[Position]: ...


class Taken(NamedTuple):
    """What a message has become. *kind* is None if it is no block."""

    kind: Kind | None
    items: Sequence[Data] = ()
    hub: bytes = b""


class JetstreamBlocks:
    """
    Makes batches for *intake* of messages under *subject*. *own* is our hub id. *is_settled* returns whether
    nothing of a hub that is before a place in the stream can come (again).
    """

    def __init__(
        self,
        intake: Intake,
        journal: Known,
        *,
        own: bytes,
        subject: str,
        is_settled: Callable[[bytes, int], bool],
        clock: Callable[[], float],
    ) -> None:
        self._intake = intake
        self._journal = journal
        self._own = own
        self._subject = subject
        self._is_settled = is_settled
        self._clock = clock
        self._hubs = len(journal.positions(PREFIX))
        self._at: dict[bytes, Position] = {}  # of what was taken and is not committed yet
        self._losses: dict[str, Loss] = {}
        self._reported_at = float("-inf")

    @property
    def has_losses(self) -> bool:
        """Whether there is something to be reported."""
        return bool(self._losses)

    async def take(self, message: Pulled, place: int) -> Taken:
        """
        Return what *message*, at *place* in the stream, becomes. Its batch has to be put in before the next message is
        taken.
        """
        try:
            return await self._take(self._label_of(message), message.data, place)
        except BadBlock as error:
            self._count(Loss(f"a message in the stream that was not stored: {error}", 1, len(message.data)))
            return Taken(None)

    def committed(self) -> None:
        """Note that everything that was taken is committed: from now on the journal knows the positions."""
        self._at.clear()

    def report(self, *, is_last: bool = False) -> list[Loss]:
        """Return the losses that are to be reported now."""
        if not self._losses or (self._clock() < self._reported_at + REPORT_S and not is_last):
            return []
        self._reported_at = self._clock()
        losses, self._losses = list(self._losses.values()), {}
        return losses

    async def _take(self, label: Label, payload: bytes, place: int) -> Taken:
        hub = label.hub
        if self._own in (hub, label.home.hub if label.home else b""):
            return Taken(Kind.OLD)
        at = self._at.get(hub) or self._journal.position(name_of(hub))
        if at is None and self._hubs >= HUBS_MAX:
            raise BadBlock(f"there are more than {HUBS_MAX} hubs")
        verdict = judge(label, at, is_all_settled=True)
        if (verdict.missing or (at is None and label.after)) and not self._is_settled(hub, place):
            verdict = judge(label, at, is_all_settled=False)
        if verdict.kind is not Kind.NEW:
            return Taken(verdict.kind, hub=hub)
        await self._intake.ready()
        opened = await self._intake.open(Unopened(partial(self._open, label, payload, verdict.repeated), len(payload)))
        if at is None:
            self._hubs += 1
        if verdict.went_back:
            log.warning("jetstream.hub_went_back", host=label.host, hub=hub.hex(), sequence=label.first)
        if verdict.missing:
            reason = MISSING.format(hub.hex(), label.host)
            self._count(Loss(reason, verdict.missing))
        self._at[hub] = position_of(label)
        return Taken(Kind.NEW, [*self.report(), *opened], hub)

    def _label_of(self, message: Pulled) -> Label:
        label = unpack_label(message.headers)
        if message.subject != f"{self._subject}.{label.hub.hex()}":
            raise BadBlock("it names another hub than its subject")
        if len(message.data) > PAYLOAD_BYTES_MAX:
            raise BadBlock("its payload is too large")
        return label

    def _open(self, label: Label, payload: bytes, repeated: int) -> Sequence[Batch]:
        """Return the batch. Called on a thread. Raises BadBlock."""
        entries = unpack_entries(payload, label.messages)
        home = label.home or Home(label.host, label.hub, label.first, label.received)
        if repeated:
            entries, home = without_first(entries, repeated), home.after(repeated)
        count = label.messages - repeated
        crc, at = crc32(entries), (position_of(label),)
        return (Batch(label.tag, entries, count, None, label.peer, self._intake, crc=crc, positions=at, home=home),)

    def _count(self, loss: Loss) -> None:
        reason = loss.reason
        if reason not in self._losses and len(self._losses) >= REASONS_MAX:
            reason = "messages in the stream that were not stored, or are missing"
        before = self._losses.get(reason)
        count, size = (0, 0) if before is None else (before.count, before.lost_bytes)
        self._losses[reason] = Loss(reason, count + loss.count, size + loss.lost_bytes)
