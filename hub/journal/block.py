"""
The bytes of blocks and segment headers. Each pack function stands beside its unpack function.

Always true:
- a length is checked against its limit before it is used;
- a CRC covers all bytes that follow it, except the entries, which have a CRC of their own;
- unpacking never raises because of the bytes: it returns None.

Not here: where blocks are (hub.journal.segment), which of them count (hub.journal.recovery).
Source: FORMAT.md, "Segment" and "Block".
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from hub.checksum import crc32
from hub.message import Batch, Home, Peer, Position

VERSION = 2
_POSITIONS_SINCE = 2
HEADER_BYTES_MAX = 128 << 10
"""More than a tag of 4 KiB, a chunk id of 64 KiB and `POSITIONS_MAX` positions take."""
ENTRIES_BYTES_MAX = 1 << 30
SNAPSHOT_BYTES_MAX = 64 << 20

_SEGMENT = struct.Struct("<8sII16sQQQI")
SEGMENT_MAGIC = b"MPSRSEG\n"
_CRC_FROM = 12
SEGMENT_HEADER_BYTES = _SEGMENT.size

_BLOCK = struct.Struct("<IIIIQIIQQ")
_HEAD, _REST = struct.Struct("<II"), struct.Struct("<IIQIIQQ")  # the same in two parts: the CRC covers the second
BLOCK_MAGIC = 0x424D504D
EXPIRED_MAGIC = 0x584D504D
"""Of a block whose messages have expired by rule: its entries are zeros."""
MAGICS = (BLOCK_MAGIC, EXPIRED_MAGIC)
MAGIC_PREFIX = b"MPM"
"""What both begin with on the disk."""
BLOCK_BYTES = _BLOCK.size
BLOCK_LENGTHS = struct.Struct("<I4xIIQI")
"""
The fields that lead from a block to the next: magic, length of the header, of the entries, sequence, number of
messages.
"""
ENTRY_BYTES_MIN = 3
"""No message is shorter: [nil, {}]."""
_encode_header = msgspec.msgpack.Encoder().encode


class _Header(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The variable part. What follows *verified* may be missing."""

    tag: bytes
    chunk_id: bytes | None
    pid: int
    uid: int
    gid: int
    comm: str
    verified: bool
    cgroup: str = ""
    positions: tuple[Position, ...] = ()
    home: Home | None = None


_decode_header = msgspec.msgpack.Decoder(_Header).decode
_decode_snapshot = msgspec.msgpack.Decoder(tuple[msgspec.Raw, msgspec.Raw]).decode


class SegmentHeader(NamedTuple):
    """
    The header of a segment. Times are nanoseconds since the epoch.

    No earlier block of the journal was received later than *received*. *created* is the real time at which the segment
    was created; expiry by age uses it (hub.journal.clock).
    """

    version: int
    hub_id: bytes
    first_sequence: int
    received: int
    created: int
    snapshot: bytes

    @property
    def size_bytes(self) -> int:
        """Length on disk in bytes."""
        return SEGMENT_HEADER_BYTES + len(self.snapshot)


def pack_segment_header(header: SegmentHeader) -> bytes:
    """Return the header of a segment, ready to be written at offset 0."""
    fields = (*header[1:-1], len(header.snapshot))
    rest = _SEGMENT.pack(SEGMENT_MAGIC, 0, header.version, *fields)[_CRC_FROM:]
    crc = crc32(header.snapshot, crc32(rest))  # the snapshot may be large: it is copied once
    return b"".join((SEGMENT_MAGIC, crc.to_bytes(4, "little"), rest, header.snapshot))


def segment_header_bytes(data: bytes) -> int | None:
    """Return the length in bytes of the header that *data* begins with, or None if it is no header."""
    if len(data) < SEGMENT_HEADER_BYTES or data[:8] != SEGMENT_MAGIC:
        return None
    length: int = _SEGMENT.unpack_from(data)[-1]
    return SEGMENT_HEADER_BYTES + length if length <= SNAPSHOT_BYTES_MAX else None


def unpack_segment_header(data: bytes) -> SegmentHeader | None:
    """Return the header that *data* begins with, or None if it is not whole."""
    size = segment_header_bytes(data)
    if size is None or len(data) < size:
        return None
    _, crc, version, hub_id, first_sequence, received, created, _ = _SEGMENT.unpack_from(data)
    if crc32(memoryview(data)[_CRC_FROM:size]) != crc:
        return None
    return SegmentHeader(version, hub_id, first_sequence, received, created, data[SEGMENT_HEADER_BYTES:size])


class Block(msgspec.Struct, frozen=True):
    """The fixed part of a block, and its offset in the file."""

    offset: int
    crc: int
    header_bytes: int
    entries_bytes: int
    sequence: int
    count: int
    entries_crc: int
    received: int
    commit_offset: int
    is_expired: bool = False

    @property
    def end(self) -> int:
        """Offset of the first byte after the block."""
        return self.offset + BLOCK_BYTES + self.header_bytes + self.entries_bytes

    @property
    def next_sequence(self) -> int:
        """The sequence after that of its last message."""
        return self.sequence + self.count


def pack_snapshot(dedupe: bytes, positions: bytes) -> bytes:
    """Return the snapshot of a segment, made of those of deduplication and of the positions."""
    return b"".join((b"\x92", dedupe, positions))


def unpack_snapshot(header: SegmentHeader) -> tuple[bytes, bytes | None]:
    """
    Return the snapshots of deduplication and of the positions; None in version 1, which has none.

    Raises ValueError if it is not a snapshot.
    """
    if header.version < _POSITIONS_SINCE:
        return header.snapshot, None
    try:
        dedupe, positions = _decode_snapshot(header.snapshot)
    except msgspec.DecodeError as error:
        raise ValueError(f"not a snapshot: {error}") from error
    return bytes(dedupe), bytes(positions)


