"""hub.wire.longtag: a frame whose tag is over the limit costs itself, and is acknowledged, however it arrives."""

from __future__ import annotations

import msgpack
import pytest

from hub.wire.forward import ForwardDecoder
from hub.wire.frame import TAG_BYTES_MAX, oversize_reason
from tests.hub.wire.feeding import cut, feed, losses, seen, single_bytes

MESSAGE = b"\x93\xa1t\x01\x80"
AFTER = ("entry", b"t", b"\x92\x01\x80")
LENGTH = TAG_BYTES_MAX + 1
TAG = msgpack.packb("t" * LENGTH)
REASON = f"a tag of {LENGTH} bytes ({TAG_BYTES_MAX} at most)"
OPTION = b"\x81\xa5chunk\xa3abc"
PACKED = b"\xc5\x01\x00" + b"\x92\x01\x80" * 85 + b"\xc0"
FRAMES = {
    "packed": (b"\x93" + TAG + PACKED + OPTION, b"\xa3abc", 1),
    "packed, counted": (b"\x93" + TAG + PACKED + b"\x82\xa5chunk\xa3abc\xa4size\x55", b"\xa3abc", 85),
    "packed, long header": (b"\x93" + TAG + b"\xc6\0\0\0\x03\x92\x01\x80" + OPTION, b"\xa3abc", 1),
    "packed, short": (b"\x93" + TAG + b"\xa3\x92\x01\x80" + OPTION, b"\xa3abc", 1),
    "packed, bin tag": (b"\x93" + msgpack.packb(b"t" * LENGTH) + PACKED + OPTION, b"\xa3abc", 1),
    "packed, no options": (b"\x92" + TAG + PACKED, None, 1),
    "forward": (b"\x93" + TAG + b"\xdc\x00\x02" + b"\x92\x01\x80" * 2 + OPTION, b"\xa3abc", 2),
    "forward, few": (b"\x93" + TAG + b"\x92" + b"\x92\x01\x80" * 2 + OPTION, b"\xa3abc", 2),
    "forward, no options": (b"\x92" + TAG + b"\xdd\0\0\0\x02" + b"\x92\x01\x80" * 2, None, 2),
    "message": (b"\x94" + TAG + b"\x01\x81\xa1a\x01" + OPTION, b"\xa3abc", 1),
    "message, no options": (b"\x93" + TAG + b"\xd7\0\0\0\0\0\0\0\0\0" + b"\x81\xa1a\x01", None, 1),
    "long array header": (b"\xdd\0\0\0\x04" + TAG + b"\x01\x80" + OPTION, b"\xa3abc", 1),
}


def pieces_of(stream: bytes) -> list[list[bytes]]:
    """Return *stream* whole, in single bytes, in pieces of 100, and cut in two near the ends of its tag."""
    places = [*range(1, 30), *range(LENGTH, len(stream))]
    hundreds = cut(stream, range(100, len(stream), 100))
    return [[stream], single_bytes(stream), hundreds, *(cut(stream, [place]) for place in places)]


@pytest.mark.parametrize("name", FRAMES)
def test_it_is_one_loss_with_its_chunk_id(name: str) -> None:
    """What is before and after it is kept; the loss names the tag's length and shows the beginning of the frame."""
    frame, chunk_id, count = FRAMES[name]
    for pieces in pieces_of(MESSAGE + frame + MESSAGE):
        items = feed(ForwardDecoder(), *pieces)
        assert seen(items) == [AFTER, ("loss", REASON, b"", chunk_id, count), AFTER]
        (loss,) = losses(items)
        assert loss.sample == frame[:64]
        assert LENGTH < loss.lost_bytes < len(frame)


def test_many_in_one_read() -> None:
    """Each costs itself only, between frames of all kinds."""
    frames = [frame for frame, _, _ in FRAMES.values()]
    items = feed(ForwardDecoder(), b"".join(MESSAGE + frame for frame in frames) + MESSAGE)
    assert [row for row in seen(items) if row == AFTER] == [AFTER] * (len(frames) + 1)
    assert [row[3] for row in seen(items) if row[0] == "loss" and row[3]] == [b"\xa3abc"] * 9


def test_it_is_not_held() -> None:
    """However long tag and payload are, only the sample and some headers are held while they arrive."""
    decoder = ForwardDecoder()
    decoder.receive(b"\x93\xdb\x01\0\0\0")
    for _ in range(256):
        assert not decoder.receive(b"t" * 65536)
        assert decoder.held_bytes <= 70
    for byte in single_bytes(b"\xc6\x01\0\0\0"):
        decoder.receive(byte)
    for _ in range(256):
        assert not decoder.receive(b"p" * 65536)
        assert decoder.held_bytes <= 70
    rows = seen(decoder.receive(OPTION + MESSAGE))
    assert rows == [("loss", f"a tag of {1 << 24} bytes ({TAG_BYTES_MAX} at most)", b"", b"\xa3abc", 1), AFTER]


def test_over_the_limit_of_a_frame() -> None:
    """With the tag over it, a packed frame is a loss as ever and is acknowledged; any other ends the stream."""
    limit = LENGTH - 1
    for pieces in pieces_of(MESSAGE + FRAMES["packed"][0] + MESSAGE):
        rows = seen(feed(ForwardDecoder(frame_bytes_max=limit), *pieces))
        assert rows == [AFTER, ("loss", oversize_reason(limit), b"", b"\xa3abc", 1), AFTER]
    for name in "forward", "message":
        for pieces in pieces_of(MESSAGE + FRAMES[name][0]):
            items = feed(ForwardDecoder(frame_bytes_max=limit), *pieces)
            assert seen(items) == [AFTER, ("fatal", None)]
            assert losses(items)[-1].reason == f"malformed Forward frame: {oversize_reason(limit)}"


def test_the_end_of_the_stream_inside_it() -> None:
    """It is one loss without a chunk id, of the bytes that came, wherever it is cut off."""
    frame = FRAMES["packed, counted"][0]
    for end in [*range(4, 60), *range(LENGTH, len(frame))]:
        (loss,) = losses(feed(ForwardDecoder(), frame[:end]))
        assert (loss.reason, loss.chunk_id, loss.fatal, loss.count) == (REASON, None, False, 1)
        assert LENGTH <= loss.lost_bytes <= end - 4 if end > LENGTH + 4 else loss.lost_bytes == end - 4
        assert loss.sample == frame[: min(end, 64)]


@pytest.mark.parametrize(
    "rest",
    [
        b"\x01",  # two elements, no entries
        PACKED + b"\x05",  # options that are no map
        b"\x90\x90",
        b"\x01\x81\xa1a\xc1",
    ],
)
def test_other_faults_in_it_are_fatal(rest: bytes) -> None:
    """A fault in the framing after the tag ends the stream, with the beginning of the frame as the sample."""
    frame = (b"\x92" if rest == b"\x01" else b"\x93") + TAG + rest
    for pieces in pieces_of(MESSAGE + frame + MESSAGE):
        items = feed(ForwardDecoder(), *pieces)
        assert seen(items) == [AFTER, ("fatal", None)]
        assert losses(items)[-1].sample == frame[:64]
