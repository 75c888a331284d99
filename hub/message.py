"""
The values that travel: peer, message, batch, loss.

A batch is what arrives, commits and is acknowledged together; a message is one entry of it, decoded when somebody asks.
A loss is what could not be kept, said in a message of its own under the tag `LOSS_TAG`.

Always true: values do not change; a batch's entries are one msgpack array (hub.entries).
Not here: how they come off the wire (hub.wire) or lie on disk (hub.journal.block).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import msgspec

from hub import entries as codec

LOSS_TAG = b"mpsr.loss"
OWN_TAGS = frozenset({LOSS_TAG})
"""Tags under which only the hub itself speaks."""
CLIENT_SUFFIX = b".client"
"""What a client sends under one of them is stored under that tag with this behind it."""


class Peer(msgspec.Struct, frozen=True):
    """Who wrote: process, user, group and command name of the process that connected, as the kernel says."""

    pid: int = 0
    uid: int = -1
    gid: int = -1
    comm: str = ""
    verified: bool = True


UNKNOWN_PEER = Peer(verified=False)


class Message(msgspec.Struct, frozen=True, gc=False):
    """One thing that a producer sent, and what the hub adds. Times are nanoseconds since the epoch."""

    tag: str
    time: int
    record: dict[Any, Any]
    sequence: int = 0
    received: int = 0
    peer: Peer = UNKNOWN_PEER


class Origin(Protocol):
    """Where a batch came from, and where its acknowledgement goes."""

    def acknowledge(self, batch: Batch) -> None: ...


class Batch(msgspec.Struct, frozen=True, eq=False):
    """
    Messages that travel, commit and are acknowledged together.

    *entries* is one msgpack array; *count* the messages in it (group markers are not messages); *chunk* the msgpack
    encoding of the sender's chunk id, exactly as it came, or None where the sender wants no acknowledgement. *sequence*
    (of the first message) and *received* are the hub's, 0 before it has given them. *crc* is the CRC-32 of the entries
    where somebody has computed it: those that take them off the wire do, for they have them at hand.
    """

    tag: bytes
    entries: bytes | memoryview
    count: int
    chunk: bytes | None = None
    peer: Peer = UNKNOWN_PEER
    origin: Origin | None = None
    sequence: int = 0
    received: int = 0
    crc: int | None = None

    def messages(self) -> Iterator[Message]:
        """Yield the messages, decoded now; an entry that is none comes out as a loss at its own sequence."""
        tag = self.tag.decode("utf-8", "replace")
        for sequence, entry in enumerate(codec.read(self.entries, self.count), self.sequence):
            if isinstance(entry, codec.Entry):
                yield self.message(tag, entry.time, entry.record, sequence)
            else:
                yield self.loss(tag, entry, sequence)

    def message(self, tag: str, time: int | None, record: dict[Any, Any], sequence: int) -> Message:
        """Return one of the entries as a message; without a time of its own it has that of its arrival."""
        return Message(tag, self.received if time is None else time, record, sequence, self.received, self.peer)

    def loss(self, tag: str, entry: codec.Unreadable, sequence: int) -> Message:
        """Return what stands in the place of an entry that cannot be read."""
        reason = f"unreadable entry: {entry.reason}"
        record = {"reason": reason, "count": 1, "tag": tag, "sample": entry.raw[:64].hex()}
        return Message(LOSS_TAG.decode(), self.received, record, sequence, self.received, self.peer)

    def acknowledge(self) -> None:
        """Tell the producer that this batch is safe. Once; of a batch that a `Hub` gave, a second time does nothing."""
        if self.origin is not None:
            self.origin.acknowledge(self)


class Loss(msgspec.Struct, frozen=True):
    """
    Something that could not be kept: why, how many messages (1 where that cannot be known), how many bytes, a sample.

    *chunk* is set when the sender waits for an acknowledgement of what was lost: it gets one, or it would resend for
    ever. *fatal* means that the stream cannot be read any further.
    """

    reason: str
    count: int = 1
    lost_bytes: int = 0
    sample: bytes = b""
    tag: bytes = b""
    chunk: bytes | None = None
    fatal: bool = False

    def as_batch(self, *, peer: Peer, origin: Origin | None = None) -> Batch:
        """
        Return the loss as a message under `LOSS_TAG`, to be kept like any other.

        Its time is that of its receipt. So the same loss, sent again by a client that waits for its acknowledgement,
        is the same bytes, and is recognised.
        """
        record: dict[str, object] = {"reason": self.reason, "count": self.count, "bytes": self.lost_bytes}
        if self.tag:
            record["tag"] = self.tag.decode("utf-8", "replace")
        if self.sample:
            record["sample"] = self.sample[:64].hex()
        record["peer"] = {"pid": peer.pid, "uid": peer.uid, "gid": peer.gid, "comm": peer.comm}
        entry = codec.UNSTAMPED + msgspec.msgpack.encode(record)
        return Batch(LOSS_TAG, codec.join((entry,), 1), 1, self.chunk, peer, origin)