def seed_of(hub_id: bytes) -> int:
    """Return the initial CRC value for the blocks of this journal."""
    return crc32(hub_id)


def pack_block(batch: Batch, *, sequence: int, received: int, commit_offset: int, seed: int) -> tuple[bytes, int]:
    """Return the bytes of the block before its entries, and the length of the whole block in bytes."""
    peer = batch.peer
    fields = (batch.tag, batch.chunk_id, peer.pid, peer.uid, peer.gid, peer.comm, peer.verified)
    if batch.home is not None:
        header = _encode_header((*fields, peer.cgroup, batch.positions, batch.home))
    elif batch.positions:
        header = _encode_header((*fields, peer.cgroup, batch.positions))
    else:
        header = _encode_header((*fields, peer.cgroup) if peer.cgroup else fields)
    assert len(header) <= HEADER_BYTES_MAX
    entries_bytes = len(batch.entries)
    entries_crc = crc32(batch.entries) if batch.crc is None else batch.crc
    rest = _REST.pack(len(header), entries_bytes, sequence, batch.count, entries_crc, received, commit_offset) + header
    front = _HEAD.pack(BLOCK_MAGIC, crc32(rest, seed)) + rest
    return front, len(front) + entries_bytes


def unpack_block(data: bytes | memoryview, at: int, offset: int) -> Block | None:
    """Return the fixed part at *at* in *data*, which is at *offset* in the file. Return None if it cannot be one."""
    if len(data) - at < BLOCK_BYTES:
        return None
    magic, crc, header_bytes, entries_bytes, sequence, count, entries_crc, received, commit = _BLOCK.unpack_from(
        data, at
    )
    if magic not in MAGICS or header_bytes > HEADER_BYTES_MAX or entries_bytes > ENTRIES_BYTES_MAX:
        return None
    if commit > offset or not sequence:
        return None
    is_expired = magic == EXPIRED_MAGIC
    return Block(offset, crc, header_bytes, entries_bytes, sequence, count, entries_crc, received, commit, is_expired)


def is_front_whole(block: Block, data: bytes | memoryview, at: int, seed: int) -> bool:
    """Return whether everything before the entries of the block at *at* of *data* is as it was written."""
    middle = at + BLOCK_BYTES + block.header_bytes
    return len(data) >= middle and crc32(memoryview(data)[at + 8 : middle], seed) == block.crc


def is_whole(block: Block, data: bytes | memoryview, at: int, seed: int) -> bool:
    """Return whether the CRCs of the block at *at* in *data* match: that of the front alone if it has expired."""
    middle = at + BLOCK_BYTES + block.header_bytes
    end = middle + block.entries_bytes
    view = memoryview(data)
    return (
        len(data) >= end
        and crc32(view[at + 8 : middle], seed) == block.crc
        and (block.is_expired or crc32(view[middle:end]) == block.entries_crc)
    )


def unpack_run(data: bytes, base: int, at: int, seed: int, sequence: int, below: int) -> Iterator[tuple[int, Batch]]:
    """
    Yield the batches of the whole blocks from *at* on in *data* that follow each other without a gap, the first of them
    with *sequence* and all below the sequence *below*; with each, where its block ends in the file, in which *data*
    is at *base*.

    It ends where anything else is: a place without a whole block, a block without messages or with expired ones, a
    header that cannot be read. What that is, `unpack_block`, `is_whole` and `unpack_batch` tell: they do the same for
    one block, in three times as long.
    """
    view, unpack, last = memoryview(data), _BLOCK.unpack_from, len(data) - BLOCK_BYTES
    while at <= last:
        magic, crc, header_bytes, entries_bytes, first, count, entries_crc, received, commit = unpack(data, at)
        start = at + BLOCK_BYTES
        middle = start + header_bytes
        end = middle + entries_bytes
        if magic != BLOCK_MAGIC or first != sequence or not count or commit > base + at:
            return
        sequence += count
        if sequence > below or end > len(data) or header_bytes > HEADER_BYTES_MAX or entries_bytes > ENTRIES_BYTES_MAX:
            return
        entries = view[middle:end]
        if crc32(view[at + 8 : middle], seed) != crc or crc32(entries) != entries_crc:
            return
        try:
            tag, chunk_id, peer, positions, home = _unpack_header(data[start:middle])
        except (msgspec.MsgspecError, UnicodeError):
            return
        at = end
        yield (
            base + at,
            Batch(tag, entries, count, chunk_id, peer, None, first, received, entries_crc, positions, None, (), home),
        )


def unpack_batch(block: Block, data: bytes | memoryview, at: int) -> Batch | None:
    """Return the batch of a whole block, or None if its header is not in our format."""
    start = at + BLOCK_BYTES
    middle = start + block.header_bytes
    try:
        tag, chunk_id, peer, positions, home = _unpack_header(bytes(data[start:middle]))
    except (msgspec.MsgspecError, UnicodeError):
        return None
    entries = memoryview(data)[middle : middle + block.entries_bytes]
    fixed = block.sequence, block.received, block.entries_crc
    return Batch(tag, entries, block.count, chunk_id, peer, None, *fixed, positions, home=home)


@functools.lru_cache(maxsize=64)  # neighbouring batches without acknowledgements have the same
def _unpack_header(header: bytes) -> tuple[bytes, bytes | None, Peer, tuple[Position, ...], Home | None]:
    read = _decode_header(header)
    peer = Peer(read.pid, read.uid, read.gid, read.comm, read.verified, read.cgroup)
    return read.tag, read.chunk_id, peer, read.positions, read.home
