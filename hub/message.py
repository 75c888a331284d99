"""
The values that pass through the hub: peer, home, message, batch, loss, position.

A batch is the unit of arrival, commit and acknowledgement. A message is one entry of a batch, decoded on demand. A loss
describes what could not be kept; it is stored as a message under the tag `LOSS_TAG`. A position says how far a source
that can be read again has been read; the batch that carries it is committed together with it. A home says where the
messages of another hub were stored first.

Always true: values do not change; the entries of a batch are one msgpack array (hub.entries).
Not here: their form on the wire (hub.wire) and on disk (hub.journal.block).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from operator import itemgetter
from typing import Any, NamedTuple, Protocol

import msgspec

from hub import entries as codec
from hub.cgroup import container_of, unit_of

LOSS_TAG = b"mpsr.loss"
DEAD_TAG = b"mpsr.dead"
"""What a sink could never deliver (hub.sinks.deadletter)."""
ALERT_TAG = b"mpsr.alert"
"""What an alert has reported (hub.alerts.stored)."""
OWN_TAGS = frozenset({LOSS_TAG, DEAD_TAG, ALERT_TAG})
"""Tags reserved for the hub's own messages."""
CLIENT_SUFFIX = b".client"
"""Suffix appended to a reserved tag under which a client sends."""
CLIENT_LOSS_TAG = LOSS_TAG + CLIENT_SUFFIX
"""The tag of losses that a client reports, and of messages of a client that cannot be read."""

_FEW = 4
"""As many messages are made one by one: to treat them together would take longer."""

UNKNOWN_UID = -1
"""The user of peers that are not identified. Lower numbers stand for hosts on a network (hub.peer)."""


class Peer(msgspec.Struct, frozen=True):
    """
    The connected process: process id, user id, group id, command name, and the path of its control group (empty if
    unknown), as the kernel reports them when it connects. It may also be a host on a network (`is_remote`).
    """

    pid: int = 0
    uid: int = UNKNOWN_UID
    gid: int = -1
    comm: str = ""
    verified: bool = True
    cgroup: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether it is a host on a network: *comm* is its address, or the name in its certificate."""
        return self.uid < UNKNOWN_UID

    @property
    def unit(self) -> str:
        """The systemd unit that the process belongs to, as in ``nginx.service``; empty if none is known."""
        return unit_of(self.cgroup)

    @property
    def container(self) -> str:
        """The id of the container that the process runs in, or its name; empty if none is known."""
        return container_of(self.cgroup)


UNKNOWN_PEER = Peer(verified=False)


FORGET = -1
"""The number of a position that removes the row of its name."""
NAME_BYTES_MAX, DETAIL_BYTES_MAX = 256, 1 << 10
POSITIONS_MAX = 32
"""Per batch. They fit in the header of a block, even if each has its maximum length."""


class Position(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    How far a repeatable source has been read: a name, a number, and what the source needs to find the place again.

    *name* is ``<type>:<what identifies the thing>``, 1 to `NAME_BYTES_MAX` bytes. *number* is an offset or a sequence,
    0 to 2**63 - 1; `FORGET` removes the row. *detail* is opaque to the hub: at most `DETAIL_BYTES_MAX` bytes.
    Raises ValueError beyond these limits.
    """

    name: bytes
    number: int
    detail: bytes = b""

    def __post_init__(self) -> None:
        if not 0 < len(self.name) <= NAME_BYTES_MAX or len(self.detail) > DETAIL_BYTES_MAX:
            raise ValueError(f"a position has a name of {len(self.name)} bytes, and a detail of {len(self.detail)}")
        if not FORGET <= self.number < 1 << 63:
            raise ValueError(f"a position has the number {self.number}")


HOST_BYTES_MAX = 255
"""The longest name of a host (gethostname(2))."""
HUB_ID_BYTES = 16


