"""AsyncProducer on both event loops: what only it promises. What both producers promise is in test_contract.py."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from hub import Hub, Message
from producers import AsyncProducer, BacklogFull, NotAcknowledged
from tests.producers.conftest import Run
from tests.producers.fakehub import FakeHub, numbers
from tests.support import PATIENCE_S, HubProcess

pytestmark = pytest.mark.usefixtures("leaves_nothing")


async def until(condition: Callable[[], object]) -> None:
    """Run the loop until *condition* holds, which no event reports; `run` sets the time limit."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def stuffed(producer: AsyncProducer) -> int:
    """Send records until there is no room; return how many were accepted."""
    count = 0
    while True:
        try:
            await producer.send({"n": count, "pad": "x" * 50}, timeout=0)
        except BacklogFull:
            return count
        count += 1


async def dropped(producer: AsyncProducer) -> int:
    """Close without waiting; return how many messages were dropped."""
    try:
        await producer.close(timeout=0)
    except NotAcknowledged as late:
        return late.count
    return 0


# The usual way.


def test_hub_and_producers_in_one_loop(run: Run, folder: Path) -> None:
    """A bare Hub and its producers share a loop; every flushed message was handled."""

    async def main() -> None:
        received: list[Message] = []

        async def receive() -> None:
            async for message in hub:
                received.append(message)

        async def produce(name: int) -> None:
            async with AsyncProducer(hub.path, tag=f"t{name}") as producer:
                for number in range(200):
                    await producer.send({"n": number})
                await producer.flush()
                assert [m.record["n"] for m in received if m.tag == f"t{name}"] == list(range(200))

        async with Hub(str(folder / "s")) as hub:
            receiving = asyncio.create_task(receive())
            await asyncio.gather(*(produce(name) for name in range(5)))
            await hub.stop()
            await receiving
        assert len(received) == 1000

    run(main)


def test_who_only_sends_lets_others_run(run: Run, folder: Path) -> None:
    """A task that only sends, and awaits nothing else, does not starve the other tasks of the loop."""

    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        running = asyncio.create_task(other())
        producer = AsyncProducer(str(folder / "s"), chunk_bytes_max=1000)
        for number in range(10_000):
            await producer.send({"n": number})
        assert turns > 100
        running.cancel()
        assert await dropped(producer) == 10_000

    run(main)


# Cancelled.


def test_a_cancelled_send_leaves_nothing_behind(run: Run, fake: FakeHub) -> None:
    """A send that is cancelled while it waits for room is not sent later."""

    async def main() -> None:
        producer = AsyncProducer(fake.path, backlog_bytes_max=5000, chunk_bytes_max=500)
        count = await stuffed(producer)
        blocked = asyncio.create_task(producer.send({"n": "cancelled", "pad": "x" * 50}))
        connection = await asyncio.to_thread(fake.accept)
        chunks = await asyncio.to_thread(connection.chunks_until, count - 1)
        blocked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await blocked
        connection.ack(*chunks)
        await producer.flush(PATIENCE_S)
        await producer.send({"n": "next"})
        last = await asyncio.to_thread(connection.chunk)
        assert last.records == [{"n": "next"}]
        connection.ack(last)
        await producer.close(PATIENCE_S)

    run(main)


def test_a_close_that_is_cancelled(run: Run, fake: FakeHub) -> None:
    """A cancelled close still stops the producer: no task and no connection is left."""

    async def main() -> None:
        producer = AsyncProducer(fake.path)
        await producer.send({"n": 0})
        connection = await asyncio.to_thread(fake.accept)
        closing = asyncio.create_task(producer.close(None))
        await asyncio.to_thread(connection.chunk)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert await asyncio.to_thread(connection.is_closed_by_peer)

    run(main)


# A lost connection.


def test_a_dead_connection_is_not_written_to(run: Run, fake: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    """Chunks in flight when the hub closed are sent on the next connection, and nothing is logged."""

    async def main() -> None:
        producer = AsyncProducer(fake.path, chunk_bytes_max=1, spool=False)
        for number in range(50):  # the first fills the window
            await producer.send({"n": number, "pad": "x" * (0 if number else 5_000_000)})
        connection = await asyncio.to_thread(fake.accept)
        connection.ack(await asyncio.to_thread(connection.chunk))
        connection.close()  # the loop sees the acknowledgement first, then this
        connection = await asyncio.to_thread(fake.accept)
        chunks = await asyncio.to_thread(connection.chunks_until, 49)
        assert numbers(chunks) == list(range(1, 50))
        connection.ack(*chunks)
        await producer.close(PATIENCE_S)

    with caplog.at_level(logging.DEBUG):
        run(main)
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


# Idle.


def test_an_idle_producer_sleeps(run: Run, hub: HubProcess, fake: FakeHub, folder: Path, tag: str) -> None:
    """Its task is not woken without need: connected and idle, blocked by a hub that does not read, or without a hub."""

    async def main() -> None:
        idle, held_up, alone = (AsyncProducer(path) for path in (hub.socket, fake.path, str(folder / "nobody")))
        await idle.send({"n": 0})
        await idle.flush(PATIENCE_S)
        for number, size in enumerate((2_000_000, 1_000_000, 10)):  # less than a window, more than the kernel buffers
            await held_up.send({"n": number, "pad": "x" * size})
        connection = await asyncio.to_thread(fake.accept)
        await until(lambda: held_up._wire is not None and not held_up._wire.is_writable)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await alone.connect()
        looks = [0, 0, 0]
        for index, producer in enumerate((idle, held_up, alone)):
            count_looks(producer, looks, index)
        async with AsyncProducer(hub.socket, tag=tag) as other:
            for number in range(100):
                await other.send({"n": number})
                await other.flush(PATIENCE_S)
        assert looks[0] <= 1
        assert looks[1] <= 1
        assert looks[2] <= 20, "it tries again, ever less often"
        connection.ack(*await asyncio.to_thread(connection.chunks_until, 2))
        for producer in (idle, held_up, alone):
            await producer.close(PATIENCE_S)

    run(main)


def count_looks(producer: AsyncProducer, looks: list[int], index: int) -> None:
    """Count in *looks* how often the producer's task asks whether to connect: once per wake-up."""
    may_connect = producer._out.link.may_connect

    def counted(now: float) -> bool:
        looks[index] += 1
        return may_connect(now)

    producer._out.link.may_connect = counted  # type: ignore[method-assign]
