"""Arena and Chunk: memory, and the frames in it."""

from __future__ import annotations

import msgpack

from hub.entries import stamp
from hub.wire.chunkid import SESSION_LENGTH
from hub.wire.spoolfile import HEADER_BYTES, STATE
from producers.arena import Arena
from producers.backlog import ARENA_BYTES, Backlog
from producers.spool import anonymous


def test_another_id() -> None:
    """A chunk with a new id is the same frame except for the id, and has the same length."""
    backlog = Backlog(session="a" * SESSION_LENGTH)
    for number in range(3):
        assert backlog.append(b"t", stamp(number) + msgpack.packb({"n": number}))
    backlog.cut()
    chunk = backlog.next_unsent()
    assert chunk is not None
    tag, payload, option = msgpack.unpackb(bytes(chunk.frame))
    size = chunk.size_bytes
    chunk.renumber("b" * SESSION_LENGTH, 7)
    option["chunk"] = f"mpsr.{'b' * SESSION_LENGTH}.{7:016x}"
    assert msgpack.unpackb(bytes(chunk.frame)) == [tag, payload, option]
    assert (chunk.size_bytes, chunk.until, msgpack.packb(option["chunk"])) == (size, 7, chunk.id)


def test_a_segment_that_is_used_again() -> None:
    """After a reset none of its contents is valid; closing unmaps its memory, unless a view still exists."""
    arena = Arena(anonymous(ARENA_BYTES), ARENA_BYTES)
    arena.position = 1000
    arena.reset()
    assert (arena.position, arena.words[STATE]) == (HEADER_BYTES, HEADER_BYTES)
    arena.close()
    assert arena.memory.closed
    looked_at = Arena(anonymous(ARENA_BYTES), ARENA_BYTES)
    view = memoryview(looked_at.memory)
    looked_at.close()
    assert not looked_at.memory.closed
    view.release()
