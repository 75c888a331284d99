"""
hub.message: batches and losses as messages.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgpack
import msgspec
import pytest

from hub import entries as codec
from hub.message import (
    DETAIL_BYTES_MAX,
    FORGET,
    NAME_BYTES_MAX,
    POSITIONS_MAX,
    UNKNOWN_PEER,
    Batch,
    Loss,
    Message,
    Peer,
    Position,
    position_batches,
)

NS = codec.NS
PEER = Peer(7, 8, 9, "worker")


class Acknowledged:
    """Records acknowledgements."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []

    def acknowledge(self, batch: Batch) -> None:
        self.batches.append(batch)


def batch_of(*entries: bytes, tag: bytes = b"t", count: int | None = None) -> Batch:
    count = len(entries) if count is None else count
    return Batch(tag, codec.join(entries, len(entries)), count, None, PEER, None, 100, 5 * NS)


def test_messages_of_a_batch() -> None:
    """Each message has the batch's tag and peer, the next sequence, and its own time or the time of receipt."""
    batch = batch_of(b"\x92\x01\x81\xa1a\x01", b"\x92\xc0\x80")
    assert list(batch.messages()) == [
        Message("t", NS, {"a": 1}, 100, 5 * NS, PEER),
        Message("t", 5 * NS, {}, 101, 5 * NS, PEER),
    ]


USUAL = b"\xd7\x00" + (1_700_000_000).to_bytes(4, "big") + (5).to_bytes(4, "big")
TIMES = [
    USUAL,
    USUAL[:9] + b"\x07",
    b"\xc0",
    b"\x01",
    b"\xc7\x08"
    + USUAL[1:],  # the same time in eleven bytes, and nine bytes after it: together as many as two usual ones
    b"\xcf" + bytes(7) + b"\x09",
    b"\xd7\x01" + USUAL[2:],
    b"\xa9\xd7\x00" + bytes(7),  # a text of ten bytes
]


@pytest.mark.parametrize("times", [*itertools.product(TIMES, repeat=2), [USUAL] * 5, [USUAL, b"\xc0", USUAL]], ids=repr)
def test_messages_together_are_what_each_is_alone(times: Sequence[bytes]) -> None:
    """Times of the usual form are decoded together; whatever stands beside them, the messages are the same."""
    entries = [b"\x92" + time + b"\x81\xa1a" + bytes((number,)) for number, time in enumerate(times)]
    messages = list(batch_of(*entries).messages())
    assert [message.sequence for message in messages] == list(range(100, 100 + len(times)))
    alone = [next(batch_of(entry).messages()) for entry in entries]
    assert [msgspec.structs.replace(each, sequence=0) for each in messages] == [
        msgspec.structs.replace(each, sequence=0) for each in alone
    ]
    assert messages[0].time == 1_700_000_000 * NS + 5 or times[0] != USUAL


def test_messages_decoded_together_have_the_peer_and_the_time_of_receipt() -> None:
    """Each has all fields."""
    batch = batch_of(*[b"\x92" + USUAL + b"\x80"] * 3)
    time = 1_700_000_000 * NS + 5
    assert list(batch.messages()) == [Message("t", time, {}, 100 + index, 5 * NS, PEER) for index in range(3)]


def test_an_unreadable_entry_is_a_loss_at_its_own_sequence() -> None:
    """An unreadable entry becomes a loss with reason, tag and sample, and the others keep their sequences."""
    bad = b"\x92\xa1x\x81\xa1a\xda\x00\x64" + b"x" * 100
    before, loss, after = batch_of(b"\x92\x01\x80", bad, b"\x92\x02\x80").messages()
    assert (before.sequence, loss.sequence, after.sequence) == (100, 101, 102)
    assert (loss.tag, loss.time, loss.peer) == ("mpsr.loss.client", 5 * NS, PEER)
    assert loss.record == {
        "reason": "unreadable entry: a str is not a time",
        "count": 1,
        "tag": "t",
        "sample": bad[:64].hex(),
    }


def test_group_markers_have_no_sequence() -> None:
    """Group markers take no sequence, so a batch has as many messages as its count."""
    marker = b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00\x80\x80"
    entry = b"\x92\x92\x01\x80\x80"
    assert [message.sequence for message in batch_of(marker, entry, entry, count=2).messages()] == [100, 101]
    assert list(batch_of(marker, count=0).messages()) == []


