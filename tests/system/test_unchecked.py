"""
Entries of our own producers are stored as they come, and checked by their readers: what a hostile client sends in that
form costs nobody anything but its own messages.

Each reader must see the same: the whole entries at their own sequences, and one loss that counts the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hub import entries as codec
from hub.control.pieces import PIECE_BYTES, pieces
from hub.journal.files import DiskFiles
from hub.journal.verify import verify
from hub.message import CLIENT_LOSS_TAG, Batch, Message
from hub.query.condition import Condition
from hub.query.query import Query
from hub.wire.chunkid import pack_own
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import encode_frame_head, encode_frame_tail
from tests.hub.clients import connect, frame_of, read_acks
from tests.support import HubProcess, mpsr

SESSION = "h" * 22
TAG = b"hostile"
GOOD = b"\x92\xc0\x81\xa1n\x01"
MARKER = b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00\x80\x80"
OBJECTS = [
    GOOD,
    b"\x92\xc0\x81\xa1t\xd9\xc8" + b"x" * 200,
    b"\x92\xc0\x81\xa1t\xa1\xff",  # no UTF-8
    b"\x92\xc0\xc0",  # no record
    b"\x92\xa1t\x80",  # no time
    b"\xc0",
    MARKER,
    b"\x92\xc0\x81\xa1d" + b"\x91" * 600 + b"\xc0",
]
FAULTS = [
    b"",
    b"\xc1",
    b"\x92\xc0",
    b"\x92\xc0" + codec.OVERFLOW,
    b"\x92\xc0\x81\xa1o" + codec.OVERFLOW,
    b"\x92\xc0" + b"\x91" * 2000 + b"\xc0",
    b"\xdd\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
]
bodies = st.lists(st.sampled_from([*OBJECTS, GOOD, GOOD * 50]), max_size=60).flatmap(
    lambda objects: st.tuples(st.just(b"".join(objects)), st.sampled_from(FAULTS), st.binary(max_size=20))
)


def frame(body: bytes, claimed: int, counter: int = 1) -> bytes:
    return encode_frame_head(TAG, len(body)) + body + encode_frame_tail(pack_own(SESSION, counter), claimed)


def decoded(body: bytes, claimed: int) -> Batch:
    """Return the batch that the hub makes of *body*, as if its first sequence were 7."""
    (batch,) = ForwardDecoder().receive(frame(body, claimed))
    assert isinstance(batch, Batch)
    return msgspec.structs.replace(batch, sequence=7, received=99)


def whole(body: bytes, claimed: int) -> list[bytes]:
    """Return the entries before the first fault, *claimed* at most, found one by one."""
    found: list[bytes] = []
    while body and len(found) < claimed:
        unpacker = msgpack.Unpacker(max_buffer_size=len(body))
        unpacker.feed(body)
        try:
            unpacker.skip()
        except (msgpack.OutOfData, msgpack.FormatError, msgpack.StackError, ValueError):
            break
        entry = body[: unpacker.tell()]
        if not codec.is_whole(codec.join((entry,), 1)):
            break
        found.append(entry)
        body = body[len(entry) :]
    return found


def expected(batch: Batch, entries: Sequence[bytes]) -> list[Message]:
    """Return what a reader sees: each entry as if it were alone, then the loss of the rest."""
    each = [
        msgspec.structs.replace(batch, entries=codec.join((entry,), 1), count=1, sequence=batch.sequence + number)
        for number, entry in enumerate(entries)
    ]
    seen = [message for one in each for message in one.messages()]
    if lost := batch.count - len(entries):
        rest = bytes(batch.entries[codec.ARRAY_HEADER_BYTES + sum(map(len, entries)) :][:64])
        reason = "unreadable entry: not as many whole entries as were announced"
        record = {"reason": reason, "count": lost, "tag": TAG.decode(), "sample": rest.hex()}
        at = batch.sequence + len(entries)
        seen.append(Message(CLIENT_LOSS_TAG.decode(), batch.received, record, at, batch.received, batch.peer))
    return seen


@given(bodies, st.integers(1, 70))
@example((GOOD * 10, b"", b""), 3)
@example((GOOD * 10, b"", b""), 15)
@example((MARKER + GOOD * 5, b"", b""), 6)
@example((GOOD * (3 * PIECE_BYTES // len(GOOD)), FAULTS[3], GOOD), 3 * PIECE_BYTES // len(GOOD) + 1)
@example((GOOD * (3 * PIECE_BYTES // len(GOOD)), b"", b""), 2 * PIECE_BYTES // len(GOOD))
def test_every_reader_sees_the_same(parts: tuple[bytes, bytes, bytes], claimed: int) -> None:
    """Whatever the bytes are: iteration, filters and pieces give whole entries, then one loss; nothing raises."""
    body = b"".join(parts)
    claimed = min(claimed, len(body) // 3)
    if not claimed:
        return
    batch = decoded(body, claimed)
    assert (batch.count, batch.entries[codec.ARRAY_HEADER_BYTES :]) == (claimed, body)
    entries = whole(body, claimed)
    seen = expected(batch, entries)
    assert list(batch.messages()) == seen
    assert [message for piece in pieces(batch) for message in piece.messages()] == seen
    assert sum(piece.count for piece in pieces(batch)) == claimed
    assert list(Query().messages(iter((batch,)))) == seen
    has_n = [message for message in seen if message.record.get("n") == 1]
    assert list(Query(where=[Condition("n=1")]).messages(iter((batch,)))) == has_n


@pytest.mark.parametrize("claimed", [0, 11, 1 << 32 - 1])
def test_a_count_that_cannot_be_is_checked(claimed: int) -> None:
    """Of a chunk that claims more messages than its bytes can hold, or none, the entries are counted."""
    (batch,) = ForwardDecoder().receive(frame(b"\x92\xc0\x80" * 10, claimed))
    assert isinstance(batch, Batch)
    assert batch.count == 10


def test_a_hub_and_its_readers_go_on(hub: HubProcess, tmp_path: Path) -> None:
    """After hostile chunks the next message has the next sequence, in every way to read; `verify` names each chunk."""
    hostile = [(body, 10) for body in (GOOD * 9 + fault + b"\x00" * 30 for fault in FAULTS[1:])]
    with connect(hub.socket, timeout=60) as client:
        for counter, (body, claimed) in enumerate(hostile, 1):
            client.sendall(frame(body, claimed, counter))
            read_acks(client, 1)
        client.sendall(frame_of(pack_own("g" * 22, 1), {"after": "all"}, tag=b"good"))
        read_acks(client, 1)
    last = 10 * len(hostile) + 1
    where = ("--output", "json")
    over_socket = mpsr("logs", "--socket", hub.socket, "-n", "1000", *where)
    assert hub.stats()["last_sequence"] == last
    assert hub.stop() == 0
    from_files = mpsr("logs", "--journal", hub.journal, "-n", "1000", *where)
    for done in (over_socket, from_files):
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert [line["sequence"] for line in lines] == list(range(1, last + 1))
        assert [line["record"]["count"] for line in lines if line["tag"] == CLIENT_LOSS_TAG.decode()] == [1] * 7
        assert lines[-1]["record"] == {"after": "all"}
    verified = verify(DiskFiles(hub.journal))
    assert verified.messages == last
    assert [fault.split(":")[0] for fault in verified.faults] == [
        f"sequence {10 * number + 1}" for number in range(len(hostile))
    ]
