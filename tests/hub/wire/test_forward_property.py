"""
hub.wire.forward: properties over random streams, cut in any way.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.message import Batch, Loss
from hub.wire import checking, forward, output, payload, scanner
from hub.wire.forward import ForwardDecoder
from tests.hub.wire.feeding import CUTS, PROPERTY, batches, cut, feed, is_fatal, losses, seen, single_bytes
from tests.support import read_entries

pytestmark = pytest.mark.costly

LIMIT = 4000
Frame = tuple[bytes, list[Any]]
"""The bytes of a frame, and its expected items."""

times = st.sampled_from([b"\x00", b"\x07", b"\xce\x55\xec\xe6\xf8", b"\xd2\x55\xec\xe6\xf8", b"\xc0"]) | st.binary(
    min_size=8, max_size=8
).map(lambda data: b"\xd7\x00" + data)
values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=40)
    | st.binary(max_size=40)
)
records = st.dictionaries(st.text(max_size=5), values, max_size=3).map(msgpack.packb) | st.just(
    b"\x81\xa1\xff\xa2\x80\xfe"
)
entries = st.builds(lambda time, record: b"\x92" + time + record, times, records)
tags = st.sampled_from([b"\xa1t", b"\xa1u", b"\xc4\x01t", b"\xa2\xff\xfe", b"\xd9\x21" + b"long" * 8 + b"t"])
chunks = st.sampled_from([None, b"\xa1c", b"\xc4\x02\x00\xff", b"\xa2\x80\xff"])


def tag_of(packed: bytes) -> bytes:
    return packed[2:] if packed[0] in (0xC4, 0xD9) else packed[1:]


@st.composite
def options(draw: st.DrawFn, count: int) -> tuple[bytes, bytes | None]:
    """Return options in msgpack, and the chunk id in them."""
    chunk = draw(chunks)
    pairs = [b"\xa5chunk" + chunk] if chunk else []
    size = draw(st.sampled_from([None, count, count + 1, 200]))
    pairs += [b"\xa4size" + msgpack.packb(size)] if size is not None else []
    pairs += draw(st.lists(st.sampled_from([b"\x01\x02", b"\xa1x\x92\xc0\x01", b"\xaacompressed\xa4text"]), max_size=2))
    if not pairs and draw(st.booleans()):
        return b"\xc0", None
    return bytes((0x80 | len(pairs),)) + b"".join(pairs), chunk


@st.composite
def message_frames(draw: st.DrawFn) -> Frame:
    """Return a Message frame of three or four elements."""
    tag, entry = draw(tags), draw(entries)
    row = ("entry", tag_of(tag), entry)
    if draw(st.booleans()):
        return b"\x93" + tag + entry[1:], [row]
    option, chunk = draw(options(1))
    return b"\x94" + tag + entry[1:] + option, [row, *chunk_row(tag, chunk)]


@st.composite
def entry_frames(draw: st.DrawFn) -> Frame:
    """Return a Forward or PackedForward frame of two or three elements."""
    tag, several = draw(tags), draw(st.lists(entries, max_size=4))
    body = b"".join(several)
    fronts = [bytes((0x90 | len(several),)), b"\xdc\x00" + bytes((len(several),))]
    fronts += [first + len(body).to_bytes(2, "big") for first in (b"\xc5", b"\xda")]
    front = draw(st.sampled_from(fronts))
    rows = [("entry", tag_of(tag), entry) for entry in several]
    if draw(st.booleans()):
        return b"\x92" + tag + front + body, rows
    option, chunk = draw(options(len(several)))
    return b"\x93" + tag + front + body + option, [*rows, *chunk_row(tag, chunk)]


@st.composite
def lost_frames(draw: st.DrawFn) -> Frame:
    """Return a frame that becomes a loss: not a log, or over the limit."""
    tag, chunk = draw(tags), b"\xa5chunk\xa1c"
    body, option, reason = draw(
        st.sampled_from(
            [
                (b"\xc4\x02\xc1\xc1", b"\x82\xadfluent_signal\x01", "not a log but fluent_signal 1"),
                (b"\xc5\x10\x00" + b"x" * 4096, b"\x81", f"a frame over the limit of {LIMIT} bytes"),
            ]
        )
    )
    return b"\x93" + tag + body + option + chunk, [("loss", reason, tag_of(tag), b"\xa1c", 1)]


def frames() -> st.SearchStrategy[Frame]:
    """Return whole frames of any kind."""
    return st.just((b"\xc0", [])) | message_frames() | message_frames() | entry_frames() | lost_frames()


def chunk_row(tag: bytes, chunk: bytes | None) -> list[Any]:
    return [("chunk", tag_of(tag), chunk)] if chunk else []


streams = st.lists(frames(), max_size=8).map(
    lambda several: (b"".join(frame for frame, _ in several), [row for _, rows in several for row in rows])
)
broken = st.binary(min_size=1, max_size=80).filter(
    lambda data: not (0x90 <= data[0] <= 0x9F or data[0] in b"\xdc\xdd\xc0")
)


def decoder() -> ForwardDecoder:
    return ForwardDecoder(frame_bytes_max=LIMIT)


@PROPERTY
@given(streams, CUTS)
def test_a_stream_means_the_same_however_it_is_cut(stream: Frame, places: list[int]) -> None:
    """Any sequence of frames gives the same messages, chunk ids and losses whole, byte by byte, and cut anywhere."""
    data, expected = stream
    for pieces in ([data], single_bytes(data), cut(data, places)):
        assert seen(feed(decoder(), *pieces)) == expected


@PROPERTY
@given(streams, broken, CUTS)
def test_garbage_after_a_stream_costs_nothing_before_it(stream: Frame, garbage: bytes, places: list[int]) -> None:
    """Everything before garbage is kept, and the garbage is exactly one fatal loss."""
    data, expected = stream
    for pieces in ([data + garbage], single_bytes(data + garbage), cut(data + garbage, places)):
        assert seen(feed(decoder(), *pieces)) == [*expected, ("fatal", None)]


@PROPERTY
@given(streams, frames(), st.integers(1, 1 << 20), CUTS)
def test_half_a_frame_after_a_stream_is_one_loss(stream: Frame, last: Frame, place: int, places: list[int]) -> None:
    """Everything before half a frame is kept, and the half frame is at most one loss and not acknowledged."""
    data, expected = stream
    half = last[0][: place % len(last[0])]
    for pieces in ([data + half], single_bytes(data + half), cut(data + half, places)):
        items = feed(decoder(), *pieces)
        rows = seen(items)
        assert rows[: len(expected)] == expected
        rest = items[len(items) - len(rows) + len(expected) :]
        assert len(rows) - len(expected) == (1 if half else 0)
        assert not half or isinstance(items[-1], Loss)
        assert [(loss.chunk_id, loss.fatal) for loss in losses(rest[-1:])] == ([(None, False)] if half else [])


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return frames with a few bytes changed, inserted or removed."""
    data = bytearray(draw(streams)[0])
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3) | st.sampled_from(SPICE))
    return bytes(data)