@pytest.mark.parametrize(("tag", "text"), [(b"", ""), ("ü".encode(), "ü"), (b"a\xff", "a\ufffd")])
def test_a_tag_of_any_bytes_is_text(tag: bytes, text: str) -> None:
    """Invalid UTF-8 in a tag is replaced when the message is read."""
    assert [message.tag for message in batch_of(b"\x92\x01\x80", tag=tag).messages()] == [text]


def test_a_batch_is_acknowledged_at_its_origin() -> None:
    """The origin receives the acknowledged batch; a batch without an origin does nothing."""
    origin = Acknowledged()
    batch = Batch(b"t", codec.join((), 0), 0, b"\xa1c", PEER, origin)
    batch.acknowledge()
    assert [told is batch for told in origin.batches] == [True]
    batch_of().acknowledge()


def test_values_do_not_change() -> None:
    """Batch, message, loss and peer are frozen."""
    for value, name in ((batch_of(), "count"), (Message("t", 0, {}), "tag"), (Loss("r"), "count"), (PEER, "pid")):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)


def test_nobody_is_known_until_the_kernel_says_so() -> None:
    """The default peer is not verified; a peer from the kernel's credentials is."""
    assert not UNKNOWN_PEER.verified
    assert Peer(1, 2, 3).verified


def test_a_loss_is_a_message_of_its_own() -> None:
    """A loss contains reason, number, bytes, tag, peer and sample, and keeps the chunk id."""
    origin = Acknowledged()
    loss = Loss("a reason", 3, 1000, b"\xff" * 100, b"app\xff", b"\xa1c", True)
    batch = loss.as_batch(peer=PEER, origin=origin)
    assert (batch.tag, batch.count, batch.chunk_id, batch.peer, batch.origin) == (
        b"mpsr.loss",
        1,
        b"\xa1c",
        PEER,
        origin,
    )
    assert codec.is_well_formed(batch.entries)
    (message,) = msgspec.structs.replace(batch, received=7 * NS + 1).messages()
    assert message.time == 7 * NS + 1  # the time of receipt
    assert message.record == {
        "reason": "a reason",
        "count": 3,
        "bytes": 1000,
        "tag": "app\ufffd",
        "sample": "ff" * 64,
        "peer": {"pid": 7, "uid": 8, "gid": 9, "comm": "worker"},
    }


def test_a_loss_says_no_more_than_is_known() -> None:
    """A loss without tag and sample has neither in its record, and no chunk id."""
    batch = Loss("a reason").as_batch(peer=UNKNOWN_PEER)
    assert batch.chunk_id is None
    assert msgpack.unpackb(batch.entries[5:], timestamp=0)[1] == {
        "reason": "a reason",
        "count": 1,
        "bytes": 0,
        "peer": {"pid": 0, "uid": -1, "gid": -1, "comm": ""},
    }


@pytest.mark.parametrize(
    "fields",
    [
        (b"", 0), (b"x" * (NAME_BYTES_MAX + 1), 0), (b"x", FORGET - 1), (b"x", 1 << 63),
        (b"x", 0, b"d" * (DETAIL_BYTES_MAX + 1)),
    ],
)  # fmt: skip
def test_a_position_is_bounded(fields: tuple[bytes, int]) -> None:
    """A name, a number or a detail beyond its limit is refused, also where it is decoded."""
    with pytest.raises(ValueError, match="a position has"):
        Position(*fields)
    with pytest.raises(msgspec.ValidationError, match="a position has"):
        msgspec.msgpack.decode(msgspec.msgpack.encode(fields), type=Position)


def test_the_largest_position_is_accepted() -> None:
    """At its limits it is one, before and after encoding."""
    for number in (FORGET, 0, (1 << 63) - 1):
        position = Position(b"x" * NAME_BYTES_MAX, number, b"d" * DETAIL_BYTES_MAX)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(position), type=Position) == position


def test_a_loss_carries_its_positions() -> None:
    """They are in the batch that reports it."""
    positions = (Position(b"files:1", 7),)
    assert Loss("why", positions=positions).as_batch(peer=PEER).positions == positions


def test_positions_without_messages() -> None:
    """Each batch carries as many as a block can hold, and no message."""
    positions = [Position(b"files:%d" % number, number) for number in range(2 * POSITIONS_MAX + 1)]
    batches = position_batches(positions, peer=PEER)
    assert [len(each.positions) for each in batches] == [POSITIONS_MAX, POSITIONS_MAX, 1]
    assert [position for each in batches for position in each.positions] == positions
    assert {(each.count, each.chunk_id, each.peer, *each.messages()) for each in batches} == {(0, None, PEER)}
    assert position_batches([], peer=PEER) == []
