"""
A stretch of memory, and the chunks that are cut from it.

Always true: a chunk's bytes are a whole PackedForward frame; they change only when it gets another id, and it is not
under way then.
Not here: cutting, and what is held (producers.backlog); where the memory lies (producers.spool).
"""

from __future__ import annotations

import contextlib

from hub.wire.chunkid import pack_own
from hub.wire.frame import encode_frame_tail
from hub.wire.spoolfile import HEADER_BYTES, STATE
from producers.spool import Memory


class Segment:
    """A stretch of memory, and how many chunks in it are still needed."""

    __slots__ = ("chunks", "free", "is_file", "is_retired", "memory", "position", "size", "words")

    def __init__(self, memory: Memory, size: int) -> None:
        self.memory = memory.map
        self.free = memory.free
        self.is_file = memory.is_file
        self.is_retired = False  # of a session that is over: not to be used again
        self.words = memoryview(memory.map)[:HEADER_BYTES].cast("Q")
        self.size = size
        self.position = HEADER_BYTES
        self.chunks = 0

    def close(self) -> None:
        """Unmap it, unless somebody still looks at it."""
        self.words.release()
        with contextlib.suppress(BufferError):
            self.memory.close()

    def reset(self) -> None:
        """Let nothing in it count any more."""
        self.words[STATE] = self.position = HEADER_BYTES


class Chunk:
    """A cut chunk: its id as it stands in an acknowledgement, its messages, its bytes."""

    __slots__ = ("count", "end", "id", "is_settled", "last", "segment", "settled", "start", "until")

    def __init__(
        self, segment: Segment, start: int, end: int, chunk_id: bytes, counter: int, count: int, last: int
    ) -> None:
        self.segment = segment
        self.start = start
        self.end = end
        self.id = chunk_id
        self.count = count
        self.last = last  # the number of its last message, of all that were ever appended
        self.settled = count  # messages: its own, and of chunks behind it that were dropped
        self.until = counter  # the last of these chunks
        self.is_settled = False  # acknowledged or dropped

    @property
    def frame(self) -> memoryview:
        """The bytes to send."""
        return memoryview(self.segment.memory)[self.start : self.end]

    @property
    def bytes(self) -> int:
        return self.end - self.start

    def renumber(self, session: str, counter: int) -> None:
        """Give it another id, while it is not under way: the same messages, in a chunk of another session."""
        self.id, self.until = pack_own(session, counter), counter
        tail = encode_frame_tail(self.id, self.count)
        self.segment.memory[self.end - len(tail) : self.end] = tail
