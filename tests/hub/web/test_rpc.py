"""hub.web.rpc: the methods of the hub, through a WebSocket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from hub.control.typed import typed
from hub.errors import CloseConnection
from hub.outbox import OUTBOX_BYTES_MAX
from hub.web import rpc
from hub.web.rpc import BAD_TOKEN, MESSAGE_BYTES_MAX, NO_TOKEN
from tests.hub.clients import Run, both_loops, run_in_time, until
from tests.hub.control.journals import batch, grant
from tests.hub.web.opened import OTHER, TOKEN, opened


@both_loops
def test_methods_and_streams(run: Run, tmp_path: Path) -> None:
    """Requests, streams and cancellation are those of the hub's socket."""

    async def main() -> None:
        async with opened(tmp_path, batch("a", {"n": 1})) as here, here.connected() as socket:
            assert socket.hub["name"] == "mpsr"
            assert "query" in socket.hub["methods"]
            assert await socket.ask("ping") == "pong"
            (found,) = (await socket.ask("query", {"last": 1}))["messages"]
            assert (found["tag"], found["record"]) == ("a", {"n": 1})
            id_ = await socket.send("tail", {"last": 1})
            assert (await socket.next())["params"] == {"id": id_, "value": {"messages": [], "next": 0}}
            assert (await socket.next())["params"]["value"]["messages"] == [found]
            await here.journal.append([batch("b", {"n": 2})])
            assert (await socket.next())["params"]["value"]["messages"][0]["tag"] == "b"
            await socket.send("cancel", {"id": id_}, wants_reply=False)
            assert (await socket.next())["error"]["code"] == -32800
            await socket.socket.send_str('[{"jsonrpc": "2.0", "id": 7, "method": "ping"}]')
            assert await socket.next() == [{"jsonrpc": "2.0", "id": 7, "result": "pong"}]

    run(main())


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("nonsense", -32700, "not a JSON object"),
        ("5", -32700, "not a JSON object"),
        ('{"jsonrpc": "2.0", "id": 1, "method": "ping"', -32700, "not JSON"),
        ("[]", -32600, "an empty batch"),
        ('{"message": "a log record"}', -32600, "no request"),
        ('[{"message": "a log record"}]', -32600, "no request"),
        ('{"jsonrpc": "2.0", "id": 1, "method": "nonsense"}', -32601, "no method"),
    ],
)
def test_what_is_no_request(tmp_path: Path, text: str, code: int, words: str) -> None:
    """It gets an error, is stored nowhere, and the connection goes on."""

    async def main() -> None:
        async with opened(tmp_path) as here, here.connected() as socket:
            await socket.socket.send_str(text)
            error = (await socket.next())["error"]
            assert (error["code"], words in error["message"]) == (code, True)
            assert await socket.ask("ping") == "pong"
            assert here.journal.last_sequence == 0

    run_in_time(main())


@pytest.mark.parametrize("first", ['{"token": "wrong"}', "{}", "nonsense", '{"token": 5}', TOKEN])
def test_without_the_token(tmp_path: Path, first: str) -> None:
    """A first message without the token closes the connection, and nothing is carried out."""

    async def main() -> None:
        async with opened(tmp_path) as here, here.client.ws_connect(f"{here.base}/rpc") as socket:
            await socket.send_str(first)
            await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "ping"})
            assert (await socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == BAD_TOKEN
            assert here.endpoint.metrics.commands == 0

    run_in_time(main())


def test_a_client_that_sends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client has a while for its token, and is not told that it was wrong; one that leaves before is forgotten."""
    monkeypatch.setattr(rpc, "TOKEN_S", 0.01)

    async def main() -> None:
        async with opened(tmp_path) as here:
            async with here.client.ws_connect(f"{here.base}/rpc") as socket:
                await socket.receive()
                assert socket.close_code == NO_TOKEN
            async with here.client.ws_connect(f"{here.base}/rpc"):
                pass

    run_in_time(main())


def test_messages_that_are_too_large_or_no_text(tmp_path: Path) -> None:
    """They close the connection, with the codes of RFC 6455."""

    async def main() -> None:
        async with opened(tmp_path) as here:
            async with here.connected() as socket:
                await socket.socket.send_str("x" * (MESSAGE_BYTES_MAX + 1))
                await socket.socket.receive()
                assert socket.socket.close_code == 1009
            async with here.connected() as socket:
                await socket.socket.send_bytes(b"x")
                await socket.socket.receive()
                assert socket.socket.close_code == 1003

    run_in_time(main())


def test_rights(tmp_path: Path) -> None:
    """The page has the rights of the user that it belongs to, as they are now."""

    async def main() -> None:
        stored = batch("app.web", {"n": 1}), batch("secret", {"n": 2})
        async with (
            opened(tmp_path, *stored, peer=OTHER, grants=(grant("uid:4321", "app.*"),)) as here,
            here.connected() as socket,
        ):
            assert {"query", "tail", "ping"} <= {*socket.hub["methods"]}
            assert "reload" not in socket.hub["methods"]
            assert [each["tag"] for each in (await socket.ask("query"))["messages"]] == ["app.web"]
            await socket.send("reload")
            assert (await socket.next())["error"]["code"] == -32001
            here.access.change({})
            await socket.send("query")
            assert (await socket.next())["error"]["code"] == -32001

    run_in_time(main())


def test_a_client_that_does_not_read(tmp_path: Path) -> None:
    """Its stream waits, and is given back when it leaves; other clients are answered."""
    begun, ended = asyncio.Event(), asyncio.Event()
    sent = 0

    async def flood() -> AsyncIterator[str]:
        """Stream without end."""
        nonlocal sent
        try:
            while True:
                begun.set()
                sent += 1
                yield "x" * (OUTBOX_BYTES_MAX // 2)
        finally:
            ended.set()

    async def main() -> None:
        async with opened(tmp_path, more={"flood": typed(flood, "flood")}) as here, here.connected() as other:
            async with here.connected() as socket:
                socket.socket._reader._protocol.pause_reading()
                await socket.send("flood")
                await begun.wait()
                before = -1
                while before != sent:  # until the kernel's buffers are full
                    before = sent
                    for _ in range(20):
                        await other.ask("ping")
                assert 0 < here.endpoint.inbox.budget.loose_bytes <= 2 * OUTBOX_BYTES_MAX
                socket.socket._response.close()
            await ended.wait()

    run_in_time(main())


def test_a_client_that_is_too_busy_to_answer_pings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is pinged again and again, stays connected, and is answered when it asks."""
    monkeypatch.setattr(rpc, "ALIVE_S", 0.001)

    async def main() -> None:
        async with opened(tmp_path) as here, here.client.ws_connect(f"{here.base}/rpc", autoping=False) as socket:
            await socket.send_json({"token": TOKEN})
            assert "hub" in json.loads(await socket.receive_str(timeout=30))
            for _ in range(5):
                assert (await socket.receive(timeout=30)).type is aiohttp.WSMsgType.PING
            await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "ping"})
            while (message := await socket.receive(timeout=30)).type is aiohttp.WSMsgType.PING:
                pass
            assert message.json()["result"] == "pong"

    run_in_time(main())


