"""AsyncProducer on both event loops: its guarantees for send, flush and close."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hub import Hub, Message
from producers import AsyncProducer, BacklogFull, BadRecord, NotAcknowledged, ProducerClosed
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


async def unacknowledged(producer: AsyncProducer) -> int:
    try:
        await producer.flush(timeout=0)
    except NotAcknowledged as late:
        return late.count
    return 0


async def dropped(producer: AsyncProducer) -> int:
    """Close without waiting; return how many messages were dropped."""
    try:
        await producer.close(timeout=0)
    except NotAcknowledged as late:
        return late.count
    return 0


# The usual way.


def test_what_is_flushed_is_on_disk(run: Run, hub: HubProcess, tag: str) -> None:
    """After flush every message is in the journal, once, in order, with its own time, tag and process."""

    async def main() -> None:
        async with AsyncProducer(hub.socket, tag=tag) as producer:
            await producer.connect(PATIENCE_S)
            for number in range(5000):
                await producer.send({"n": number}, time_ns=1_700_000_000_000_000_000 + number)
            await producer.flush(PATIENCE_S)
            messages = hub.messages(tag)
            await producer.send({"n": "last"}, tag=f"{tag}.other")
        assert [message.record["n"] for message in messages] == list(range(5000))
        assert [message.time - 1_700_000_000_000_000_000 for message in messages] == list(range(5000))
        assert {message.peer.pid for message in messages} == {os.getpid()}
        assert [message.record["n"] for message in hub.messages(f"{tag}.other")] == ["last"]

    run(main)


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


def test_many_tasks_send_at_once(run: Run, hub: HubProcess, tag: str) -> None:
    """Messages of each task keep their order, and none is missing, even if all tasks wait for room in turn."""

    async def main() -> None:
        async def send(name: int) -> None:
            for number in range(100):
                await producer.send({"task": name, "n": number})

        async with AsyncProducer(hub.socket, tag=tag, backlog_bytes_max=10_000, chunk_bytes_max=1000) as producer:
            await asyncio.gather(*(send(name) for name in range(50)))
        messages = hub.messages(tag)
        assert len(messages) == 5000
        for name in range(50):
            assert [m.record["n"] for m in messages if m.record["task"] == name] == list(range(100))

    run(main)


def test_flushes_of_several_tasks(run: Run, hub: HubProcess, tag: str) -> None:
    """Each flush returns only when its own task's messages are on disk."""

    async def main() -> None:
        async def send(name: int) -> None:
            for number in range(5):
                await producer.send({"n": number}, tag=f"{tag}.{name}")
                await producer.flush(PATIENCE_S)
                assert len(hub.messages(f"{tag}.{name}")) == number + 1

        async with AsyncProducer(hub.socket) as producer:
            await asyncio.gather(*(send(name) for name in range(4)))

    run(main)


def test_messages_larger_than_chunk_and_segment(run: Run, hub: HubProcess, tag: str) -> None:
    """A message larger than a chunk, than a segment and than the whole backlog goes through between small ones."""
    sizes = [10, 200_000, 10, 3_000_000, 1_500_000, 10]

    async def main() -> None:
        async with AsyncProducer(hub.socket, tag=tag, backlog_bytes_max=1_000_000) as producer:
            for size in sizes:
                await producer.send({"pad": "x" * size})

    run(main)
    assert [len(message.record["pad"]) for message in hub.messages(tag)] == sizes


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


def test_flush_ends_the_linger(run: Run, fake: FakeHub) -> None:
    """Flush sends at once the messages that would linger for an hour; messages sent after it linger."""

    async def main() -> None:
        producer = AsyncProducer(fake.path, linger_s=3600)
        await producer.send({"n": 0})
        flushing = asyncio.create_task(producer.flush())
        connection = await asyncio.to_thread(fake.accept)
        connection.ack(await asyncio.to_thread(connection.chunk))
        await flushing
        await producer.send({"n": 1})
        assert await dropped(producer) == 1
        assert await asyncio.to_thread(connection.is_closed_by_peer), "and nothing more was sent"

    run(main)


