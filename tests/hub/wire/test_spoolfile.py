"""
hub.wire.spoolfile: what the hub reads of a segment: whole, cut off, with a flipped bit, and at any moment of a backlog.
"""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Callable
from itertools import pairwise
from types import FrameType
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.entries import Entry, stamp
from hub.message import Batch
from hub.wire.chunkid import SESSION_LENGTH, pack_own
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import TAG_BYTES_MAX, encode_frame_head, encode_frame_tail
from hub.wire.spoolfile import (
    COUNT_SHIFT,
    HEADER_BYTES,
    OPEN,
    PIECE_BYTES,
    STATE,
    DamagedRange,
    SpoolHeader,
    folder_beside,
    is_unseen_lock,
    lock_name,
    name_of_lock,
    name_of_segment,
    newer_version,
    pack_header,
    pieces_of,
    segment_name,
    unpack_header,
)
from producers import backlog as backlog_module
from producers.backlog import Backlog
from producers.spool import Memory, anonymous
from tests.support import read_entries

SESSION = "s" * SESSION_LENGTH
HEAD = len(encode_frame_head(b"app", 0))
TAIL = len(encode_frame_tail(pack_own(SESSION, 0), 0))


class Files:
    """Allocates memory like a spool, and lets the test read it as the hub would after a kill."""

    def __init__(self) -> None:
        self.memories: list[Memory] = []

    def allocate(self, size: int) -> Memory:
        made = anonymous(size)
        made.map[:HEADER_BYTES] = pack_header(SESSION, 42, "worker")
        memory = Memory(made.map, lambda: self.memories.remove(memory), is_file=True)
        self.memories.append(memory)
        return memory

    def images(self) -> list[bytes]:
        return [memory.map[:] for memory in self.memories]


def entry(number: int, size: int = 0) -> bytes:
    return stamp(number) + msgpack.packb({"n": number, "pad": "x" * size})


def frames_of(data: bytes, spool: SpoolHeader, acknowledged: int) -> list[bytes | DamagedRange]:
    """Return the whole frames of a segment, and `DamagedRange` last if there is damage."""
    read = lambda at, size: data[at : at + size]  # noqa: E731
    pieces = list(pieces_of(read, len(data), spool, acknowledged))
    damaged = [piece for piece in pieces if isinstance(piece, DamagedRange)]
    assert damaged in ([], pieces[-1:])
    stream = b"".join(piece for piece in pieces if isinstance(piece, bytes))
    unpacker, ends = msgpack.Unpacker(max_buffer_size=len(stream) + 1), [0]
    unpacker.feed(stream)
    while ends[-1] < len(stream):
        unpacker.skip()
        ends.append(unpacker.tell())
    return [*(stream[start:end] for start, end in pairwise(ends)), *damaged]


def frames(images: list[bytes]) -> list[bytes | DamagedRange]:
    """Read the segments of one session as the hub does."""
    spools = [(spool, data) for data in images if (spool := unpack_header(data)) is not None]
    acknowledged = max((spool.acknowledged for spool, _ in spools), default=0)
    ordered = sorted(spools, key=lambda pair: pair[0].first)
    return [frame for spool, data in ordered for frame in known_frames_of(data, spool, acknowledged)]


@functools.lru_cache(200)  # a step changes one segment of many, and one frame of it
def known_frames_of(data: bytes, spool: SpoolHeader, acknowledged: int) -> tuple[bytes | DamagedRange, ...]:
    return tuple(frames_of(data, spool, acknowledged))


def numbers(frame: bytes | DamagedRange) -> list[Any]:
    """Return the numbers in a frame, decoded by the hub's decoder."""
    assert isinstance(frame, bytes), frame
    return [*known_numbers(frame)]


@functools.lru_cache(1000)
def known_numbers(frame: bytes) -> tuple[Any, ...]:
    batches = [item for item in ForwardDecoder().receive(frame) if isinstance(item, Batch)]
    entries = (item for batch in batches for item in read_entries(batch.entries, batch.count))
    return tuple(item.record["n"] for item in entries if isinstance(item, Entry) and item.record)


def segment(*, is_open: bool) -> tuple[bytes, list[int]]:
    """Return a segment of three cut chunks, and optionally an open one, and the end of each."""
    files = Files()
    backlog = Backlog(session=SESSION, allocate=files.allocate)
    ends = []
    for number in range(8 if is_open else 6):
        backlog.append(b"app", entry(number))
        if number % 2 and number < 6:
            backlog.cut()
            ends.append(HEADER_BYTES + backlog.held_bytes)
    (image,) = files.images()
    end = HEADER_BYTES + backlog.held_bytes
    return image[: end + 64], [*ends, end] if is_open else ends


