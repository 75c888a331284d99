"""hub.sources.journalbatches: batches of entries, each with its place."""

from __future__ import annotations

from hub.message import Batch, Loss, Peer
from hub.sources.journalbatches import BATCH_BYTES, JournalBatches
from hub.sources.journalplace import Place
from hub.wire.journalexport import Entry

PEER = Peer(comm="journald", verified=False)


def entry(text: bytes, *, is_cut: bool = False) -> Entry:
    """Return an entry with a text."""
    return Entry(b"c", b"x", 1, 5, [(b"MESSAGE", text)], len(text), is_cut)


def numbers(items: list[Batch | Loss]) -> list[int]:
    """Return the number in the position of each item."""
    return [item.positions[0].number for item in items]


def test_batches_and_losses() -> None:
    """The order is kept; each item has the place after itself; what is too large is a loss."""
    batches = JournalBatches(b"tag", PEER, None, name=b"journald:x", entry_bytes_max=1000)
    for number, each in enumerate((entry(b"a"), entry(b"b"), entry(b"", is_cut=True), entry(b"y" * 2000), entry(b"c"))):
        batches.add(each, Place(b"c%d" % number, b"x", number))
    items = batches.take(Place(b"c4", b"x", 4))
    first, cut, large, last = items
    assert isinstance(first, Batch)
    assert isinstance(last, Batch)
    assert isinstance(large, Loss)
    assert isinstance(cut, Loss)
    assert [message.record["message"] for batch in (first, last) for message in batch.messages()] == ["a", "b", "c"]
    assert (first.tag, first.peer, first.count) == (b"tag", PEER, 2)
    assert (large.count, large.lost_bytes, large.tag) == (1, 2000, b"tag")
    assert "over the limit of 1000 bytes" in cut.reason
    assert numbers(items) == [1, 2, 3, 4]
    assert batches.take(Place()) == []


def test_gaps_are_reported_up_to_the_last_entry() -> None:
    """Each place says up to where gaps are reported, as long as the numbers are of the same line."""
    batches = JournalBatches(b"tag", PEER, None, name=b"journald:x", entry_bytes_max=10)
    batches.add(entry(b"y" * 20), Place(b"a", b"x", 3))
    batches.add(entry(b"y" * 20), Place(b"b", b"other", 5, 1))
    batches.add(entry(b"y" * 20), Place(b"c", b"x", 9, 9))
    places = [Place.of(item.positions[0]) for item in batches.take(Place(b"c", b"x", 9, 9))]
    assert [place.counted for place in places] == [9, 1, 9]


def test_a_batch_is_bounded() -> None:
    """Many large entries are several batches."""
    batches = JournalBatches(b"tag", PEER, None, name=b"journald:x", entry_bytes_max=1 << 20)
    for number in range(10):
        batches.add(entry(b"y" * (BATCH_BYTES // 3)), Place(b"c", b"x", number))
    items = batches.take(Place(b"c", b"x", 9))
    assert all(isinstance(item, Batch) and len(item.entries) <= BATCH_BYTES + 100 for item in items)
    assert numbers(items) == [1, 3, 5, 7, 9]
