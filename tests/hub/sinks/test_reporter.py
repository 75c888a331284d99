"""hub.sinks.reporter: what is reported, what is stored with it, and what is not reported again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from hub.journal.cursors import Cursor
from hub.message import Batch, Message, Position
from hub.sinks.figures import Figures
from hub.sinks.portions import Missing
from hub.sinks.reporter import Reporter


class Stored:
    """The journal and what takes the reports: what was stored, with the positions; it fails while *is_away*."""

    def __init__(self) -> None:
        self.lost_counts: list[int] = []
        self.dead_letters: list[int] = []
        self.positions: dict[bytes, Position] = {}
        self.is_away = False

    def position(self, name: bytes) -> Position | None:
        return self.positions.get(name)

    async def lost(self, name: str, count: int, reason: str, positions: tuple[Position, ...] = ()) -> None:
        self._commit(positions)
        self.lost_counts.append(count)

    async def dead(self, letters: Sequence[Batch]) -> None:
        for letter in letters:
            self._commit(letter.positions)
            self.dead_letters += [message.record["sequence"] for message in letter.messages()]

    def _commit(self, positions: Sequence[Position]) -> None:
        if self.is_away:
            raise ConnectionError
        self.positions |= {position.name: position for position in positions}


def reporter_of(stored: Any, cursor: Cursor = Cursor(0)) -> tuple[Reporter, Figures]:  # noqa: B008  it is frozen
    """Return one that begins at *cursor*, as after a start."""

    def call(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run(work)

    figures = Figures()
    made = Reporter("a", stored, stored, figures, call)
    made.begin(cursor)
    return made, figures


def messages(*sequences: int, tag: str = "app", size: int = 0) -> list[Message]:
    return [Message(tag, 1, {"x": "x" * size}, sequence, 2) for sequence in sequences]


def test_a_message_is_refused_once() -> None:
    """Also by the reporter of the next start, as long as its cursor has not passed it."""
    stored = Stored()
    reporter, figures = reporter_of(stored)
    reporter.refuse(messages(2, 3, 5), "no")
    reporter.refuse(messages(3, 4), "no")
    assert (stored.dead_letters, figures.dead) == ([2, 3, 5, 4], 4)
    again, figures = reporter_of(stored, Cursor(1))
    again.refuse(messages(2, 6), "no")
    assert (stored.dead_letters[4:], figures.dead) == ([6], 1)
    rewound, _ = reporter_of(stored, Cursor(1, rewinds=1))
    rewound.refuse(messages(2), "no")
    assert stored.dead_letters[5:] == [2]


def test_each_batch_of_letters_knows_what_is_stored_with_it() -> None:
    """After a power cut in the middle of a commit, its first batches may count, and the others not."""
    stored = Stored()
    reporter, _ = reporter_of(stored)
    batches: list[Batch] = []

    async def note(letters: Sequence[Batch]) -> None:
        batches.extend(letters)

    stored.dead = note  # type: ignore[method-assign]
    reporter.refuse(messages(1, 2, 3, 4, size=200_000), "no")
    assert [batch.count for batch in batches] == [2, 2]
    stored.positions = {b"sink:a": batches[0].positions[0]}
    again, _ = reporter_of(stored)
    again.refuse(messages(1, 2, 3, 4), "no")
    assert [message.record["sequence"] for message in batches[-1].messages()] == [3, 4]


def test_what_could_not_be_stored_is_reported_again() -> None:
    """It counts when it is stored."""
    stored = Stored()
    reporter, figures = reporter_of(stored)
    stored.is_away = True
    with pytest.raises(ConnectionError):
        reporter.refuse(messages(2), "no")
    with pytest.raises(ConnectionError):
        reporter.miss(Missing(3, "expired", 5, 0))
    assert (figures.dead, figures.lost) == (0, 0)
    stored.is_away = False
    reporter.refuse(messages(2), "no")
    reporter.miss(Missing(4, "expired", 4, 0))
    assert (stored.dead_letters, stored.lost_counts, figures.lost) == ([2], [4], 4)


def test_what_is_missing_is_reported_once() -> None:
    """More of it later counts by itself; a loss without sequences always counts."""
    stored = Stored()
    reporter, figures = reporter_of(stored)
    reporter.miss(Missing(10, "expired", 10, 0))
    again, _ = reporter_of(stored)
    again.miss(Missing(10, "expired", 10, 0))
    again.miss(Missing(15, "expired", 15, 0))
    again.lose(2, "rejected")
    again.lose(2, "rejected")
    assert stored.lost_counts == [10, 5, 2, 2]
    assert figures.lost == 10


def test_a_dead_letter_is_not_stored_as_another_one(capsys: pytest.CaptureFixture[str]) -> None:
    """It is counted and logged."""
    stored = Stored()
    reporter, figures = reporter_of(stored)
    reporter.refuse(messages(2, tag="mpsr.dead"), "no")
    reporter.refuse([], "no")
    assert (stored.dead_letters, figures.dead) == ([], 1)
    assert capsys.readouterr().err.count('"event": "sink.refused"') == 1
