"""
hub.wire.claim: what a client says about the place of a chunk, and that it reaches no rows but its own.
"""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.message import Batch, Loss, Peer, Position
from hub.wire.chunkid import pack
from hub.wire.claim import DIGEST_BYTES_MAX, NAME_BYTES_MAX, UNPLACED, place, prefix_of, read_claim
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import INLINE_BYTES, encode_claimed_tail, encode_frame_head
from tests.hub.wire.feeding import PROPERTY, feed

CLAIM = (b"abc.1", 10, b"before", 30, b"after")
PEER = Peer(pid=1, uid=1000, gid=1000)
ENTRY = b"\x92\x01\x81\xa1a\x01"


def frame(payload: bytes, count: int, position: Any = CLAIM) -> bytes:
    tail = encode_claimed_tail(pack("id"), count, CLAIM)
    if position is not CLAIM:
        tail = tail.replace(msgpack.packb(CLAIM), msgpack.packb(position))
    return encode_frame_head(b"t", len(payload)) + payload + tail


@pytest.mark.parametrize("count", [3, INLINE_BYTES // len(ENTRY) + 1])
def test_a_chunk_has_its_place(count: int) -> None:
    """Its batch counts only where the last one ended, under the name of the user who sends it. Large ones, too."""
    (batch,) = feed(ForwardDecoder(PEER), frame(ENTRY * count, count))
    assert isinstance(batch, Batch)
    assert (batch.tag, batch.count, batch.chunk_id) == (b"t", count, pack("id"))
    assert batch.crc is not None
    assert batch.positions == (Position(b"import:1000:abc.1", 30, b"after"),)
    assert batch.continues == Position(b"import:1000:abc.1", 10, b"before")


def test_entries_before_a_fault_take_the_place() -> None:
    """The loss of the rest comes first, and the place moves with the entries: a resend would be the same."""
    loss, batch = feed(ForwardDecoder(PEER), frame(ENTRY + b"\xc1", 2))
    assert isinstance(loss, Loss)
    assert isinstance(batch, Batch)
    assert batch.positions == (Position(b"import:1000:abc.1", 30, b"after"),)


@pytest.mark.parametrize(
    "value",
    [
        None, 1, b"abc", "abc", {}, [], [b"a", 0, b"", 1], [b"a", 0, b"", 1, b"", 1], [b"", 0, b"", 1, b""],
        [b"a" * (NAME_BYTES_MAX + 1), 0, b"", 1, b""], [b"a", 0, b"x" * (DIGEST_BYTES_MAX + 1), 1, b""],
        [b"a", 0, b"", 1, b"x" * (DIGEST_BYTES_MAX + 1)], [b"a", 1, b"", 1, b""], [b"a", -1, b"", 1, b""],
        [b"a", 0, b"", 1 << 63, b""], [b"a", False, b"", True, b""], [b"a", 0.0, b"", 1, b""], [1, 0, b"", 1, b""],
        [b"a", 0, None, 1, b""], [b"a", 0, b"", 1, []],
    ],
)  # fmt: skip
def test_anything_else_is_no_claim(value: object) -> None:
    """Then the chunk is stored like any other."""
    assert read_claim(value) is None
    (batch,) = feed(ForwardDecoder(PEER), frame(ENTRY, 1, value))
    assert isinstance(batch, Batch)
    assert (batch.count, batch.positions, batch.continues) == (1, (), None)


def test_text_is_as_good_as_bytes() -> None:
    """A client may not have the type of bytes."""
    assert read_claim(["a", 0, "", 1, "b"]) == (b"a", 0, b"", 1, b"b")


@pytest.mark.parametrize("peer", [Peer(uid=1000, verified=False), Peer(uid=-1), Peer(uid=-2, comm="192.0.2.1")])
def test_a_stranger_has_no_place(peer: Peer) -> None:
    """A user that nobody has verified cannot move a place, which may be another's."""
    assert place(CLAIM, peer) == UNPLACED
    assert place(None, PEER) == UNPLACED


@PROPERTY
@given(st.binary(min_size=1, max_size=NAME_BYTES_MAX), st.integers(0, 2**32 - 2), st.integers(0, 2**32 - 2))
def test_no_name_reaches_another_user(name: bytes, user: int, other: int) -> None:
    """Whatever name it chooses, the row begins with its user."""
    placed = place((name, 0, b"", 1, b""), Peer(uid=user))
    (position,) = placed.positions
    assert position.name.startswith(prefix_of(user))
    assert position.name.startswith(prefix_of(other)) == (user == other)
    assert placed.continues == Position(position.name, 0)


def test_the_longest_name_fits() -> None:
    """A row with it is within the limits of positions."""
    claim = (b"x" * NAME_BYTES_MAX, 0, b"d" * DIGEST_BYTES_MAX, 2**63 - 1, b"d" * DIGEST_BYTES_MAX)
    assert read_claim(list(claim)) == claim
    assert place(claim, Peer(uid=2**32 - 2)).positions
