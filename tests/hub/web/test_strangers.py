"""hub.web.strangers: connections without the token are few, and not for long."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hub.web.strangers import STRANGERS_MAX, Strangers
from tests.hub.clients import run_in_time, until
from tests.hub.web.opened import opened


class Stranger:
    """A connection."""

    def __init__(self, *, is_answering: bool = False) -> None:
        self.is_answering = is_answering
        self.closed = asyncio.Event()

    def abort(self) -> None:
        self.closed.set()


def test_the_oldest_makes_room() -> None:
    """One more than may be closes the oldest, one that waits for an answer only if all do."""

    async def main() -> None:
        strangers = Strangers(count_max=2)
        first, second, third, fourth = Stranger(is_answering=True), Stranger(), Stranger(is_answering=True), Stranger()
        for each in (first, second, third):
            strangers.add(each)
        assert [each.closed.is_set() for each in (first, second, third)] == [False, True, False]
        strangers.add(fourth)
        assert first.closed.is_set()
        assert len(strangers) == 2
        strangers.remove(fourth)
        strangers.remove(fourth)
        assert len(strangers) == 1

    run_in_time(main())


def test_time_is_short() -> None:
    """One that asks nothing is closed when its time is over, one that waits for an answer after that."""

    async def main() -> None:
        strangers = Strangers(after_s=0.001)
        idle, busy, known = Stranger(), Stranger(is_answering=True), Stranger()
        for each in (idle, busy, known):
            strangers.add(each)
        strangers.remove(known)
        await idle.closed.wait()
        assert not busy.closed.is_set()
        busy.is_answering = False
        await busy.closed.wait()
        assert (len(strangers), known.closed.is_set()) == (0, False)

    run_in_time(main())


def test_idle_connections_keep_nobody_out(tmp_path: Path) -> None:
    """However many somebody opens without the token, the page can be opened, and a page that is open stays."""

    async def main() -> None:
        async with opened(tmp_path) as here:
            host, _, port = here.server.where.partition(":")
            async with here.connected() as socket:
                idle = [await asyncio.open_connection(host, int(port)) for _ in range(40)]
                await until(lambda: here.endpoint.metrics.connections_accepted >= 41)
                assert len(here.server._strangers) <= STRANGERS_MAX
                async with here.connected() as other:
                    assert await other.ask("ping") == "pong"
                assert await socket.ask("ping") == "pong"
                for _, writer in idle:
                    writer.close()
            await until(lambda: len(here.server._strangers) == 0)

    run_in_time(main())
