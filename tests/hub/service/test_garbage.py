"""hub.service.garbage: full collections only while they are quick, or once in an hour."""

from __future__ import annotations

import asyncio
import gc

import pytest

from hub.service import garbage
from hub.service.garbage import COLLECT_S, CONNECTIONS_FEW, LOOK_S, FullCollections
from tests.hub.clients import until


class Watched(FullCollections):
    """With a clock and a number of connections that the test sets."""

    def __init__(self) -> None:
        self.now = 0.0
        self.connections = 0
        self.collected: list[float] = []
        super().__init__(
            lambda: self.connections, collect=lambda: self.collected.append(self.now), clock=lambda: self.now
        )


def test_with_few_connections_each_look_collects() -> None:
    watched = Watched()
    watched.connections = CONNECTIONS_FEW
    for watched.now in (LOOK_S, 2 * LOOK_S):
        watched.look()
    assert watched.collected == [LOOK_S, 2 * LOOK_S]


def test_with_many_connections_an_hour_passes_between_two() -> None:
    watched = Watched()
    watched.connections = CONNECTIONS_FEW + 1
    for number in range(1, 200):
        watched.now = number * LOOK_S
        watched.look()
    assert watched.collected == [COLLECT_S, 2 * COLLECT_S, 3 * COLLECT_S]


def test_the_interpreter_makes_none_meanwhile_and_has_them_back_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "LOOK_S", 0.0)
    before = gc.get_threshold()

    async def main() -> None:
        watched = Watched()
        running = asyncio.create_task(watched.run())
        await until(lambda: watched.collected)
        assert gc.get_threshold()[:2] == before[:2]
        full = gc.get_stats()[2]["collections"]
        kept: list[list[object]] = []
        for _ in range(200_000):  # without the part, this makes several full collections
            kept.append([kept])
        assert gc.get_stats()[2]["collections"] == full
        running.cancel()

    asyncio.run(main())
    assert gc.get_threshold() == before
    assert gc.get_freeze_count() == 0
