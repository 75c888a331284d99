"""hub.waiting: an event ends the wait, and so does the time; a cancellation is never swallowed."""

from __future__ import annotations

import asyncio

import pytest

from hub.waiting import until_set
from tests.hub.clients import Run, both_loops


@both_loops
def test_the_event_ends_the_wait(run: Run) -> None:
    """An event that is set, or is set later, ends the wait before the time."""

    async def main() -> None:
        event = asyncio.Event()
        waiting = asyncio.create_task(until_set(event, 3600.0))
        await asyncio.sleep(0)
        assert not waiting.done()
        event.set()
        await waiting
        await until_set(event, 3600.0)

    run(main())


@both_loops
def test_the_time_ends_the_wait(run: Run) -> None:
    """After the time the wait ends without an error, and the event is still not set."""

    async def main() -> None:
        event = asyncio.Event()
        await until_set(event, 0.001)
        assert not event.is_set()

    run(main())


@both_loops
def test_a_cancellation_gets_through(run: Run) -> None:
    """A task that is cancelled while the event is set at the same moment ends as cancelled."""

    async def main() -> None:
        event = asyncio.Event()
        waiting = asyncio.create_task(until_set(event, 3600.0))
        await asyncio.sleep(0)
        event.set()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    run(main())
