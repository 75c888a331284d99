"""
hub.wire.forward at its limits: long frames, small reads, frames over the limit, memory and time.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from types import ModuleType
from typing import Any

import msgpack
import pytest

from hub.message import Batch, Loss
from hub.wire import arriving, forward
from hub.wire.detect import Item
from hub.wire.forward import WORK_MAX, ForwardDecoder
from hub.wire.frame import OPTION_BYTES_MAX
from hub.wire.scanner import Scanner
from tests.hub.wire.feeding import batches, cut, feed, losses, seen, single_bytes, steps


@pytest.mark.parametrize(
    "start",
    [
        b"\x93\xa1t\xc6\xff\xff\xff\xff",
        b"\x93\xa1t\xdb\x04\x00\x00\x00\x92",
        b"\x93\xa1t\xdd\xff\xff\xff\xff\x92\x01",
        b"\x93\xa1t\x01\xdf\xff\xff\xff\xff",
        b"\x93\xa1t\x01\x81\xa1a\xdb\xff\xff\xff\xff",
        b"\x93\xa1t\x01" + b"\xdd\x7f\xff\xff\xff" * 900,
        b"\x93\xa1t\xc4\x00" + b"\x81\x01" + b"\xdd\x00\x00\xff\xff" * 900,
    ],
)
def test_an_absurd_declared_length_costs_only_what_arrives(start: bytes) -> None:
    """Memory is allocated for received bytes, not for announced ones; the end of the stream counts them."""
    decoder = ForwardDecoder()
    decoder.receive(b"")
    tracemalloc.start()
    try:
        assert not decoder.receive(start)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert decoder.held_bytes <= len(start)
    (loss,) = decoder.finish()
    assert isinstance(loss, Loss)
    assert loss.lost_bytes <= len(start)


@pytest.mark.costly
def test_many_small_reads_hold_about_their_own_bytes() -> None:
    """Half a frame in many small reads costs about its own bytes, not an object for each read."""
    decoder = ForwardDecoder()
    decoder.receive(b"\x92\xa1t\xc6\x01\x00\x00\x00")
    pieces = [bytes((number % 251, 1)) for number in range(251)]
    tracemalloc.start()
    try:
        for number in range(100_000):
            decoder.receive(pieces[number % 251])
        assert decoder.held_bytes == 200_008
        assert tracemalloc.get_traced_memory()[0] < 2 * decoder.held_bytes
    finally:
        tracemalloc.stop()


class CountingUnpacker(msgpack.Unpacker):
    """Counts the bytes that are fed to msgpack."""

    fed = 0

    def feed(self, next_bytes: Any) -> None:
        CountingUnpacker.fed += len(next_bytes)
        super().feed(next_bytes)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(lambda size: b"\x93\xa1t\x01\x81\xa1a\xdb" + size.to_bytes(4, "big") + b"x" * size, id="message"),
        pytest.param(
            lambda size: b"\x92\xa1t\xdd" + (size // 4).to_bytes(4, "big") + b"\x92\x01\x80\xc0"[:3] * (size // 4),
            id="forward",
        ),
        pytest.param(
            lambda size: (
                b"\x93\xa1t\xc6" + (size // 3 * 3).to_bytes(4, "big") + b"\x92\x01\x80" * (size // 3) + b"\x80"
            ),
            id="packed",
        ),
    ],
)
def test_a_long_frame_in_small_reads_is_looked_at_once(
    frame: Callable[[int], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each byte of a long frame is fed to msgpack a bounded number of times, however small the reads are."""
    monkeypatch.setattr(msgpack, "Unpacker", CountingUnpacker)
    fed = []
    for size in (1 << 20, 4 << 20):
        data = frame(size)
        CountingUnpacker.fed = 0
        items = feed(ForwardDecoder(), *cut(data, range(0, len(data), 4096)))
        assert len(batches(items)) == len(items) == 1
        fed.append(CountingUnpacker.fed / len(data))
    assert max(fed) < 6
    assert fed[1] < fed[0] * 1.2


