"""
An arena is a contiguous piece of memory; chunks are cut from it.

Always true: a chunk's bytes are a whole PackedForward frame. They change only when the chunk gets another id, which it
does only while it is not in flight.
Not here: cutting, and which chunks are held (producers.backlog); where the memory lies (producers.spool).
"""

from __future__ import annotations

import contextlib

from hub.wire.chunkid import pack_own
from hub.wire.frame import encode_frame_tail
from hub.wire.spoolfile import HEADER_BYTES, STATE
from producers.spool import Memory


class Arena:
    """A contiguous piece of memory, and the number of chunks in it that are still needed."""

    __slots__ = ("chunks", "free", "is_file", "is_retired", "memory", "position", "size", "words")

    def __init__(self, memory: Memory, size: int) -> None:
        self.memory = memory.map
        self.free = memory.free
        self.is_file = memory.is_file
        self.is_retired = False  # belongs to an ended session: not reused
        self.words = memoryview(memory.map)[:HEADER_BYTES].cast("Q")
        self.size = size
        self.position = HEADER_BYTES
        self.chunks = 0

    def close(self) -> None:
        """Unmap the memory, unless a view of it still exists."""
        self.words.release()
        with contextlib.suppress(BufferError):
            self.memory.close()

    def reset(self) -> None:
        """Mark all its contents as invalid."""
        self.words[STATE] = self.position = HEADER_BYTES


class Chunk:
    """A cut chunk: its id as encoded in an acknowledgement, its messages, its bytes."""

    __slots__ = ("arena", "count", "end", "id", "is_settled", "last", "settled", "start", "until")

    def __init__(
        self, arena: Arena, start: int, end: int, chunk_id: bytes, counter: int, count: int, last: int
    ) -> None:
        self.arena = arena
        self.start = start
        self.end = end
        self.id = chunk_id
        self.count = count
        self.last = last  # the number of its last message, counted over all messages ever appended
        self.settled = count  # its own messages, and those of dropped chunks that followed it
        self.until = counter  # the counter of the last of these chunks
        self.is_settled = False  # acknowledged or dropped

    @property
    def frame(self) -> memoryview:
        """The bytes to send."""
        return memoryview(self.arena.memory)[self.start : self.end]

    @property
    def size_bytes(self) -> int:
        return self.end - self.start

    def renumber(self, session: str, counter: int) -> None:
        """Give the chunk another id while it is not in flight: the same messages, as a chunk of another session."""
        self.id, self.until = pack_own(session, counter), counter
        tail = encode_frame_tail(self.id, self.count)
        self.arena.memory[self.end - len(tail) : self.end] = tail
