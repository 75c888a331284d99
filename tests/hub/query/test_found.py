"""hub.query.found: the wanted messages of one batch."""

import msgspec
import pytest

from hub import entries as codec
from hub.message import Batch, Peer
from hub.query.found import found_of


def batch_of(*times: bytes) -> Batch:
    entries = [b"\x92" + time + msgspec.msgpack.encode({"n": number}) for number, time in enumerate(times)]
    return Batch(b"t\xff", codec.join(entries, len(entries)), len(entries), None, Peer(7), sequence=5, received=9)


def test_messages_are_those_of_the_batch() -> None:
    """Iterating gives each of them, and it can be done twice."""
    batch = batch_of(codec.stamp(5)[1:], codec.stamp(1_700_000_000_123_456_789)[1:])
    pairs = [*(codec.pairs(batch.entries, 2) or ())]
    found = found_of(batch, range(5, 7), pairs)
    assert found is not None
    assert list(found) == list(found) == list(batch.messages())
    assert len(found) == 2
    assert list(found.times()) == [(0, 5), (1_700_000_000, 123_456_789)]
    some = found_of(batch, [6], pairs[1:])
    assert some is not None
    assert list(some) == list(batch.messages())[1:]


@pytest.mark.parametrize(
    "time",
    [b"\xc0", b"\x05", b"\xd7\x01" + bytes(8), b"\xcf\0" + bytes(7), b"\xc7\x08\0" + bytes(8), b"\xa9\0" + bytes(8)],
)
def test_other_times_are_looked_at_one_by_one(time: bytes) -> None:
    """A time of another type, also of the same length, is not taken for an EventTime."""
    batch = batch_of(codec.stamp(5)[1:], time)
    pairs = [*(codec.pairs(batch.entries, 2) or ())]
    assert len(pairs) == 2
    assert found_of(batch, range(5, 7), pairs) is None
    assert found_of(batch, range(5, 7), []) is None
