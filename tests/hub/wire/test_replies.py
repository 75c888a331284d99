"""hub.wire.replies: acknowledgements, and everything that is none."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.chunkid import pack, pack_own
from hub.wire.frame import encode_ack
from hub.wire.replies import RECEIVED_BYTES_MAX, REPLY_BYTES_MAX, NoAcknowledgement, Replies

OWN = [pack_own("s" * 22, number) for number in range(20)]


@pytest.mark.parametrize("size", [1, 10, 53, RECEIVED_BYTES_MAX])
def test_acknowledgements_come_in_pieces(size: int) -> None:
    """They are returned in order, with the bytes that were sent."""
    replies, found = Replies(), []
    data = b"".join(encode_ack(chunk_id) for chunk_id in OWN)
    for at in range(0, len(data), size):
        found += replies.receive(data[at : at + size])
    assert found == OWN


def test_other_ids_come_back_as_they_were() -> None:
    """A str of any bytes, and a bin."""
    ids = [pack(b"\xff\0"), pack("a"), b"\xa2\xff\xfe"]
    assert Replies().receive(b"".join(map(encode_ack, ids))) == ids


@pytest.mark.parametrize(
    "reply",
    [
        b"\x80", msgpack.packb({"ack": None}), msgpack.packb({"ack": 1}), msgpack.packb({"nack": "a"}), b"\x90",
        b"\xc0", msgpack.packb("ack"), b"\xc1", b"HTTP/1.1 400", msgpack.packb({1: 2}), b"\xdf\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_anything_else_is_a_fault(reply: bytes) -> None:
    """Vector replies an empty map to what it rejects."""
    replies = Replies()
    with pytest.raises(NoAcknowledgement, match="it has replied"):
        replies.receive(encode_ack(OWN[0]) + reply)


def test_half_a_reply_has_a_limit() -> None:
    """A server cannot make us hold more, however it cuts it."""
    replies = Replies()
    data = b"\x81\xa3ack\xdb\0\0\xff\xff" + b"x" * RECEIVED_BYTES_MAX
    for at in range(0, REPLY_BYTES_MAX - 999, 1000):
        assert replies.receive(data[at : at + 1000]) == []
    with pytest.raises(NoAcknowledgement, match="more than"):
        replies.receive(data[at + 1000 : at + 2000])


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_any_bytes_are_replies_or_a_fault(pieces: list[bytes]) -> None:
    """Nothing else is raised."""
    replies = Replies()
    try:
        for piece in pieces:
            replies.receive(piece)
    except NoAcknowledgement:
        pass
