"""Moves of the window, over a store that is a list: following, jumping, scrolling beyond what is loaded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from hub.message import Message
from hub.query.level import LEVELS
from hub.viewer.moves import Moves, worse
from hub.viewer.row import Row
from hub.viewer.store import Figures, Filters, Found, Histogram
from hub.viewer.window import Window


class Listed:
    """A store of messages in memory, with the filters *level* and *since*."""

    name, is_hub = "a list", True

    def __init__(self, messages: list[Message]) -> None:
        self.messages = messages
        self.fetched = 0

    async def last(self, filters: Filters, count: int, *, after: int = 0, before: int | None = None) -> Found:
        found = [each for each in self._wanted(filters) if after < each.sequence < (before or 1 << 62)]
        return self._found(found[-count:], count)

    async def following(self, filters: Filters, count: int, *, after: int = 0) -> Found:
        return self._found([each for each in self._wanted(filters) if each.sequence > after][:count], count)

    async def end(self) -> int:
        return self.messages[-1].sequence

    async def timeline(self, filters: Filters, bars: int, zone_s: int) -> AsyncIterator[Histogram]:
        yield Histogram((), 1, 0)

    async def figures(self) -> Figures:
        return Figures({}, (), 0)

    async def close(self) -> None:
        """Nothing is open."""

    def _found(self, messages: list[Message], count: int) -> Found:
        self.fetched += len(messages)
        return Found(messages, is_all=len(messages) < count)

    def _wanted(self, filters: Filters) -> list[Message]:
        rank, since = LEVELS.index(filters.get("level", "trace")), filters.get("since", 0)
        return [m for m in self.messages if LEVELS.index(m.record["level"]) >= rank and m.received >= since]


def message(sequence: int, level: str = "info") -> Message:
    return Message("app", sequence, {"level": level}, sequence, sequence)


class Moved:
    """A window of ten lines over *messages*, and the moves of it."""

    def __init__(self, *messages: Message) -> None:
        self.store = Listed([*messages])
        self.window = Window()
        self.window.resize(10)
        self.changes = 0
        self.moves = Moves(self.store, self.window, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def shown(self) -> list[int]:
        return [row.sequence for row in self.window.visible()]

    async def following(self, is_reached: Callable[[], Any], *, is_fresh: bool = True) -> None:
        """Follow until it is reached."""
        following = asyncio.create_task(self.moves.follow(is_fresh=is_fresh))
        async with asyncio.timeout(20):
            while not is_reached():  # noqa: ASYNC110  it is a test's condition, and sets no event
                await asyncio.sleep(0.001)
        following.cancel()
        await asyncio.wait({following})


@pytest.fixture
def moved() -> Moved:
    """A thousand messages, with an error in the place of every 250th."""
    return Moved(*(message(n, "error" if n % 250 == 0 else "info") for n in range(1, 1001)))


async def follow(moved: Moved) -> None:
    store, window, moves = moved.store, moved.window, moved.moves
    await moved.following(lambda: window.last == 1000)
    assert (moved.shown(), moves.is_following, moves.followed) == ([*range(991, 1001)], False, 1000)
    fetched = store.fetched
    store.messages.extend(message(n) for n in range(1001, 101_001))
    window.show(window.rows, is_end=True)
    await moved.following(lambda: window.last == 101_000, is_fresh=False)
    assert store.fetched - fetched < 100  # never more than a few screens
    assert (moves.passed_over, moved.shown()) == (99_980, [*range(100_991, 101_001)])
    gaps = [row for row in window.rows if row.passed]
    assert gaps == [Row(1001, passed=99_980)]
    await moves.show_at(gaps[0].sequence)
    assert moved.window.row is not None
    assert (moved.window.row.sequence, moved.shown()) == (1001, [*range(996, 1006)])


def test_a_follower_shows_the_newest_and_counts_what_it_passes_over(moved: Moved) -> None:
    """Of a flood it fetches a few screens; the rest is a row with its number, which leads to it."""
    asyncio.run(follow(moved))


async def jump(moved: Moved) -> list[int]:
    moves, places = moved.moves, []
    await moves.show_at(600)
    for level, forward in (("error", True), ("error", True), ("error", True), ("error", False), ("trace", False)):
        await moves.show_level(level, forward=forward)
        places.append(moves.place)
    await moves.show_time(42)
    places.append(moves.place)
    assert not await moves.show_time(5000)
    moves.filters = {"level": "error"}
    await moves.show_start()
    return [*places, *moved.shown()]


def test_jumps(moved: Moved) -> None:
    """To the next error, the one before, a time, the start; where there is none, the place stays."""
    assert asyncio.run(jump(moved)) == [750, 1000, 1000, 750, 749, 42, 250, 500, 750, 1000]


async def scroll(moved: Moved) -> None:
    moves, window = moved.moves, moved.window
    await moves.show_at(500)
    for by, end in ((-1, 1), (1, 1000)):
        while moves.place != end:
            window.page(by)
            await moves.extend()
        assert (window.is_start, window.is_end) == ((True, window.is_end) if by < 0 else (window.is_start, True))
    sequences = [row.sequence for row in window.rows]
    assert sequences == [*range(sequences[0], 1001)]


def test_scrolling_loads_what_is_missing(moved: Moved) -> None:
    """From the middle to the start, and to the end, nothing is left out."""
    asyncio.run(scroll(moved))


def test_the_worse_of_two_levels() -> None:
    """That of the filter stays, if it is worse than an error; an unknown one is left to the hub."""
    assert [worse("error", other) for other in (None, "info", "critical", "fatal", "3", "5", "loud")] == [
        "error", "error", "critical", "fatal", "3", "error", "loud",
    ]  # fmt: skip
