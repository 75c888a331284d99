"""
hub.wire.runs: Message frames cut at once give the same result as frames cut one by one.
"""

import random

import msgpack
import msgspec
import pytest

from hub.entries import is_well_formed, join, stamp
from hub.message import Batch, Loss
from hub.wire.chunkid import pack_own
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import encode_frame_head, encode_frame_tail
from hub.wire.runs import _RUN_MAX, cut_at_once
from tests.speed import cpu_s, holds

TAG = b"\xa3app"
PREFIX = b"\x93" + TAG + b"\xd7"


def entry(record: object) -> bytes:
    return stamp(1_700_000_000_000_000_000) + msgspec.msgpack.encode(record)


def message(record: object, tag: bytes = TAG) -> bytes:
    return b"\x93" + tag + entry(record)[1:]


def records_of(stream: bytes, step: int) -> list[object]:
    decoder = ForwardDecoder()
    items = [item for at in range(0, len(stream), step) for item in decoder.receive(stream[at : at + step])]
    found: list[object] = []
    for item in [*items, *decoder.finish()]:
        found += [m.record for m in item.messages()] if isinstance(item, Batch) else [item]
    return found


def test_all_frames_but_the_last_are_cut() -> None:
    """All frames except the last are cut, because the last one may not be whole."""
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
    """Whatever is between the frames, and whatever records contain, the result is that of cutting one by one."""
    frames = [message({"n": number, "é": "ü"}) for number in range(100)]
    stream = b"".join((*frames[:at], odd, *frames[at:]))
    one_by_one = records_of(stream, 7)
    assert records_of(stream, len(stream)) == one_by_one
    assert records_of(stream, 1000) == one_by_one
    assert len(one_by_one) >= 100


def test_a_record_made_to_deceive_is_not_cut_wrongly() -> None:
    """A record that contains whole frames, in a number that makes the sums equal, is still one record."""
    inner = b"".join(message({"n": number}) for number in range(10))
    frames = [message({"raw": inner}) for _ in range(20)]
    assert cut_at_once(b"".join(frames), 0, PREFIX) is None
    assert records_of(b"".join(frames), 10_000) == [{"raw": inner}] * 20


@pytest.mark.parametrize("tag", [b"\xa1a", b"\xd9\x50" + b"a" * 80], ids=["short", "long"])
@pytest.mark.parametrize("number", [30, _RUN_MAX, _RUN_MAX + 1, _RUN_MAX + 2, _RUN_MAX + 300])
def test_the_first_are_cut_if_there_are_many(tag: bytes, number: int) -> None:
    """Up to a limit, and all but the last one."""
    frame = b"\x93" + tag + b"\x01\x80"
    found = cut_at_once(frame * number, 0, frame[:-1])
    assert found is not None
    entries, count, last = found
    assert count == min(number - 1, _RUN_MAX)
    assert last == count * len(frame)
    assert entries == join((b"\x92\x01\x80",) * count, count)


def test_prefixes_that_overlap() -> None:
    """Frames in which the prefix is found at two places that overlap are cut as they would be one by one."""
    frame = b"\x93" + b"\xa4\x01\x80\x93\xa4" + b"\x01\x80"
    assert frame[:7] in frame[1:] + frame
    assert decoded(frame * 500, 500 * len(frame)) == decoded(frame * 500, 7)
    assert len(decoded(frame * 500, 7)) == 500


@pytest.mark.parametrize("header", [b"\xd9\x3c", b"\xda\x0f\xff"], ids=["short", "long"])
def test_a_read_made_to_be_slow(header: bytes) -> None:
    """Where every second byte could begin a prefix, looking for it takes a few milliseconds at most."""
    pairs = b"\x93\x61" * (128 << 10)
    before, length = 1 + len(header), int.from_bytes(header[1:])
    prefix = b"\x93" + header + pairs[before : before + length] + b"\x61"
    assert prefix[before:] in pairs
    read = prefix + pairs
    assert cut_at_once(read, 0, prefix) is None
    holds(0.02, lambda: cpu_s(lambda: cut_at_once(read, 0, prefix)))


DECOY = "\U0001f4e3app\u05d0"
"""A text that contains the prefix. A user who writes into a log chooses it."""


