"""Backlog: bytes that stay as they were cut, in order, within the limit, in memory that is reused."""

from __future__ import annotations

import mmap
from collections.abc import Callable

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.entries import Entry, stamp
from hub.message import Batch
from hub.wire.chunkid import SESSION_LENGTH, unpack_own
from hub.wire.forward import ForwardDecoder
from hub.wire.spoolfile import FIRST, HEADER_BYTES, STATE
from producers.arena import Chunk
from producers.backlog import ARENA_BYTES, UNSENT_CHUNKS, Backlog, new_session
from producers.spool import Memory, anonymous
from tests.hub.wire.feeding import feed
from tests.support import read_entries

SESSION = "s" * SESSION_LENGTH


def entry(number: int, size: int = 0) -> bytes:
    return stamp(number) + msgpack.packb({"n": number, "pad": "x" * size})


def cut_all(backlog: Backlog) -> list[Chunk]:
    """Cut the open chunk; return all chunks that wait to be sent."""
    backlog.cut()
    chunks = []
    while (chunk := backlog.next_unsent()) is not None:
        chunks.append(chunk)
    return chunks


def numbers(frame: bytes | memoryview) -> list[int]:
    """Return what the hub reads from a frame."""
    (batch,) = feed(ForwardDecoder(), bytes(frame))
    assert isinstance(batch, Batch)
    entries = list(read_entries(batch.entries, batch.count))
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
    assert (len(frame), chunk.count) == (chunk.size_bytes, 3)
    assert backlog.held_bytes == chunk.size_bytes
    assert msgpack.packb({"ack": option["chunk"]}).endswith(chunk.id)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, 4096])
def test_tags_of_any_length(length: int) -> None:
    """Each of msgpack's string formats is used for tags of its lengths."""
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
    """No chunk's payload exceeds the limit, except for a single message that is larger."""
    backlog = Backlog(chunk_bytes_max=1000)
    for number in range(100):
        backlog.append(b"t", entry(number, 5000 if number == 50 else number))
    frames = [bytes(chunk.frame) for chunk in cut_all(backlog)]
    assert [number for frame in frames for number in numbers(frame)] == list(range(100))
    for frame in frames:
        assert len(msgpack.unpackb(frame)[1]) <= 1000 or numbers(frame) == [50]


def test_an_open_chunk_with_room() -> None:
    """`add` takes what fits into the open chunk, and nothing else; the chunk is the one that `append` makes."""
    one, other = Backlog(session=SESSION, chunk_bytes_max=200), Backlog(session=SESSION, chunk_bytes_max=200)
    assert not one.add(b"t", entry(0))
    assert one.append(b"t", entry(0))
    assert not one.add(b"u", entry(1))
    assert one.add(b"t", entry(1))
    assert not one.add(b"t", entry(2, 200))
    assert one.appended == one.open_count == 2
    assert all(other.append(b"t", entry(number)) for number in range(2))
    assert [bytes(chunk.frame) for chunk in cut_all(one)] == [bytes(chunk.frame) for chunk in cut_all(other)]
    assert not one.add(b"t", entry(2))


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
    """Without room append returns False and changes nothing; there is room again when a chunk is released."""
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
    """A full backlog is not above its limit after it is cut."""
    for size in range(60):
        backlog = Backlog(bytes_max=3000)
        while backlog.append(b"t", entry(backlog.appended, size)):
            pass
        backlog.cut()
        assert 2700 < backlog.held_bytes <= 3000


def test_a_message_larger_than_the_limit() -> None:
    """It is accepted only while nothing else is held; after it nothing is accepted until it is released."""
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
    """Unknown and repeated ids change nothing; a message is settled when it and all before it are acknowledged."""
    backlog = Backlog(chunk_bytes_max=1)
    for number in range(5):
        backlog.append(b"t", entry(number))
    chunks = cut_all(backlog)
    history = [(b"\xa3abc", 0, 0), (chunks[2].id, 1, 0), (chunks[0].id, 1, 1), (chunks[0].id, 0, 1)]
    history += [(chunks[2].id, 0, 1), (chunks[1].id, 1, 3), (chunks[4].id, 1, 3), (chunks[3].id, 1, 5)]
    acknowledged = 0
    for chunk_id, news, settled in history:
        assert backlog.acknowledge(chunk_id) == bool(news)
        acknowledged += news
        assert (backlog.acknowledged, backlog.settled, backlog.pending) == (acknowledged, settled, 5 - acknowledged)
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
    """Allocate, and record the sizes."""

    def allocate(size: int) -> Memory:
        sizes.append(size)
        return anonymous(size)

    return allocate


