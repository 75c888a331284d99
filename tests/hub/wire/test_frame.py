"""
hub.wire.frame: encoders and readers agree with each other, with msgpack and with the bytes of the specification.
"""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub import entries as codec
from hub.message import Batch
from hub.wire import chunkid
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import (
    CHUNK_ID_BYTES_MAX,
    NO_OPTION,
    OPTION_BYTES_MAX,
    TAG_BYTES_MAX,
    Incomplete,
    Malformed,
    decode_acks,
    encode_ack,
    encode_compressed_tail,
    encode_frame_head,
    encode_frame_tail,
    encode_mixed_tail,
    find_fault,
    read_frame,
    read_option,
)
from tests.hub.wire.feeding import CHUNK, CUTS, FLUENTD_CHUNK, PROPERTY, cut, feed

ENTRY = b"\x92\x01\x81\xa1a\x01"


def unpacker() -> msgpack.Unpacker:
    """Return an unpacker with the settings of producers.link."""
    return msgpack.Unpacker(unicode_errors="surrogateescape", strict_map_key=False, max_buffer_size=1 << 20)


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        (CHUNK, "81a361636b b8 70386e39676d785451564338 2f6e6832776c4b4b65513d3d"),
        (FLUENTD_CHUNK, "81a361636b b9 70386e39676d785451564338 2f6e6832776c4b4b65513d3d0a"),
    ],
)
def test_an_acknowledgement_has_the_bytes_of_the_reference(chunk: bytes, expected: str) -> None:
    """An acknowledgement is a map of one, and the newline in fluentd's id is kept."""
    assert encode_ack(chunk) == bytes.fromhex(expected)


acked = st.text(max_size=300) | st.binary(max_size=300)


@PROPERTY
@given(st.lists(acked, max_size=6), CUTS)
def test_acknowledgements_come_back_as_they_were_sent(chunks: list[str | bytes], places: list[int]) -> None:
    """Any chunk ids, text or bytes, several in a read or cut anywhere, are returned in order and in their own type."""
    packed = [chunkid.pack(chunk) for chunk in chunks]
    reader = unpacker()
    data = b"".join(map(encode_ack, packed))
    assert [ack for piece in cut(data, places) for ack in decode_acks(reader, piece)] == packed


def test_an_acknowledgement_may_hold_any_bytes() -> None:
    """A str that is not UTF-8 keeps its bytes."""
    assert decode_acks(unpacker(), encode_ack(b"\xa3\x80\xffa")) == [b"\xa3\x80\xffa"]


@pytest.mark.parametrize("reply", [{}, {"ack": None}, {"ack": 1}, {"other": "x"}, {1: 2}])
def test_a_reply_without_an_id_acknowledges_nothing(reply: dict[Any, Any]) -> None:
    """Vector's empty map and other maps are ignored."""
    assert decode_acks(unpacker(), msgpack.packb(reply) + encode_ack(b"\xa1c")) == [b"\xa1c"]


@pytest.mark.parametrize(
    "data",
    [
        b"\x05",
        b"\xc1",
        b"HTTP/1.1 400",
        b"\x91\x80",
        b"\x81\x90\x01",  # an invalid key
        b"\x81\xa3ack\xdb\xff\xff\xff\xff" + b"x" * (2 << 20),
        b"\x81\xa3ack\xc9\xff\xff\xff\xff",
        b"\x81\xa3ack\xc7\x0c\xff" + b"\xff" * 12,
        b"\x91" * 1100,
        b"\x81\xa3ack\xda\xff\xff" + b"x" * (2 << 20),
        b"x" * (2 << 20),
    ],
)
def test_anything_else_from_a_hub_is_a_value_error(data: bytes) -> None:
    """Any other reply raises ValueError."""
    with pytest.raises(ValueError, match="not an acknowledgement"):
        decode_acks(unpacker(), data)


@PROPERTY
@given(st.binary(max_size=60))
def test_no_answer_raises_anything_but_a_value_error(data: bytes) -> None:
    """Any bytes are acknowledgements, incomplete, or a ValueError."""
    try:
        acks = decode_acks(unpacker(), data)
    except ValueError:
        return
    assert all(isinstance(ack, bytes) for ack in acks)