@pytest.mark.parametrize("front", ["a", "ab", "abc"])
def test_a_text_made_to_hide_a_frame_hides_nothing(front: str) -> None:
    """
    No frame is hidden by a record with two texts that contain the prefix.

    One byte further on, each text contains the header of a text that reaches over the next frame, of another tag. The
    number of objects and prefixes is the same, also with the prefix cut out.
    """
    assert PREFIX in DECOY.encode()
    hidden = message({"secret": "what somebody else did" * 4}, msgpack.packb("other"))
    found = 0
    for length in range(0x80, 0xC0):
        reach = bytes((0xD9, length)).decode()  # a letter in text, the header of a text in msgpack
        decoy = message({"m": DECOY, "n": front + reach + "c" * 32})
        frames = [message({"n": number}) for number in range(10)]
        stream = b"".join((*frames, decoy, hidden, *frames))
        assert cut_at_once(stream, 0, PREFIX) is None
        assert decoded(stream, len(stream)) == decoded(stream, 7)
        found += _would_be_deceived(stream)
    assert found or front != "ab", "none of these would deceive who counts: this proves nothing"


def _would_be_deceived(stream: bytes) -> bool:
    """Return whether comparing the numbers finds no difference."""
    frames = stream[: stream.rfind(PREFIX)]
    count = frames.count(PREFIX)
    entries = join((frames.replace(PREFIX, b"\x92" + PREFIX[-1:]),), count)
    return is_well_formed(join((frames,), count)) and is_well_formed(entries)


def decoded(stream: bytes, step: int) -> list[object]:
    """Return tag and record of each message and the reason of each loss, in order, up to a fatal one."""
    decoder = ForwardDecoder()
    found: list[object] = []
    for at in range(0, len(stream), step):
        for item in decoder.receive(stream[at : at + step]):
            if isinstance(item, Batch):
                found += [(m.tag, m.record) for m in item.messages()]
            else:
                assert isinstance(item, Loss)
                found.append(item.reason)
                if item.fatal:
                    return found
    assert not decoder.finish()
    return found


@pytest.mark.costly
@pytest.mark.parametrize("seed", range(20))
def test_any_mixture_is_the_same_as_one_by_one(seed: int) -> None:
    """
    Frames of many kinds, with records full of prefixes, headers and whole frames, in any order and cut anywhere, give
    the same.
    """
    dice = random.Random(seed)
    when = entry({})[1:-1]
    tags = (TAG, b"\xa3apq", b"\xa1\x93", b"\xd9\x03app", b"\xa0")

    def quote() -> object:
        return dice.choice(
            [
                PREFIX * dice.randint(1, 3),
                DECOY + bytes((0xD9, dice.randrange(0x80, 0xC0))).decode() + "." * dice.randrange(40),
                ["app", msgpack.ExtType(0, when[2:]), {"nested": 1}],
                [0x93, "app", msgpack.ExtType(0, when[2:])],
                {0x1293: "app", 0xA361: dice.randrange(1 << 32)},
                message({"inner": dice.randrange(9)}) * dice.randint(1, 2),
                "x" * dice.randrange(60),
                dice.randrange(1 << 40),
            ]
        )

    def frame() -> bytes:
        if dice.random() < 0.6:
            return message({"n": dice.randrange(99)})
        record = {key: quote() for key in dice.sample("abcd", dice.randint(1, 3))}
        if dice.random() < 0.1:
            return msgpack.packb(["app", dice.choice([12, 1.5, None, {}]), record])
        return b"\xc0" * (dice.random() < 0.1) + message(record, dice.choice([TAG, TAG, dice.choice(tags)]))

    for _ in range(30):
        stream = b"".join(frame() for _ in range(dice.randint(10, 60)))
        assert decoded(stream, len(stream)) == decoded(stream, dice.choice([5, 64])) == decoded(stream, 999)


@pytest.mark.parametrize("depth", [10, 500, 900, 1022, 1023, 1024, 1500, 5000])
def test_deep_records_among_them_change_nothing(depth: int) -> None:
    """Records nested too deeply for one check are judged as if cut one by one."""
    deep = b"\x93" + TAG + entry({"deep": 0})[1:-1] + b"\x91" * depth + b"\xc0"
    stream = b"".join([*(message({"n": number}) for number in range(20)), deep, *[message({"n": 20})] * 20])
    assert decoded(stream, len(stream)) == decoded(stream, 11)


def test_a_fault_among_them_loses_nothing_before_it() -> None:
    """Frames before a fault are kept, and the rest is one loss."""
    frames = [message({"n": number}) for number in range(60)]
    stream = b"".join((*frames[:40], b"\xc1\xc1", *frames[40:]))
    found = records_of(stream, len(stream))
    assert found[:40] == [{"n": number} for number in range(40)]
    assert len(found) == 41
