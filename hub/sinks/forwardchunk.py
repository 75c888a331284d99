"""
Makes a Forward chunk of stored messages: a PackedForward frame, and the id by which its server knows it again.

The id has the form of our own producers' ids (hub.wire.chunkid): a session made of the hub's id, the sink's name and
the number of its rewinds (with durability ``relaxed``, also the boot), and a counter made of the time of receipt and
the last sequence of the chunk. So another hub stores a chunk that comes again once, after any delay: it keeps the
highest counter of each session. The time is there for a journal that was restored from an older copy: it gives
sequences again, to messages that are received later.

Always true: the same messages make the same id and the same entries; ids of a session rise. The entries are passed on
as they are stored, with three exceptions, which other programs, or a later clock, would read as something else:
- one without a time gets the time of receipt;
- a line of syslog is taken apart into its time and fields;
- the empty metadata of Fluent Bit are left out.

Not here: when to send (hub.sinks.forward), the bytes of a frame (hub.wire.frame).
"""

from __future__ import annotations

import base64
import functools
import hashlib
import sys
from typing import Literal, NamedTuple

import msgspec

from hub import entries as codec
from hub.entries import ARRAY_HEADER_BYTES, NS
from hub.message import Batch
from hub.sinks.gzipped import gzipped
from hub.sinks.stored import Stored
from hub.wire.chunkid import SESSION_LENGTH, pack_own
from hub.wire.frame import encode_compressed_tail, encode_frame_head, encode_frame_tail, encode_mixed_tail

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    import zstandard

Method = Literal["gzip", "zstd"]
RATIO_MAX = 500
"""What shrinks to less is sent as it is: servers refuse payloads that could be bombs (hub.wire.compression)."""
_LEVEL = 1
_SEQUENCE_BITS = 33
"""The lower bits of a sequence are in the counter, the others in the session."""
_EPOCH_S, _SECONDS_MAX = 1_577_836_800, (1 << 31) - 1
"""Seconds are counted from 2020, for 68 years."""
_WITH_METADATA = b"\x92\x92"
_NO_METADATA = b"\x92\x92\xd7\x00"  # the time, then an empty map
_TIME_END = len(_NO_METADATA) + 8
_encode = msgspec.msgpack.Encoder(enc_hook=codec.as_ext).encode


class Chunk(NamedTuple):
    """A chunk to be sent: its packed id, its bytes in parts, and the messages in it."""

    chunk_id: bytes
    parts: tuple[bytes | memoryview, ...]
    stored: Stored


class Sender(NamedTuple):
    """The sink *name* of the hub with *hub_id*, which was rewound *rewinds* times. *boot_id*: see `Host`."""

    hub_id: bytes
    name: str
    rewinds: int
    boot_id: bytes = b""

    def chunk_id(self, stored: Stored) -> bytes:
        """Return the packed chunk id of *stored*."""
        part, low = divmod(stored.last, 1 << _SEQUENCE_BITS)
        seconds = min(max(stored.batch.received // NS - _EPOCH_S, 0), _SECONDS_MAX)
        return pack_own(_session(self, part), seconds << _SEQUENCE_BITS | low)


@functools.lru_cache(maxsize=16)
def _session(sender: Sender, part: int) -> str:
    parts = (sender.hub_id, sender.name.encode(), sender.rewinds, sender.boot_id, part)
    digest = hashlib.sha256(b"mpsr forward\0%b\0%b\0%d\0%b\0%d" % parts).digest()
    return base64.urlsafe_b64encode(digest).decode()[:SESSION_LENGTH]


def make_chunk(stored: Stored, sender: Sender, method: Method | None) -> Chunk:
    """Return *stored* as a chunk of *sender*, compressed with *method*, if any."""
    entries = plain_entries(stored.batch)
    chunk_id = sender.chunk_id(stored)
    payload = memoryview(entries)[ARRAY_HEADER_BYTES:]
    count = stored.batch.count
    if method is not None and len(data := _compress(payload, method)) * RATIO_MAX >= len(payload):
        tail = encode_compressed_tail(chunk_id, count, method)
        return Chunk(chunk_id, (encode_frame_head(stored.batch.tag, len(data)), data, tail), stored)
    has_markers = codec.array_length(entries) != count
    tail = encode_mixed_tail(chunk_id, count) if has_markers else encode_frame_tail(chunk_id, count)
    return Chunk(chunk_id, (encode_frame_head(stored.batch.tag, len(payload)), payload, tail), stored)


def plain_entries(batch: Batch) -> bytes | memoryview:
    """Return the entries of *batch* in a form that every server reads in the same way."""
    packed = bytes(batch.entries)
    has_metadata = packed.startswith(_WITH_METADATA, ARRAY_HEADER_BYTES)
    if not has_metadata and not _may_have_unstamped(packed) and not codec.may_have_syslog(packed):
        return packed
    raws = codec.split_raw(packed)
    rest = memoryview(packed)[ARRAY_HEADER_BYTES + sum(map(len, raws)) :]  # nothing, unless they are broken
    parts = [_plain(bytes(raw), batch.stamp) for raw in raws]
    return codec.join((*parts, rest), codec.array_length(packed))


def _may_have_unstamped(packed: bytes) -> bool:
    # Nil is rare, and one byte is found 30 times as fast as two.
    return codec.UNSTAMPED[-1] in packed and codec.contains(packed, codec.UNSTAMPED)


def _plain(entry: bytes, received: int) -> bytes:
    if entry.startswith(codec.UNSTAMPED):
        return codec.stamp(received) + entry[len(codec.UNSTAMPED) :]
    if not entry.startswith(_WITH_METADATA):
        return entry
    if entry.startswith(_NO_METADATA) and entry[_TIME_END : _TIME_END + 1] == b"\x80":
        return entry if codec.is_marker(entry) else b"\x92" + entry[2:_TIME_END] + entry[_TIME_END + 1 :]
    if not codec.may_have_syslog(codec.array_header(1) + entry):
        return entry
    (read,) = codec.read_each(codec.join((entry,), 1), 1, received)
    if isinstance(read, codec.Unreadable):
        return entry
    return codec.stamp(received if read.time is None else read.time) + _encode(read.record)


def _compress(payload: memoryview, method: Method) -> bytes:
    if method == "gzip":
        return gzipped(payload)
    if sys.version_info >= (3, 14):
        return zstd.compress(payload, _LEVEL)
    return zstandard.ZstdCompressor(level=_LEVEL).compress(payload)