@pytest.mark.parametrize("length", [0, 1, 31, 32, 255, 256, TAG_BYTES_MAX])
@pytest.mark.parametrize("count", [1, 3, 1000])
def test_a_frame_of_our_own_comes_back_whole(length: int, count: int) -> None:
    """Head, entries and tail are one PackedForward frame for msgpack and for the decoder, with tags of every length."""
    tag, payload, chunk = b"t" * length, ENTRY * count, chunkid.pack_own("s" * 22, 7)
    frame = encode_frame_head(tag, len(payload)) + payload + encode_frame_tail(chunk, count)
    assert msgpack.unpackb(frame) == [
        tag.decode(),
        payload,
        {"chunk": f"mpsr.{'s' * 22}.{7:016x}", "size": count},
    ]
    (batch,) = feed(ForwardDecoder(), frame)
    assert isinstance(batch, Batch)
    assert (batch.tag, batch.count, batch.chunk_id) == (tag, count, chunk)
    assert bytes(batch.entries) == codec.join((payload,), count)


def test_heads_and_tails_of_one_tag_have_one_length() -> None:
    """
    Head and tail have a fixed length for one tag, so a producer can reserve space before it knows length and count.
    """
    assert len({len(encode_frame_head(b"t", size)) for size in (0, 1, 2**32 - 1)}) == 1
    assert encode_frame_head(b"t", 7)[-4:] == (7).to_bytes(4, "big")
    tails = {len(encode_frame_tail(chunkid.pack_own("s" * 22, n), n)) for n in (0, 1, 2**32 - 1)}
    assert len(tails) == 1


OUTSIDES = [
    (b"\x93\xa1t\xc4\x05", 3, b"t", (5, 10)),
    (b"\x92\xa1t\xc5\x01\x00", 2, b"t", (6, 262)),
    (b"\x93\xd9\x01t\xc6\xff\xff\xff\xff", 3, b"t", (9, 9 + 0xFFFFFFFF)),
    (b"\x93\xda\x00\x01t\xd9\x05", 3, b"t", (7, 12)),
    (b"\xdc\x00\x03\xa1t\xda\x00\x05", 3, b"t", (8, 13)),
    (b"\xdd\x00\x00\x00\x02\xdb\x00\x00\x00\x01t\xdb\x00\x00\x00\x05", 2, b"t", (16, 21)),
    (b"\x93\xc4\x01t\xa5", 3, b"t", (5, 10)),
    (b"\x94\xa1t\xd7", 4, b"t", None),
    (b"\x93\xa1t\xc0", 3, b"t", None),
    (b"\x92\xa1t\x90", 2, b"t", None),
    (b"\x92\xa0\xdd", 2, b"", None),
]


@pytest.mark.parametrize(("data", "size", "tag", "packed"), OUTSIDES)
def test_the_outside_of_a_frame(data: bytes, size: int, tag: bytes, packed: tuple[int, int] | None) -> None:
    """The outside of a frame gives the places of tag and payload at any offset; with fewer bytes it is `Incomplete`."""
    for before in (b"", b"\xc1\xc1\xc1"):
        frame = read_frame(before + data, len(before))
        assert (frame.at, frame.size, frame.tag) == (len(before), size, tag)
        assert frame.packed == (packed and slice(packed[0] + len(before), packed[1] + len(before)))
    for end in range(len(data)):
        with pytest.raises(Incomplete):
            read_frame(data[:end], 0)


OPTIONS = [
    ({}, NO_OPTION),
    (None, NO_OPTION),
    ({"chunk": "abc"}, NO_OPTION._replace(chunk_id=b"\xa3abc")),
    ({"chunk": b"abc"}, NO_OPTION._replace(chunk_id=b"\xc4\x03abc")),
    ({"chunk": None, "size": None, "compressed": None, "fluent_signal": None}, NO_OPTION),
    ({"chunk": ""}, NO_OPTION),
    ({"chunk": b""}, NO_OPTION),
    ({"chunk": ["a"]}, NO_OPTION),
    ({"size": 0}, NO_OPTION._replace(size=0)),
    ({"size": 2**32 - 1}, NO_OPTION._replace(size=2**32 - 1)),
    ({"size": 2**32}, NO_OPTION),
    ({"size": -1}, NO_OPTION),
    ({"size": 2.0}, NO_OPTION),
    ({"size": True}, NO_OPTION),
    ({"compressed": "gzip"}, NO_OPTION._replace(compressed="gzip")),
    ({"compressed": 1}, NO_OPTION),
    ({"fluent_signal": 2}, NO_OPTION._replace(signal=2)),
    ({"fluent_signal": "2"}, NO_OPTION),
    ({"eventEntryDataSize": 5, 7: [1, {}], b"chunk": "no"}, NO_OPTION),
]


