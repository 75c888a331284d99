"""hub.control.largebatches: which batches are kept, and from where they are read on."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from hub.control import largebatches
from hub.control.largebatches import LargeBatches
from hub.message import Batch
from tests.hub.control.journals import batch


def of(first: int, count: int = 300) -> Batch:
    """Return a batch of about *count* kilobytes with the sequence *first*."""
    return msgspec.structs.replace(batch("a", *({"n": n, "t": "x" * 1000} for n in range(count))), sequence=first)


def sequences(large: LargeBatches, whole: Batch, sequence: int) -> list[int]:
    return [message.sequence for piece in large.pieces(whole, sequence) for message in piece.messages()]


def test_it_begins_with_the_piece_that_is_known() -> None:
    """Once a place was passed, the pieces before it are not found again."""
    large, whole = LargeBatches(), of(10)
    assert sequences(large, whole, 10) == list(range(10, 310))
    for sequence in (10, 150, 309):
        first, *rest = found = sequences(large, whole, sequence)
        assert first <= sequence < first + 70
        assert found == list(range(first, 310))
    assert rest


def test_a_place_is_found_from_the_beginning() -> None:
    """It is known from then on, however far the pieces were taken."""
    large, whole = LargeBatches(), of(1)
    assert next(large.pieces(whole, 200)).sequence == 1
    [*itertools.islice(large.pieces(whole, 200), 3)]
    assert next(large.pieces(whole, 200)).sequence > 100


def test_the_batch_with_a_sequence() -> None:
    """It is that of the batches that are kept."""
    large, first, second = LargeBatches(), of(1), of(301)
    large.pieces(first, 1)
    large.pieces(second, 301)
    found = [large.with_sequence(sequence) for sequence in (1, 300, 301, 600, 601)]
    assert found == [first, first, second, second, None]


def test_the_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was used last stays; of the others those that were used before it, if there is room."""
    monkeypatch.setattr(largebatches, "KEPT_BYTES_MAX", 700_000)
    large, first, second, third = LargeBatches(), of(1), of(301), of(601)
    for each in (first, second, first, third):
        large.pieces(each, 1)
    assert [large.with_sequence(each.sequence) for each in (first, second, third)] == [first, None, third]
    huge = of(901, 2000)
    large.pieces(huge, 901)
    assert (len(large), large.with_sequence(901)) == (1, huge)


def test_it_lets_go_what_is_not_used() -> None:
    """A batch that was used since the last time stays until the next time."""
    large, first, second = LargeBatches(), of(1), of(301)
    large.pieces(first, 1)
    large.pieces(second, 301)
    large.let_go()
    large.pieces(second, 301)
    large.let_go()
    assert (large.with_sequence(1), large.with_sequence(301)) == (None, second)
    large.let_go()
    assert len(large) == 0
