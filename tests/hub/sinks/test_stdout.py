"""hub.sinks.stdout: shows committed messages without delaying the hub."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from hub import Batch, Journal
from hub import entries as codec
from hub.journal.reader import Gap
from hub.sinks.stdout import Follower


def batch(number: int) -> Batch:
    return Batch(b"t", codec.join((codec.stamp(1) + b"\x81\xa1n" + bytes((number,)),), 1), 1)


def test_everything_committed_from_the_start_on_is_shown_in_order(tmp_path: Path) -> None:
    """Earlier messages are not shown; everything committed until the end is, once."""
    shown: list[int] = []

    def show(found: Batch | Gap) -> None:
        assert isinstance(found, Batch)
        shown.extend(message.record["n"] for message in found.messages())

    async def scenario() -> None:
        journal = await Journal.open(str(tmp_path / "j"))
        await journal.append([batch(0)])
        follower = Follower(journal, show)
        for number in range(1, 100):
            await journal.append([batch(number)])
        assert await follower.finish(30)
        await journal.close()

    asyncio.run(scenario())
    assert shown == list(range(1, 100))


def test_one_who_does_not_look_holds_nothing_up(tmp_path: Path) -> None:
    """While *show* blocks, commits continue, and `finish` returns at its timeout."""
    released = threading.Event()

    def show(_: Batch | Gap) -> None:
        released.wait()

    async def scenario() -> None:
        journal = await Journal.open(str(tmp_path / "j"))
        follower = Follower(journal, show)
        for number in range(100):
            await journal.append([batch(number)])
        assert not await follower.finish(0.01)
        released.set()
        assert await follower.finish(30)
        await journal.close()

    asyncio.run(scenario())