class Home(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """
    Where messages of another hub were stored first: the name of its host, its id, and there the sequence of the first
    one and the time of receipt. The peer of such messages was identified by the kernel of that host.
    """

    host: str
    hub: bytes
    sequence: int
    received: int

    def after(self, messages: int) -> Home:
        """Return that of the message which is *messages* later in the same batch."""
        return Home(self.host, self.hub, self.sequence + messages, self.received)


class Message(msgspec.Struct, frozen=True, gc=False):
    """
    One message: what the producer sent, and what the hub adds. Times are nanoseconds since the epoch. *home* is that of
    a message from another hub.
    """

    tag: str
    time: int
    record: dict[Any, Any]
    sequence: int = 0
    received: int = 0
    peer: Peer = UNKNOWN_PEER
    home: Home | None = None


class Origin(Protocol):
    """The source of a batch, and the receiver of its acknowledgement."""

    def acknowledge(self, batch: Batch) -> None: ...


class Chunk(NamedTuple):
    """One of several chunks in a batch: its packed id, its number of messages, and its end in the batch's entries."""

    chunk_id: bytes
    messages: int
    end: int


class Batch(msgspec.Struct, frozen=True, eq=False):
    """
    Messages that travel, commit and are acknowledged together.

    *entries* is one msgpack array. *count* is the number of messages in it; group markers do not count. *chunk_id* is
    the msgpack encoding of the sender's chunk id, byte for byte, or None if the sender wants no acknowledgement.
    The hub assigns *sequence* (of the first message) and *received*; both are 0 before that. *crc* is the CRC-32 of the
    entries, or None; the decoders compute it on arrival.

    *chunks*: chunks of one session of our own producers that arrived one after the other, made one batch. Then
    *chunk_id* is that of the last one. It is empty for a batch of one chunk, and for one that was read.

    *positions*, at most `POSITIONS_MAX`, hold from the commit of the batch on. After a power cut in the middle of a
    commit, its first batches may count: so each batch of a repeatable source carries the position after itself. A batch
    with positions is stored also if it has no messages. The positions of a resend are left out with its messages: they
    were committed with the first copy.
    """

    tag: bytes
    entries: bytes | memoryview
    count: int
    chunk_id: bytes | None = None
    peer: Peer = UNKNOWN_PEER
    origin: Origin | None = None
    sequence: int = 0
    received: int = 0
    crc: int | None = None
    positions: tuple[Position, ...] = ()
    continues: Position | None = None
    """
    If given, the batch counts only if this is the committed position of its name (number 0 and no detail: there is
    none). Otherwise it is a resend.
    """
    chunks: tuple[Chunk, ...] = ()
    home: Home | None = None
    """Where its messages were stored first, if that was another hub."""

    @property
    def stamp(self) -> int:
        """The time of messages that have none: when they were received first."""
        return self.received if self.home is None else self.home.received

    def home_of(self, sequence: int) -> Home | None:
        """Return the home of the message with this *sequence*."""
        return None if self.home is None else self.home.after(sequence - self.sequence)

    @property
    def chunk_count(self) -> int:
        """The number of chunks that it was made of, 1 for anything else."""
        return len(self.chunks) or 1

    def messages(self) -> Iterator[Message]:
        """
        Return the messages, decoded now. An unreadable entry becomes a loss at its own sequence, under
        `CLIENT_LOSS_TAG`: the hub has lost nothing, and counts nothing.
        """
        tag = self.tag.decode("utf-8", "replace")
        pairs = codec.pairs(self.entries, self.count, self.stamp)
        if pairs is None:
            return self._read_each(tag)
        some = pairs if isinstance(pairs, list) and len(pairs) > _FEW and self.home is None else ()
        if some and (times := codec.times_of(some)) is not None:
            records, sequences = map(itemgetter(1), some), itertools.count(self.sequence)
            return map(Message, repeat(tag), times, records, sequences, repeat(self.received), repeat(self.peer))
        return self._read_pairs(tag, pairs)

    def _read_pairs(self, tag: str, pairs: Iterable[tuple[msgspec.Raw, dict[Any, Any]]]) -> Iterator[Message]:
        received, peer, stamp = self.received, self.peer, self.stamp
        home_of = None if self.home is None else self.home_of
        for sequence, (packed, record) in enumerate(pairs, self.sequence):
            time = codec.time_of(packed)
            if time is None or isinstance(time, int):
                home = None if home_of is None else home_of(sequence)
                yield Message(tag, stamp if time is None else time, record, sequence, received, peer, home)
            else:
                yield self.loss(tag, codec.whole_entry(time, self.entries, sequence - self.sequence), sequence)

    def _read_each(self, tag: str) -> Iterator[Message]:
        for sequence, entry in enumerate(codec.read_each(self.entries, self.count, self.stamp), self.sequence):
            if isinstance(entry, codec.Entry):
                yield self.message(tag, entry.time, entry.record, sequence)
            else:
                yield self.loss(tag, entry, sequence)

    def message(self, tag: str, time: int | None, record: dict[Any, Any], sequence: int) -> Message:
        """Return an entry as a message. If *time* is None, its time is the time of receipt."""
        time, home = self.stamp if time is None else time, self.home_of(sequence)
        return Message(tag, time, record, sequence, self.received, self.peer, home)

    def loss(self, tag: str, entry: codec.Unreadable, sequence: int) -> Message:
        """Return the loss that replaces an unreadable entry, or all that are left of a batch."""
        reason = f"unreadable entry: {entry.reason}"
        record = {"reason": reason, "count": entry.messages, "tag": tag, "sample": entry.raw[:64].hex()}
        tag, home = CLIENT_LOSS_TAG.decode(), self.home_of(sequence)
        return Message(tag, self.stamp, record, sequence, self.received, self.peer, home)

    def acknowledge(self) -> None:
        """Acknowledge the batch to its producer. A second call does nothing."""
        if self.origin is not None:
            self.origin.acknowledge(self)


class Loss(msgspec.Struct, frozen=True):
    """
    Data that could not be kept: the reason, the number of messages (1 if unknown) and bytes, a sample.

    *chunk_id* is set if the sender waits for an acknowledgement of the lost data. It gets one, or it would resend for
    ever. *fatal* means that the rest of the stream cannot be read. *positions* are committed with the report.
    """

    reason: str
    count: int = 1
    lost_bytes: int = 0
    sample: bytes = b""
    tag: bytes = b""
    chunk_id: bytes | None = None
    fatal: bool = False
    positions: tuple[Position, ...] = ()

    def as_batch(self, *, peer: Peer, origin: Origin | None = None) -> Batch:
        """
        Return the loss as a batch of one message under `LOSS_TAG`, to be stored like any other.

        Its time is the time of receipt, so a client that resends the same lost data produces the same bytes, and
        deduplication recognises it.
        """
        record: dict[str, object] = {"reason": self.reason, "count": self.count, "bytes": self.lost_bytes}
        if self.tag:
            record["tag"] = self.tag.decode("utf-8", "replace")
        if self.sample:
            record["sample"] = self.sample[:64].hex()
        record["peer"] = {"pid": peer.pid, "uid": peer.uid, "gid": peer.gid, "comm": peer.comm}
        entry = codec.UNSTAMPED + msgspec.msgpack.encode(record)
        return Batch(LOSS_TAG, codec.join((entry,), 1), 1, self.chunk_id, peer, origin, positions=self.positions)


def position_batches(positions: Sequence[Position], *, peer: Peer) -> list[Batch]:
    """Return batches without messages that carry *positions*: for what is first seen, refreshed or forgotten."""
    empty = codec.join((), 0)
    parts = (tuple(positions[start : start + POSITIONS_MAX]) for start in range(0, len(positions), POSITIONS_MAX))
    return [Batch(b"", empty, 0, None, peer, positions=part) for part in parts]
