"""AsyncProducer on both event loops: a lost connection, and a hub that breaks the protocol."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import resource
import socket
import threading
from pathlib import Path

import pytest

from hub.message import Message
from producers import AsyncProducer, NotAcknowledged, NotConnected
from tests.producers.conftest import Run
from tests.producers.fakehub import FakeHub, Received, numbers
from tests.producers.test_asynchronous import dropped, until
from tests.producers.test_blocking_lost import GARBAGE
from tests.support import PATIENCE_S, HubProcess

pytestmark = pytest.mark.usefixtures("leaves_nothing")


async def until_refused(producer: AsyncProducer, ending: str) -> None:
    """Wait until connecting fails for this reason."""
    while True:
        try:
            await producer.connect(timeout=0.01)
        except NotConnected as refused:
            if str(refused).endswith(ending):
                return


def test_an_absent_hub_is_waited_for(run: Run, folder: Path) -> None:
    """Send needs no hub; connect and flush give the reason why there is none; everything is sent when it starts."""
    path = str(folder / "s")

    async def main() -> None:
        producer = AsyncProducer(path)
        await producer.send({"n": 0})
        await until_refused(producer, f"no hub answers at {path}: no hub at {path}")
        with pytest.raises(NotAcknowledged, match="1 message is not acknowledged"):
            await producer.flush(timeout=0)
        with FakeHub(path) as fake:
            connection = await asyncio.to_thread(fake.accept)
            await producer.connect(PATIENCE_S)
            connection.ack(await asyncio.to_thread(connection.chunk))
            await producer.close(PATIENCE_S)

    run(main)


def test_a_full_listen_backlog_is_no_connection(run: Run, folder: Path) -> None:
    """A hub whose listen backlog is full does not count as connected."""

    async def main() -> None:
        with FakeHub(str(folder / "s"), backlog=0) as fake, socket.socket(socket.AF_UNIX) as first:
            first.connect(fake.path)
            producer = AsyncProducer(fake.path)
            await until_refused(producer, "does not accept connections now")
            fake.accept()
            await producer.connect(PATIENCE_S)
            await producer.close()

    run(main)


def test_without_descriptors_it_waits(run: Run, fake: FakeHub) -> None:
    """A program that is out of descriptors for a while keeps its messages and sends them afterwards."""

    async def main() -> None:
        producer = AsyncProducer(fake.path)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        spare = os.open("/dev/null", os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare, limits[1]))  # spare is the lowest free descriptor
        try:
            await producer.send({"n": 1})
            await until_refused(producer, "Too many open files")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            os.close(spare)
        connection = await asyncio.to_thread(fake.accept)
        connection.ack(await asyncio.to_thread(connection.chunk))
        await producer.close(PATIENCE_S)

    run(main)


def test_a_connection_that_is_lost_is_made_again(run: Run, fake: FakeHub) -> None:
    """The next connection carries the same bytes again, starting with the oldest chunk that is not acknowledged."""

    async def main() -> None:
        producer = AsyncProducer(fake.path, chunk_bytes_max=200)
        for number in range(100):
            await producer.send({"n": number})
        first = await asyncio.to_thread(fake.accept)
        chunks = await asyncio.to_thread(first.chunks_until, 99)
        first.ack(*chunks[:3])
        await until(lambda: producer._out.link.backlog.acknowledged == len(numbers(chunks[:3])))
        first.close()
        second = await asyncio.to_thread(fake.accept)
        again = await asyncio.to_thread(second.chunks_until, 99)
        assert again == chunks[3:]
        second.ack(*again)
        await producer.close(PATIENCE_S)

    run(main)


def test_closed_in_the_middle_of_a_chunk(run: Run, fake: FakeHub) -> None:
    """A chunk of which the hub read only a part is sent whole on the next connection."""

    async def main() -> None:
        producer = AsyncProducer(fake.path)
        await producer.send({"n": 0, "pad": "x" * 5_000_000})
        first = await asyncio.to_thread(fake.accept)
        assert await asyncio.to_thread(first.sock.recv, 1000)
        first.close()
        second = await asyncio.to_thread(fake.accept)
        chunk = await asyncio.to_thread(second.chunk)
        assert [(record["n"], len(record["pad"])) for record in chunk.records] == [(0, 5_000_000)]
        second.ack(chunk)
        await producer.close(PATIENCE_S)

    run(main)


def test_a_hub_that_hangs_up_and_does_not_read(run: Run, fake: FakeHub) -> None:
    """A hub that closed its sending half cannot acknowledge: the connection is closed, even with unread data."""

    async def main() -> None:
        producer = AsyncProducer(fake.path)
        await producer.send({"n": 0, "pad": "x" * 8_000_000})
        first = await asyncio.to_thread(fake.accept)
        await until(lambda: producer._wire is not None and not producer._wire.is_writable)
        first.sock.shutdown(socket.SHUT_WR)
        second = await asyncio.to_thread(fake.accept)
        second.ack(await asyncio.to_thread(second.chunk))
        await producer.close(PATIENCE_S)

    run(main)


def test_closed_at_once_again_and_again(run: Run, fake: FakeHub) -> None:
    """A hub that closes each connection at once is tried again until one stays open; then the message arrives."""

    def close_at_once() -> None:
        for _ in range(60):
            fake.accept().close()

    async def main() -> None:
        producer = AsyncProducer(fake.path)
        producer._out.link._jitter = lambda: -0.999  # hardly any back-off
        await producer.send({"n": 0})
        await asyncio.to_thread(close_at_once)
        connection = await asyncio.to_thread(fake.accept)
        connection.ack(await asyncio.to_thread(connection.chunk))
        await producer.close(PATIENCE_S)

    run(main)


def test_a_dead_connection_is_not_written_to(run: Run, fake: FakeHub, caplog: pytest.LogCaptureFixture) -> None:
    """Chunks in flight when the hub closed are sent on the next connection, and nothing is logged."""

    async def main() -> None:
        producer = AsyncProducer(fake.path, chunk_bytes_max=1)
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


def test_a_chunk_is_the_same_bytes_on_every_connection(run: Run, fake: FakeHub) -> None:
    """Over 60 connections that end anywhere, with memory that is reused, the bytes of a chunk never change."""
    dice, total = random.Random(7), 1500
    seen: dict[str, Received] = {}

    def serve(chunks: int) -> bool:
        connection = fake.accept()
        for _ in range(chunks):
            chunk = connection.chunk()
            assert seen.setdefault(chunk.id, chunk) == chunk
            connection.ack(chunk)
            if chunk.records[-1]["n"] == total - 1:
                return True
        connection.close()
        return False

    def serve_all() -> None:
        for _ in range(60):
            assert not serve(dice.randrange(8))
        while not serve(1000):
            pass

    async def main() -> None:
        producer = AsyncProducer(fake.path, chunk_bytes_max=20_000, backlog_bytes_max=1_500_000)
        producer._out.link._jitter = lambda: -0.99  # hardly any back-off
        serving = asyncio.create_task(asyncio.to_thread(serve_all))
        for number in range(total):
            size = 600_000 if number % 100 == 50 else (10, 500, 5000)[number % 3]
            await producer.send({"n": number, "pad": "x" * size}, tag=f"t{number // 7 % 3}")
        await serving
        await producer.close(PATIENCE_S)

    run(main)
    assert numbers([seen[chunk_id] for chunk_id in sorted(seen)]) == list(range(total))


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_for_an_acknowledgement(run: Run, fake: FakeHub, garbage: bytes) -> None:
    """Bytes that are not an acknowledgement end the connection; the next one carries the same chunks again."""

    def misbehave() -> None:
        connection = fake.accept()
        chunk = connection.chunk()
        try:
            connection.sock.sendall(garbage)
        except BrokenPipeError:
            pass
        assert connection.is_closed_by_peer()
        again = fake.accept()
        assert again.chunk() == chunk
        again.ack(chunk)

    async def main() -> None:
        producer = AsyncProducer(fake.path)
        await producer.send({"n": 0})
        await asyncio.to_thread(misbehave)
        await producer.close(PATIENCE_S)

    run(main)


def test_an_idle_producer_does_not_come_back_before_it_has_to(run: Run, fake: FakeHub) -> None:
    """A connection that is lost while there is nothing to send is made again only for the next message."""

    async def main() -> None:
        producer = AsyncProducer(fake.path)
        await producer.connect(PATIENCE_S)
        await producer.connect(PATIENCE_S)
        fake.accept().close()
        await until(lambda: producer._wire is None)
        assert producer._out.link.due(0.0) is None
        await producer.send({"n": 0})
        connection = await asyncio.to_thread(fake.accept)
        connection.ack(await asyncio.to_thread(connection.chunk))
        await producer.close(PATIENCE_S)

    run(main)


def test_a_hub_that_is_killed_and_returns(run: Run, folder: Path, tag: str) -> None:
    """
    With a hub killed repeatedly under load, every flushed message is stored, and in the end all are, once and in order.
    """

    def numbers_of(messages: list[Message], name: int) -> list[int]:
        return [message.record["n"] for message in messages if message.record["producer"] == name]

    async def main() -> None:
        flushed = [0, 0, 0]
        stop = threading.Event()

        async def send(name: int) -> None:
            number = 0
            async with AsyncProducer(hub.socket, tag=tag, chunk_bytes_max=2000, backlog_bytes_max=500_000) as producer:
                while not stop.is_set():
                    for _ in range(50):
                        await producer.send({"producer": name, "n": number})
                        number += 1
                    if name == 0:  # the others run ahead, limited by the backlog
                        await producer.flush()
                        flushed[name] = number
                await producer.flush()
            flushed[name] = number

        async def kill_and_start() -> None:
            for _ in range(2):
                while (await asyncio.to_thread(hub.stats))["messages"] < 2000:
                    pass
                await asyncio.to_thread(hub.kill)
                promised = flushed[0]
                assert numbers_of(hub.messages(tag), 0)[:promised] == list(range(promised))
                await asyncio.to_thread(hub.start)
            stop.set()

        await asyncio.gather(kill_and_start(), *(send(name) for name in range(3)))
        stored = hub.messages(tag)
        for name in range(3):
            assert numbers_of(stored, name) == list(range(flushed[name]))

    with HubProcess(folder) as hub:
        run(main)


def test_no_hub_at_the_end(run: Run, folder: Path) -> None:
    """A program that ends without a hub reports how many messages were dropped, and leaves nothing open."""

    async def main() -> None:
        producer = AsyncProducer(str(folder / "s"))
        for number in range(3):
            await producer.send({"n": number})
        assert await dropped(producer) == 3

    run(main)
