"""
Blocks and segment headers: their bytes, packed and unpacked side by side.

Source: FORMAT.md, "Segment" and "Block".
Always true: a length is bounded before it is believed; a CRC covers everything behind itself; unpacking raises nothing
because of what the bytes are, it gives None.
Not here: where blocks are (hub.journal.segment), which of them count (hub.journal.recovery).
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

import msgspec

from hub.message import Batch, Peer

VERSION = 1
HEADER_BYTES_MAX = 128 << 10
"""More than the wire lets through: a tag of 4 KiB, a chunk id in 64 KiB of options."""
ENTRIES_BYTES_MAX = 1 << 30
SNAPSHOT_BYTES_MAX = 64 << 20

_SEGMENT = struct.Struct("<8sII16sQQQI")
_SEGMENT_MAGIC = b"MPSRSEG\n"
_CRC_FROM = 12
SEGMENT_HEADER_BYTES = _SEGMENT.size

_BLOCK = struct.Struct("<IIIIQIIQQ")
_HEAD, _REST = struct.Struct("<II"), struct.Struct("<IIQIIQQ")  # the same in two: the CRC is over the second
_MAGIC = 0x424D504D
BLOCK_MAGIC_BYTES = _MAGIC.to_bytes(4, "little")
BLOCK_BYTES = _BLOCK.size
ENTRY_BYTES_MIN = 3
"""No message is shorter: [nil, {}]."""
_encode_header = msgspec.msgpack.Encoder().encode
_decode_header = msgspec.msgpack.Decoder(tuple[bytes, bytes | None, int, int, int, str, bool]).decode


class SegmentHeader(NamedTuple):
    """
    What a segment begins with.

    No block before it was received later than *received*; *created* is when it was made by the real clock, by which it
    expires (hub.journal.clock). Nanoseconds since the epoch.
    """

    version: int
    hub_id: bytes
    first_sequence: int
    received: int
    created: int
    snapshot: bytes

    @property
    def bytes(self) -> int:
        """How long it is on disk."""
        return SEGMENT_HEADER_BYTES + len(self.snapshot)


def pack_segment_header(header: SegmentHeader) -> bytes:
    """Return the bytes that a segment begins with."""
    fields = (*header[1:-1], len(header.snapshot))
    packed = _SEGMENT.pack(_SEGMENT_MAGIC, 0, header.version, *fields) + header.snapshot
    crc = zlib.crc32(memoryview(packed)[_CRC_FROM:])
    return packed[:8] + crc.to_bytes(4, "little") + packed[_CRC_FROM:]


def segment_header_bytes(data: bytes) -> int | None:
    """Return how many bytes of the file the header that begins with *data* has; None if it is no header."""
    if len(data) < SEGMENT_HEADER_BYTES or data[:8] != _SEGMENT_MAGIC:
        return None
    length: int = _SEGMENT.unpack_from(data)[-1]
    return SEGMENT_HEADER_BYTES + length if length <= SNAPSHOT_BYTES_MAX else None


def unpack_segment_header(data: bytes) -> SegmentHeader | None:
    """Return the header that *data* begins with, None if it is not whole."""
    size = segment_header_bytes(data)
    if size is None or len(data) < size:
        return None
    _, crc, version, hub_id, first_sequence, received, created, _ = _SEGMENT.unpack_from(data)
    if zlib.crc32(memoryview(data)[_CRC_FROM:size]) != crc:
        return None
    return SegmentHeader(version, hub_id, first_sequence, received, created, data[SEGMENT_HEADER_BYTES:size])


class Block(msgspec.Struct, frozen=True):
    """The fixed part of a block, and where it is."""

    offset: int
    crc: int
    header_bytes: int
    entries_bytes: int
    sequence: int
    count: int
    entries_crc: int
    received: int
    commit_offset: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind it."""
        return self.offset + BLOCK_BYTES + self.header_bytes + self.entries_bytes

    @property
    def next_sequence(self) -> int:
        """The sequence behind its last message."""
        return self.sequence + self.count


def seed_of(hub_id: bytes) -> int:
    """Return what the CRC of this journal's blocks begins with."""
    return zlib.crc32(hub_id)


def pack_block(batch: Batch, *, sequence: int, received: int, commit_offset: int, seed: int) -> tuple[bytes, int]:
    """Return everything of the block that stands before the entries, and the length of the whole block."""
    peer = batch.peer
    header = _encode_header((batch.tag, batch.chunk, peer.pid, peer.uid, peer.gid, peer.comm, peer.verified))
    assert len(header) <= HEADER_BYTES_MAX
    entries_bytes = len(batch.entries)
    entries_crc = zlib.crc32(batch.entries) if batch.crc is None else batch.crc
    fields = (len(header), entries_bytes, sequence, batch.count, entries_crc, received, commit_offset)
    rest = _REST.pack(*fields) + header
    front = _HEAD.pack(_MAGIC, zlib.crc32(rest, seed)) + rest
    return front, len(front) + entries_bytes


def unpack_block(data: bytes | memoryview, at: int, offset: int) -> Block | None:
    """Return the fixed part at *at* of *data*, which is at *offset* of the file; None if it cannot be one."""
    if len(data) - at < BLOCK_BYTES:
        return None
    magic, crc, header_bytes, entries_bytes, sequence, count, entries_crc, received, commit = _BLOCK.unpack_from(
        data, at
    )
    if magic != _MAGIC or header_bytes > HEADER_BYTES_MAX or entries_bytes > ENTRIES_BYTES_MAX:
        return None
    if commit > offset or not sequence:
        return None
    return Block(offset, crc, header_bytes, entries_bytes, sequence, count, entries_crc, received, commit)


def is_front_whole(block: Block, data: bytes | memoryview, at: int, seed: int) -> bool:
    """Return whether everything before the entries of the block at *at* of *data* is as it was written."""
    middle = at + BLOCK_BYTES + block.header_bytes
    return len(data) >= middle and zlib.crc32(memoryview(data)[at + 8 : middle], seed) == block.crc


def is_whole(block: Block, data: bytes | memoryview, at: int, seed: int) -> bool:
    """Return whether the CRCs of the block at *at* of *data* match."""
    middle = at + BLOCK_BYTES + block.header_bytes
    end = middle + block.entries_bytes
    if len(data) < end or not is_front_whole(block, data, at, seed):
        return False
    return zlib.crc32(memoryview(data)[middle:end]) == block.entries_crc


def unpack_batch(block: Block, data: bytes | memoryview, at: int) -> Batch | None:
    """Return the batch of a whole block; None if its header is not what we write."""
    start = at + BLOCK_BYTES
    middle = start + block.header_bytes
    view = memoryview(data)
    try:
        tag, chunk, pid, uid, gid, comm, verified = _decode_header(view[start:middle])
    except (msgspec.MsgspecError, UnicodeError):
        return None
    peer = Peer(pid, uid, gid, comm, verified)
    entries = view[middle : middle + block.entries_bytes]
    return Batch(tag, entries, block.count, chunk, peer, None, block.sequence, block.received, block.entries_crc)