@pytest.mark.parametrize(("module", "name"), [(forward, "read_frame"), (arriving, "read_option")])
def test_a_half_frame_is_put_together_only_when_it_is_worth_it(
    module: ModuleType, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A long payload, and options that arrive slowly after it, are joined a few times, not once for each read."""
    looks = 0
    reader = getattr(module, name)

    def counting(data: bytes, at: int) -> object:
        nonlocal looks
        looks += 1
        return reader(data, at)

    monkeypatch.setattr(module, name, counting)
    entry = b"\x92\x01\x81\xa1a\xdb" + (1 << 20).to_bytes(4, "big") + b"x" * (1 << 20)
    head = b"\x93\xa1t\xc6" + len(entry).to_bytes(4, "big") + entry
    option = b"\x81\xa5chunk" + msgpack.packb("c" * 1000)
    (batch,) = feed(ForwardDecoder(), *cut(head, range(0, len(head), 1024)), *single_bytes(option))
    assert isinstance(batch, Batch)
    assert batch.chunk_id == msgpack.packb("c" * 1000)
    assert 0 < looks < 6


@pytest.mark.parametrize(
    "head",
    [
        b"\x93\xa1t\xc4\x00\x81\x01\xdc\xff\xff",
        b"\x93\xa1o\xc6\x7f\xff\xff\xff",
        b"\x93\xa1t\xc6\x00\x10\x00\x00",
        b"\x93\xa1t\xc0\x81\xc0\xdd\x00\x10\x00\x00",
        b"\x92\xa1t\xdd\x00\x10\x00\x00",
        b"\x93\xda\x10\x00",
    ],
    ids=["options", "over the limit", "payload", "message", "forward", "tag"],
)
@pytest.mark.parametrize("piece", [b"\x90", b"\x90" * 100])
def test_what_drips_in_is_looked_at_once(head: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever part of a frame is missing, msgpack and the scanner read the new bytes, not the held ones."""
    looked_at = 0
    scan = Scanner.scan

    def counting(self: Scanner, data: bytes, at: int = 0) -> int:
        nonlocal looked_at
        looked_at += len(data) - at
        return scan(self, data, at)

    monkeypatch.setattr(msgpack, "Unpacker", CountingUnpacker)
    monkeypatch.setattr(Scanner, "scan", counting)
    CountingUnpacker.fed = 0
    decoder = ForwardDecoder()
    decoder.receive(head)
    arrived = min(4000, (1 << 20) - 1) // len(piece) * len(piece)
    for _ in range(arrived // len(piece)):
        assert not decoder.receive(piece)
    assert looked_at + CountingUnpacker.fed < 2 * arrived + 200


def test_options_are_not_built_before_they_are_whole() -> None:
    """A few bytes that announce many nested arrays take no memory and no time, at every further arrival."""
    decoder = ForwardDecoder()
    decoder.receive(b"\x93\xa1t\xc4\x00\x81\x01")
    tracemalloc.start()
    try:
        for _ in range(20):
            assert not decoder.receive(b"\xdc\xff\xff" * 50)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_large_options_are_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the used part of an option map of 60,000 lists is built, with the same result."""
    built = []
    unpackb = msgpack.unpackb

    def counting(packed: bytes, **options: Any) -> Any:
        built.append(len(packed))
        return unpackb(packed, **options)

    monkeypatch.setattr(msgpack, "unpackb", counting)
    many = b"\xa1x\xdc\xea\x60" + b"\x90" * 60_000 + b"\xc4\x05chunk\xa1b"
    for chunk in (b"\xa5chunk", b"\xd9\x05chunk", b"\xda\x00\x05chunk", b"\xdb\x00\x00\x00\x05chunk"):
        (batch,) = feed(ForwardDecoder(), b"\x93\xa1t\xc4\x03\x92\x01\x80\x84" + many + chunk + b"\xa1c\xa4size\x01")
        assert isinstance(batch, Batch)
        assert (batch.chunk_id, batch.count) == (b"\xa1c", 1)
    lists = b"\x82\xa5chunk\xdc\xea\x60" + b"\x90" * 60_000 + b"\xa4size\x01"
    (batch,) = feed(ForwardDecoder(), b"\x93\xa1t\xc4\x03\x92\x01\x80" + lists)
    assert isinstance(batch, Batch)
    assert batch.chunk_id is None
    assert built
    assert max(built) < 100


def test_many_frames_are_decoded_in_steps() -> None:
    """One call decodes a thousand frames and holds the others until it is called again, in order."""
    frames = [b"\x93\xa1t\xc4\x03\x92%c\x80\x81\xa5chunk\xa3%03d" % (n & 127, n & 511) for n in range(2500)]
    decoder = ForwardDecoder()
    data = b"".join(frames)
    found = [list(step) for step in steps(decoder, data + frames[0][:5])]
    assert [len(step) for step in found[:2]] == [WORK_MAX, WORK_MAX]
    assert decoder.held_bytes == 5
    whole = [item for step in found for item in step]
    assert seen(whole) == seen(feed(ForwardDecoder(), *cut(data, range(0, len(data), 100))))
    decoder = ForwardDecoder()
    first = decoder.receive(data)
    assert decoder.has_more
    assert decoder.held_bytes == len(b"".join(frames[WORK_MAX:]))
    again = decoder.receive(frames[0])  # bytes that arrive in between are appended
    assert seen([*first, *again, *decoder.finish()])[-2:] == seen(whole)[:2]
    assert decoder.held_bytes == 0


# Frames over the limit.

LIMIT = 1000
MESSAGE = b"\x93\xa1t\x09\x80"
AFTER = ("entry", b"t", b"\x92\x09\x80")
ENTRY = b"\x92\x01\x81\xa1a\x01"
PAYLOAD = ENTRY * 200
OVER = b"\x93\xa1o\xc5" + len(PAYLOAD).to_bytes(2, "big") + PAYLOAD
REASON = f"a frame over the limit of {LIMIT} bytes"


def pieces_of(data: bytes) -> list[list[bytes]]:
    """Return *data* in one piece, in single bytes, and cut in two at every place."""
    return [[data], single_bytes(data), *(cut(data, [place]) for place in range(1, len(data)))]


@pytest.mark.parametrize(
    ("option", "chunk", "count"),
    [
        (b"\x80", None, 1),
        (b"\xc0", None, 1),
        (b"\x82\xa5chunk\xa3abc\xa4size\xcc\xc8", b"\xa3abc", 200),
        (b"\x82\xa5chunk\xc4\x02\x00\xff\xadfluent_signal\x01", b"\xc4\x02\x00\xff", 1),
    ],
)
def test_a_packed_frame_over_the_limit_costs_itself(option: bytes, chunk: bytes | None, count: int) -> None:
    """A packed frame over the limit is one loss with tag, size and chunk id in any pieces, and the stream continues."""
    for pieces in pieces_of(MESSAGE + OVER + option + MESSAGE):
        items = feed(ForwardDecoder(frame_bytes_max=LIMIT), *pieces)
        assert seen(items) == [AFTER, ("loss", REASON, b"o", chunk, count), AFTER]
        (loss,) = losses(items)
        assert (loss.lost_bytes, loss.sample, loss.fatal) == (len(PAYLOAD), PAYLOAD[:64], False)


def test_a_frame_over_the_limit_without_options_is_reported_when_it_ends() -> None:
    """The loss of a frame without options is returned at its end, without waiting for more bytes."""
    frame = b"\x92" + OVER[1:]
    for after, rows in ((b"", []), (MESSAGE, [AFTER])):
        for pieces in pieces_of(frame + after):
            decoder = ForwardDecoder(frame_bytes_max=LIMIT)
            items = [item for piece in pieces for item in decoder.receive(piece)]
            assert seen(items) == [("loss", REASON, b"o", None, 1), *rows]
            assert not decoder.finish()
            assert decoder.held_bytes == 0


def test_a_frame_over_the_limit_holds_nothing_but_its_options() -> None:
    """The payload of a frame over the limit is discarded as it arrives."""
    decoder = ForwardDecoder(frame_bytes_max=LIMIT)
    for byte in single_bytes(OVER):
        decoder.receive(byte)
        assert decoder.held_bytes < 16
    decoder.receive(b"\x81\xa5chunk\xa3a")
    assert decoder.held_bytes == 9
    assert seen(decoder.receive(b"bc" + MESSAGE)) == [("loss", REASON, b"o", b"\xa3abc", 1), AFTER]


def test_many_frames_over_the_limit_in_one_read() -> None:
    """Any number of frames over the limit in one read is handled without recursion, and equal losses are merged."""
    items = feed(ForwardDecoder(frame_bytes_max=10), (OVER + b"\x80") * 3000 + MESSAGE)
    assert len(losses(items)) < 10
    assert sum(loss.count for loss in losses(items)) == 3000
    assert sum(loss.lost_bytes for loss in losses(items)) == 3000 * len(PAYLOAD)
    assert seen(items)[-1] == AFTER


def test_a_stream_that_ends_inside_a_frame_over_the_limit_lost_what_had_come() -> None:
    """The loss counts received bytes, not announced ones."""
    head = b"\x93\xa1o\xc6\xff\xff\xff\xff"
    for pieces in ([head + b"x" * 100], [head, b"x" * 100], single_bytes(head + b"x" * 100)):
        (loss,) = feed(ForwardDecoder(frame_bytes_max=LIMIT), *pieces)
        assert isinstance(loss, Loss)
        assert (loss.reason, loss.lost_bytes, loss.count, loss.chunk_id, loss.fatal) == (REASON, 100, 1, None, False)
    (loss,) = feed(ForwardDecoder(frame_bytes_max=LIMIT), OVER + b"\x81\xa5chu")
    assert isinstance(loss, Loss)
    assert (loss.lost_bytes, loss.chunk_id, loss.fatal) == (len(PAYLOAD), None, False)


def test_broken_options_after_a_frame_over_the_limit_are_fatal() -> None:
    """Broken options after a frame over the limit are fatal, because the next frame's beginning is unknown."""
    for pieces in pieces_of(MESSAGE + OVER + b"\x05"):
        assert seen(feed(ForwardDecoder(frame_bytes_max=LIMIT), *pieces)) == [AFTER, ("fatal", None)]


def test_a_frame_of_exactly_the_limit_is_taken() -> None:
    """The limit is from the first byte of the frame to the end of its payload; options have their own."""
    payload = ENTRY * 10
    frame = b"\x93\xa1o\xc4" + bytes((len(payload),)) + payload
    option = b"\x81\xa5chunk\xa3abc"
    for pieces in pieces_of(frame + option):
        (item,) = feed(ForwardDecoder(frame_bytes_max=len(frame)), *pieces)
        assert isinstance(item, Batch)
        (item,) = feed(ForwardDecoder(frame_bytes_max=len(frame) - 1), *pieces)
        assert isinstance(item, Loss)


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"\x93\xa1t\x01\x81\xa1a\xda\x10\x00" + b"x" * 4096, id="message"),
        pytest.param(b"\x94\xa1t\x01\x81\xa1a\xda\x10\x00" + b"x" * 4096 + b"\x80", id="message of four"),
        pytest.param(b"\x92\xa1t\xdc\x10\x00" + b"\x92\x01\x80" * 4096, id="forward"),
        pytest.param(b"\x93\xa1t\x01\x81\xa1a\xdb\x00\x02\x00\x00" + b"x" * (1 << 17), id="long message"),
    ],
)
def test_a_frame_of_undeclared_length_over_the_limit_is_fatal(frame: bytes) -> None:
    """A frame over the limit whose length is not declared ends the stream, whole or not."""
    for pieces in ([MESSAGE + frame + MESSAGE], [MESSAGE, frame], cut(MESSAGE + frame, range(0, len(frame), 100))):
        items = feed(ForwardDecoder(frame_bytes_max=LIMIT), *pieces)
        assert seen(items) == [AFTER, ("fatal", None)]