def test_memory_is_used_again() -> None:
    """However many messages pass, no more arenas are allocated than are held at once, plus a few."""
    sizes: list[int] = []
    backlog = Backlog(bytes_max=4 * ARENA_BYTES, allocate=counting(sizes))
    waiting: list[Chunk] = []
    for number in range(20_000):
        while not backlog.append(b"t", entry(number, 5000)):
            waiting += cut_all(backlog)
            for chunk in waiting[: len(waiting) // 2]:
                backlog.acknowledge(chunk.id)
            del waiting[: len(waiting) // 2]
    assert len(sizes) <= 8
    assert set(sizes) == {ARENA_BYTES}


def watched() -> tuple[Backlog, list[mmap.mmap]]:
    """Return a backlog, and the memory that it has ever allocated."""
    maps: list[mmap.mmap] = []

    def allocate(size: int) -> Memory:
        memory = anonymous(size)
        maps.append(memory.map)
        return memory

    return Backlog(allocate=allocate), maps


def test_memory_stays_warm() -> None:
    """A backlog that empties again and again stays at the beginning of its first arena."""
    backlog, maps = watched()
    for number in range(5000):
        backlog.append(b"t", entry(number, 2000))
        for chunk in cut_all(backlog):
            assert numbers(chunk.frame) == [number]
            backlog.acknowledge(chunk.id)
    assert len(maps) == 1
    assert maps[0][4096:] == bytes(ARENA_BYTES - 4096)


def test_the_memory_of_one_huge_message_is_given_back() -> None:
    """A message larger than an arena has one of its own, which is freed as soon as it is acknowledged."""
    backlog, maps = watched()
    for number in range(3):
        backlog.append(b"t", entry(number, 3 * ARENA_BYTES))
        for chunk in cut_all(backlog):
            backlog.acknowledge(chunk.id)
    backlog.append(b"t", entry(3))
    assert [len(memory) > ARENA_BYTES for memory in maps] == [True, True, True, False]


def test_no_memory_to_be_had() -> None:
    """If allocation fails, append raises, nothing of the message is kept, and everything else is unchanged."""
    refusing = False

    def allocate(size: int) -> Memory:
        if refusing:
            raise OSError(12, "Cannot allocate memory")
        return anonymous(size)

    backlog = Backlog(allocate=allocate)
    backlog.append(b"t", entry(0))
    refusing = True
    with pytest.raises(OSError, match="Cannot allocate"):
        backlog.append(b"t", entry(1, 2 * ARENA_BYTES))
    assert backlog.appended == 1
    refusing = False
    backlog.append(b"t", entry(2, 2 * ARENA_BYTES))
    backlog.append(b"t", entry(3))
    chunks = cut_all(backlog)
    assert [numbers(chunk.frame) for chunk in chunks] == [[0], [2], [3]]
    for chunk in chunks:
        assert backlog.acknowledge(chunk.id)
    assert (backlog.acknowledged, backlog.held_bytes, backlog.is_empty) == (3, 0, True)


def test_few_arenas_are_kept() -> None:
    """Of the arenas that a peak has left behind, the current one and two more are kept; the others are freed."""
    freed: list[int] = []
    made: list[Memory] = []

    def allocate(size: int) -> Memory:
        at = len(made)
        made.append(anonymous(size))
        return made[at]._replace(free=lambda: freed.append(at))

    backlog = Backlog(allocate=allocate)
    for number in range(20):
        backlog.append(b"t", entry(number, ARENA_BYTES // 2))
    assert (len(made), freed) == (20, [])
    for chunk in cut_all(backlog):
        backlog.acknowledge(chunk.id)
    assert len(set(freed)) == len(freed) == 17
    for number in range(3):
        backlog.append(b"t", entry(number, ARENA_BYTES // 2))
    assert (len(made), len(freed)) == (20, 17), "and these are used again"


def test_chunks_that_need_not_linger() -> None:
    """Unsent chunks are much if the oldest or the newest was cut for its size, or if there are `UNSENT_CHUNKS`."""
    for sizes, is_much in [
        ([], False),
        ([10], False),
        ([400], False),
        ([500], True),
        ([500, 10], True),
        ([10, 500], True),
        ([10, 500, 10], False),
        ([10] * (UNSENT_CHUNKS - 1), False),
        ([10] * UNSENT_CHUNKS, True),
    ]:
        backlog = Backlog(chunk_bytes_max=1000)
        for number, size in enumerate(sizes):
            backlog.append(b"t", entry(number, size))
            backlog.cut()
        assert backlog.has_much_unsent == is_much, sizes
    for _ in sizes:
        assert backlog.has_much_unsent == (len(backlog._unsent) == UNSENT_CHUNKS)
        assert backlog.next_unsent() is not None


SIZES = st.sampled_from([0, 0, 10, 100, 700, 5000, 300_000, ARENA_BYTES - 200, ARENA_BYTES + 1])
STEP = st.one_of(
    st.tuples(st.just("append"), SIZES, st.integers(0, 1)),
    st.tuples(st.just("append"), SIZES, st.just(0)),
    st.tuples(st.just("add"), st.sampled_from([0, 10, 700]), st.integers(0, 1)),
    st.tuples(st.just("cut"), st.just(0), st.just(0)),
    st.tuples(st.just("send"), st.just(0), st.just(0)),
    st.tuples(st.just("acknowledge"), st.integers(0, 3), st.just(0)),
    st.tuples(st.just("acknowledge"), st.just(0), st.just(0)),
    st.tuples(st.just("rewind"), st.just(0), st.just(0)),
    st.tuples(st.just("drop"), st.just(0), st.just(0)),
    st.tuples(st.just("place"), st.just(0), st.integers(0, 1)),
    st.tuples(st.just("change_session"), st.just(0), st.integers(0, 1)),
)


class History:
    """A backlog and its expected contents; messages are numbered as they are appended."""

    def __init__(self) -> None:
        self.is_file = False  # where new memory is allocated
        self.backlog = Backlog(bytes_max=3 * ARENA_BYTES, chunk_bytes_max=2000, allocate=self.allocate)
        self.sent: dict[int, tuple[Chunk, bytes]] = {}  # and not settled: counter -> its first bytes
        self.next_counter = 1
        self.pending: set[int] = set()

    def allocate(self, size: int) -> Memory:
        return anonymous(size)._replace(is_file=self.is_file)

    def chunks(self) -> list[tuple[Chunk, list[int]]]:
        """Cut the open chunk and return all held chunks."""
        self.backlog.cut()
        return [(chunk, numbers(chunk.frame)) for chunk in self.backlog._chunks if not chunk.is_settled]

    def append(self, size: int, tag: int) -> None:
        self.note(self.backlog.append, size, tag)

    def add(self, size: int, tag: int) -> None:
        open_count = self.backlog.open_count
        taken = self.note(self.backlog.add, size, tag)
        assert not taken or self.backlog.open_count == open_count + 1 > 1

    def note(self, append: Callable[[bytes, bytes], bool], size: int, tag: int) -> bool:
        held, appended = self.backlog.held_bytes, self.backlog.appended
        taken = append(b"t%d" % tag, entry(appended, size))
        assert self.backlog.appended == appended + taken
        assert taken or self.backlog.held_bytes == held
        assert self.backlog.open_count <= 1 or self.backlog.open_bytes <= 2000
        self.pending |= {appended} if taken else set()
        return taken

    def cut(self, *_: int) -> None:
        self.backlog.cut()

    def send(self, *_: int) -> None:
        if (chunk := self.backlog.next_unsent()) is not None:
            counter = int(chunk.id[-16:], 16)
            assert counter >= self.next_counter
            self.next_counter = counter + 1
            frame = bytes(chunk.frame)
            assert self.sent.setdefault(counter, (chunk, frame))[1] == frame

    def acknowledge(self, at: int, _: int) -> None:
        for counter in sorted(self.sent)[at : at + 1]:
            chunk, frame = self.sent.pop(counter)
            assert self.backlog.acknowledge(chunk.id)
            self.pending -= set(numbers(frame))

    def rewind(self, *_: int) -> None:
        self.backlog.rewind()
        self.next_counter = 1

    def drop(self, *_: int) -> None:
        before = self.chunks()
        unsent = [chunk for chunk in self.backlog._unsent if not chunk.is_settled]
        gone = [number for chunk, content in before if chunk in unsent[:1] for number in content]
        assert self.backlog.drop_oldest() == len(gone)
        self.pending -= set(gone)
        self.sent = {counter: pair for counter, pair in self.sent.items() if not pair[0].is_settled}

    def place(self, _: int, is_file: int) -> None:
        self.is_file = bool(is_file)

    def change_session(self, _: int, leaves_files: int) -> None:
        kept, left = [], self.backlog.left
        for chunk, content in self.chunks():
            if leaves_files and chunk.arena.is_file:
                self.pending -= set(content)
                left += len(content)
            else:
                kept.append(content)
        session = new_session()
        self.backlog.change_session(session, self.allocate, leaves_files=bool(leaves_files))
        after = self.chunks()
        assert ([content for _, content in after], self.backlog.left) == (kept, left)
        assert [unpack_own(chunk.id) for chunk, _ in after] == [(session.encode(), n + 1) for n in range(len(kept))]
        self.sent.clear()
        self.next_counter = 1

    def check(self) -> None:
        """Compare: a flush up to a message returns exactly when that message and all before it are settled."""
        backlog = self.backlog
        for chunk, frame in self.sent.values():
            assert chunk.frame == frame
        assert backlog.held_bytes <= 3 * ARENA_BYTES
        assert backlog.settled == min(self.pending, default=backlog.appended)
        assert backlog.pending == len(self.pending)
        assert backlog.appended == backlog.acknowledged + backlog.dropped + backlog.left + backlog.pending
        for last in (0, backlog.settled + 1, backlog.appended // 2, backlog.appended):
            assert backlog.pending_until(last) == sum(number < last for number in self.pending)


@settings(max_examples=150, derandomize=True)
@given(st.lists(STEP, max_size=60))
def test_any_history(steps: list[tuple[str, int, int]]) -> None:
    """In any history the bytes of a chunk stay the same until it is settled, the limit holds, and the sums agree."""
    history = History()
    for what, size, tag in steps:
        getattr(history, what)(size, tag)
        history.check()
    history.rewind()
    for chunk in cut_all(history.backlog):
        assert set(numbers(chunk.frame)) <= history.pending
        assert history.backlog.acknowledge(chunk.id)
    history.pending.clear()
    history.check()
    assert (history.backlog.held_bytes, history.backlog.is_empty) == (0, True)


def test_a_chunk_dropped_behind_one_under_way() -> None:
    """A flush waits for the chunk in flight, and not for one dropped after it."""
    backlog = Backlog(chunk_bytes_max=1)
    for number in range(3):
        backlog.append(b"t", entry(number))
    backlog.cut()
    under_way = backlog.next_unsent()
    assert under_way is not None
    assert [backlog.drop_oldest(), backlog.drop_oldest(), backlog.drop_oldest()] == [1, 1, 0]
    assert (backlog.settled, backlog.pending_until(1), backlog.pending_until(3)) == (0, 1, 1)
    assert backlog.acknowledge(under_way.id)
    assert (backlog.settled, backlog.acknowledged, backlog.dropped, backlog.pending) == (3, 1, 2, 0)


def test_what_was_dropped_behind_what_is_left() -> None:
    """Messages dropped after a chunk that stays in a file are settled with it when the session ends."""
    backlog = Backlog(chunk_bytes_max=1, allocate=lambda size: anonymous(size)._replace(is_file=True))
    for number in range(2):
        backlog.append(b"t", entry(number))
    backlog.cut()
    assert backlog.next_unsent() is not None
    assert backlog.drop_oldest() == 1
    backlog.change_session(new_session(), anonymous, leaves_files=True)
    assert (backlog.settled, backlog.left, backlog.dropped, backlog.is_empty) == (2, 1, 1, True)


def test_a_new_session_takes_the_open_chunk_along() -> None:
    """What is not in a cut chunk yet moves too, after what is, and under an id of the new session."""
    backlog, session = Backlog(session=SESSION), new_session()
    for number in range(3):
        backlog.append(b"t", entry(number))
        if number == 1:
            backlog.cut()
    backlog.change_session(session, anonymous, leaves_files=False)
    backlog.append(b"t", entry(3))
    chunks = cut_all(backlog)
    assert [numbers(chunk.frame) for chunk in chunks] == [[0, 1], [2], [3]]
    assert [unpack_own(chunk.id) for chunk in chunks] == [(session.encode(), n) for n in (1, 2, 3)]


def test_a_new_session_uses_no_memory_of_the_old_one() -> None:
    """A new session allocates its own memory; empty arenas are freed, and arenas left in files are not."""
    freed: list[int] = []

    def allocate(size: int) -> Memory:
        at = len(made)
        made.append(anonymous(size))
        return made[at]._replace(is_file=at in (1, 2), free=lambda: freed.append(at))

    made: list[Memory] = []
    backlog = Backlog(chunk_bytes_max=1, allocate=allocate)
    for number in range(4):
        backlog.append(b"t", entry(number, ARENA_BYTES // 2))
    chunks = cut_all(backlog)
    backlog.acknowledge(chunks[1].id)
    backlog.acknowledge(chunks[0].id)
    backlog.change_session(new_session(), allocate, leaves_files=True)
    assert (backlog.left, [numbers(chunk.frame) for chunk in cut_all(backlog)]) == (1, [[3]])
    assert sorted(freed) == [0, 1]
    backlog.append(b"t", entry(4))
    assert len(made) == 5
    for chunk in list(backlog._chunks):
        backlog.acknowledge(chunk.id)
    assert sorted(freed) == [0, 1, 3]


@pytest.mark.parametrize("earlier", [0, 1])
def test_a_file_whose_lock_was_lost(earlier: int) -> None:
    """
    The hub may have read the open chunk before it was full. So that chunk moves to another file and skips a number, and
    nothing of it is left to read in the first; earlier chunks stay as they are.
    """
    freed: list[int] = []
    is_locked = True

    def allocate(size: int) -> Memory:
        nonlocal is_locked
        is_locked, number = True, len(memories)
        memories.append(mmap.mmap(-1, size))
        return Memory(memories[-1], lambda: freed.append(number), is_file=True)

    memories: list[mmap.mmap] = []
    backlog = Backlog(session=SESSION, allocate=allocate, is_locked=lambda: is_locked)
    for number in range(earlier):
        backlog.append(b"t", entry(number))
        backlog.cut()
    backlog.append(b"t", entry(10))
    is_locked = False
    backlog.append(b"t", entry(11))
    held = backlog.held_bytes
    *before, chunk = cut_all(backlog)
    assert [numbers(each.frame) for each in before] == [[0]] * earlier
    assert numbers(chunk.frame) == [10, 11]
    assert unpack_own(chunk.id) == (SESSION.encode(), earlier + 2)
    assert backlog.held_bytes == sum(each.size_bytes for each in [*before, chunk]) > held
    first, second = (memoryview(memory)[:HEADER_BYTES].cast("Q") for memory in memories)
    assert first[STATE] == (before[0].end if before else HEADER_BYTES)
    assert (second[FIRST], second[STATE]) == (earlier + 2, chunk.end)
    assert freed == ([] if earlier else [0])
    for each in (*before, chunk):
        assert backlog.acknowledge(each.id)
    assert freed == [0]
    assert backlog.pending == 0
