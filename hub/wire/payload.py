"""
What a frame carries, to batches and losses: the entries of Forward and PackedForward frames, compressed or not.

Always true: whatever becomes a batch has been checked (nesting, lengths, count); of entries with a fault in the middle
those before it are kept; a chunk id is carried by exactly one of what comes out, so that it is acknowledged once.
Not here: where a frame ends (hub.wire.forward), how to decompress (hub.wire.compression).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgpack
import msgspec

from hub import entries as codec
from hub.message import Batch, Loss, Origin, Peer
from hub.wire.compression import METHODS, Spoilt, TooLarge, decompress
from hub.wire.frame import Option, look_why_not


class Compressed(msgspec.Struct, frozen=True):
    """
    A compressed payload, still to be opened: that takes time, so whoever waits decides where.

    *bytes_max* bounds what may come out.
    """

    tag: bytes
    payload: bytes
    option: Option
    peer: Peer
    origin: Origin | None
    bytes_max: int

    def open(self) -> Sequence[Batch | Loss]:
        """Return what is inside, or word of what is wrong with it."""
        method = self.option.compressed
        assert method in METHODS, method
        try:
            payload = decompress(memoryview(self.payload), method, self.bytes_max)
        except TooLarge:
            return [self._loss(f"{method} of more than {self.bytes_max} bytes")]
        except Spoilt as error:
            return [self._loss(f"not {method}: {error}")]
        return open_payload(self.tag, memoryview(payload), self.option, self.peer, self.origin)

    def _loss(self, reason: str) -> Loss:
        return payload_loss(reason, self.tag, memoryview(self.payload), self.option)


def payload_loss(reason: str, tag: bytes, payload: memoryview, option: Option) -> Loss:
    """Return word of a whole payload that could not be kept."""
    return Loss(reason, max(option.size or 1, 1), len(payload), bytes(payload[:64]), tag, option.chunk)


def open_payload(
    tag: bytes, payload: memoryview, option: Option, peer: Peer, origin: Origin | None
) -> Sequence[Batch | Loss]:
    """Check the entries of *payload* and return them; the option's size is a hint (one client puts bytes there)."""
    if payload and not codec.begins_with_pair(payload):
        return [payload_loss("a payload that does not begin with [time, record]", tag, payload, option)]
    count = option.size
    if count and count <= len(payload):
        entries = codec.join((payload,), count)
        if codec.is_well_formed(entries):
            return _batch(tag, entries, option.chunk, peer, origin)
    count, stop = codec.count_objects(payload)
    entries = codec.join((payload[:stop],), count)
    if not codec.is_well_formed(entries):  # `skip` let something through: keep entry by entry
        count, stop = _count_well_formed(payload[:stop], count)
        entries = codec.join((payload[:stop],), count)
    if stop == len(payload):
        return _batch(tag, entries, option.chunk, peer, origin)
    lost = max((option.size or 0) - count, 1)
    sample, chunk = bytes(payload[stop : stop + 64]), None if count else option.chunk
    reason = f"entries that are {look_why_not(payload[stop:])}"
    spoilt = Loss(reason, lost, len(payload) - stop, sample, tag, chunk)
    # The loss first, so that it is safe too when the entries' acknowledgement goes out.
    return [spoilt, *(_batch(tag, entries, option.chunk, peer, origin) if count else ())]


def _batch(tag: bytes, entries: bytes, chunk: bytes | None, peer: Peer, origin: Origin | None) -> Sequence[Batch]:
    """Return the batch; one without messages only if somebody waits for its acknowledgement."""
    count = codec.count_messages(entries)
    if not count and chunk is None:
        return []
    return [Batch(tag, entries, count, chunk, peer, origin, crc=zlib.crc32(entries))]


def _count_well_formed(payload: memoryview, count: int) -> tuple[int, int]:
    """Return how many of the first *count* objects hold, and where the last of them ends."""
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(payload), 1))
    unpacker.feed(payload)
    end = 0
    for good in range(count):
        unpacker.skip()
        if not codec.is_well_formed(codec.join((payload[end : unpacker.tell()],), 1)):
            return good, end
        end = unpacker.tell()
    return count, end