def test_a_client_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never answers a ping is taken for gone: what it has asked for ends."""
    monkeypatch.setattr(rpc, "GONE_S", 0.2)
    begun, ended = asyncio.Event(), asyncio.Event()

    async def wait() -> AsyncIterator[str]:
        """Stream nothing."""
        begun.set()
        try:
            await asyncio.Event().wait()
            yield ""
        finally:
            ended.set()

    async def main() -> None:
        more = {"wait": typed(wait, "wait")}
        async with (
            opened(tmp_path, more=more) as here,
            here.client.ws_connect(f"{here.base}/rpc", autoping=False) as socket,
        ):
            await socket.send_json({"token": TOKEN})
            await socket.send_json({"jsonrpc": "2.0", "id": 1, "method": "wait"})
            await begun.wait()
            await ended.wait()

    run_in_time(main())


def test_a_command_closes_the_connection(tmp_path: Path) -> None:
    """Its reply arrives before the end, whether it returns at once or runs."""

    def at_once() -> None:
        """Close."""
        raise CloseConnection("bye")

    async def later() -> None:
        """Close later."""
        raise CloseConnection("bye")

    async def main() -> None:
        more: dict[str, Any] = {"at_once": lambda request, peer: at_once(), "later": typed(later, "later")}
        async with opened(tmp_path, more=more) as here:
            async with here.connected() as socket:
                assert await socket.ask("at_once") == "bye"
                assert (await socket.socket.receive()).type is aiohttp.WSMsgType.CLOSE
            async with here.connected() as socket:
                assert await socket.ask("later") == "bye"
                await until(lambda: here.caller.budget.loose_bytes == 0)

    run_in_time(main())


def test_a_stop(tmp_path: Path) -> None:
    """A stop ends streams with their error, and closes with the code for a server that goes away."""

    async def main() -> None:
        async with opened(tmp_path) as here, here.connected() as socket:
            await socket.send("tail")
            await socket.next()
            stopping = asyncio.create_task(here.server.stop(30))
            assert (await socket.next())["error"]["code"] == -32003
            assert (await socket.socket.receive()).type is aiohttp.WSMsgType.CLOSE
            assert socket.socket.close_code == 1001
            await stopping

    run_in_time(main())


def test_half_closed(tmp_path: Path) -> None:
    """A client that closes its sending half has left: what it asked for ends."""

    async def main() -> None:
        async with opened(tmp_path) as here, here.connected() as socket:
            await socket.send("tail")
            await socket.next()
            assert here.caller.user.streams == 1
            socket.socket._writer.transport.write_eof()
            await until(lambda: here.caller.user.streams == 0)

    run_in_time(main())


def test_json(tmp_path: Path) -> None:
    """The greeting and the replies are one JSON object each."""

    async def main() -> None:
        async with opened(tmp_path) as here, here.client.ws_connect(f"{here.base}/rpc") as socket:
            await socket.send_json({"token": TOKEN})
            hub = json.loads(await socket.receive_str())["hub"]
            assert {"version", "host", "socket", "uid", "zone_s"} <= {*hub}

    run_in_time(main())