HEADER = bytes.fromhex(
    "4d50535253504c0a 6000000000000000 0000000000000000 0000000000000000 0000000000000000 010000002a000000"
    "7373737373737373 7373737373737373 7373737373730000 776f726b65720000 0000000000000000 0000000000000000"
)
"""That of format 1, as each release writes it."""
WHOLE = {0: [0, 1], 1: [2, 3], 2: [4, 5], 3: [6, 7]}


# Whole.


def test_names_and_header() -> None:
    """Written names and headers are read back; other names and headers are rejected."""
    assert name_of_lock(lock_name(SESSION)) == name_of_segment(segment_name(SESSION, 7)) == SESSION
    for name in (
        "",
        "x.lock",
        f"{SESSION}.lock.ab",
        f"{SESSION}.1.seg",
        f"{SESSION}.00000001.seg~",
        f"../{SESSION}.lock",
    ):
        assert name_of_lock(name) is name_of_segment(name) is None
    assert is_unseen_lock(f"{SESSION}.lock.0123abcd")
    assert not any(map(is_unseen_lock, (f"{SESSION}.lock", f"{SESSION}.lock.0123abcg", f"{SESSION}.lock.0123abcde")))
    assert folder_beside("/run/hub.sock") == "/run/hub.sock.spool"
    spool = unpack_header(pack_header(SESSION, 42, "a command of more than sixteen bytes"))
    assert spool == (SESSION, 42, "a command of mor", 0, 0, HEADER_BYTES, 0, 0)
    assert unpack_header(pack_header(SESSION, 1, "\xe4" * 9 + "\udcff")) is not None
    assert [unpack_header(pack_header(SESSION[:-1] + last, 1, "x")) for last in "./\0\n"] == [None] * 4
    assert list(frames_of(pack_header(SESSION, 42, ""), spool, 0)) == []


def test_the_header_is_that_of_version_one() -> None:
    """Its bytes do not change: a hub adopts what a producer of another release has left, and the other way round."""
    assert pack_header(SESSION, 42, "worker") == HEADER
    assert unpack_header(HEADER) == (SESSION, 42, "worker", 0, 0, len(HEADER), 0, 0)


