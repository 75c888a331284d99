"""
Unacknowledged messages, stored as the exact bytes that are sent and resent.

Each message is appended to the *open* chunk. The chunk lies in an arena (producers.arena) as a PackedForward frame that
lacks only its length and its options. Cutting writes these; from then on the bytes of the chunk do not change, so a
resend is identical. A chunk is released when it is acknowledged.

An arena begins with a header (hub.wire.spoolfile) with the number of valid bytes. If the arena is a file, the hub
can read it after this process has died. A message is safe as soon as `append` returns, without a system call.

Always true:
- messages, chunks and sends are in the same order;
- a chunk id is the session and a counter that rises by one;
- held bytes do not exceed the limit, except for a single message that is larger than the limit;
- an exception raised by a signal handler leaves the state from before or from after the interrupted call;
- an arena is reused only when every chunk in it is settled;
- a chunk of a file that the hub may have read keeps its bytes: a file whose lock was lost takes no more messages;
- a message is settled when it, and every message before it, is acknowledged, dropped, or left to the hub in a file.

Not here: when to cut, send and resend (producers.link); locks; sockets.
"""

from __future__ import annotations

import base64
import os
import struct
from collections import deque
from collections.abc import Callable

from hub.wire.chunkid import pack_own
from hub.wire.frame import encode_frame_head, encode_frame_tail
from hub.wire.spoolfile import ACKNOWLEDGED, COUNT_SHIFT, FIRST, HEADER_BYTES, OPEN, STATE
from producers.arena import Arena, Chunk
from producers.spool import Memory, anonymous

BYTES_MAX = 64 << 20
CHUNK_BYTES_MAX = 128 << 10
ARENA_BYTES = 1 << 20
UNSENT_CHUNKS = 64
_FREE_ARENAS = 2  # kept for reuse: their pages are in memory
_LENGTH = struct.Struct(">I")
_TAIL_BYTES = len(encode_frame_tail(pack_own("-" * 22, 0), 0))

Allocate = Callable[[int], Memory]


def new_session() -> str:
    """Return a unique session: 128 random bits in 22 characters."""
    return base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")