SPICE = [
    b"\xc9\xff\xff\xff\xff",
    b"\xc1",
    b"\x91" * 1100,
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc0",
]


@PROPERTY
@given(damaged() | st.binary(max_size=300), CUTS)
def test_nothing_that_arrives_raises(data: bytes, places: list[int]) -> None:
    """Any bytes become messages and losses, with at most one fatal loss at the end, and all messages can be read."""
    for pieces in ([data], single_bytes(data), cut(data, places)):
        items = feed(decoder(), *pieces)
        assert not any(is_fatal(item) for item in items[:-1])
        for batch in batches(items):
            assert codec.is_well_formed(batch.entries)
            assert len(list(read_entries(batch.entries, batch.count))) == batch.count
            assert len(list(batch.messages())) == batch.count


@PROPERTY
@given(damaged() | st.binary(max_size=300), CUTS)
def test_damage_means_the_same_however_it_is_cut(data: bytes, places: list[int]) -> None:
    """The items of a damaged stream do not depend on how it is cut."""
    expected = seen(feed(decoder(), data))
    assert seen(feed(decoder(), *single_bytes(data))) == expected
    assert seen(feed(decoder(), *cut(data, places))) == expected


@PROPERTY
@given(streams, CUTS)
def test_held_bytes_are_the_bytes_of_the_half_frame(stream: Frame, places: list[int]) -> None:
    """Nothing is held between frames, and never more than was fed since the last whole frame."""
    fed = decoder()
    total = 0
    for piece in cut(stream[0], places):
        items = fed.receive(piece)
        total = len(piece) if any(isinstance(item, Batch) for item in items) else total + len(piece)
        assert 0 <= fed.held_bytes <= total
    assert fed.held_bytes == 0


# The same with tiny limits: everything is large, and every step is short.


@contextlib.contextmanager
def small_limits(inline_bytes: int) -> Iterator[None]:
    """Treat frames of a few bytes as large ones: unopened, in pieces, one frame per step."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (forward, output, payload):
            patch.setattr(module, "INLINE_BYTES", inline_bytes)
        patch.setattr(payload, "QUICK_BYTES", 10)
        patch.setattr(payload, "_SLICE_BYTES", 7)
        patch.setattr(forward, "WORK_MAX", 2)
        patch.setattr(forward, "_RUN_MAX", 3)
        patch.setattr(scanner, "_SKIP_BYTES_MIN", 16)
        patch.setattr(scanner, "STEPS_MAX", 50)
        patch.setattr(checking, "PIECE_BYTES", 16)
        yield


@PROPERTY
@given(streams, CUTS, st.sampled_from([5, 30, 100]))
def test_large_frames_mean_the_same_as_small_ones(stream: Frame, places: list[int], inline_bytes: int) -> None:
    """Frames that are opened elsewhere give the same items as small ones, however they are cut; nothing stays held."""
    data, expected = stream
    with small_limits(inline_bytes):
        for pieces in ([data], single_bytes(data), cut(data, places)):
            fed = decoder()
            assert seen(feed(fed, *pieces)) == expected
            assert fed.held_bytes == 0
            assert not fed.has_more


@PROPERTY
@given(damaged() | st.binary(max_size=300), CUTS, st.sampled_from([5, 30, 100]))
def test_damage_in_large_frames_means_the_same(data: bytes, places: list[int], inline_bytes: int) -> None:
    """The items of a damaged stream do not depend on where it is opened and how it is cut."""
    expected = seen(feed(decoder(), data))
    with small_limits(inline_bytes):
        for pieces in ([data], single_bytes(data), cut(data, places)):
            assert seen(feed(decoder(), *pieces)) == expected
