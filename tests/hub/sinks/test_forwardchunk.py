"""hub.sinks.forwardchunk: ids, and entries as every server reads them."""

from __future__ import annotations

import random
from typing import Any

import msgpack
import msgspec
import pytest

from hub import Batch
from hub import entries as codec
from hub.message import Home
from hub.sinks.forms import Undecoded
from hub.sinks.forward import BATCH_BYTES_MAX
from hub.sinks.forwardchunk import Chunk, Method, Sender, make_chunk, plain_entries
from hub.sinks.stored import whole
from hub.wire.chunkid import SESSION_LENGTH, is_own, unpack_own
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import INLINE_BYTES, TAG_BYTES_MAX
from tests.hub.sinks.delivering import TABLE, batch, numbered

HUB = bytes(range(16))
RECEIVED = 1_700_000_000_123_456_789
SENDER = Sender(HUB, "up", 0)


def stored_at(given: Batch, sequence: int = 7) -> Batch:
    return msgspec.structs.replace(given, sequence=sequence, received=RECEIVED)


def chunk_of(given: Batch, method: Method | None = None) -> Chunk:
    return make_chunk(whole(stored_at(given)), SENDER, method)


def received(chunk: Chunk) -> Batch:
    """Return *chunk* as another hub receives it."""
    decoder = ForwardDecoder()
    (found,) = decoder.receive(b"".join(chunk.parts))
    if not isinstance(found, Batch):
        (found,) = found.open()  # type: ignore[union-attr]
    assert isinstance(found, Batch)
    return found


SENDERS = [Sender(*each) for each in ((HUB, "up", 0), (HUB, "up", 1), (HUB, "down", 0), (bytes(16), "up", 0))]
SENDERS.append(Sender(HUB, "up", 0, b"boot"))


def own_id(sender: Sender, last: int, received: int = RECEIVED) -> tuple[bytes, int]:
    """Return session and counter of the chunk of one message."""
    given = msgspec.structs.replace(numbered(1), sequence=last, received=received)
    found = unpack_own(sender.chunk_id(whole(given)))
    assert found is not None
    return found


def test_an_id_is_unique_and_the_same_after_a_crash() -> None:
    """Hub, name, rewinds and boot make the session."""
    sessions = {own_id(sender, 7)[0] for sender in SENDERS}
    assert {len(each) for each in sessions} == {SESSION_LENGTH}
    assert len(sessions) == len(SENDERS)
    chunk = chunk_of(numbered(1, 2, 3))
    assert unpack_own(chunk.chunk_id) == own_id(SENDER, 9)
    assert chunk_of(numbered(1, 2, 3)).parts == chunk.parts


def test_ids_rise() -> None:
    """With the sequence, and with the time, also if sequences are given again; a session ends before they could not."""
    second = 1_000_000_000
    places = [(1, 0), (2, 0), (2, RECEIVED), (3, RECEIVED), (2**33 - 1, RECEIVED), (5, RECEIVED + second)]
    places += [(6, RECEIVED + second), (1, RECEIVED + 2 * second), (2, 2**63)]
    ids = [own_id(SENDER, *place) for place in places]
    assert ids == sorted(ids)
    assert len({session for session, _ in ids}) == 1
    assert len(set(ids)) == len(ids)
    beyond = own_id(SENDER, 2**33, RECEIVED)
    assert beyond[0] != ids[0][0]
    assert beyond < own_id(SENDER, 2**33 + 1, RECEIVED)
    assert own_id(SENDER, 2**63 - 1, 2**63)[1] < 1 << 64


def test_entries_pass_as_they_are() -> None:
    """Another hub takes the chunk for one of our own producers', and stores the same bytes."""
    given = numbered(1, 2, 3)
    found = received(chunk_of(given))
    assert (found.tag, bytes(found.entries), found.count) == (b"t", bytes(given.entries), 3)
    assert found.chunk_id is not None
    assert is_own(found.chunk_id)


@pytest.mark.parametrize("method", ["gzip", "zstd"])
def test_a_chunk_may_be_compressed(method: Method) -> None:
    """Another hub opens it. What would look like a bomb is sent as it is."""
    given = numbered(*range(1000))
    chunk = chunk_of(given, method)
    assert len(chunk.parts[1]) < len(given.entries) / 2
    assert bytes(received(chunk).entries) == bytes(given.entries)
    bomb = batch({"x": "x" * 200_000})
    chunk = chunk_of(bomb, method)
    assert bytes(received(chunk).entries) == bytes(bomb.entries)
    assert len(chunk.parts[1]) > 200_000 or method == "gzip"  # which may shrink to less or not: libraries differ


