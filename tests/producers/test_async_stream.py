"""AsyncStream: tasks that are cancelled while they wait for a value, blocks that are left, and forks."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from producers import AsyncClient, AsyncStream, NotConnected
from producers.async_stream import AHEAD_BYTES
from producers.async_wire import AsyncWire
from tests.producers.callers import Talk
from tests.producers.conftest import Run
from tests.producers.fakehub import FakeHub
from tests.support import PATIENCE_S

pytestmark = pytest.mark.usefixtures("leaves_nothing")


async def begin(client: AsyncClient, fake: FakeHub, method: str) -> tuple[AsyncStream, Talk, dict[str, Any]]:
    """Begin a stream; return it, and the hub's side."""
    entering = asyncio.create_task(client.stream(method, {"after": 0}).__aenter__())
    talk = await asyncio.to_thread(Talk, fake)
    request = await asyncio.to_thread(talk.begin)
    return await entering, talk, request


def test_a_limit_for_a_value(run: Run, fake: FakeHub) -> None:
    """A task that gives up waiting, or is cancelled as a value arrives, loses none."""

    async def main() -> None:
        async with AsyncClient(fake.path) as client:
            stream, talk, request = await begin(client, fake, "count")
            for number in range(20):
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.001 * number):
                        await anext(stream)
            task = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            await asyncio.to_thread(talk.value, request, 1)
            task.cancel()
            values = [value for value in await asyncio.gather(task, return_exceptions=True) if value == 1]
            if not values:
                values = [await anext(stream)]
            assert values == [1]

    run(main)


def test_without_a_block(run: Run, fake: FakeHub) -> None:
    """A stream that is only iterated begins with its first value."""

    async def main() -> None:
        async with AsyncClient(fake.path) as client:
            values = []

            async def read() -> None:
                async for value in client.stream("count"):
                    values.append(value)

            reading = asyncio.create_task(read())
            talk = await asyncio.to_thread(Talk, fake)
            request = await asyncio.to_thread(talk.begin)
            talk.value(request, 1, 2)
            talk.reply(request, None)
            await reading
            assert values == [1, 2]

    run(main)


def test_a_block_that_is_not_entered(run: Run, fake: FakeHub) -> None:
    """Nothing is left of a stream whose beginning was cancelled, or took too long."""

    async def main() -> None:
        async with AsyncClient(fake.path) as client:
            entering = asyncio.create_task(client.stream("count").__aenter__())
            talk = await asyncio.to_thread(Talk, fake)
            await asyncio.to_thread(talk.request)
            entering.cancel()
            assert await asyncio.to_thread(talk.is_closed)
            with pytest.raises(NotConnected, match="no answer within"):
                async with client.stream("count", timeout=0.05):
                    pass
            stream = client.stream("count")
            await stream.close()
            assert [value async for value in stream] == []
            async with stream as entered:
                assert [value async for value in entered] == []

    run(main)


def test_a_hub_that_closes_at_once(run: Run, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that has ended before anything was sent on it is replaced."""

    async def main() -> None:
        async with AsyncClient(fake.path) as client:
            make = AsyncWire.open

            async def open_and_lose(path: str, **options: Any) -> AsyncWire:
                monkeypatch.setattr(AsyncWire, "open", make)
                wire = await make(path, **options)
                fake.accept().sock.close()
                assert wire.has_ended()
                lost.set()
                return wire

            lost = asyncio.Event()
            monkeypatch.setattr(AsyncWire, "open", open_and_lose)
            entering = asyncio.create_task(client.stream("count").__aenter__())
            await lost.wait()
            talk = await asyncio.to_thread(Talk, fake)
            talk.value(await asyncio.to_thread(talk.begin), 1)
            assert await anext(await entering) == 1

    run(main)


def test_leaving_the_block(run: Run, fake: FakeHub) -> None:
    """At the end of its block a stream is closed, which the hub sees."""

    async def main() -> None:
        async with AsyncClient(fake.path) as client:
            stream, talk, request = await begin(client, fake, "count")
            async with stream:
                talk.value(request, 1)
                assert await anext(stream) == 1
            assert await asyncio.to_thread(talk.is_closed)

    run(main)


def test_a_reader_that_was_slow(run: Run, fake: FakeHub) -> None:
    """When the reader has caught up, reading goes on: all values arrive, in order."""

    async def main() -> None:
        async with AsyncClient(fake.path) as client:
            stream, talk, request = await begin(client, fake, "count")
            pad = "x" * 10_000
            count = 20 * AHEAD_BYTES // len(pad)
            sending = asyncio.create_task(
                asyncio.to_thread(lambda: talk.value(request, *([number, pad] for number in range(count))))
            )
            assert stream._wire is not None
            paused = asyncio.Event()
            pause = stream._wire.pause

            def paused_now() -> None:
                pause()
                paused.set()

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(stream._wire, "pause", paused_now)
                async with asyncio.timeout(PATIENCE_S):
                    await paused.wait()
            assert [(await anext(stream))[0] for _ in range(count)] == list(range(count))
            await sending

    run(main)


def test_a_fork(fake: FakeHub) -> None:
    """A tail goes on in a forked child, over a connection of its own; what cannot go on is an error there."""

    async def main() -> None:
        async with AsyncClient(fake.path) as client:
            stream, talk, request = await begin(client, fake, "tail")
            unused = client.stream("tail")
            talk.value(request, {"sequence": 1}, {"sequence": 2})
            assert await anext(stream) == {"sequence": 1}
            pid = os.fork()
            if not pid:
                asyncio._set_running_loop(None)
                code = 1
                try:
                    loop = asyncio.new_event_loop()
                    values = [loop.run_until_complete(anext(stream)) for _ in range(2)]
                    code = 0 if values == [{"sequence": 2}, {"sequence": 3}] else 2
                finally:
                    os._exit(code)
            child = await asyncio.to_thread(Talk, fake)
            of_child = await asyncio.to_thread(child.begin)
            assert of_child["params"] == {"after": 2}
            child.value(of_child, {"sequence": 3})
            assert (await asyncio.to_thread(os.waitpid, pid, 0))[1] == 0
            assert await anext(stream) == {"sequence": 2}
            await unused.close()

    asyncio.run(main())
