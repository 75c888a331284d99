"""
The sink `jetstream`: stored blocks to a stream of NATS, one message for each, for a hub that collects them.

Up to `WINDOW_BLOCKS` blocks are one atomic batch. It is stored only if the last message under our subject is the one
that we know. So the messages under our subject are what this journal holds, in order and without holes, even if two
hubs run by mistake. On each connection the last of them is read, and the sink goes on after it, whatever its cursor
says.

    the stream has more    than the cursor knows (the hub was killed before it was stored): it is left out
    the stream has less    than was acknowledged (a server has lost what it had not synced): it is shipped again
    the last one is        of somebody else: nothing can be learned from it. The sink goes on after its cursor

Always true:
- a block is safe when the stream has acknowledged it;
- entries that cannot be read never leave: the receiver would refuse the whole block.

Not here: the format (hub.wire.shipped), the connection (hub.sinks.jetstreamlink), ``format = "json"``
(hub.sinks.jetstreamjson), the receiver (hub.sources.jetstream).
"""

from __future__ import annotations

import concurrent.futures
import itertools
import socket
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from hub.entries import ARRAY_HEADER_BYTES
from hub.log import get_logger
from hub.message import Position
from hub.natsplace import options_of
from hub.secretfile import Unusable
from hub.sinks.jetstreamlink import JetstreamLink, Post
from hub.sinks.kinds import Jetstream
from hub.sinks.sink import Host, SinkBase, SinkFault
from hub.sinks.stored import Stored, some
from hub.sources.hubplace import Kind, judge, position_of
from hub.wire.shipped import (
    ENTRIES_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    BadBlock,
    Label,
    fault_of,
    pack_entries,
    pack_label,
    unpack_label,
)

WINDOW_BLOCKS, WINDOW_BYTES = 16, 4 << 20
BATCH_BYTES_MAX = 900 << 10
"""So that its payload fits, even if it cannot be compressed."""
HEADERS_BYTES_MAX = 32 << 10
log = get_logger("mpsr.sinks")


class _Flying(NamedTuple):
    """What is published and not acknowledged, and the last sequence of it, with its time of receipt."""

    place: concurrent.futures.Future[int]
    last: int
    received: int


