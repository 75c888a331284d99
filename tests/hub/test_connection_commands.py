"""hub.connection: commands on the way of the messages, on both event loops."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from hub.connection import Command
from hub.errors import CloseConnection
from hub.message import Peer
from hub.wire.jsonrpc import Request
from tests.hub.clients import Run, both_loops
from tests.hub.rig import Rig


def ping(request: Request, peer: Peer) -> object:
    return ["pong", request.params, peer.pid]


async def slow(request: Request, peer: Peer) -> object:
    await asyncio.sleep(0)
    return "at last"


def broken(request: Request, peer: Peer) -> object:
    raise KeyError("why")


def unspeakable(request: Request, peer: Peer) -> object:
    return object()


def leave(request: Request, peer: Peer) -> object:
    raise CloseConnection("bye")


COMMANDS: Mapping[str, Command] = {
    "ping": ping,
    "slow": slow,
    "broken": broken,
    "unspeakable": unspeakable,
    "leave": leave,
}


def request(method: object = "ping", **members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, "id": 1, **members}).encode() + b"\n"


@both_loops
@pytest.mark.parametrize(
    ("line", "reply"),
    [
        (request(), {"id": 1, "result": ["pong", None, 11]}),
        (request(id="x", params=[1]), {"id": "x", "result": ["pong", [1], 11]}),
        (request(id=None, params={"a": 1}), {"id": None, "result": ["pong", {"a": 1}, 11]}),
        (request("slow"), {"id": 1, "result": "at last"}),
        (request("nope"), {"id": 1, "error": (-32601, "broken, leave, ping, slow, unspeakable")}),
        (request(jsonrpc="1.0"), {"id": 1, "error": (-32600, "jsonrpc")}),
        (request(5), {"id": 1, "error": (-32600, "method")}),
        (request(params="x"), {"id": 1, "error": (-32600, "params")}),
        (request(id=[1]), {"id": None, "error": (-32600, "id")}),
        (request("broken"), {"id": 1, "error": (-32603, "KeyError: 'why'")}),
        (request("unspeakable"), {"id": 1, "error": (-32603, "TypeError")}),
    ],
)
def test_commands(run: Run, line: bytes, reply: dict[str, Any]) -> None:
    """A request gets its one reply, whatever is wrong with it, and the connection goes on."""

    async def main() -> None:
        async with Rig(commands=COMMANDS) as rig:
            await rig.say(line + request(id="end"))
            rig.client.shutdown(socket.SHUT_WR)
            got, end = map(json.loads, (await rig.rest()).splitlines())
            assert end["id"] == "end"
            assert (got["jsonrpc"], got["id"]) == ("2.0", reply["id"])
            if "error" in reply:
                code, words = reply["error"]
                assert got["error"]["code"] == code
                assert words in got["error"]["message"]
            else:
                assert got["result"] == reply["result"]
            assert rig.metrics.commands == 2
            assert rig.got == []

    run(main())


@both_loops
def test_notifications_have_no_reply(run: Run) -> None:
    """A request without an id is carried out and not answered, whether it works, fails or is unknown."""
    lines = [json.dumps({"jsonrpc": "2.0", "method": method}).encode() + b"\n" for method in ("ping", "broken", "nope")]

    async def main() -> None:
        async with Rig(commands=COMMANDS) as rig:
            await rig.say(b"".join(lines) + request(id="end"))
            rig.client.shutdown(socket.SHUT_WR)
            assert [json.loads(line)["id"] for line in (await rig.rest()).splitlines()] == ["end"]
            assert rig.metrics.commands == 4

    run(main())


@both_loops
def test_commands_and_messages_keep_their_order(run: Run) -> None:
    """A command between messages of one client is carried out when the messages before it are in the inbox."""
    seen: list[object] = []

    async def main() -> None:
        def look(request: Request, peer: Peer) -> object:
            seen.append(rig.inbox.held_bytes > 512)
            return None

        async with Rig(commands={"look": look}, receives=False) as rig:
            await rig.say(request("look") + b"one\n" + request("look") + b"two\n")
            rig.may_receive.set()
            rig.client.shutdown(socket.SHUT_WR)
            await rig.rest()
            assert (seen, rig.texts) == ([False, True], ["one", "two"])

    run(main())


@both_loops
@pytest.mark.parametrize("with_id", [True, False])
def test_close_connection(run: Run, with_id: bool) -> None:
    """A handler that wants the connection closed gets its reply sent and what came before kept; then it is closed."""
    leaving = request("leave") if with_id else b'{"jsonrpc":"2.0","method":"leave"}\n'

    async def main() -> None:
        async with Rig(commands=COMMANDS) as rig:
            await rig.say(b"before\n" + leaving + request() + b"after\n")
            replies = [json.loads(line) for line in (await rig.rest()).splitlines()]
            assert replies == ([{"jsonrpc": "2.0", "id": 1, "result": "bye"}] if with_id else [])
            await rig.serving
            assert rig.texts == ["before"]

    run(main())


@both_loops
def test_a_long_last_reply_arrives_whole(run: Run) -> None:
    """A reply that the kernel does not take at once is finished before the connection is closed."""

    def leave(request: Request, peer: Peer) -> object:
        raise CloseConnection("x" * 250_000)

    async def main() -> None:
        async with Rig(commands={"leave": leave}) as rig:
            await rig.say(request("leave"))
            assert len(json.loads(await rig.rest())["result"]) == 250_000

    run(main())