@pytest.mark.parametrize("before", [1, 20])
@pytest.mark.parametrize("after", [0, 1, 20])
def test_a_long_frame_in_a_run_of_short_ones_is_fatal(before: int, after: int) -> None:
    """The limit is that of each frame also if Message frames of one tag are cut together, in one read or in many."""
    long = MESSAGE[:-1] + b"\x81\xa1a\xda" + LIMIT.to_bytes(2, "big") + b"x" * LIMIT
    stream = MESSAGE * before + long + MESSAGE * after
    for pieces in ([stream], single_bytes(stream), cut(stream, range(0, len(stream), 100)), [stream[:90], stream[90:]]):
        items = feed(ForwardDecoder(frame_bytes_max=LIMIT), *pieces)
        assert seen(items) == [*[AFTER] * before, ("fatal", None)]
        assert losses(items)[0].reason == f"malformed Forward frame: {REASON}"


@pytest.mark.parametrize("step", [1, 100, LIMIT, 1 << 20])
def test_a_run_may_be_longer_than_a_frame(step: int) -> None:
    """Message frames within the limit are kept, whatever their sum is."""
    stream = MESSAGE * 2000
    items = feed(ForwardDecoder(frame_bytes_max=LIMIT), *cut(stream, range(0, len(stream), step)))
    assert seen(items) == [AFTER] * 2000


