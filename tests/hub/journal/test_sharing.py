"""hub.journal.sharing: small batches that share a block."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import msgspec

from hub import entries as codec
from hub.journal.journal import Journal
from hub.journal.reader import Gap, open_reader
from hub.journal.sharing import SHARED_BYTES_MAX, share_blocks
from hub.message import Batch, Peer, Position

HERE, THERE = Peer(1, 5, 5, "a"), Peer(2, 5, 5, "a")


def line(
    number: int, *, tag: bytes = b"text", peer: Peer = HERE, chunk_id: bytes | None = None, size: int = 0
) -> Batch:
    entry = codec.UNSTAMPED + msgspec.msgpack.encode({"n": number, "pad": "." * size})
    return Batch(tag, codec.join((entry,), 1), 1, chunk_id, peer)


def numbers(batches: list[Batch]) -> list[list[int]]:
    return [[message.record["n"] for message in batch.messages()] for batch in batches]


def test_neighbours_share_a_block() -> None:
    """Only those of one tag and one peer for which nobody waits, in their order, and not too many."""
    batches = [
        line(0), line(1), line(2, tag=b"other"), line(3), line(4, peer=THERE), line(5, peer=THERE),
        line(6, chunk_id=b"\xa1x"), line(7, chunk_id=b"\xa1y"), line(8), line(9, size=5000), line(10),
        *(line(number, size=3000) for number in range(11, 61)),
    ]  # fmt: skip
    shared = [*share_blocks(batches)]
    assert numbers(shared)[:9] == [[0, 1], [2], [3], [4, 5], [6], [7], [8], [9], numbers(shared)[8]]
    assert [number for block in numbers(shared) for number in block] == [*range(61)]
    assert all(len(batch.entries) <= SHARED_BYTES_MAX for batch in shared)
    assert len(shared) < 15
    assert [batch.chunk_id for batch in shared if batch.chunk_id] == [b"\xa1x", b"\xa1y"]
    assert {batch.count for batch in shared} == {len(block) for block in numbers(shared)}


def test_group_markers_stay_where_they_are() -> None:
    """Entries that are not all messages are not joined: their number is not that of the messages."""
    marker = b"\x92\x92\xd7\x00" + b"\xff" * 4 + bytes(4) + b"\x80\x80"
    marked = Batch(b"text", codec.join((marker, bytes(line(0).entries)[5:]), 2), 1, None, HERE)
    batches = [line(1), marked, line(2)]
    assert [*share_blocks(batches)] == batches


def test_the_journal_holds_the_same_messages(tmp_path: Path) -> None:
    """Any batches that are committed together are read back in their order, each with its tag, writer and record."""
    rng = random.Random(3)
    sent = [
        line(
            number, tag=rng.choice([b"a"] * 9 + [b"b"]), peer=rng.choice([HERE] * 9 + [THERE]), size=rng.choice([0, 50])
        )
        for number in range(500)
    ]

    async def store() -> None:
        journal = await Journal.open(str(tmp_path / "j"))
        for at in range(0, 500, 50):
            commit = await journal.append(sent[at : at + 50])
            assert (commit.stored, commit.last_sequence, commit.duplicates) == (50, at + 50, 0)
        await journal.close()

    asyncio.run(store())
    reader = open_reader(str(tmp_path / "j"))
    found = [each for each in reader.read() if not isinstance(each, Gap)]
    reader.close()
    assert len(found) < 400
    messages = [message for batch in found for message in batch.messages()]
    expected = [(batch.tag.decode(), batch.peer, number) for number, batch in enumerate(sent)]
    assert [(message.tag, message.peer, message.record["n"]) for message in messages] == expected
    assert [message.sequence for message in messages] == [*range(1, 501)]


def test_positions_are_never_lost() -> None:
    """A batch with positions has a block of its own; its neighbours share theirs without it."""
    carried = [msgspec.structs.replace(line(number), positions=(Position(b"x", number),)) for number in (2, 3)]
    shared = [*share_blocks([line(0), line(1), *carried, line(4), line(5)])]
    assert numbers(shared) == [[0, 1], [2], [3], [4, 5]]
    assert shared[1:3] == carried
