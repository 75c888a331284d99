"""hub.wire.chunkrun: chunks that arrive together are one batch, which knows of each."""

from __future__ import annotations

import random

import pytest

from hub.message import Batch
from hub.wire.chunkid import pack_own, unpack_own
from hub.wire.chunkrun import CHUNKS_MAX
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import INLINE_BYTES
from tests.hub.clients import chunks_of, frame_of

LIFE, OTHER = "s" * 22, "t" * 22


def own(counter: int, *, session: str = LIFE, tag: bytes = b"app", size: int = 0, count: int = 2) -> bytes:
    records = [{"n": counter, "at": at, "x": "x" * size} for at in range(count)]
    return frame_of(pack_own(session, counter), *records, tag=tag)


def received(*frames: bytes) -> list[Batch]:
    items = ForwardDecoder().receive(b"".join(frames))
    assert all(isinstance(item, Batch) for item in items)
    return [item for item in items if isinstance(item, Batch)]


def counters(batch: Batch) -> list[int]:
    return [own_id[1] for each in chunks_of(batch) if each.chunk_id and (own_id := unpack_own(each.chunk_id))]


def test_chunks_of_a_session_are_one_batch() -> None:
    """The batch has the messages of all in order, the id of the last, and each chunk's id, count and entries."""
    (batch,) = received(*(own(counter, count=counter) for counter in (1, 2, 3, 7)))
    assert (batch.count, batch.chunk_count, batch.chunk_id) == (13, 4, pack_own(LIFE, 7))
    assert [message.record["n"] for message in batch.messages()] == [1] + [2] * 2 + [3] * 3 + [7] * 7
    for counter, chunk in zip((1, 2, 3, 7), chunks_of(batch), strict=True):
        (single,) = received(own(counter, count=counter))
        assert (chunk.chunk_id, chunk.count, bytes(chunk.entries)) == (single.chunk_id, single.count, single.entries)
        assert single.chunks == ()


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([own(1), own(1)], [[1], [1]]),
        ([own(2), own(1)], [[2], [1]]),
        ([own(1), own(2, session=OTHER), own(3)], [[1], [2], [3]]),
        ([own(1), own(2, tag=b"other"), own(3, tag=b"other")], [[1], [2, 3]]),
        ([own(1), frame_of(None, {"n": 0}), own(2)], [[1], [], [2]]),
        ([own(1), frame_of(b"\xa1a", {"n": 0}), own(2)], [[1], [], [2]]),
        ([own(1), b"\x93\xa3app\xc0\x80", own(2)], [[1], [], [2]]),
        ([own(1), b"\xc0", own(2)], [[1, 2]]),
        ([own(1, size=INLINE_BYTES // 4), own(2, size=INLINE_BYTES // 4), own(3)], [[1], [2, 3]]),
        ([own(number + 1) for number in range(CHUNKS_MAX + 1)], [[*range(1, CHUNKS_MAX + 1)], [CHUNKS_MAX + 1]]),
    ],
)
def test_what_ends_a_run(frames: list[bytes], expected: list[list[int]]) -> None:
    """A chunk that is no later one of the session and tag, or too much, begins another batch; the order is kept."""
    assert [counters(batch) for batch in received(*frames)] == expected


def test_however_it_arrives() -> None:
    """Cut at any places, the stream gives the same chunks."""
    dice = random.Random(5)
    stream = b"".join(own(n, tag=dice.choice((b"a", b"b")), session=dice.choice((LIFE, OTHER))) for n in range(1, 200))
    expected = [each for batch in received(stream) for each in chunks_of(batch)]
    for step in (1, 50, 777):
        decoder = ForwardDecoder()
        items = [item for at in range(0, len(stream), step) for item in decoder.receive(stream[at : at + step])]
        seen = [each for batch in items if isinstance(batch, Batch) for each in chunks_of(batch)]
        assert [(one.chunk_id, one.tag, bytes(one.entries)) for one in seen] == [
            (one.chunk_id, one.tag, bytes(one.entries)) for one in expected
        ]
