"""Backlog: bytes that stay as they were cut, in order, within bounds, in memory that is used again."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.entries import Entry, read, stamp
from hub.message import Batch
from hub.wire.chunkid import SESSION_LENGTH, unpack_own
from hub.wire.forward import ForwardDecoder
from producers.backlog import SEGMENT_BYTES, Backlog, Chunk, new_session
from producers.spool import Memory, anonymous
from tests.hub.wire.feeding import feed

SESSION = "s" * SESSION_LENGTH


def entry(number: int, size: int = 0) -> bytes:
    return stamp(number) + msgpack.packb({"n": number, "pad": "x" * size})


def cut_all(backlog: Backlog) -> list[Chunk]:
    """Cut what is open; return all chunks that wait to be sent."""
    backlog.cut()
    chunks = []
    while (chunk := backlog.next_unsent()) is not None:
        chunks.append(chunk)
    return chunks


def numbers(frame: bytes | memoryview) -> list[int]:
    """Return what the hub reads from a frame."""
    (batch,) = feed(ForwardDecoder(), bytes(frame))
    assert isinstance(batch, Batch)
    entries = list(read(batch.entries, batch.count))
    return [item.record["n"] for item in entries if isinstance(item, Entry)]


def test_a_chunk_is_one_frame() -> None:
    """A cut chunk is one whole PackedForward frame: tag, entries, and the options chunk and size."""
    backlog = Backlog(session=SESSION)
    for number in range(3):
        assert backlog.append(b"app.web", entry(number))
    (chunk,) = cut_all(backlog)
    frame = bytes(chunk.frame)
    tag, payload, option = msgpack.unpackb(frame)
    assert (tag, payload) == ("app.web", entry(0) + entry(1) + entry(2))
    assert option == {"chunk": f"mpsr.{SESSION}.{1:016x}", "size": 3}
    assert (len(frame), chunk.count) == (chunk.bytes, 3)
    assert backlog.held_bytes == chunk.bytes
    assert msgpack.packb({"ack": option["chunk"]}).endswith(chunk.id)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 4096])
def test_tags_of_any_length(length: int) -> None:
    """Each of msgpack's forms of a string is used rightly for the tag."""
    backlog = Backlog()
    assert backlog.append(b"t" * length, entry(0))
    (chunk,) = cut_all(backlog)
    assert msgpack.unpackb(bytes(chunk.frame))[0] == "t" * length
    assert numbers(chunk.frame) == [0]


def test_ids_rise_by_one() -> None:
    """Chunks of one backlog have one session and counters from 1; another backlog has another session."""
    backlog, other = Backlog(), Backlog()
    for number in range(300):
        backlog.append(b"t%d" % (number % 2), entry(number))
    other.append(b"t", entry(0))
    owns = [unpack_own(chunk.id) for chunk in cut_all(backlog)]
    assert owns == [(backlog.session.encode(), number + 1) for number in range(300)]
    assert backlog.session != other.session
    assert len({new_session() for _ in range(1000)}) == 1000
    assert {len(new_session()) for _ in range(100)} == {SESSION_LENGTH}


def test_another_tag_begins_another_chunk() -> None:
    """A chunk holds messages of one tag; the order of chunks is the order of messages."""
    backlog = Backlog()
    for number, tag in enumerate([b"a", b"a", b"b", b"a"]):
        backlog.append(tag, entry(number))
    chunks = cut_all(backlog)
    assert [numbers(chunk.frame) for chunk in chunks] == [[0, 1], [2], [3]]
    assert [msgpack.unpackb(bytes(chunk.frame))[0] for chunk in chunks] == ["a", "b", "a"]


def test_chunks_end_at_their_limit() -> None:
    """No chunk's payload exceeds the limit, but for one message that is larger than it."""
    backlog = Backlog(chunk_bytes_max=1000)
    for number in range(100):
        backlog.append(b"t", entry(number, 5000 if number == 50 else number))
    frames = [bytes(chunk.frame) for chunk in cut_all(backlog)]
    assert [number for frame in frames for number in numbers(frame)] == list(range(100))
    for frame in frames:
        assert len(msgpack.unpackb(frame)[1]) <= 1000 or numbers(frame) == [50]


def test_cutting_nothing() -> None:
    """Cutting an empty backlog, or twice, makes no chunk."""
    backlog = Backlog()
    backlog.cut()
    assert backlog.is_empty
    assert not backlog.has_unsent
    backlog.append(b"t", entry(0))
    assert not backlog.is_empty
    backlog.cut()
    backlog.cut()
    assert len(cut_all(backlog)) == 1
    assert not backlog.is_empty