@pytest.mark.parametrize("method", [None, "gzip", "zstd"])
@pytest.mark.parametrize("tag", [b"t", b"t" * TAG_BYTES_MAX])
def test_another_hub_decodes_the_largest_chunk_at_once(tag: bytes, method: Method | None) -> None:
    """With its tag, id and options, it has no more bytes than are decoded without a thread, also if nothing shrinks."""
    form = Undecoded(TABLE, BATCH_BYTES_MAX, 1 << 20)
    room = BATCH_BYTES_MAX - len(tag) - codec.ARRAY_HEADER_BYTES
    begin = codec.stamp(5) + b"\x81\xa1x"
    value = random.Random(1).randbytes(room - 2 * len(begin) - 6)
    entries = (begin + b"\xc6" + len(value).to_bytes(4, "big") + value, begin + b"\x05")
    given = stored_at(Batch(tag, codec.join(entries, 2), 2))
    assert len(given.tag) + len(given.entries) == BATCH_BYTES_MAX
    (piece,) = form.pieces(given)
    assert INLINE_BYTES - 512 < sum(map(len, chunk_of(piece, method).parts)) <= INLINE_BYTES
    larger = stored_at(Batch(tag + b"t" * 10, given.entries, 2))
    assert len([*form.pieces(larger)]) == 2


def record(value: Any) -> bytes:
    return msgspec.msgpack.encode(value)


STAMP = codec.stamp(5)
LINE = b"<13>Nov 27 05:14:00 web app[42]: hello"
WITH_METADATA = b"\x92\x92" + STAMP[1:] + b"\x81\xa1k\x01" + record({})


@pytest.mark.parametrize(
    ("entry", "plain"),
    [
        (codec.UNSTAMPED + record({"a": 1}), codec.stamp(RECEIVED) + record({"a": 1})),
        (b"\x92\x92" + STAMP[1:] + b"\x80" + record({"a": 1}), STAMP + record({"a": 1})),
        (WITH_METADATA, WITH_METADATA),
        (STAMP + b"\x81\xa1a\xc4\x02\x92\xc0", STAMP + b"\x81\xa1a\xc4\x02\x92\xc0"),
        (STAMP + b"\xc1", STAMP + b"\xc1"),
    ],
)  # fmt: skip
def test_what_others_would_read_as_something_else(entry: bytes, plain: bytes) -> None:
    """No time becomes that of receipt, empty metadata go, and all else is as it was, also what cannot be read."""
    for around in ((), (codec.UNSTAMPED + record({"b": 2}),)):
        parts = (entry, *around)
        found = plain_entries(stored_at(Batch(b"t", codec.join(parts, len(parts)), len(parts))))
        expected = (plain, *(codec.stamp(RECEIVED) + record({"b": 2}) for _ in around))
        if entry.endswith(b"\xc1"):  # the rest of a broken batch is not taken apart
            expected = (plain, *around)
        assert bytes(found) == codec.join(expected, len(parts))


def test_a_message_of_another_hub_keeps_its_time() -> None:
    """Without a time of its own, it has that of the first receipt."""
    given = Batch(b"t", codec.join((codec.UNSTAMPED + record({}),), 1), 1, sequence=1, received=RECEIVED)
    home = msgspec.structs.replace(given, home=Home("web-3", bytes(16), 1, 5))
    assert bytes(plain_entries(home)) == codec.join((codec.stamp(5) + record({}),), 1)


def test_a_line_of_syslog_is_taken_apart() -> None:
    """Every server gets its fields, and the same time: the zone is that of the host that received it."""
    entry = codec.before_syslog() + record({"message": LINE.decode()})
    given = stored_at(Batch(b"t", codec.join((entry, entry), 2), 2))
    (first, second) = msgpack.unpackb(plain_entries(given), strict_map_key=False, timestamp=0)
    assert first == second
    assert first[1]["message"] == "hello"
    (expected, _) = given.messages()
    (found, _) = msgspec.structs.replace(given, entries=plain_entries(given)).messages()
    assert (found.record, found.time) == (expected.record, expected.time)


def test_group_markers_pass_and_are_not_counted() -> None:
    """Another hub looks at such a chunk, and counts its messages."""
    marker = b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00\x80\x80"
    entry = b"\x92\x92" + STAMP[1:] + b"\x80" + record({"n": 1})
    given = Batch(b"t", codec.join((marker, entry), 2), 1)
    found = received(chunk_of(given))
    assert (found.count, [message.record for message in found.messages()]) == (1, [{"n": 1}])
    assert marker in bytes(found.entries)
