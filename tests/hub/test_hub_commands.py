"""hub.hub: commands from typed functions, and events, through the socket."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hub import BadCommand, Hub, Peer
from producers import CommandFailed, call
from tests.hub.clients import connect
from tests.hub.test_dispatch import read_line, request


async def ask(hub: Hub, method: str, params: Any = None) -> Any:
    return await asyncio.to_thread(call, method, params, path=hub.path)


async def lines_of(client: socket.socket, count: int) -> list[Any]:
    return [await asyncio.to_thread(read_line, client) for _ in range(count)]


def test_typed_functions_are_commands(tmp_path: Path) -> None:
    """Plain ones run on threads, coroutine functions on the loop; a program may register them at any time."""

    async def main() -> None:
        async with Hub(str(tmp_path / "s")) as hub:

            @hub.command("resize")
            def resize(path: str, width: int = 10) -> list[object]:
                return [path, width, threading.current_thread() is threading.main_thread()]

            @hub.command("who")
            async def who(peer: Peer) -> list[object]:
                return [peer.pid > 0, threading.current_thread() is threading.main_thread()]

            assert await ask(hub, "resize", ["a"]) == ["a", 10, False]
            assert await ask(hub, "resize", {"path": "a", "width": 5}) == ["a", 5, False]
            assert await ask(hub, "who") == [True, True]
            with pytest.raises(CommandFailed) as caught:
                await ask(hub, "resize", {"path": "a", "width": "wide"})
            assert (caught.value.code, caught.value.data) == (-32602, {"param": "width"})
            assert resize("x", 2)[:2] == ["x", 2]

    asyncio.run(main())


def test_a_generator_streams(tmp_path: Path) -> None:
    """Its values come one by one, and it ends when its caller cancels it."""
    ended = threading.Event()

    async def main() -> None:
        async with Hub(str(tmp_path / "s")) as hub:

            @hub.command("count")
            async def count(first: int) -> AsyncIterator[int]:
                try:
                    while True:
                        yield first
                        first += 1
                        await asyncio.sleep(0)
                finally:
                    ended.set()

            with connect(hub.path, request("count", params=[5])) as client:
                lines = await lines_of(client, 3)
                assert [line["params"]["value"] for line in lines] == [5, 6, 7]
                client.sendall(request("cancel", id=2, params={"id": 1}))
                while "error" not in (line := (await lines_of(client, 1))[0]):
                    pass
                assert line["error"]["code"] == -32800
                assert ended.is_set()

    asyncio.run(main())


@pytest.mark.parametrize("name", ["given", "registered", "subscribe", "cancel", "stream"])
def test_a_name_is_taken_once(tmp_path: Path, name: str) -> None:
    """Also by the commands that the hub was made with, and by those that it has itself."""

    async def main() -> None:
        hub = Hub(str(tmp_path / "s"), commands={"given": lambda request, peer: None})

        @hub.command("registered")
        def registered() -> None: ...

        with pytest.raises(BadCommand, match="there is already a command of this name"):
            hub.command(name)(registered)

    asyncio.run(main())


def test_a_function_without_types_is_refused(tmp_path: Path) -> None:
    """The error says which parameter it is, when the function is registered."""

    async def main() -> None:
        hub = Hub(str(tmp_path / "s"))
        with pytest.raises(BadCommand, match=r"command 'x': size has no type: annotate it, as in `size: int`"):

            @hub.command("x")
            def resize(size): ...  # type: ignore[no-untyped-def]

    asyncio.run(main())


def test_a_decorator_without_a_name_is_refused(tmp_path: Path) -> None:
    """Otherwise it would register nothing."""

    async def main() -> None:
        hub = Hub(str(tmp_path / "s"))
        with pytest.raises(BadCommand, match=r"command 'resize': write it with a name: @hub\.command\(NAME\)"):

            @hub.command  # type: ignore[arg-type]
            def resize(size: int) -> None: ...

        with pytest.raises(BadCommand, match="command '5': write it"):
            hub.command(5)  # type: ignore[arg-type]

    asyncio.run(main())


def test_events(tmp_path: Path) -> None:
    """What a program emits, also on a thread, reaches its subscribers as soon as the hub has their request."""

    async def main() -> None:
        async with Hub(str(tmp_path / "s")) as hub:

            @hub.command("work")
            def work(name: str) -> None:
                hub.emit("work.done", {"name": name})

            hub.emit("to.nobody")
            with connect(hub.path, request("subscribe", params={"events": ["work.*"]})) as client:
                client.sendall(request("work", id=2, params=["a"]))
                lines = await lines_of(client, 2)
                (event,) = [line["params"] for line in lines if "params" in line]
                assert event["id"] == 1
                assert event["value"].pop("time") > 0
                assert event["value"] == {"event": "work.done", "data": {"name": "a"}}
                hub.emit("other")
                hub.emit("work.ended")
                assert (await lines_of(client, 1))[0]["params"]["value"]["event"] == "work.ended"

    asyncio.run(main())


def test_a_program_may_have_its_own_subscribe(tmp_path: Path) -> None:
    """The one it has given takes the place of the hub's."""

    async def main() -> None:
        async with Hub(str(tmp_path / "s"), commands={"subscribe": lambda request, peer: "mine"}) as hub:
            assert await ask(hub, "subscribe") == "mine"

    asyncio.run(main())
