"""
Cuts large batches into pieces that are decoded one at a time.

Always true:
- together the pieces have the messages of the batch, with the same sequences;
- a piece has about `PIECE_BYTES`, or is one entry. An entry that is too large appears without its record, with its
  size;
- a batch can be cut from any place at which a piece begins.

Not here: which of these places are known (hub.control.largebatches).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgpack
import msgspec

from hub import entries as codec
from hub.message import Batch
from hub.wire.frame import INLINE_BYTES, UNPACK_FAULTS

PIECE_BYTES = 64 << 10
"""A millisecond or two of decoding, during which nothing else runs."""
ENTRY_BYTES_MAX = 256 << 10
"""A larger entry is not decoded: its values can take 80 times its size, and too long."""
OMITTED = "mpsr.omitted_bytes"
"""The one field of a message that is too large to be sent to a caller: its size, stored or as JSON."""


class Beginning(NamedTuple):
    """Where a piece of a batch begins: the sequence of its first message, and the offset of that in the entries."""

    sequence: int
    at: int


def beginning_of(batch: Batch) -> Beginning:
    """Return where the first piece of *batch* begins."""
    return Beginning(batch.sequence, codec.ARRAY_HEADER_BYTES)


def pieces(batch: Batch, *, piece_bytes: int = PIECE_BYTES, entry_bytes_max: int = ENTRY_BYTES_MAX) -> Iterator[Batch]:
    """Yield a large *batch* as several of about *piece_bytes*. Of an entry that is too large there is only the size."""
    cut = pieces_from(batch, beginning_of(batch), piece_bytes=piece_bytes, entry_bytes_max=entry_bytes_max)
    return (piece for piece, _ in cut)


def pieces_from(
    batch: Batch, begin: Beginning, *, piece_bytes: int = PIECE_BYTES, entry_bytes_max: int = ENTRY_BYTES_MAX
) -> Iterator[tuple[Batch, Beginning]]:
    """Yield the pieces of *batch* from *begin* on, each with the place where the next one begins."""
    view, (sequence, at) = memoryview(batch.entries), begin
    end = batch.sequence + batch.count
    has_markers = codec.array_length(batch.entries) != batch.count
    while at < len(view) and sequence < end:
        count, length = codec.count_well_formed(view[at : at + piece_bytes])
        if count:
            entries = codec.join((view[at : at + length],), count)
        elif length := _length_of(view, at):
            count = 1
            entries = codec.join((_omitted(length) if length > entry_bytes_max else view[at : at + length],), 1)
        else:
            break
        if has_markers:
            count = codec.count_messages(entries)
        if count > end - sequence:  # more than announced: the others have no sequence
            count = end - sequence
            entries = codec.join(codec.split_raw(entries)[:count], count)
        at += length
        yield _piece_of(batch, entries, count, sequence), Beginning(sequence + count, at)
        sequence += count
    if sequence < end:  # the rest is not msgpack: one loss, which the reader makes of it
        entries = codec.join((view[at : at + piece_bytes],), end - sequence)
        yield _piece_of(batch, entries, end - sequence, sequence), Beginning(end, len(view))


def _piece_of(batch: Batch, entries: bytes, count: int, sequence: int) -> Batch:
    home = batch.home_of(sequence)
    return msgspec.structs.replace(batch, entries=entries, count=count, sequence=sequence, crc=None, home=home)


def _length_of(view: memoryview, at: int) -> int:
    """Return the length of the one entry at *at*, 0 if it is not whole."""
    rest = len(view) - at
    unpacker = msgpack.Unpacker(read_size=rest, max_buffer_size=rest)
    for start in range(at, len(view), PIECE_BYTES):
        unpacker.feed(view[start : start + PIECE_BYTES])
        try:
            unpacker.skip()
        except msgpack.OutOfData:
            continue
        except UNPACK_FAULTS:
            return 0
        length: int = unpacker.tell()
        # Entries that were accepted unchecked are not larger (hub.wire.payload).
        is_checked = length > INLINE_BYTES
        return length if is_checked or codec.is_whole(codec.join((view[at : at + length],), 1)) else 0
    return 0


def _omitted(size: int) -> bytes:
    return codec.UNSTAMPED + msgspec.msgpack.encode({OMITTED: size})