def test_no_room() -> None:
    """When there is no room append says so and changes nothing, and there is room again when something is let go."""
    backlog = Backlog(bytes_max=5000, chunk_bytes_max=1000)
    count = 0
    while backlog.append(b"t", entry(count, 50)):
        count += 1
    held, appended = backlog.held_bytes, backlog.appended
    for tag in (b"t", b"another"):
        assert not backlog.append(tag, entry(count, 50))
    assert (backlog.held_bytes, backlog.appended) == (held, appended) == (held, count)
    chunks = cut_all(backlog)
    assert [number for chunk in chunks for number in numbers(chunk.frame)] == list(range(count))
    assert 4000 < backlog.held_bytes <= 5000
    assert backlog.acknowledge(chunks[0].id)
    assert backlog.append(b"t", entry(count, 50))


def test_the_limit_counts_what_cutting_adds() -> None:
    """Filled to the brim and then cut, a backlog is not above its limit."""
    for size in range(60):
        backlog = Backlog(bytes_max=3000)
        while backlog.append(b"t", entry(backlog.appended, size)):
            pass
        backlog.cut()
        assert 2700 < backlog.held_bytes <= 3000


def test_a_message_larger_than_the_limit() -> None:
    """It is taken when nothing else is held, and only then; behind it nothing is until it is let go."""
    backlog = Backlog(bytes_max=1000)
    assert backlog.append(b"t", entry(0))
    assert not backlog.append(b"t", entry(1, 2000))
    (chunk,) = cut_all(backlog)
    backlog.acknowledge(chunk.id)
    assert backlog.append(b"t", entry(1, 2000))
    assert not backlog.append(b"t", entry(2))
    assert not backlog.append(b"other", entry(2))
    (chunk,) = cut_all(backlog)
    assert numbers(chunk.frame) == [1]
    backlog.acknowledge(chunk.id)
    assert backlog.append(b"t", entry(2))
    assert backlog.held_bytes < 200


def test_acknowledgements() -> None:
    """Unknown and repeated ids change nothing; a message counts as acknowledged when all before it are."""
    backlog = Backlog(chunk_bytes_max=1)
    for number in range(5):
        backlog.append(b"t", entry(number))
    chunks = cut_all(backlog)
    history = [(b"\xa3abc", False, 0), (chunks[2].id, True, 0), (chunks[0].id, True, 1), (chunks[0].id, False, 1)]
    history += [(chunks[2].id, False, 1), (chunks[1].id, True, 3), (chunks[4].id, True, 3), (chunks[3].id, True, 5)]
    for chunk_id, is_news, acknowledged in history:
        assert backlog.acknowledge(chunk_id) == is_news
        assert backlog.acknowledged == acknowledged
    assert backlog.is_empty
    assert backlog.held_bytes == 0


def test_rewind() -> None:
    """After a rewind everything that is not acknowledged waits to be sent, in order, the same bytes."""
    backlog = Backlog(chunk_bytes_max=1)
    for number in range(5):
        backlog.append(b"t", entry(number))
    chunks = cut_all(backlog)
    frames = [bytes(chunk.frame) for chunk in chunks]
    backlog.acknowledge(chunks[0].id)
    backlog.acknowledge(chunks[3].id)
    backlog.append(b"t", entry(5))
    for _ in range(2):
        backlog.rewind()
        assert backlog.has_unsent
        first = backlog.next_unsent()
        assert first is not None
        assert bytes(first.frame) == frames[1]
    rest = cut_all(backlog)
    assert [bytes(chunk.frame) for chunk in rest[:2]] == [frames[2], frames[4]]
    assert numbers(rest[2].frame) == [5]


def counting(sizes: list[int]) -> Callable[[int], Memory]:
    """Allocate, and note the sizes."""

    def allocate(size: int) -> Memory:
        sizes.append(size)
        return anonymous(size)

    return allocate


