"""
Makes a Forward chunk of stored messages: a PackedForward frame, and the id by which its server knows it again.

The id has the form of our own producers' ids (hub.wire.chunkid): a session made of the hub's id, the sink's name and
the number of its rewinds (with durability ``relaxed``, also the boot), and the last sequence of the chunk as the
counter. So another hub stores a chunk that comes again once, after any delay: it keeps the highest counter of each
session.

Always true: the same messages make the same id and the same entries. The entries are passed on as they are stored, with
three exceptions that other programs, or a later clock, would read as something else:
- one without a time gets the time of receipt;
- a line of syslog is taken apart into its time and fields;
- the empty metadata of Fluent Bit are left out.

Not here: when to send (hub.sinks.forward), the bytes of a frame (hub.wire.frame).
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zlib
from typing import Literal, NamedTuple

import msgspec

from hub import entries as codec
from hub.entries import ARRAY_HEADER_BYTES
from hub.message import Batch
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
_GZIP_BITS = 31
_LEVEL = 1
_WITH_METADATA = b"\x92\x92"
_NO_METADATA = b"\x92\x92\xd7\x00"  # the time, then an empty map
_TIME_END = len(_NO_METADATA) + 8
_encode = msgspec.msgpack.Encoder(enc_hook=codec.as_ext).encode


class Chunk(NamedTuple):
    """A chunk to be sent: its packed id, its bytes in parts, and the messages in it."""

    chunk_id: bytes
    parts: tuple[bytes | memoryview, ...]
    stored: Stored


def session_of(hub_id: bytes, name: str, rewinds: int, boot_id: bytes = b"") -> str:
    """
    Return the session of the sink *name* of the hub with *hub_id*, which was rewound *rewinds* times. *boot_id*: see
    `Host`.
    """
    digest = hashlib.sha256(b"mpsr forward\0%b\0%b\0%d\0%b" % (hub_id, name.encode(), rewinds, boot_id)).digest()
    return base64.urlsafe_b64encode(digest).decode()[:SESSION_LENGTH]


def make_chunk(stored: Stored, session: str, method: Method | None) -> Chunk:
    """Return *stored* as a chunk of *session*, compressed with *method*, if any."""
    entries = plain_entries(stored.batch)
    chunk_id = pack_own(session, stored.last)
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
    if codec.UNSTAMPED not in packed and not has_metadata and not codec.may_have_syslog(packed):
        return packed
    raws = codec.split_raw(packed)
    rest = memoryview(packed)[ARRAY_HEADER_BYTES + sum(map(len, raws)) :]  # nothing, unless they are broken
    parts = [_plain(bytes(raw), batch.stamp) for raw in raws]
    return codec.join((*parts, rest), codec.array_length(packed))


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
        compressor = zlib.compressobj(_LEVEL, wbits=_GZIP_BITS)
        return compressor.compress(payload) + compressor.flush()
    if sys.version_info >= (3, 14):
        return zstd.compress(payload, _LEVEL)
    return zstandard.ZstdCompressor(level=_LEVEL).compress(payload)