# Flush and close report exactly.


def test_a_hub_that_never_acknowledges(run: Run, fake: FakeHub) -> None:
    """Flush and close raise with the exact number of messages that are not acknowledged."""

    async def main() -> None:
        producer = AsyncProducer(fake.path, chunk_bytes_max=1)
        for number in range(10):
            await producer.send({"n": number})
        connection = await asyncio.to_thread(fake.accept)
        chunks = await asyncio.to_thread(connection.chunks_until, 9)
        with pytest.raises(NotAcknowledged) as all_of_them:
            await producer.flush(timeout=0)
        assert (all_of_them.value.count, all_of_them.value.last_error) == (10, "")
        connection.ack(*chunks[:3])
        await until(lambda: producer._out.link.backlog.acknowledged == 3)
        with pytest.raises(NotAcknowledged, match="7 messages are not acknowledged"):
            await producer.close(timeout=0)
        assert await asyncio.to_thread(connection.is_closed_by_peer)

    run(main)


def test_late_acknowledgements(run: Run, fake: FakeHub) -> None:
    """
    A flush that gave up loses nothing: when acknowledgements arrive, byte by byte and twice, the next flush returns.
    """

    async def main() -> None:
        producer = AsyncProducer(fake.path)
        await producer.send({"n": 0})
        connection = await asyncio.to_thread(fake.accept)
        chunk = await asyncio.to_thread(connection.chunk)
        assert await unacknowledged(producer) == 1
        for byte in b"\x81\xa3ack\xd9\x2c" + chunk.id.encode():
            connection.sock.sendall(bytes((byte,)))
            await asyncio.sleep(0)
        connection.ack(chunk, "never.heard.of")
        await producer.flush(PATIENCE_S)
        await producer.send({"n": 1})
        connection.ack(chunk)
        assert await unacknowledged(producer) == 1, "the first one's acknowledgement counts once"
        connection.ack(await asyncio.to_thread(connection.chunk))
        await producer.close(PATIENCE_S)

    run(main)


# No room.


def test_a_full_backlog(run: Run, fake: FakeHub) -> None:
    """
    Send raises BacklogFull if there is no room in time, keeps nothing of the message, and works again when there is
    room.
    """

    async def main() -> None:
        producer = AsyncProducer(fake.path, backlog_bytes_max=5000, chunk_bytes_max=500)
        count = await stuffed(producer)
        with pytest.raises(BacklogFull) as full:
            await producer.send({"n": "refused", "pad": "x" * 50}, timeout=0)
        assert 4000 < full.value.held_bytes <= 5000
        blocked = asyncio.create_task(producer.send({"n": count, "pad": "x" * 50}))
        connection = await asyncio.to_thread(fake.accept)
        first = await asyncio.to_thread(connection.chunk)
        connection.ack(first)
        await blocked
        rest = await asyncio.to_thread(connection.chunks_until, count)
        assert numbers([first, *rest]) == list(range(count + 1))
        connection.ack(*rest)
        await producer.close(PATIENCE_S)

    run(main)


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


def test_a_sender_that_waits_while_another_task_closes(run: Run, fake: FakeHub) -> None:
    """It gets ProducerClosed, and nothing of its message is kept, because it would be lost without an error."""

    async def main() -> None:
        producer = AsyncProducer(fake.path, backlog_bytes_max=2000, chunk_bytes_max=500)
        count = await stuffed(producer)
        waiting = asyncio.create_task(producer.send({"n": count, "pad": "x" * 50}))
        connection = await asyncio.to_thread(fake.accept)
        chunks = await asyncio.to_thread(connection.chunks_until, count - 1)
        closing = asyncio.create_task(producer.close(PATIENCE_S))
        with pytest.raises(ProducerClosed):
            await waiting
        connection.ack(*chunks)
        await closing
        assert await asyncio.to_thread(connection.is_closed_by_peer)

    run(main)


# Closed.