@pytest.mark.parametrize("is_open", [False, True])
def test_what_was_appended_is_read(is_open: bool) -> None:
    """Each chunk is one whole frame with its id, and the open one is as its producer would have cut it."""
    data, _ = segment(is_open=is_open)
    read_frames = frames([data])
    assert [numbers(frame) for frame in read_frames] == [WHOLE[at] for at in range(3 + is_open)]
    backlog = Backlog(session=SESSION)
    for number in range(6 + 2 * is_open):
        backlog.append(b"app", entry(number))
        if number % 2:
            backlog.cut()
            chunk = backlog.next_unsent()
            assert chunk is not None
            assert read_frames[number // 2] == bytes(chunk.frame)


@pytest.mark.parametrize("length", [1, 31, 32, 255, 256, TAG_BYTES_MAX])
def test_tags_of_any_length(length: int) -> None:
    """Frames under a tag that a producer may use are read, however its length is written."""
    files, tag = Files(), b"t" * length
    backlog = Backlog(session=SESSION, allocate=files.allocate)
    for number in range(4):
        backlog.append(tag, entry(number))
        backlog.cut()
    assert [numbers(frame) for frame in frames(files.images())] == [[0], [1], [2], [3]]


# Cut off.


@pytest.mark.parametrize("is_open", [False, True])
def test_cut_at_every_byte(is_open: bool) -> None:
    """Wherever the file ends, whole chunks are read, and the missing bytes are one `DamagedRange`."""
    data, ends = segment(is_open=is_open)
    for size in range(ends[-1] + 1):
        spool = unpack_header(data[:size])
        if size < HEADER_BYTES:
            assert spool is None
            continue
        assert spool is not None
        *whole, last = *frames_of(data[:size], spool, 0), None
        kept = sum(end <= size for end in ends)
        if kept < len(ends):
            last = whole.pop()
            assert isinstance(last, DamagedRange)
            assert last.lost_bytes == ends[-1] - max([HEADER_BYTES, *ends][kept], HEADER_BYTES)
            assert last.sample == data[:size][([HEADER_BYTES, *ends][kept]) :][:64]
        assert [numbers(frame) for frame in whole] == [WHOLE[at] for at in range(kept)]


# Positions.


def with_words(data: bytes, **words: int) -> bytes:
    """Return a segment with other words in its header: *state*, *open_at*."""
    changed = bytearray(data)
    cast = memoryview(changed)[:HEADER_BYTES].cast("Q")
    for name, value in words.items():
        cast[{"state": STATE, "open_at": OPEN}[name]] = value
    return bytes(changed)


def large_segment(*, is_open: bool) -> tuple[bytes, list[int]]:
    """Return a segment of a small chunk, one larger than a step of reading, and a small one; and the end of each."""
    files = Files()
    backlog = Backlog(session=SESSION, allocate=files.allocate)
    ends = []
    for number, size in enumerate((0, 2 * PIECE_BYTES, 0)):
        backlog.append(b"app", entry(number, size))
        if number < 2 or not is_open:
            backlog.cut()
        ends.append(HEADER_BYTES + backlog.held_bytes)
    return files.images()[0][: ends[-1]], ends


def test_a_position_inside_the_header_is_no_segment() -> None:
    """The first byte that does not count is never before the frames."""
    data, _ = segment(is_open=False)
    for position in range(HEADER_BYTES):
        for count in (0, 1):
            assert unpack_header(with_words(data, state=count << COUNT_SHIFT | position)) is None
    spool = unpack_header(with_words(data, state=HEADER_BYTES))
    assert spool is not None
    assert frames_of(data, spool, 0) == []


@pytest.mark.parametrize("acknowledged", [0, 2])
def test_frames_count_up_to_the_position_only(acknowledged: int) -> None:
    """A frame that reaches past the position is damage, even if all of it is in the file, and so is what follows."""
    data, ends = large_segment(is_open=False)
    around = {end + more for end in [HEADER_BYTES, *ends] for more in (-TAIL - 1, -TAIL, -1, 0, 1, HEAD, PIECE_BYTES)}
    for position in sorted(place for place in around if HEADER_BYTES <= place <= ends[-1]):
        spool = unpack_header(with_words(data, state=position))
        assert spool is not None
        got = frames_of(data, spool, acknowledged)
        kept = sum(end <= position for end in ends)
        start = [HEADER_BYTES, *ends][kept]
        if position != start:
            damage = got.pop()
            assert isinstance(damage, DamagedRange)
            assert (damage.lost_bytes, damage.sample) == (position - start, data[start : start + 64])
        assert [numbers(frame) for frame in got] == [[number] for number in range(acknowledged, kept)]


@pytest.mark.parametrize("large", [False, True])
def test_cut_frames_end_where_the_open_one_begins(large: bool) -> None:
    """An open chunk that begins inside the header or inside a cut frame is damage, and no frame is read twice."""
    data, ends = (large_segment if large else segment)(is_open=True)
    begins = [HEADER_BYTES, *ends]
    whole = unpack_header(data)
    assert whole is not None
    assert whole.open_at == begins[-2]
    places = {0, 1, HEADER_BYTES - 1, *(begin + more for begin in begins[:-1] for more in (0, 1, HEAD, HEAD + 9))}
    for place in sorted(places - set(begins)):
        spool = unpack_header(with_words(data, open_at=place))
        assert spool is not None
        *got, damage = frames_of(data, spool, 0)
        assert isinstance(damage, DamagedRange)
        kept = max(sum(end <= place for end in ends), 0)
        assert len(got) == kept
        assert damage.lost_bytes == ends[-1] - begins[kept]


# Flipped bits.


def flips(data: bytes, places: range) -> list[tuple[int, bytes]]:
    """Return *data* with each bit of some bytes flipped, and the place."""
    return [(at, data[:at] + bytes((data[at] ^ 1 << bit,)) + data[at + 1 :]) for at in places for bit in range(8)]


@pytest.mark.parametrize("is_open", [False, True])
def test_a_wrong_bit_in_the_framing(is_open: bool) -> None:
    """
    Chunks before a flipped bit are whole; if the flip is undetectable no message is lost, otherwise the rest is one
    `DamagedRange`.
    """
    data, ends = segment(is_open=is_open)
    found = 0
    for number, (start, end) in enumerate(pairwise([HEADER_BYTES, *ends])):
        head, tail = range(start, start + HEAD), range(end - TAIL, end) if number < 3 else range(0)
        for flipped in (flipped for places in (head, tail) for _, flipped in flips(data, places)):
            spool = unpack_header(flipped)
            assert spool is not None
            got = list(frames_of(flipped, spool, 0))
            damaged = [frame for frame in got if isinstance(frame, DamagedRange)]
            assert damaged in ([], got[-1:])
            whole = [numbers(frame) for frame in got if not isinstance(frame, DamagedRange)]
            assert whole == [WHOLE[at] for at in range(len(whole))]
            assert len(whole) >= number if damaged else len(whole) == len(ends)
            found += len(damaged)
    assert found > 1000


@pytest.mark.parametrize("is_open", [False, True])
def test_a_wrong_bit_in_the_header(is_open: bool) -> None:
    """With a flipped bit in the header nothing is raised, and nothing is read twice or in another order."""
    data, ends = segment(is_open=is_open)
    every = [number for at in range(len(ends)) for number in WHOLE[at]]
    for at, flipped in flips(data, range(HEADER_BYTES)):
        spool = unpack_header(flipped)
        if newer_version(flipped):
            assert (spool, at in range(40, 44)) == (None, True), "the version"
        if spool is None or spool.session != SESSION:
            assert at < 16 or 40 <= at < 44 or 48 <= at < 70, "what the hub reports as no header"
            continue
        got = list(frames_of(flipped, spool, spool.acknowledged))
        whole = [number for frame in got if not isinstance(frame, DamagedRange) for number in numbers(frame)]
        if 24 <= at < 32:
            assert whole == every[len(every) - len(whole) :]
        else:
            assert whole == every[: len(whole)]
        if at >= 44:  # the process id, the name
            assert whole == every


@settings(max_examples=200, derandomize=True)
@given(st.binary(max_size=400), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_anything(tail: bytes, state: int, first: int, open_at: int) -> None:
    """Reading any file ends, raises nothing, and yields at most one `DamagedRange`, at the end."""
    header = bytearray(pack_header(SESSION, 1, "x"))
    header[8:24] = state.to_bytes(8, "little") + first.to_bytes(8, "little")
    header[32:40] = open_at.to_bytes(8, "little")
    for data in (bytes(header) + tail, tail):
        spool = unpack_header(data)
        if spool is not None:
            got = list(frames_of(data, spool, 0))
            assert sum(isinstance(frame, DamagedRange) for frame in got[:-1]) == 0
            for frame in got:
                if isinstance(frame, bytes):
                    ForwardDecoder().receive(frame)


def test_frames_that_are_no_producers() -> None:
    """Forward and Message frames, foreign chunk ids and a counter with a gap are damage, not messages."""
    for frame in (
        msgpack.packb(["t", [[1, {}]], {"chunk": "x"}]),
        msgpack.packb(["t", 1, {}, {"chunk": "x"}]),
        msgpack.packb(["t", b"\x92\x01\x80"]),
        msgpack.packb(["t", b"\x92\x01\x80", {"chunk": f"mpsr.{SESSION}.{2:016x}", "size": 1}]),
        msgpack.packb(["t", b"\x92\x01\x80", {"chunk": f"mpsr.{'o' * 22}.{1:016x}", "size": 1}]),
    ):
        data = bytearray(pack_header(SESSION, 1, "x") + frame)
        words = memoryview(data)[:HEADER_BYTES].cast("Q")
        words[STATE], words[2] = len(data), 1
        for _ in range(2):
            spool = unpack_header(bytes(data))
            assert spool is not None
            (damaged,) = frames_of(bytes(data), spool, 0)
            assert isinstance(damaged, DamagedRange)
            words[STATE], words[4] = 1 << COUNT_SHIFT | len(data), len(data)  # or of a cut frame before an open one


# Any moment of a backlog.

SEGMENT = 32 << 10
SIZES = st.sampled_from([0, 0, 10, 700, 3000, 9000, SEGMENT + 1])
STEP = st.one_of(
    st.tuples(st.just("append"), SIZES),
    st.tuples(st.just("append"), SIZES),
    st.tuples(st.just("tag"), st.just(0)),
    st.tuples(st.just("cut"), st.just(0)),
    st.tuples(st.just("send"), st.integers(0, 5)),
    st.tuples(st.just("acknowledge"), st.integers(0, 3)),
    st.tuples(st.just("acknowledge"), st.just(0)),
    st.tuples(st.just("rewind"), st.just(0)),
    st.tuples(st.just("drop"), st.just(0)),
)


class Model:
    """A backlog, and the expected contents of its files; chunks dropped out of order may be in the files too."""

    def __init__(self) -> None:
        self.files = Files()
        self.backlog = Backlog(
            session=SESSION, bytes_max=4 * SEGMENT, chunk_bytes_max=2000, allocate=self.files.allocate
        )
        self.needed: set[int] = set()
        self.sent: dict[bytes, list[int]] = {}  # the contents of each sent chunk
        self.number = self.tag = 0

    def append(self, size: int) -> None:
        if self.backlog.append(b"t%d" % self.tag, entry(self.number, size)):
            self.needed.add(self.number)
        self.number += 1

    def change_tag(self, _: int) -> None:
        self.tag ^= 1

    def cut(self, _: int) -> None:
        self.backlog.cut()

    def rewind(self, _: int) -> None:
        self.backlog.rewind()

    def send(self, chunks: int) -> None:
        for _ in range(chunks):
            if (chunk := self.backlog.next_unsent()) is not None:
                self.sent[chunk.id] = numbers(bytes(chunk.frame))

    def acknowledge(self, at: int) -> None:
        for chunk_id in sorted(self.sent)[at : at + 1]:
            contents = self.sent.pop(chunk_id)
            if self.backlog.acknowledge(chunk_id):
                self.needed.difference_update(contents)

    def drop(self, _: int) -> None:
        if not self.backlog.has_unsent:
            self.backlog.cut()
        oldest = [numbers(bytes(chunk.frame)) for chunk in self.backlog._unsent if not chunk.is_settled][:1]
        assert self.backlog.drop_oldest() == sum(map(len, oldest))
        for contents in oldest:
            self.needed.difference_update(contents)

    def check(self) -> None:
        got = frames(self.files.images())
        found = [number for frame in got for number in numbers(frame)]
        assert found == sorted(set(found)), "once, in order"
        assert self.needed <= set(found), "nothing is missing"
        ids = [msgpack.unpackb(frame)[2]["chunk"] for frame in got if isinstance(frame, bytes)]
        assert ids == sorted(set(ids))


def test_a_chunk_dropped_while_an_earlier_one_is_under_way() -> None:
    """Once all earlier chunks are acknowledged, a dropped chunk is not read."""
    files = Files()
    backlog = Backlog(session=SESSION, allocate=files.allocate, chunk_bytes_max=1)
    for number in range(3):
        backlog.append(b"t", entry(number))
    first = backlog.next_unsent()
    assert first is not None
    assert backlog.drop_oldest() == 1
    assert backlog.acknowledge(first.id)
    assert (backlog.settled, [numbers(frame) for frame in frames(files.images())]) == (2, [[2]])


DO = {"append": Model.append, "tag": Model.change_tag, "cut": Model.cut, "rewind": Model.rewind, "send": Model.send}
DO |= {"acknowledge": Model.acknowledge, "drop": Model.drop}


@pytest.mark.costly
@settings(max_examples=80, derandomize=True)
@given(st.lists(STEP, max_size=40))
def test_any_moment(steps: list[tuple[str, int]]) -> None:
    """After a kill at any step, everything appended and neither acknowledged nor dropped is read, once and in order."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("producers.backlog.ARENA_BYTES", SEGMENT)
        model = Model()
        for what, size in steps:
            DO[what](model, size)
            model.check()
        model.cut(0)
        model.rewind(0)
        model.send(1 << 20)
        while model.sent:
            model.acknowledge(0)
            model.check()
        assert (model.needed, frames(model.files.images()), model.backlog.held_bytes) == (set(), [], 0)
        assert model.backlog.settled == model.backlog.appended == model.backlog.acknowledged + model.backlog.dropped
        model.backlog.close(keep=False)
        assert model.files.memories == []


@pytest.mark.costly
def test_between_any_two_stores() -> None:
    """
    After a kill at any line of the backlog's code, everything appended before is read, once, in order, without damage.
    """
    dice = random.Random(1)
    looked = 0

    def look(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal looked
        if frame.f_code.co_filename != backlog_module.__file__:
            return None
        if event == "line":
            looked += 1
            found = [number for part in frames(model.files.images()) for number in numbers(part)]
            assert found == sorted(set(found))
            assert model.needed - letting_go <= set(found)
            assert not set(found) - set(range(model.number + 1))
        return look

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("producers.backlog.ARENA_BYTES", 4096)
        model, letting_go = Model(), set[int]()
        before = sys.gettrace()
        for _ in range(400):
            what = dice.choice(["append", "append", "append", "tag", "cut", "send", "acknowledge", "rewind"])
            contents = model.sent[min(model.sent)] if what == "acknowledge" and model.sent else []
            letting_go = set(contents)
            sys.settrace(look)
            try:
                DO[what](model, dice.choice([0, 10, 500, 1500]) if what == "append" else 3 * (what == "send"))
            finally:
                sys.settrace(before)
            model.check()
    assert looked > 3000