@pytest.mark.parametrize(("value", "expected"), OPTIONS)
def test_options(value: object, expected: object) -> None:
    """Used options are returned in their own type, and all others are ignored."""
    data = msgpack.packb(value)
    assert read_option(b"..." + data + b"\x93", 3) == (expected, 3 + len(data))
    for end in range(len(data)):
        with pytest.raises(Incomplete):
            read_option(data[:end], 0)


@pytest.mark.parametrize("header", [b"\xa5", b"\xd9\x05", b"\xda\0\x05", b"\xdb\0\0\0\x05"])
def test_large_options_are_read_without_building_them(header: bytes) -> None:
    """What is used is found beside anything else, however its name is written; so a large map is acknowledged too."""
    pairs = [msgpack.packb("pad"), msgpack.packb([[]] * 10_000), header + b"chunk", msgpack.packb("abc")]
    data = b"\x83" + b"".join([*pairs, b"\xc4\x04size", b"\x07"])
    assert read_option(data, 0) == (NO_OPTION._replace(chunk_id=b"\xa3abc"), len(data))


@pytest.mark.parametrize(
    "data",
    [
        b"\x05",
        b"\x90",
        b"\xc2",
        b"\xa0",
        b"\xc1",
        b"\x81\x90\x01",
        b"\x81\x01\xc9\xff\xff\xff\xff",
        b"\x81\x01" + b"\x91" * 1100,
        b"\x81\x01\xc5\xff\xff" + bytes(OPTION_BYTES_MAX),
        b"\x81\x01\xc6\xff\xff\xff\xff" + bytes(OPTION_BYTES_MAX),
        b"\x81\xa5chunk" + msgpack.packb("c" * CHUNK_ID_BYTES_MAX),
    ],
)
def test_options_that_are_none(data: bytes) -> None:
    """Options of another type, not msgpack, too deep or too long are malformed, with a reason."""
    with pytest.raises(Malformed, match=r"options|chunk id"):
        read_option(data, 0)


def test_a_chunk_id_fits_into_the_header_of_a_block() -> None:
    """The longest chunk id with the longest tag is far below the header limit of the journal."""
    chunk = "c" * (CHUNK_ID_BYTES_MAX - 3)
    data = msgpack.packb({"chunk": chunk})
    assert read_option(data, 0)[0].chunk_id == msgpack.packb(chunk)
    assert CHUNK_ID_BYTES_MAX + TAG_BYTES_MAX < 32 << 10


@pytest.mark.parametrize(
    ("entries", "why"),
    [
        (b"\x92\x01" + b"\x91" * 1500, "nested more than 1024 levels deep"),
        (b"\x92\x01" + b"\x91" * 1023 + b"\xc0", "nested more than 1024 levels deep"),
        (b"\x92\x01" + b"\x91" * 1022 + b"\xc0", "not msgpack"),
        (b"\x92\x01\xc1", "not msgpack (FormatError)"),
        (b"\x92\x01", "not msgpack (cut off)"),
        (b"\x92\x01\xc9\xff\xff\xff\xff\x01", "not msgpack"),
        (b"", "not msgpack (cut off)"),
    ],
)
def test_the_fault_is_described(entries: bytes, why: str) -> None:
    """The reason for entries that are not well-formed names the fault, and the limit if there is one."""
    assert find_fault(entries) == why


def test_the_tails_of_special_payloads() -> None:
    """A compressed one names its method; one with group markers is not taken for one of our own producers'."""
    chunk_id = chunkid.pack_own("s" * chunkid.SESSION_LENGTH, 7)
    for tail, more in (
        (encode_compressed_tail(chunk_id, 5, "zstd"), {"compressed": "zstd"}),
        (encode_mixed_tail(chunk_id, 5), {"fluent_signal": 0}),
    ):
        assert msgpack.unpackb(tail) == {"chunk": msgpack.unpackb(chunk_id), "size": 5, **more}
        option, end = read_option(tail, 0)
        assert (option.chunk_id, option.size, option.is_own, end) == (chunk_id, 5, False, len(tail))
