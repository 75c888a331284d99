"""AsyncClient: tasks that are cancelled, and forks."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from producers import AsyncClient, ClientClosed
from producers.async_wire import AsyncWire
from producers.exchange import CALLS_MAX
from tests.producers.callers import Talk
from tests.producers.conftest import Run
from tests.producers.fakehub import FakeHub
from tests.support import PATIENCE_S, HubProcess

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def test_a_task_that_is_cancelled(run: Run, fake: FakeHub) -> None:
    """Its call is cancelled at the hub, and its turn is another's."""

    async def main() -> None:
        async with AsyncClient(fake.path) as client:
            tasks = [asyncio.create_task(client.call("m", [number])) for number in range(CALLS_MAX + 1)]
            talk = await asyncio.to_thread(Talk, fake)
            requests = [await asyncio.to_thread(talk.request) for _ in range(CALLS_MAX)]
            tasks[3].cancel()
            with pytest.raises(asyncio.CancelledError):
                await tasks[3]
            cancel, last = [await asyncio.to_thread(talk.request) for _ in range(2)]
            assert (cancel["method"], cancel["params"]) == ("cancel", {"id": requests[3]["id"]})
            assert last["params"] == [CALLS_MAX]
            tasks[CALLS_MAX].cancel()
            for request in requests:
                talk.reply(request, request["params"])
            assert await asyncio.gather(*tasks[:3]) == [[0], [1], [2]]
        with pytest.raises(ClientClosed):
            await client.call("m")

    run(main)


def test_a_call_that_is_cancelled_as_the_connection_breaks(run: Run, fake: FakeHub) -> None:
    """A task that was cancelled before does not get the error of the connection."""

    async def main() -> None:
        async with AsyncClient(fake.path) as client:
            task = asyncio.create_task(client.call("m"))
            talk = await asyncio.to_thread(Talk, fake)
            await asyncio.to_thread(talk.request)
            (waiting,) = client._waiting.values()
            waiting.cancel()
            talk.reply({"id": next(iter(client._waiting))}, 1)
            talk.sock.close()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main)


def test_closing_as_it_connects(run: Run, fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that is made while the client is closed is closed, too."""

    async def main() -> None:
        client = AsyncClient(fake.path)
        make = AsyncWire.open

        async def open_and_close(path: str, **options: Any) -> AsyncWire:
            wire = await make(path, **options)
            await client.close()
            return wire

        monkeypatch.setattr(AsyncWire, "open", open_and_close)
        with pytest.raises(ClientClosed):
            await client.call("m")
        stream = AsyncClient(fake.path).stream("count")
        client = stream  # type: ignore[assignment]  # whatever has `close`
        assert [value async for value in stream] == []
        for _ in range(2):
            assert await asyncio.to_thread(Talk(fake).is_closed)

    run(main)


def test_a_fork(hub: HubProcess) -> None:
    """In a forked child the client has a connection of its own, in the child's own loop."""
    clients: list[AsyncClient] = []

    async def ask(client: AsyncClient) -> object:
        return await client.call("ping", timeout=PATIENCE_S)

    async def main() -> None:
        async with AsyncClient(hub.socket) as client, AsyncClient(hub.socket) as closed:
            assert await ask(client) == "pong"
            await closed.close()
            clients.extend((client, closed))
            pid = os.fork()
            if not pid:
                asyncio._set_running_loop(None)
                code = 1
                try:
                    assert asyncio.new_event_loop().run_until_complete(ask(client)) == "pong"
                    try:
                        asyncio.new_event_loop().run_until_complete(ask(closed))
                    except ClientClosed:
                        code = 0
                finally:
                    os._exit(code)
            assert os.waitpid(pid, 0)[1] == 0
            assert await ask(client) == "pong"

    asyncio.run(main())