@pytest.mark.parametrize("size", [200, 100_000])
@pytest.mark.parametrize("name", ["message", "message of four", "forward"])
def test_a_frame_of_undeclared_length_and_exactly_the_limit_is_taken(name: str, size: int) -> None:
    """A frame of exactly the limit is accepted and one more byte is not, whole or in pieces."""
    string = b"\x81\xa1a\xdb" + size.to_bytes(4, "big") + b"x" * size
    frame = {
        "message": b"\x93\xa1t\x01" + string,
        "message of four": b"\x94\xa1t\x01" + string + b"\x80",
        "forward": b"\x93\xa1t\x91\x92\x01" + string + b"\xc0",
    }[name]
    heartbeats = b"\xc0" * 300
    for pieces in (
        [frame],
        [frame, MESSAGE],
        [frame + MESSAGE],
        [heartbeats + frame[:-1], frame[-1:]],
        cut(frame, range(0, size, 99)),
        cut(frame, [size]),
    ):
        items = feed(ForwardDecoder(frame_bytes_max=len(frame)), *pieces)
        assert not losses(items)
        assert sum(batch.count for batch in batches(items)) == 1 + (MESSAGE in b"".join(pieces))
        items = feed(ForwardDecoder(frame_bytes_max=len(frame) - 1), *pieces)
        assert [(loss.fatal, loss.reason) for loss in losses(items)] == [
            (True, f"malformed Forward frame: a frame over the limit of {len(frame) - 1} bytes")
        ]


