"""
hub.wire.forward: the traffic of real clients, in one piece and in many, and with damage.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgpack
import pytest

from hub import entries as codec
from hub.message import Batch, Loss, Peer
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import CHUNK_ID_BYTES_MAX
from tests.hub.wire.feeding import (
    CHUNK,
    FLUENTD_CHUNK,
    N,
    T,
    batches,
    cut,
    feed,
    losses,
    messages,
    seen,
    single_bytes,
)
from tests.support import read_entries

NS = codec.NS
EVENT_TIME = "d7 00 55ece6f8 075bcd15"
BAR = ("tag.name", T * NS, {"message": "bar"})
FOO = ("tag.name", T * NS, {"message": "foo"})
BAZ = ("tag.name", T * NS + N, {"message": "baz"})
PACKED = f"92 ce 55ece6f8 81a76d657373616765a3666f6f 92 {EVENT_TIME} 81a76d657373616765a362617a"
CHUNK_OPTION = "a56368756e6b" + CHUNK.hex()
RECORD = "81 a76d657373616765 a3626172"
NAME = "a8 7461672e6e616d65"

EXAMPLES = {
    "message, as fluent-logger-python": (f"93 {NAME} ce55ece6f8 {RECORD}", [BAR], None),
    "message, as the Go logger: int32, empty map": (f"94 {NAME} d255ece6f8 {RECORD} 80", [BAR], None),
    "message, EventTime": (f"93 {NAME} {EVENT_TIME} {RECORD}", [(BAR[0], T * NS + N, BAR[2])], None),
    "message, EventTime as ext8": (
        f"93 {NAME} c70800 55ece6f8075bcd15 {RECORD}",
        [(BAR[0], T * NS + N, BAR[2])],
        None,
    ),
    "message, float time": (
        f"93 {NAME} cb41d57b39be200000 {RECORD}",
        [(BAR[0], T * NS + NS // 2, BAR[2])],
        None,
    ),
    "message, nil time": (f"93 {NAME} c0 {RECORD}", [(BAR[0], None, BAR[2])], None),
    "message, time 0": (f"93 {NAME} 00 {RECORD}", [(BAR[0], None, BAR[2])], None),
    "message, negative time": (f"93 {NAME} ff {RECORD}", [(BAR[0], -NS, BAR[2])], None),
    "message, nil options": (f"94 {NAME} ce55ece6f8 {RECORD} c0", [BAR], None),
    "message, chunk": (f"94 {NAME} ce55ece6f8 {RECORD} 81{CHUNK_OPTION}", [BAR], CHUNK),
    "message, tag as bin, array16": (f"dc0003 c408 7461672e6e616d65 ce55ece6f8 {RECORD}", [BAR], None),
    "forward, chunk": (
        f"93 {NAME} 92 {PACKED} 82{CHUNK_OPTION} a473697a65 02",
        [FOO, BAZ],
        CHUNK,
    ),
    "forward, two elements": (f"92 {NAME} 92 {PACKED}", [FOO, BAZ], None),
    "forward, array32, wrong size": (f"93 {NAME} dd00000002 {PACKED} 81 a473697a65 09", [FOO, BAZ], None),
    "forward, nil options": (f"93 {NAME} 92 {PACKED} c0", [FOO, BAZ], None),
    "forward, empty": (f"93 {NAME} 90 80", [], None),
    "packed, bin8": (f"93 {NAME} c42b {PACKED} 81 a473697a65 02", [FOO, BAZ], None),
    "packed, as fluentd: str32, not UTF-8, an id with a newline": (
        f"93 {NAME} db0000002b {PACKED} 83 a473697a65 02 aa636f6d70726573736564 a474657874"
        f"a56368756e6b {FLUENTD_CHUNK.hex()}",
        [FOO, BAZ],
        FLUENTD_CHUNK,
    ),
    "packed, two elements": (f"92 {NAME} c42b {PACKED}", [FOO, BAZ], None),
    "packed, bin32, nil options": (f"93 {NAME} c60000002b {PACKED} c0", [FOO, BAZ], None),
    "packed, str16, no size": (f"93 {NAME} da002b {PACKED} 81{CHUNK_OPTION}", [FOO, BAZ], CHUNK),
    "packed, fixstr": (f"93 {NAME} b0 92ce55ece6f8 81a7 6d657373616765 01 80", [(*FOO[:2], {"message": 1})], None),
    "packed, size too small": (f"93 {NAME} c42b {PACKED} 81 a473697a65 01", [FOO, BAZ], None),
    "packed, size too large": (f"93 {NAME} c42b {PACKED} 81 a473697a65 03", [FOO, BAZ], None),
    "packed, size in bytes, as Fluency": (f"93 {NAME} c42b {PACKED} 81 a473697a65 2b", [FOO, BAZ], None),
    "packed, size absurd": (f"93 {NAME} c42b {PACKED} 81 a473697a65 cfffffffffffffffff", [FOO, BAZ], None),
    "packed, size no number": (f"93 {NAME} c42b {PACKED} 81 a473697a65 a132", [FOO, BAZ], None),
    "packed, size negative": (f"93 {NAME} c42b {PACKED} 81 a473697a65 fe", [FOO, BAZ], None),
    "packed, size true": (f"93 {NAME} c42b {PACKED} 81 a473697a65 c3", [FOO, BAZ], None),
    "packed, nil chunk, nil compressed": (
        f"93 {NAME} c42b {PACKED} 82 a56368756e6b c0 aa636f6d70726573736564 c0",
        [FOO, BAZ],
        None,
    ),
    "packed, empty chunk": (f"93 {NAME} c42b {PACKED} 81 a56368756e6b a0", [FOO, BAZ], None),
    "packed, chunk a number": (f"93 {NAME} c42b {PACKED} 81 a56368756e6b 07", [FOO, BAZ], None),
    "packed, chunk as bin": (f"93 {NAME} c42b {PACKED} 81 a56368756e6b c402 00ff", [FOO, BAZ], b"\xc4\x02\x00\xff"),
    "packed, chunk not UTF-8": (f"93 {NAME} c42b {PACKED} 81 a56368756e6b a2 80ff", [FOO, BAZ], b"\xa2\x80\xff"),
    "packed, unknown options, odd keys, an ext": (
        f"93 {NAME} c42b {PACKED} 84 01 02 a16b 91c0 d40107 c3 {CHUNK_OPTION}",
        [FOO, BAZ],
        CHUNK,
    ),
    "packed, empty": (f"92 {NAME} c400", [], None),
    "entries with metadata, as Fluent Bit": (
        f"93 a3617070 91 9292{EVENT_TIME}80 81a36c6f67a26869"
        f"83{CHUNK_OPTION} a473697a6501 ad666c75656e745f7369676e616c 00",
        [("app", T * NS + N, {"log": "hi"})],
        CHUNK,
    ),
    "group markers are no messages": (
        f"92 a46f74656c 93 9292d700ffffffff00000000 81a6736368656d61a46f746c70 80"
        f"9292{EVENT_TIME}80 81a36c6f67a26869 9292d700fffffffe000000008080",
        [("otel", T * NS + N, {"log": "hi"})],
        None,
    ),
    "group markers counted in size, ext8": (
        f"93 a46f74656c c43f 9292c70800ffffffff00000000 81a6736368656d61a46f746c70 80"
        f"9292{EVENT_TIME}80 81a36c6f67a26869 9292c70800fffffffe000000008080 81 a473697a65 03",
        [("otel", T * NS + N, {"log": "hi"})],
        None,
    ),
    "an empty tag": (f"93 a0 ce55ece6f8 {RECORD}", [("", *BAR[1:])], None),
    "heartbeats": ("c0 c0", [], None),
    "heartbeats between": (f"c0 93 {NAME} ce55ece6f8 {RECORD} c0", [BAR], None),
}


def in_one(data: bytes) -> list[bytes]:
    return [data]


@pytest.mark.parametrize("pieces", [in_one, single_bytes])
@pytest.mark.parametrize("name", EXAMPLES)
def test_what_clients_send(name: str, pieces: Callable[[bytes], list[bytes]]) -> None:
    """Each form of the protocol gives its messages, and its chunk id with the same bytes and type."""
    hexadecimal, expected, chunk = EXAMPLES[name]
    peer = Peer(7, 8, 9, "x")
    items = feed(ForwardDecoder(peer), *pieces(bytes.fromhex(hexadecimal)))
    assert messages(items) == expected
    assert [batch.chunk_id for batch in batches(items) if batch.chunk_id] == ([chunk] if chunk else [])
    assert {batch.peer for batch in batches(items)} <= {peer}


def test_entries_are_kept_as_they_came() -> None:
    """The entries of a packed frame are stored byte for byte, after one array header."""
    payload = bytes.fromhex(PACKED)
    (item,) = feed(ForwardDecoder(), b"\x92\xa1t\xc4" + bytes((len(payload),)) + payload)
    assert isinstance(item, Batch)
    assert bytes(item.entries) == codec.array_header(2) + payload


def test_message_frames_of_one_tag_that_arrive_together_are_one_batch() -> None:
    """Adjacent Message frames are gathered by tag; one with a chunk id is a batch of its own."""
    one, other = b"\x93\xa1a\x01\x80", b"\x93\xa1b\x01\x80"
    asking = b"\x94\xa1a\x01\x80\x81\xa5chunk\xa1c"
    signed, nil = b"\x94\xa1a\xd2\0\0\0\1\x80\x80", b"\x93\xa1a\xc0\x80"
    items = feed(ForwardDecoder(), b"".join((one, one, signed, nil, one, other, one, asking, one)))
    assert [(b.tag, b.count, b.chunk_id) for b in batches(items)] == [
        (b"a", 5, None),
        (b"b", 1, None),
        (b"a", 1, None),
        (b"a", 1, b"\xa1c"),
        (b"a", 1, None),
    ]


@pytest.mark.parametrize("name", ["fluent_signal", "compressed"])
@pytest.mark.parametrize("chunk", [None, "abc"])
def test_a_payload_that_is_no_log_is_one_loss(name: str, chunk: str | None) -> None:
    """Metrics, traces and unknown compression are a loss of the announced number, acknowledged on request."""
    option = {name: {"fluent_signal": 1, "compressed": "lz4"}[name], "size": 3, **({"chunk": chunk} if chunk else {})}
    data = msgpack.packb(["t", b"\x93 opaque ", option])
    loss, batch = feed(ForwardDecoder(), data + b"\x93\xa1t\x01\x80")
    assert isinstance(loss, Loss)
    assert (loss.count, loss.lost_bytes, loss.tag, loss.fatal) == (3, 9, b"t", False)
    assert loss.chunk_id == (b"\xa3abc" if chunk else None)
    assert isinstance(batch, Batch)


@pytest.mark.parametrize(
    "payload", [b"2024-01-01T00:00:00Z", b"\x1f\x8b\x08\x00rest", b"\x05" * 9, b"\x93\x01\x80\x80", b"\xc1", b"\x80"]
)
def test_a_payload_that_does_not_begin_with_a_pair_is_one_loss(payload: bytes) -> None:
    """Text, or unannounced compressed bytes, are one loss and not parsed as messages."""
    (loss,) = feed(ForwardDecoder(), msgpack.packb(["t", payload, {"chunk": "c"}]))
    assert isinstance(loss, Loss)
    assert (loss.count, loss.sample, loss.chunk_id, loss.fatal) == (1, payload, b"\xa1c", False)


# Damaged payloads.

GOOD = b"\x92\x01\x81\xa1a\x01"
OVERFLOW = b"\x92\x01\xc9\xff\xff\xff\xff"  # a whole entry for msgpack's `skip`


@pytest.mark.parametrize(
    ("rest", "lost"),
    [(b"\xc1", 1), (b"\x92\x01\x81\xa1", 4), (OVERFLOW, 7), (b"\x92\x01" + b"\x91" * 100_000 + b"\xc0", 100_003)],
)
@pytest.mark.parametrize("size", [None, 2, 3, 10])
def test_a_damaged_payload_keeps_the_entries_before_the_fault(rest: bytes, lost: int, size: int | None) -> None:
    """Whole entries before the fault are kept, the rest is one loss, and only the last item carries the chunk id."""
    option = {"chunk": "c", **({"size": size} if size else {})}
    items = feed(ForwardDecoder(), msgpack.packb(["t", GOOD * 2 + rest, option]) + b"\x93\xa1t\x01\x80")
    loss, batch, after = items
    assert isinstance(loss, Loss)
    assert isinstance(batch, Batch)
    assert (bytes(batch.entries), batch.count, batch.chunk_id) == (codec.join((GOOD * 2,), 2), 2, b"\xa1c")
    assert (loss.lost_bytes, loss.sample, loss.chunk_id, loss.fatal) == (lost, rest[:64], None, False)
    assert loss.count == max(min((size or 0) - 2, lost // 3), 1)
    assert isinstance(after, Batch)


@pytest.mark.parametrize("payload", [OVERFLOW, b"\x92\x01\xc1", b"\x92\x01"])
def test_a_payload_without_a_whole_entry_is_acknowledged_as_a_loss(payload: bytes) -> None:
    """If nothing can be kept, the loss carries the chunk id, because the client would resend for ever."""
    (loss,) = feed(ForwardDecoder(), msgpack.packb(["t", payload, {"chunk": "c", "size": 4}]))
    assert isinstance(loss, Loss)
    assert (loss.count, loss.lost_bytes, loss.chunk_id, loss.fatal) == (
        max(len(payload) // 3, 1),
        len(payload),
        b"\xa1c",
        False,
    )


@pytest.mark.parametrize("body", [b"\x90", b"\xc4\x00", b"\xa0"])
def test_an_empty_chunk_is_acknowledged(body: bytes) -> None:
    """A chunk id without entries is an empty batch, so that it is acknowledged."""
    (batch,) = feed(ForwardDecoder(), b"\x93\xa1t" + body + b"\x81\xa5chunk\xa1c")
    assert isinstance(batch, Batch)
    assert (batch.count, batch.chunk_id) == (0, b"\xa1c")


def test_an_overflowing_ext_in_a_forward_frame_costs_what_follows_it() -> None:
    """An object that only `skip` takes for a whole one is found, and the entries before it are kept."""
    items = feed(ForwardDecoder(), b"\x93\xa1t\x93" + GOOD + OVERFLOW + GOOD + b"\x81\xa5chunk\xa1c")
    assert [(batch.count, batch.chunk_id) for batch in batches(items)] == [(1, b"\xa1c")]
    assert [(loss.lost_bytes, loss.fatal) for loss in losses(items)] == [(13, False)]


# Broken framing.

BEFORE = [b"\x93\xa1t\x01\x80", b"\x94\xa1t\x02\x80\x80", b"\x93\xa1t\x03\x80"]
FAULTS = {
    "no array": b"\x05",
    "a map": b"\x81\xa1a\x01",
    "never used": b"\xc1",
    "text": b"hello",
    "empty array": b"\x90",
    "array of one": b"\x91\xa1t",
    "array of five": b"\x95\xa1t\x01\x80\x80\x80",
    "array of very many": b"\xdd\xff\xff\xff\xff\xa1t\x01\x80",
    "tag a number": b"\x93\x01\x01\x80",
    "tag an array": b"\x93\x90\x01\x80",
    "two elements, no entries": b"\x92\xa1t\x01",
    "four elements, packed": b"\x94\xa1t\xc4\x01\x90\x80\x80",
    "four elements, forward": b"\x94\xa1t\x90\x80\x80",
    "record is no msgpack": b"\x93\xa1t\x01\x81\xa1a\xc1",
    "record overflows": b"\x93\xa1t\x01\xc9\xff\xff\xff\xff\x93\xa1t\x01\x80",
    "options a number, message": b"\x94\xa1t\x01\x80\x05",
    "options a number, forward": b"\x93\xa1t\x90\x05",
    "options a number, packed": b"\x93\xa1t\xc4\x00\x05",
    "options an array": b"\x93\xa1t\x90\x90",
    "options are no msgpack": b"\x93\xa1t\x90\x81\xa1a\xc1",
    "options have a key that cannot be one": b"\x93\xa1t\x90\x81\x90\x01",
    "options have a timestamp out of range": b"\x93\xa1t\x90\x81\x01\xc7\x0c\xff" + b"\xff" * 12,
    "options overflow": b"\x93\xa1t\x90\x81\x01\xc9\xff\xff\xff\xff",
    "options too deep": b"\x93\xa1t\x90\x81\x01" + b"\x91" * 1100 + b"\xc0",
    "options too long": b"\x93\xa1t\x90\x81\x01\xda\xff\xff" + b"x" * 65535,
    "options too long, packed": b"\x93\xa1t\xc4\x00\x81\x01\xda\xff\xff" + b"x" * 65535,
    "chunk id too long": b"\x93\xa1t\x90\x81\xa5chunk" + msgpack.packb("c" * CHUNK_ID_BYTES_MAX),
    "chunk id too long, packed": b"\x93\xa1t\xc4\x00\x81\xa5chunk" + msgpack.packb(b"c" * CHUNK_ID_BYTES_MAX),
}


@pytest.mark.parametrize("before", range(4))
@pytest.mark.parametrize("name", FAULTS)
def test_a_broken_frame_costs_nothing_before_it(name: str, before: int) -> None:
    """Frames before a fault are kept, once; then exactly one fatal loss follows."""
    fault = FAULTS[name]
    start = b"".join(BEFORE[:before])
    expected = [("entry", b"t", b"\x92" + bytes((number, 0x80))) for number in range(1, before + 1)]
    expected_rows = [*expected, ("fatal", None)]
    # All at once, with data after it; alone; byte by byte (the long ones in larger pieces).
    for pieces in (
        [start + fault + b"\x93\xa1t\x09\x80"],
        [start + fault],
        [start, fault],
        cut(start + fault, range(0, len(start + fault), 1 + len(fault) // 2000)),
    ):
        assert seen(feed(ForwardDecoder(), *pieces)) == expected_rows


def test_a_fault_says_why_and_shows_the_bytes() -> None:
    """The loss at a fault has the reason and the first 64 bytes of the frame, whatever came before and after."""
    for broken, reason in (
        (b"\x93\xa1t\x01\x81\xa1a\xc1", "not msgpack (FormatError)"),
        (b"\x93\x01\xa1t\x80", "the tag is not a string"),
    ):
        shown = broken + b"x" * 100
        for before in BEFORE[0], b"\x93\xa1t\xc4\x03\x92\x01\x80\x80":
            for pieces in ([before + shown], [before, shown]):
                loss = feed(ForwardDecoder(), *pieces)[-1]
                assert isinstance(loss, Loss)
                assert loss.reason == f"malformed Forward frame: {reason}"
                assert loss.sample == shown[:64]
    long = b"\x93\xa1t\x01\x93\xda\xff\xff" + b"x" * 65535 + b"\x01"  # the scanner continued where it stopped
    (loss,) = feed(ForwardDecoder(), long, b"\xc1")
    assert isinstance(loss, Loss)
    assert (loss.sample, loss.fatal) == (long[:64], True)


def test_a_message_that_overflows_and_wants_an_acknowledgement_gets_one() -> None:
    """The fatal loss carries the chunk id of the lost frame, and messages before it are returned once."""
    items = feed(ForwardDecoder(), b"\x93\xa1t\x01\x80\x94\xa1t\x01\xc9\xff\xff\xff\xff\x81\xa5chunk\xa1c")
    assert seen(items) == [("entry", b"t", b"\x92\x01\x80"), ("fatal", b"\xa1c")]


@pytest.mark.parametrize("depth", [*range(950, 1030), 1500, 5000])
def test_deep_nesting_is_a_message_up_to_the_limit_else_a_loss(depth: int) -> None:
    """On every Python the limit is the same, nothing is raised, and accepted records can be read, from a deep stack."""
    record = b"\x81\xa1a" + b"\x91" * depth + b"\xc0"
    entry = b"\x92\x01" + record
    for frame in (
        b"\x93\xa1t\x01" + record,
        b"\x92\xa1t\x91" + entry,
        b"\x92\xa1t\xc5" + len(entry).to_bytes(2, "big") + entry,
    ):
        items = feed(ForwardDecoder(), frame)
        assert len(items) == 1
        for batch in batches(items):
            assert codec.is_well_formed(batch.entries)
            (read,) = called_deep(300, lambda batch=batch: list(read_entries(batch.entries, batch.count)))  # type: ignore[misc]
            assert isinstance(read, codec.Entry)
        is_forward = frame.startswith(b"\x92\xa1t\x91")  # one level more: the array of the entries is inside the frame
        assert bool(batches(items)) is (depth <= codec.NESTING_MAX - 3 - is_forward)


def called_deep(frames: int, work: Callable[[], Sequence[object]]) -> Sequence[object]:
    return called_deep(frames - 1, work) if frames else work()


# Half frames.


@pytest.mark.parametrize("name", [name for name in EXAMPLES if "heartbeats" not in name])
def test_half_a_frame_at_the_end_is_one_loss(name: str) -> None:
    """
    At any end of a stream, whole frames are kept, the bytes of half a frame are counted, and it is not acknowledged.
    """
    frame = bytes.fromhex(EXAMPLES[name][0])
    for end in range(1, len(frame)):
        for pieces in ([BEFORE[0] + frame[:end]], [BEFORE[0], *single_bytes(frame[:end])]):
            batch, loss = feed(ForwardDecoder(), *pieces)
            assert isinstance(batch, Batch)
            assert isinstance(loss, Loss)
            assert (loss.lost_bytes, loss.sample, loss.chunk_id, loss.fatal) == (end, frame[:end][:64], None, False)