def test_whoever_waits_is_told_of_a_close_that_gave_up(run: Run, folder: Path) -> None:
    """A flush and a connect without a limit end when the producer is closed; called later, they end at once."""

    async def main() -> None:
        producer = AsyncProducer(str(folder / "s"))
        await producer.send({"n": 0})
        tasks = [asyncio.create_task(producer.flush()), asyncio.create_task(producer.connect())]
        await until(lambda: producer._out.link.last_error)
        assert await dropped(producer) == 1
        late, closed = await asyncio.gather(*tasks, return_exceptions=True)
        assert str(late) == f"1 message is not acknowledged (no hub at {folder}/s)"
        assert isinstance(closed, ProducerClosed)
        with pytest.raises(NotAcknowledged):
            await producer.flush()
        with pytest.raises(ProducerClosed):
            await producer.connect()

    run(main)


def test_send_after_close(run: Run, hub: HubProcess, tag: str) -> None:
    """After close, send is refused, flush has nothing to do, and closing again does nothing."""

    async def main() -> None:
        producer = AsyncProducer(hub.socket, tag=tag)
        await producer.send({"n": 0})
        await producer.close()
        with pytest.raises(ProducerClosed):
            await producer.send({"n": 1})
        await producer.flush()
        await producer.close()

    run(main)
    assert [message.record["n"] for message in hub.messages(tag)] == [0]


def test_closed_before_it_was_used(run: Run, folder: Path) -> None:
    """A producer that sent nothing has nothing to flush and closes at once, with or without a hub."""

    async def main() -> None:
        async with AsyncProducer(str(folder / "s")) as producer:
            pass
        await producer.flush()
        with pytest.raises(ProducerClosed):
            await producer.connect()

    run(main)


def test_an_error_in_the_block_matters_more(run: Run, folder: Path) -> None:
    """
    The block's own error is raised, with a note about unacknowledged messages; without an error NotAcknowledged is
    raised.
    """

    class Impatient(AsyncProducer):
        async def close(self, timeout: float | None = 0.0) -> None:
            await super().close(timeout)

    async def use(count: int, fault: BaseException | None) -> None:
        async with Impatient(str(folder / "s")) as producer:
            for number in range(count):
                await producer.send({"n": number})
            if fault is not None:
                raise fault

    async def main() -> None:
        for fault in (KeyError(), asyncio.CancelledError()):
            with pytest.raises(type(fault)) as raised:
                await use(1, fault)
            (note,) = raised.value.__notes__
            assert note.startswith("1 message is not acknowledged")
        with pytest.raises(NotAcknowledged, match="2 messages are not acknowledged"):
            await use(2, None)
        with pytest.raises(KeyError) as clean:
            await use(0, KeyError())
        assert not hasattr(clean.value, "__notes__")

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


def test_a_fault_of_ours_lets_nobody_wait_for_ever(run: Run, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the task fails unexpectedly, every waiting call ends, and no message is reported as safe."""

    def fail(_: float) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        producer = AsyncProducer(fake.path)
        await producer.connect()
        monkeypatch.setattr(producer._out.link, "outgoing", fail)
        await producer.send({"n": 0})
        with pytest.raises(NotAcknowledged):
            await producer.flush()
        with pytest.raises(ProducerClosed):
            await producer.send({"n": 1})
        with pytest.raises(ProducerClosed):
            await producer.connect()
        with pytest.raises(NotAcknowledged, match="1 message"):
            await producer.close()

    run(main)


# Invalid records.


def test_a_refused_message_leaves_nothing_behind(run: Run, hub: HubProcess, tag: str) -> None:
    """A bad record or tag is refused by send, and the messages around it arrive: the stream stays valid."""

    async def main() -> None:
        async with AsyncProducer(hub.socket, tag=tag) as producer:
            await producer.send({"n": 0})
            for record, refused_tag in (({"n": object()}, None), ({"n": 1}, "x" * 4097), ({"n": 1}, "\ud800")):
                with pytest.raises(BadRecord):
                    await producer.send(record, tag=refused_tag)
            await producer.send({"n": 2})
        with pytest.raises(BadRecord):
            AsyncProducer(hub.socket, tag="x" * 4097)

    run(main)
    assert [message.record["n"] for message in hub.messages(tag)] == [0, 2]


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