class JetstreamSink:
    """Ships blocks to the stream of *table*."""

    def __init__(self, table: Jetstream, host: Host) -> None:
        self._table = table
        self._host = host
        self.batch_bytes_max: int = BATCH_BYTES_MAX
        self.entry_bytes_max: int = ENTRIES_BYTES_MAX - ARRAY_HEADER_BYTES
        self.safe: int = 0
        self._host_name = socket.gethostname()
        self._subject = f"{table.prefix}.{host.hub_id.hex()}"
        self._link = JetstreamLink(table, host, f"{table.prefix}.*")
        self._at: Position | None = None  # of the last block in the stream, or on its way there
        self._after = 0  # its last sequence
        self._place = 0  # the place in the stream of the last one that is acknowledged
        self._waiting: list[Post] = []
        self._waiting_at: list[Position] = []
        self._waiting_bytes = 0
        self._flying: _Flying | None = None
        self._is_confirmed = False

    def open(self, after: int, detail: bytes) -> None:
        """Connect, and find out how far the stream has our messages. Raises SinkFault or Halted."""
        self._link.open()
        shipped = int.from_bytes(detail, "big") if len(detail) == 8 else 0
        shipped = self._host.kept.setdefault("shipped", shipped)  # the cursor is stored each second only
        self._after = shipped
        found = self._link.last(self._subject)
        if found is None:
            self._host.kept.setdefault("confirmed", 0)
            return
        self._place = found.sequence
        try:
            label = unpack_label(found.headers)
            if label.hub != self._host.hub_id:
                raise BadBlock("it names another hub")
        except BadBlock as error:  # what is shipped again because of it, the receiver leaves out
            log.warning("jetstream.strange_message", name=self._table.name, place=found.sequence, reason=str(error))
            return
        self._check_ours(label)
        self._at, self._after = position_of(label), label.last
        if label.last < min(shipped, after):
            self._host.kept["shipped"] = label.last
            log.warning("jetstream.stream_lost", name=self._table.name, sequence=label.last + 1, last=shipped)
            self._host.go_back(label.last, label.last.to_bytes(8, "big"))

    def _check_ours(self, label: Label) -> None:
        """
        Raise SinkFault if another hub has shipped the last block, with a copy of our journal, since we first looked. To
        go on behind it would leave out what we have received before it. At first it is accepted: our journal may be a
        backup that was restored.
        """
        kept = self._host.kept
        known = kept.setdefault("confirmed", label.received)
        if label.received > known and position_of(label) not in kept.get("published", ()):
            raise SinkFault(
                f"another hub ships under the id of this one ({self._subject}): one of them has a copy of the other's "
                "journal (stop one of them, and let it begin with an empty journal)"
            )

    def deliver_stored(self, batches: Sequence[Stored]) -> None:
        """Publish *batches*, except what the stream has. Raises SinkFault or Halted."""
        for stored in batches:
            for run in _runs(stored):
                self._add(run)
                if len(self._waiting) >= WINDOW_BLOCKS or self._waiting_bytes >= WINDOW_BYTES:
                    self._publish()
                self._host.rest()
        if not self._is_confirmed:
            self._settle()

    def settle(self) -> bytes:
        """Return when everything is acknowledged. Raises SinkFault or Halted."""
        self._settle()
        return self._after.to_bytes(8, "big")

    def idle(self, now: int) -> None:
        """Return when everything is acknowledged. Raises SinkFault, also if the connection is lost, or Halted."""
        self._settle()
        self._link.check()

    def close(self) -> None:
        """Close the connection."""
        self._link.close()

    def _add(self, stored: Stored) -> None:
        """Put *stored* among what is published next, unless the stream has it."""
        label = self._label_of(stored)
        verdict = judge(label, self._at, is_all_settled=True)
        if verdict.kind is Kind.OLD:
            return
        if verdict.repeated:
            rest = some(stored, stored.sequences[verdict.repeated :])
            if rest is None:
                return
            stored, label = rest, self._label_of(rest)
        if verdict.went_back:
            log.warning("jetstream.went_back", name=self._table.name, sequence=label.first)
        entries = bytes(stored.batch.entries)
        if fault := fault_of(entries, label.messages):
            self._settle()  # the dead letter may cause a checkpoint
            self._host.refuse_stored(stored, fault)
            return
        payload = pack_entries(entries)
        if len(payload) > min(PAYLOAD_BYTES_MAX, self._link.payload_bytes_max - HEADERS_BYTES_MAX):
            self._settle()
            self._host.refuse_stored(stored, "too large for a message of NATS")
            return
        self._waiting.append(Post(self._subject, payload, pack_label(label)))
        self._waiting_bytes += len(payload)
        self._at, self._after = position_of(label), label.last
        self._waiting_at.append(self._at)

    def _label_of(self, stored: Stored) -> Label:
        batch, first = stored.batch, stored.first
        before = min(self._after or first - 1, first - 1)
        numbers = first, len(stored.sequences), before, batch.received
        return Label(self._host.hub_id, self._host_name, batch.tag, batch.peer, *numbers, batch.home)

    def _publish(self) -> None:
        """Publish what waits, when what was published before is acknowledged."""
        self._await()
        if self._waiting:
            self._host.kept.setdefault("published", set()).update(self._waiting_at)
            place = self._link.publish(self._waiting, self._place)
            self._flying = _Flying(place, self._after, int(self._waiting_at[-1].detail))
            self._waiting, self._waiting_at, self._waiting_bytes = [], [], 0

    def _await(self) -> None:
        if self._flying is not None:
            flying, self._flying = self._flying, None
            self._place = self._link.wait(flying.place)
            self.safe = self._host.kept["shipped"] = flying.last
            self._host.kept["confirmed"] = flying.received
            self._host.kept["published"] = set()
            self._is_confirmed = True

    def _settle(self) -> None:
        self._publish()
        self._await()


def _runs(stored: Stored) -> Iterator[Stored]:
    """Yield *stored* in parts without holes: the receiver counts sequences from the first one on."""
    if stored.is_continuous:
        yield stored
        return
    for _, run in itertools.groupby(enumerate(stored.sequences), lambda pair: pair[1] - pair[0]):
        part = some(stored, [sequence for _, sequence in run])
        if part is not None:
            yield part


def make(table: Jetstream, host: Host) -> SinkBase:
    """Return the sink for *table*, by its format."""
    if table.format == "json":
        from hub.sinks.jetstreamjson import JetstreamJsonSink

        return JetstreamJsonSink(table, host)
    return JetstreamSink(table, host)


def check_table(table: Jetstream) -> None:
    """Check that the files of *table* can be read. No server is looked for: it may start later. Raises SinkFault."""
    try:
        options_of(table)
    except Unusable as error:
        raise SinkFault(str(error)) from error