def test_memory_is_used_again() -> None:
    """However much passes through, no more segments are allocated than are held at once, and a few."""
    sizes: list[int] = []
    backlog = Backlog(bytes_max=4 * SEGMENT_BYTES, allocate=counting(sizes))
    waiting: list[Chunk] = []
    for number in range(20_000):
        while not backlog.append(b"t", entry(number, 5000)):
            waiting += cut_all(backlog)
            for chunk in waiting[: len(waiting) // 2]:
                backlog.acknowledge(chunk.id)
            del waiting[: len(waiting) // 2]
    assert len(sizes) <= 8
    assert set(sizes) == {SEGMENT_BYTES}


def test_memory_stays_warm() -> None:
    """A backlog that empties again and again stays at the beginning of its first segment."""
    maps: list[mmap.mmap] = []

    def allocate(size: int) -> Memory:
        memory = anonymous(size)
        maps.append(memory.map)
        return memory

    backlog = Backlog(allocate=allocate)
    for number in range(5000):
        backlog.append(b"t", entry(number, 2000))
        for chunk in cut_all(backlog):
            assert numbers(chunk.frame) == [number]
            backlog.acknowledge(chunk.id)
    assert len(maps) == 1
    assert maps[0][4096:] == bytes(SEGMENT_BYTES - 4096)


def test_the_memory_of_one_huge_message_is_given_back() -> None:
    """A message larger than a segment has one of its own, which is freed as soon as it is acknowledged."""
    maps: list[mmap.mmap] = []

    def allocate(size: int) -> Memory:
        memory = anonymous(size)
        maps.append(memory.map)
        return memory

    backlog = Backlog(allocate=allocate)
    for number in range(3):
        backlog.append(b"t", entry(number, 3 * SEGMENT_BYTES))
        for chunk in cut_all(backlog):
            backlog.acknowledge(chunk.id)
    backlog.append(b"t", entry(3))
    assert [len(memory) > SEGMENT_BYTES for memory in maps] == [True, True, True, False]


def test_no_memory_to_be_had() -> None:
    """When the system refuses memory append raises, nothing of the message is kept, and all else is as it was."""
    refusing = False

    def allocate(size: int) -> Memory:
        if refusing:
            raise OSError(12, "Cannot allocate memory")
        return anonymous(size)

    backlog = Backlog(allocate=allocate)
    backlog.append(b"t", entry(0))
    refusing = True
    with pytest.raises(OSError, match="Cannot allocate"):
        backlog.append(b"t", entry(1, 2 * SEGMENT_BYTES))
    assert backlog.appended == 1
    refusing = False
    backlog.append(b"t", entry(2, 2 * SEGMENT_BYTES))
    backlog.append(b"t", entry(3))
    chunks = cut_all(backlog)
    assert [numbers(chunk.frame) for chunk in chunks] == [[0], [2], [3]]
    for chunk in chunks:
        assert backlog.acknowledge(chunk.id)
    assert (backlog.acknowledged, backlog.held_bytes, backlog.is_empty) == (3, 0, True)


SIZES = st.sampled_from([0, 0, 10, 100, 700, 5000, 300_000, SEGMENT_BYTES - 200, SEGMENT_BYTES + 1])
STEP = st.one_of(
    st.tuples(st.just("append"), SIZES, st.integers(0, 1)),
    st.tuples(st.just("append"), SIZES, st.just(0)),
    st.tuples(st.just("cut"), st.just(0), st.just(0)),
    st.tuples(st.just("send"), st.just(0), st.just(0)),
    st.tuples(st.just("acknowledge"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("acknowledge"), st.just(0), st.just(0)),
    st.tuples(st.just("rewind"), st.just(0), st.just(0)),
)


@settings(max_examples=150, derandomize=True)
@given(st.lists(STEP, max_size=60))
def test_any_history(steps: list[tuple[str, int, int]]) -> None:
    """Whatever happens: bytes of a chunk stay the same until it is acknowledged, the bound holds, sums agree."""
    backlog = Backlog(bytes_max=3 * SEGMENT_BYTES, chunk_bytes_max=2000)
    frames: dict[int, tuple[Chunk, bytes]] = {}  # sent at least once and not acknowledged: counter -> its first bytes
    is_next = 1
    for what, size, tag in steps:
        held, appended = backlog.held_bytes, backlog.appended
        if what == "append":
            taken = backlog.append(b"t%d" % tag, entry(appended, size))
            assert backlog.appended == appended + taken
            assert taken or backlog.held_bytes == held
        elif what == "cut":
            backlog.cut()
        elif what == "send" and (chunk := backlog.next_unsent()) is not None:
            counter = int(chunk.id[-16:], 16)
            assert counter >= is_next
            is_next = counter + 1
            frame = bytes(chunk.frame)
            assert frames.setdefault(counter, (chunk, frame))[1] == frame
        elif what == "acknowledge" and size < len(frames):
            counter = sorted(frames)[size]
            assert backlog.acknowledge(frames.pop(counter)[0].id)
        elif what == "rewind":
            backlog.rewind()
            is_next = 1
        for chunk, frame in frames.values():
            assert chunk.frame == frame
        assert backlog.held_bytes <= 3 * SEGMENT_BYTES
        assert backlog.acknowledged <= backlog.appended
    backlog.rewind()
    seen = {int(chunk.id[-16:], 16): (chunk, bytes(chunk.frame)) for chunk in cut_all(backlog)}
    assert {counter: seen[counter][1] for counter in frames} == {counter: pair[1] for counter, pair in frames.items()}
    for chunk, _ in seen.values():
        assert backlog.acknowledge(chunk.id)
    assert (backlog.acknowledged, backlog.held_bytes, backlog.is_empty) == (backlog.appended, 0, True)