def test_nothing_of_a_long_frame_remains() -> None:
    """A short frame after a long one is returned as soon as it is whole, whatever its bytes are."""
    decoder = ForwardDecoder()
    long = b"\x93\xa1t\x01\x81\xa1a\xdb" + (100_000).to_bytes(4, "big") + b"x" * 100_000
    assert not decoder.receive(long[:70_000])
    assert len(batches(decoder.receive(long[70_000:]))) == 1
    assert not decoder.receive(b"\x93\xa1t\x01\x81\xa1a\xa3x")
    assert len(batches(decoder.receive(b"\x92\x92"))) == 1  # the end of a string, not the beginning of an array


@pytest.mark.parametrize("size", [10, 100_000])
def test_options_that_never_end_are_fatal(size: int) -> None:
    """After a payload of any length, options are held up to their own limit only."""
    decoder = ForwardDecoder()
    entry = b"\x92\x01\x81\xa1a\xdb" + size.to_bytes(4, "big") + b"x" * size
    decoder.receive(b"\x93\xa1t\xc6" + len(entry).to_bytes(4, "big") + entry + b"\x81\x01\xdb\xff\xff\xff\xff")
    items: list[Item] = []
    fed = 7
    while not items and fed < 2 * OPTION_BYTES_MAX:
        items += decoder.receive(b"x" * 100)
        fed += 100
    assert seen(items) == [("fatal", None)]
    assert OPTION_BYTES_MAX <= fed < OPTION_BYTES_MAX + 200


def test_a_half_frame_far_over_the_limit_in_one_read_is_fatal() -> None:
    """Half a frame far over the limit in one read is fatal."""
    (loss,) = feed(
        ForwardDecoder(frame_bytes_max=LIMIT), b"\x93\xa1t\x01\x81\xa1a\xdb\x00\x40\x00\x00" + b"x" * (3 << 20)
    )
    assert isinstance(loss, Loss)
    assert loss.fatal


@pytest.mark.parametrize("frame", [b"\x93\xa1t\x01\x81\xa1a\xdb", b"\x94\xa1t\x01\x81\xa1a\xdb"])
def test_what_follows_a_long_frame_does_not_count_against_it(frame: bytes) -> None:
    """A frame just within the limit is accepted if its last read contains many more frames."""
    long = frame + (99_900).to_bytes(4, "big") + b"x" * 99_900 + (b"\x80" if frame[0] == 0x94 else b"")
    items = feed(ForwardDecoder(frame_bytes_max=100_000), long[:70_000], long[70_000:] + MESSAGE * 40_000)
    assert sum(batch.count for batch in batches(items)) == 40_001
    assert not losses(items)
