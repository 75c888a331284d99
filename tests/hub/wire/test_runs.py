"""hub.wire.runs: many Message frames cut at once are the same as one by one."""

import msgpack
import msgspec
import pytest

from hub.entries import stamp
from hub.message import Batch
from hub.wire.chunkid import pack_own
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import encode_frame_head, encode_frame_tail
from hub.wire.runs import cut_at_once

TAG = b"\xa3app"
PREFIX = b"\x93" + TAG + b"\xd7"


def entry(record: object) -> bytes:
    return stamp(1_700_000_000_000_000_000) + msgspec.msgpack.encode(record)


def message(record: object, tag: bytes = TAG) -> bytes:
    return b"\x93" + tag + entry(record)[1:]


def records_of(stream: bytes, step: int) -> list[object]:
    decoder = ForwardDecoder()
    units = [unit for at in range(0, len(stream), step) for unit in decoder.receive(stream[at : at + step])]
    found: list[object] = []
    for unit in [*units, *decoder.finish()]:
        found += [m.record for m in unit.messages()] if isinstance(unit, Batch) else [unit]
    return found


def test_all_frames_but_the_last_are_cut() -> None:
    """The last one may be a half."""
    frames = [message({"n": number}) for number in range(50)]
    stream = b"".join(frames)
    found = cut_at_once(b"xx" + stream + b"\x93", 2, PREFIX)
    assert found is not None
    entries, count, last = found
    assert (count, last) == (49, 2 + len(stream) - len(frames[-1]))
    assert msgpack.unpackb(entries, ext_hook=lambda *_: None) == [[None, {"n": number}] for number in range(49)]


QUOTED = {"quoted": PREFIX.decode("latin-1") * 3, "bytes": PREFIX * 2}


@pytest.mark.parametrize(
    "odd",
    [
        message(QUOTED),
        message({"m": "x"}, msgpack.packb("other")),
        msgpack.packb(["app", 12, {"time": "in seconds"}]),
        msgpack.packb(["app", 12, {"a": 1}, {"chunk": "abc"}]),
        b"\xdc\0\x03" + message({"long": "header"})[1:],
        b"\x93\xd9\x03app" + entry({"long": "tag"})[1:],
        msgpack.packb(["app", [[1, {"a": "forward"}], [2, {"b": PREFIX}]]]),
        encode_frame_head(b"app", len(entry(QUOTED))) + entry(QUOTED) + encode_frame_tail(pack_own("s" * 22, 1), 1),
        b"\xc0",
    ],
    ids=["quoted", "tag", "seconds", "chunk", "array", "str8", "forward", "packed", "nil"],
)
@pytest.mark.parametrize("at", [0, 20, 99])
def test_something_else_among_them_changes_nothing(odd: bytes, at: int) -> None:
    """Whatever is between the frames, and whatever records quote, all comes out as it does frame by frame."""
    frames = [message({"n": number, "é": "ü"}) for number in range(100)]
    stream = b"".join((*frames[:at], odd, *frames[at:]))
    one_by_one = records_of(stream, 7)
    assert records_of(stream, len(stream)) == one_by_one
    assert records_of(stream, 1000) == one_by_one
    assert len(one_by_one) >= 100


def test_a_record_made_to_deceive_is_not_cut_wrongly() -> None:
    """A record that holds whole frames, in the number that would make the sum right, is still one record."""
    inner = b"".join(message({"n": number}) for number in range(10))
    frames = [message({"raw": inner}) for _ in range(20)]
    assert cut_at_once(b"".join(frames), 0, PREFIX) is None
    assert records_of(b"".join(frames), 10_000) == [{"raw": inner}] * 20


def test_a_fault_among_them_loses_nothing_before_it() -> None:
    """Frames before what is no msgpack are kept; the rest is one loss."""
    frames = [message({"n": number}) for number in range(60)]
    stream = b"".join((*frames[:40], b"\xc1\xc1", *frames[40:]))
    found = records_of(stream, len(stream))
    assert found[:40] == [{"n": number} for number in range(40)]
    assert len(found) == 41
