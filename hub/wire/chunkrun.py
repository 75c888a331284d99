"""
Runs of chunks: chunks that one of our own producers sent one after the other become one batch.

A batch costs as much as the bytes of a hundred small messages, on its way from here to the disk. Chunks that arrive in
one read, and are of one session and one tag, share it.

Always true: the messages, their order and their bytes are those of the single chunks. The batch knows which chunks it
is made of, so that each is acknowledged, and those that were stored before are left out (hub.dedupe).
"""

from __future__ import annotations

from hub.checksum import crc32
from hub.entries import ARRAY_HEADER_BYTES, join
from hub.message import Batch, Chunk, Origin, Peer
from hub.wire.chunkid import follows
from hub.wire.frame import INLINE_BYTES
from hub.wire.payload import Parts

CHUNKS_MAX = 64
"""More gain nothing."""


class ChunkRun:
    """Gathers chunks whose entries are not examined."""

    __slots__ = ("_chunks", "_end", "_payloads", "_tag")

    def __init__(self) -> None:
        self._begin(b"")

    def _begin(self, tag: bytes) -> None:
        self._tag = tag
        self._chunks: list[Chunk] = []
        self._payloads: list[bytes | memoryview] = []
        self._end = ARRAY_HEADER_BYTES

    def takes(self, tag: bytes, size: int, chunk_id: bytes) -> bool:
        """Return whether the next chunk of the run can be this one."""
        chunks = self._chunks
        if not chunks:
            return True
        is_small = len(chunks) < CHUNKS_MAX and self._end + size <= INLINE_BYTES
        return is_small and tag == self._tag and follows(chunk_id, chunks[-1].chunk_id)

    def add(self, tag: bytes, parts: Parts, size: int, chunk_id: bytes, count: int) -> None:
        """Add the chunk, *size* bytes in *parts*, which `takes` allows."""
        self._tag = tag
        self._payloads += parts
        self._end += size
        self._chunks.append(Chunk(chunk_id, count, self._end))

    def take(self, peer: Peer, origin: Origin | None) -> Batch | None:
        """Return the batch of all chunks since the last call, None without any."""
        chunks = self._chunks
        if not chunks:
            return None
        count = sum(chunk.messages for chunk in chunks)
        entries = join(self._payloads, count)
        batch = Batch(
            self._tag,
            entries,
            count,
            chunks[-1].chunk_id,
            peer,
            origin,
            crc=crc32(entries),
            chunks=tuple(chunks) if len(chunks) > 1 else (),
        )
        self._begin(b"")
        return batch