class Backlog:
    """The messages that are not acknowledged yet."""

    def __init__(
        self,
        *,
        session: str | None = None,
        bytes_max: int = BYTES_MAX,
        chunk_bytes_max: int = CHUNK_BYTES_MAX,
        allocate: Allocate = anonymous,
        is_locked: Callable[[], bool] = lambda: True,
    ) -> None:
        self.session = session or new_session()
        self.bytes_max = bytes_max
        """Limit of the held bytes."""
        self._chunk_bytes_max = chunk_bytes_max
        self._allocate = allocate
        self._is_locked = is_locked  # whether the hub leaves the files alone
        self._counter = 0
        self._chunks: deque[Chunk] = deque()  # cut chunks, oldest first
        self._by_id: dict[bytes, Chunk] = {}
        self._unsent: deque[Chunk] = deque()  # the tail of _chunks
        self._arena: Arena | None = None
        self._free: list[Arena] = []
        self._open_tag: bytes | None = None
        self._open_start = 0
        self._open_head = 0
        self._open_until = 0  # up to this position there is room for sure
        self.open_count = 0
        """Messages in the open chunk."""
        self._appended_before = 0  # messages appended before those in the open chunk
        self.settled = 0
        """Messages ever settled. All messages appended before them are settled too."""
        self.acknowledged = 0
        """Messages ever acknowledged."""
        self.dropped = 0
        """Messages dropped to make room."""
        self.left = 0
        """Messages left to the hub in files when their session ended."""
        self._cut_bytes = 0

    @property
    def appended(self) -> int:
        """Messages ever appended."""
        return self._appended_before + self.open_count

    @property
    def held_bytes(self) -> int:
        """Bytes of all unacknowledged messages."""
        return self._cut_bytes + self.open_bytes

    @property
    def open_bytes(self) -> int:
        """Bytes of the open chunk."""
        return self._arena.position - self._open_start if self._arena and self._open_tag is not None else 0

    @property
    def is_empty(self) -> bool:
        return not self._chunks and not self.open_count

    @property
    def pending(self) -> int:
        """Messages that are neither acknowledged, nor dropped, nor left in files."""
        return self.appended - self.acknowledged - self.dropped - self.left

    def pending_until(self, last: int) -> int:
        """Return how many of the first *last* messages ever appended are pending."""
        counts = [chunk.count - max(chunk.last - last, 0) for chunk in self._chunks if not chunk.is_settled]
        counts.append(self.open_count - max(self.appended - last, 0))
        return sum(count for count in counts if count > 0)

    @property
    def has_unsent(self) -> bool:
        """Whether a cut chunk waits to be sent."""
        return bool(self._unsent)

    @property
    def has_much_unsent(self) -> bool:
        """
        Whether the unsent chunks are to be sent without lingering: one was cut for its size, or many were cut for their
        tags.
        """
        unsent = self._unsent
        if not unsent:
            return False
        return (
            max(unsent[0].size_bytes, unsent[-1].size_bytes) * 2 >= self._chunk_bytes_max
            or len(unsent) >= UNSENT_CHUNKS
        )

    def add(self, tag: bytes, entry: bytes) -> bool:
        """Append one entry if the open chunk has room for sure. Otherwise return False and change nothing."""
        arena = self._arena
        if arena is None or self._open_tag != tag:
            return False
        position = arena.position
        end = position + len(entry)
        if end > self._open_until:
            return False
        arena.memory[position:end] = entry  # as in `append`
        arena.position = end
        self.open_count = count = self.open_count + 1
        arena.words[STATE] = count << COUNT_SHIFT | end
        return True

    def append(self, tag: bytes, entry: bytes, count: int = 1) -> bool:
        """Append one entry, or *count* in one piece. Without room return False and change nothing."""
        size = len(entry)
        arena = self._arena
        if (
            self._open_tag != tag
            or arena is None
            or arena.position + size + _TAIL_BYTES > arena.size
            or arena.position - self._open_start + size > self._chunk_bytes_max
        ):
            arena = self._begin(tag, size)
            if arena is None:
                return False
        elif self.held_bytes + size + _TAIL_BYTES > self.bytes_max:
            return False
        position = arena.position
        arena.memory[position : position + size] = entry
        arena.position = position = position + size
        self.open_count += count
        arena.words[STATE] = self.open_count << COUNT_SHIFT | position  # from here on the message is safe
        return True

    def cut(self) -> None:
        """Cut the open chunk: it takes no more messages and can be sent."""
        arena = self._arena
        if arena is None or not self.open_count:
            return
        if arena.is_file and not self._is_locked():
            arena = self._move_open(arena)
        start, counter = self._open_start, self._counter + 1
        chunk_id = pack_own(self.session, counter)
        payload = start + self._open_head
        end = arena.position + _TAIL_BYTES
        _LENGTH.pack_into(arena.memory, payload - _LENGTH.size, arena.position - payload)
        arena.memory[arena.position : end] = encode_frame_tail(chunk_id, self.open_count)
        chunk = Chunk(arena, start, end, chunk_id, counter, self.open_count, self.appended)
        # No call follows: a signal handler that raises runs before all of these lines or after them.
        arena.words[STATE] = arena.position = end
        arena.chunks += 1
        self._counter = counter
        self._chunks += (chunk,)
        self._unsent += (chunk,)
        self._by_id[chunk_id] = chunk
        self._cut_bytes += end - start
        self._appended_before += chunk.count
        self._open_tag, self.open_count = None, 0

    def next_unsent(self) -> Chunk | None:
        """Return the next chunk to send, and count it as sent."""
        while self._unsent:
            chunk = self._unsent.popleft()
            if not chunk.is_settled:  # the memory of a settled chunk may have been reused
                return chunk
        return None

    def rewind(self) -> None:
        """Count every chunk that is not settled as unsent: the connection was lost."""
        self._unsent = deque(self._chunks)

    def acknowledge(self, chunk_id: bytes) -> bool:
        """Release a chunk. False if the id is unknown or was acknowledged before."""
        chunk = self._by_id.get(chunk_id)
        if chunk is None:
            return False
        del self._by_id[chunk_id]
        chunk.is_settled = True
        self.acknowledged += chunk.count
        while self._chunks and self._chunks[0].is_settled:
            self._let_go(0)
        return True

    def drop_oldest(self) -> int:
        """Drop the oldest chunk that is not in flight. Return its number of messages, 0 if there is no such chunk."""
        if not self._unsent:
            self.cut()
        while self._unsent and self._unsent[0].is_settled:
            del self._unsent[0]
        if not self._unsent:
            return 0
        chunk, at = self._unsent[0], len(self._chunks) - len(self._unsent)
        del self._unsent[0], self._by_id[chunk.id]
        chunk.is_settled = True  # if a signal handler raises now, it is released with its predecessor
        self.dropped += chunk.count
        self._let_go(at)
        return chunk.count

    def change_session(self, session: str, allocate: Allocate, *, leaves_files: bool) -> None:
        """
        Begin another session while no chunk is in flight. The messages and their order stay; their chunks get new ids.

        With *leaves_files*, messages in files stay there for the hub: sending them again would store them twice.
        """
        self.cut()
        self.session, self._allocate, self._counter = session, allocate, 0
        chunks, self._chunks, self._by_id, self._cut_bytes = self._chunks, deque(), {}, 0
        arenas = {*(chunk.arena for chunk in chunks), *self._free, *((self._arena,) if self._arena else ())}
        self._arena, self._free = None, []
        for arena in arenas:
            arena.is_retired, arena.chunks = True, 0
        left = set()
        for chunk in chunks:
            if not chunk.is_settled and leaves_files and chunk.arena.is_file:
                left.add(chunk.arena)
                self.left += chunk.count
            elif not chunk.is_settled:
                self._counter += 1
                chunk.renumber(session, self._counter)
                chunk.arena.chunks += 1
                self._chunks.append(chunk)
                self._by_id[chunk.id] = chunk
                self._cut_bytes += chunk.size_bytes
                continue
            self._settle(chunk.settled)
        for arena in arenas:
            if arena not in left and not arena.chunks:
                arena.free()
            arena.is_file = False
            if not arena.chunks:
                arena.close()
        self.rewind()

    @property
    def is_all_in_files(self) -> bool:
        """Whether all unacknowledged messages are in files, and so outlive this process."""
        arenas = [chunk.arena for chunk in self._chunks if not chunk.is_settled]
        if self._arena is not None and self.open_count:
            arenas.append(self._arena)
        return all(arena.is_file for arena in arenas)

    def reserve(self) -> bool:
        """Allocate memory for the next message. Return whether it is in a file."""
        return (self._arena or self._next_arena(HEADER_BYTES)).is_file

    def give_back(self) -> None:
        """Release the memory of an empty backlog, so that the next message allocates again."""
        if self.is_empty and self._arena is not None:
            for arena in (self._arena, *self._free):
                arena.free()
            self._arena, self._free = None, []

    def close(self, *, keep: bool) -> None:
        """Release all memory, and the files unless *keep* is set. Afterwards only the counters are usable."""
        arenas = {id(chunk.arena): chunk.arena for chunk in self._chunks}
        arenas |= {id(arena): arena for arena in (*self._free, self._arena) if arena is not None}
        for arena in arenas.values():
            if not keep:
                arena.free()
            arena.close()

    def _begin(self, tag: bytes, size: int) -> Arena | None:
        """Cut the open chunk and begin one with room for *size* bytes. None if there is no room."""
        head = encode_frame_head(tag, 0)
        needed = len(head) + size + _TAIL_BYTES
        if self.held_bytes and self.held_bytes + (_TAIL_BYTES if self.open_count else 0) + needed > self.bytes_max:
            return None
        self.cut()
        arena = self._arena
        if arena is None or arena.position + needed > arena.size:
            arena = self._next_arena(HEADER_BYTES + needed)
        start, head_bytes = arena.position, len(head)
        if start == HEADER_BYTES:
            arena.words[FIRST] = self._counter + 1
        free_bytes = self.bytes_max - self._cut_bytes - _TAIL_BYTES
        until = min(start + min(self._chunk_bytes_max, free_bytes), arena.size - _TAIL_BYTES)
        arena.words[OPEN] = start
        arena.memory[start : start + head_bytes] = head  # no call until the message follows, as in `cut`
        self._open_tag, self._open_start, self._open_head, self._open_until = tag, start, head_bytes, until
        arena.position = start + head_bytes
        return arena

    def _move_open(self, old: Arena) -> Arena:
        """
        Copy the open chunk into another arena, and skip a number: the hub may have read the file already, and so have
        the chunk under the next number, with fewer messages. These are then stored twice.
        """
        start, entries = self._open_start, bytes(old.memory[self._open_start : old.position])
        end = HEADER_BYTES + len(entries)
        size = max(ARENA_BYTES, end + _TAIL_BYTES)
        arena = Arena(self._allocate(size), size)
        arena.memory[HEADER_BYTES:end] = entries
        arena.words[FIRST] = self._counter + 2
        arena.words[OPEN] = HEADER_BYTES
        # No call until the old arena is left, as in `cut`.
        arena.words[STATE] = self.open_count << COUNT_SHIFT | end
        arena.position = end
        old.words[STATE] = old.position = start
        self._counter += 1
        self._arena, self._open_start, self._open_until = arena, HEADER_BYTES, 0
        old.is_retired = True
        if not old.chunks:
            old.free()
        return arena

    def _next_arena(self, needed: int) -> Arena:
        old, self._arena = self._arena, None
        if old is not None and not old.chunks:
            self._reuse(old)
        if needed <= ARENA_BYTES and self._free:
            self._arena = self._free.pop()
        else:
            size = max(ARENA_BYTES, needed)
            self._arena = Arena(self._allocate(size), size)
        return self._arena

    def _let_go(self, at: int) -> None:
        """Release a chunk. Its messages count as settled when all messages before them are."""
        chunk, before = self._chunks[at], self._chunks[at - 1] if at else None
        arena = chunk.arena
        del self._chunks[at]
        self._cut_bytes -= chunk.size_bytes
        arena.chunks -= 1
        if before is None:
            self.settled += chunk.settled
            arena.words[ACKNOWLEDGED] = chunk.until
        else:
            before.settled += chunk.settled
            before.until = chunk.until
        if arena.chunks:
            return
        if arena is not self._arena:
            self._reuse(arena)
        elif self.open_count:
            pass
        elif arena.size > ARENA_BYTES:  # made for one large message: release the memory
            self._arena = None
            arena.free()
        else:  # the whole arena is free: reuse it, its pages are in memory
            arena.reset()

    def _settle(self, count: int) -> None:
        """Count messages as settled that come after all held messages."""
        if self._chunks:
            self._chunks[-1].settled += count
        else:
            self.settled += count

    def _reuse(self, arena: Arena) -> None:
        arena.reset()
        if len(self._free) < _FREE_ARENAS and arena.size == ARENA_BYTES and not arena.is_retired:
            self._free.append(arena)
        else:
            arena.free()
