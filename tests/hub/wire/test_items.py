"""
hub.wire.items: equal losses are merged.
"""

from __future__ import annotations

from hub.message import Batch, Loss
from hub.wire.items import Items

BATCH = Batch(b"t", b"\xdd\0\0\0\0", 0)


def test_losses_that_say_the_same_are_one() -> None:
    """Counts and bytes are added, and the first sample and the first place are kept."""
    items: Items[None] = Items()
    items.add(BATCH)
    items.add_loss(Loss("a", 2, 10, b"one", b"t"))
    items.add(BATCH)
    items.add_loss(Loss("a", 3, 20, b"two", b"t"))
    items.add_loss(Loss("a", 1, 5, b"three", b"other"))
    items.add_loss(Loss("b", 1, 5, b"four", b"t"))
    items.add_loss(Loss("a", 4, 30, b"five", b"t"))
    assert items.take() == [
        BATCH,
        Loss("a", 9, 60, b"one", b"t"),
        BATCH,
        Loss("a", 1, 5, b"three", b"other"),
        Loss("b", 1, 5, b"four", b"t"),
    ]


def test_a_loss_that_is_acknowledged_or_fatal_stays_what_it_is() -> None:
    """A loss with a chunk id or a fatal one is never merged."""
    items: Items[None] = Items()
    several = [Loss("a"), Loss("a", chunk_id=b"\xa1c"), Loss("a", chunk_id=b"\xa1c"), Loss("a", fatal=True)]
    for loss in several:
        items.add_loss(loss)
    assert items.take() == several


def test_what_was_taken_is_gone() -> None:
    """A loss of the next call is a separate one."""
    items: Items[None] = Items()
    items.add_loss(Loss("a"))
    assert items.take() == [Loss("a")]
    items.add_loss(Loss("a"))
    assert items.take() == [Loss("a")]
    assert items.take() == []
