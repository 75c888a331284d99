"""
What is not acknowledged yet: exactly the bytes that go on the wire, as they will be sent and sent again.

Messages are appended behind one another into the *open* chunk, which lies in a segment of memory as a whole
PackedForward frame but for its length and its options. Cutting writes those, and from then on the chunk's bytes never
change: a resend cannot mean anything else. Chunks leave when they are acknowledged.

A segment begins with a header (hub.wire.spoolfile) that says what in it counts, so that a segment that is a file can be
read when this process is dead: a message is safe from that as soon as `append` returns, without a system call.

Always true:
- the order of messages is the order of chunks is the order of sending;
- chunk ids are one session and a counter that rises by one;
- held bytes do not exceed the limit, but for one message that is larger than all of it;
- an exception that a signal handler raises in the midst leaves it as before the call or as after it;
- a segment is used again only when every chunk in it is settled;
- a message is settled when it is acknowledged, dropped, or left to the hub in a file, and so are all before it.

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
from producers.segment import Chunk, Segment
from producers.spool import Memory, anonymous

BYTES_MAX = 64 << 20
CHUNK_BYTES_MAX = 128 << 10
SEGMENT_BYTES = 1 << 20
UNSENT_CHUNKS = 64
_FREE_SEGMENTS = 2  # kept for use again, still warm
_LENGTH = struct.Struct(">I")
_TAIL_BYTES = len(encode_frame_tail(pack_own("-" * 22, 0), 0))

Allocate = Callable[[int], Memory]


def new_session() -> str:
    """Return a session that nobody else has: 128 random bits in 22 characters."""
    return base64.urlsafe_b64encode(os.urandom(16)).decode().rstrip("=")


class Backlog:
    """Messages on their way to the hub."""

    def __init__(
        self,
        *,
        session: str | None = None,
        bytes_max: int = BYTES_MAX,
        chunk_bytes_max: int = CHUNK_BYTES_MAX,
        allocate: Allocate = anonymous,
    ) -> None:
        self.session = session or new_session()
        self.bytes_max = bytes_max
        """The limit of held bytes."""
        self._chunk_bytes_max = chunk_bytes_max
        self._allocate = allocate
        self._counter = 0
        self._chunks: deque[Chunk] = deque()  # cut, oldest first
        self._by_id: dict[bytes, Chunk] = {}
        self._unsent: deque[Chunk] = deque()  # the last part of _chunks
        self._segment: Segment | None = None
        self._free: list[Segment] = []
        self._open_tag: bytes | None = None
        self._open_start = 0
        self._open_head = 0
        self.open_count = 0
        """Messages in the open chunk."""
        self.appended = 0
        """Messages ever appended."""
        self.settled = 0
        """Messages ever settled; all that were appended before them are too."""
        self.acknowledged = 0
        """Messages ever acknowledged."""
        self.dropped = 0
        """Messages that were dropped to make room for others."""
        self.left = 0
        """Messages that were left to the hub in files, when their session was over."""
        self._cut_bytes = 0

    @property
    def held_bytes(self) -> int:
        """Bytes of everything that is not acknowledged."""
        return self._cut_bytes + self.open_bytes

    @property
    def open_bytes(self) -> int:
        """Bytes of the open chunk."""
        return self._segment.position - self._open_start if self._segment and self._open_tag is not None else 0

    @property
    def is_empty(self) -> bool:
        return not self._chunks and not self.open_count

    @property
    def pending(self) -> int:
        """Messages that are neither acknowledged nor dropped nor left."""
        return self.appended - self.acknowledged - self.dropped - self.left

    def pending_until(self, last: int) -> int:
        """Return how many of the first *last* messages that were ever appended are pending."""
        counts = [chunk.count - max(chunk.last - last, 0) for chunk in self._chunks if not chunk.is_settled]
        counts.append(self.open_count - max(self.appended - last, 0))
        return sum(count for count in counts if count > 0)

    @property
    def has_unsent(self) -> bool:
        """Whether a cut chunk waits to be sent."""
        return bool(self._unsent)

    @property
    def has_much_unsent(self) -> bool:
        """Whether what is cut is worth sending at once: a chunk cut for its size, or many cut for their tags."""
        unsent = self._unsent
        if not unsent:
            return False
        return max(unsent[0].bytes, unsent[-1].bytes) * 2 >= self._chunk_bytes_max or len(unsent) >= UNSENT_CHUNKS

    def append(self, tag: bytes, entry: bytes, count: int = 1) -> bool:
        """Put one entry, or *count* in one piece, behind all others; False, and nothing is changed, without room."""
        size = len(entry)
        segment = self._segment
        if (
            self._open_tag != tag
            or segment is None
            or segment.position + size + _TAIL_BYTES > segment.size
            or segment.position - self._open_start + size > self._chunk_bytes_max
        ):
            segment = self._begin(tag, size)
            if segment is None:
                return False
        elif self.held_bytes + size + _TAIL_BYTES > self.bytes_max:
            return False
        position = segment.position
        segment.memory[position : position + size] = entry
        segment.position = position = position + size
        self.open_count += count
        segment.words[STATE] = self.open_count << COUNT_SHIFT | position  # from now on it is safe
        self.appended += count
        return True

    def cut(self) -> None:
        """Fix the open chunk: it can be sent now, and takes no more messages."""
        segment = self._segment
        if segment is None or not self.open_count:
            return
        start, counter = self._open_start, self._counter + 1
        chunk_id = pack_own(self.session, counter)
        payload = start + self._open_head
        end = segment.position + _TAIL_BYTES
        _LENGTH.pack_into(segment.memory, payload - _LENGTH.size, segment.position - payload)
        segment.memory[segment.position : end] = encode_frame_tail(chunk_id, self.open_count)
        chunk = Chunk(segment, start, end, chunk_id, counter, self.open_count, self.appended)
        # No call from here on: a signal handler that raises comes before all of it, or behind.
        segment.words[STATE] = segment.position = end
        segment.chunks += 1
        self._counter = counter
        self._chunks += (chunk,)
        self._unsent += (chunk,)
        self._by_id[chunk_id] = chunk
        self._cut_bytes += end - start
        self._open_tag, self.open_count = None, 0

    def next_unsent(self) -> Chunk | None:
        """Return the next chunk to send, and count it as sent."""
        while self._unsent:
            chunk = self._unsent.popleft()
            if not chunk.is_settled:  # of one that is, the memory may hold something else
                return chunk
        return None

    def rewind(self) -> None:
        """Nothing that is not settled counts as sent any longer: the connection was lost."""
        self._unsent = deque(self._chunks)

    def acknowledge(self, chunk_id: bytes) -> bool:
        """Let go of a chunk; False if it is none of ours, or was let go before."""
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
        """Drop the oldest chunk that is not under way, and return how many messages that is; 0 if there is none."""
        if not self._unsent:
            self.cut()
        while self._unsent and self._unsent[0].is_settled:
            del self._unsent[0]
        if not self._unsent:
            return 0
        chunk, at = self._unsent[0], len(self._chunks) - len(self._unsent)
        del self._unsent[0], self._by_id[chunk.id]
        chunk.is_settled = True  # and if a signal handler raises now, it is let go with what comes before it
        self.dropped += chunk.count
        self._let_go(at)
        return chunk.count

    def renew(self, session: str, allocate: Allocate, *, leaves_files: bool) -> None:
        """
        Begin another session, while nothing is under way: the same messages in the same order, in chunks with its ids.

        With *leaves_files* what lies in files stays there for the hub: to send it again would store it twice.
        """
        self.cut()
        self.session, self._allocate, self._counter = session, allocate, 0
        chunks, self._chunks, self._by_id, self._cut_bytes = self._chunks, deque(), {}, 0
        segments = {*(chunk.segment for chunk in chunks), *self._free, *((self._segment,) if self._segment else ())}
        self._segment, self._free = None, []
        for segment in segments:
            segment.is_retired, segment.chunks = True, 0
        left = set()
        for chunk in chunks:
            if not chunk.is_settled and leaves_files and chunk.segment.is_file:
                left.add(chunk.segment)
                self.left += chunk.count
            elif not chunk.is_settled:
                self._counter += 1
                chunk.renumber(session, self._counter)
                chunk.segment.chunks += 1
                self._chunks.append(chunk)
                self._by_id[chunk.id] = chunk
                self._cut_bytes += chunk.bytes
                continue
            self._settle(chunk.settled)
        for segment in segments:
            if segment not in left and not segment.chunks:
                segment.free()
            segment.is_file = False
            if not segment.chunks:
                segment.close()
        self.rewind()

    @property
    def is_all_in_files(self) -> bool:
        """Whether everything that is not acknowledged lies in files, and outlives this process."""
        segments = [chunk.segment for chunk in self._chunks if not chunk.is_settled]
        if self._segment is not None and self.open_count:
            segments.append(self._segment)
        return all(segment.is_file for segment in segments)

    def reserve(self) -> bool:
        """Have memory for the next message; return whether it is a file's."""
        return (self._segment or self._next_segment(HEADER_BYTES)).is_file

    def give_back(self) -> None:
        """Give back the memory of an empty backlog, so that the next message asks for new."""
        if self.is_empty and self._segment is not None:
            for segment in (self._segment, *self._free):
                segment.free()
            self._segment, self._free = None, []

    def close(self, *, keep: bool) -> None:
        """Let go of all memory, and of its files unless *keep* is set. Only the counters are of use then."""
        segments = {id(chunk.segment): chunk.segment for chunk in self._chunks}
        segments |= {id(segment): segment for segment in (*self._free, self._segment) if segment is not None}
        for segment in segments.values():
            if not keep:
                segment.free()
            segment.close()

    def _begin(self, tag: bytes, size: int) -> Segment | None:
        """Cut what is open, and begin a chunk that has room for *size*; None if there is no room."""
        head = encode_frame_head(tag, 0)
        needed = len(head) + size + _TAIL_BYTES
        if self.held_bytes and self.held_bytes + (_TAIL_BYTES if self.open_count else 0) + needed > self.bytes_max:
            return None
        self.cut()
        segment = self._segment
        if segment is None or segment.position + needed > segment.size:
            segment = self._next_segment(HEADER_BYTES + needed)
        start, head_bytes = segment.position, len(head)
        if start == HEADER_BYTES:
            segment.words[FIRST] = self._counter + 1
        segment.words[OPEN] = start
        segment.memory[start : start + head_bytes] = head  # and no call until the message is behind it, as in `cut`
        self._open_tag, self._open_start, self._open_head = tag, start, head_bytes
        segment.position = start + head_bytes
        return segment

    def _next_segment(self, needed: int) -> Segment:
        old, self._segment = self._segment, None
        if old is not None and not old.chunks:
            self._reuse(old)
        if needed <= SEGMENT_BYTES and self._free:
            self._segment = self._free.pop()
        else:
            size = max(SEGMENT_BYTES, needed)
            self._segment = Segment(self._allocate(size), size)
        return self._segment

    def _let_go(self, at: int) -> None:
        """Let go of a chunk; its messages count as settled when all before them are."""
        chunk, before = self._chunks[at], self._chunks[at - 1] if at else None
        segment = chunk.segment
        del self._chunks[at]
        self._cut_bytes -= chunk.bytes
        segment.chunks -= 1
        if before is None:
            self.settled += chunk.settled
            segment.words[ACKNOWLEDGED] = chunk.until
        else:
            before.settled += chunk.settled
            before.until = chunk.until
        if segment.chunks:
            return
        if segment is not self._segment:
            self._reuse(segment)
        elif self.open_count:
            pass
        elif segment.size > SEGMENT_BYTES:  # one huge message: its memory is given back
            self._segment = None
            segment.free()
        else:  # all of it is free again: stay where the memory is warm
            segment.reset()

    def _settle(self, count: int) -> None:
        """Count messages as settled that come after all that are held."""
        if self._chunks:
            self._chunks[-1].settled += count
        else:
            self.settled += count

    def _reuse(self, segment: Segment) -> None:
        segment.reset()
        if len(self._free) < _FREE_SEGMENTS and segment.size == SEGMENT_BYTES and not segment.is_retired:
            self._free.append(segment)
        else:
            segment.free()
