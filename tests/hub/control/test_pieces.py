"""hub.control.pieces: large batches, a piece at a time."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from hub import entries as codec
from hub.control.pieces import ENTRY_BYTES_MAX, OMITTED, PIECE_BYTES, beginning_of, pieces, pieces_from
from hub.message import Batch, Home, Message
from tests.hub.control.journals import batch

MARKER = b"\x92\x92\xd7\x00\xff\xff\xff\xff\x00\x00\x00\x00\x80\x80"


def messages(batches: Iterator[Batch]) -> list[Message]:
    return [message for each in batches for message in each.messages()]


@pytest.mark.parametrize("size", [10, 3000, PIECE_BYTES - 10, PIECE_BYTES + 10, 200_000])
def test_pieces_are_the_batch(size: int) -> None:
    """Together the pieces have the same messages with the same sequences; each is small, or one entry."""
    whole = msgspec.structs.replace(
        batch("a", *({"n": n, "t": "x" * size} for n in range(400_000 // size))),
        sequence=7,
        home=Home("web-3", bytes(16), 70, 4),
    )
    cut = list(pieces(whole))
    assert messages(iter(cut)) == list(whole.messages())
    assert all(len(each.entries) <= PIECE_BYTES + 5 or each.count == 1 for each in cut)
    assert sum(each.count for each in cut) == whole.count


def test_a_large_entry_is_not_decoded() -> None:
    """In its place stands its size, and the entries around it are there."""
    whole = batch("a", {"n": 0}, {"t": "x" * ENTRY_BYTES_MAX}, {"n": 2})
    small, large, last = messages(pieces(whole))
    assert (small.record, last.record, last.sequence) == ({"n": 0}, {"n": 2}, 2)
    assert large.record[OMITTED] == pytest.approx(ENTRY_BYTES_MAX, abs=20)


def test_group_markers_are_not_counted() -> None:
    """A batch of Fluent Bit keeps its sequences, wherever its markers are."""
    entry = b"\x92\x92\xc0\x80" + msgspec.msgpack.encode({"t": "x" * 1000})
    parts = [MARKER, *[entry] * 100, MARKER, *[entry] * 100]
    entries = codec.join(parts, len(parts))
    whole = Batch(b"a", entries, codec.count_messages(entries), sequence=1)
    assert (whole.count, len(list(pieces(whole))) > 1) == (200, True)
    assert [each.sequence for each in messages(pieces(whole))] == list(range(1, 201))


def test_pieces_from_any_of_them() -> None:
    """From the place where a piece begins, the same pieces follow."""
    whole = batch("a", *({"n": n, "t": "x" * 1000} for n in range(300)))
    cut = list(pieces_from(whole, beginning_of(whole)))
    assert len(cut) > 4
    for index, (_, following) in enumerate(cut):
        rest = [piece for piece, _ in pieces_from(whole, following)]
        assert [(each.sequence, each.entries) for each in rest] == [
            (each.sequence, each.entries) for each, _ in cut[index + 1 :]
        ]
