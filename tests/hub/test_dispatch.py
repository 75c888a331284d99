"""hub.dispatch: requests on the way of the messages, through a whole connection, on both event loops."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

import pytest

from hub import dispatch
from hub.dispatch import RUNNING_MAX, Command
from hub.errors import CloseConnection
from hub.message import Peer
from hub.wire.jsonrpc import CANCELLED, TOO_MANY, Request
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
            replies = [json.loads(line) for line in (await rig.rest()).splitlines()]
            ((got,), (end,)) = (
                [each for each in replies if (each["id"] == "end") is is_end] for is_end in (False, True)
            )
            assert end["result"] == ["pong", None, 11]
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


class Waiting:
    """A command that waits until it is allowed to answer."""

    def __init__(self) -> None:
        self.running = 0
        self.may_answer = asyncio.Event()
        self.changed = asyncio.Condition()

    async def __call__(self, request: Request, peer: Peer) -> object:
        await self._count(1)
        try:
            await self.may_answer.wait()
        finally:
            await self._count(-1)
        return "at last"

    async def _count(self, change: int) -> None:
        async with self.changed:
            self.running += change
            self.changed.notify_all()

    async def are_running(self, number: int) -> None:
        async with self.changed:
            await self.changed.wait_for(lambda: self.running == number)


def read_line(client: socket.socket) -> Any:
    """Return the next reply. Blocks."""
    line = b""
    while not line.endswith(b"\n"):
        data = client.recv(1)
        assert data, line
        line += data
    return json.loads(line)


@both_loops
def test_a_slow_command_holds_up_nobody(run: Run) -> None:
    """While a command waits, messages behind it are accepted, others are carried out, and it is answered when ready."""

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait, "ping": ping}) as rig:
            await rig.say(request("wait", id=1) + b"one\n" + request("wait", id=2) + request("ping", id=3) + b"two\n")
            reply = await asyncio.to_thread(read_line, rig.client)
            assert reply["id"] == 3
            await wait.are_running(2)
            wait.may_answer.set()
            rig.client.shutdown(socket.SHUT_WR)
            replies = [json.loads(line) for line in (await rig.rest()).splitlines()]
            assert [(each["id"], each["result"]) for each in replies] == [(1, "at last"), (2, "at last")]
            assert rig.texts == ["one", "two"]

    run(main())


@both_loops
def test_a_connection_runs_a_limited_number_of_commands_at_once(run: Run) -> None:
    """One more gets an error at once; when one has ended, the next is carried out."""

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait}) as rig:
            await rig.say(b"".join(request("wait", id=number) for number in range(RUNNING_MAX + 1)))
            reply = await asyncio.to_thread(read_line, rig.client)
            assert (reply["id"], reply["error"]["code"]) == (RUNNING_MAX, TOO_MANY)
            assert f"{RUNNING_MAX} requests" in reply["error"]["message"]
            wait.may_answer.set()
            replies = [await asyncio.to_thread(read_line, rig.client) for _ in range(RUNNING_MAX)]
            assert {each["id"] for each in replies} == set(range(RUNNING_MAX))
            await rig.say(request("wait", id="again"))
            assert (await asyncio.to_thread(read_line, rig.client))["id"] == "again"

    run(main())


@both_loops
def test_the_commands_of_a_caller_that_has_left_are_cancelled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that closed only its sending half still gets its answer; one that closed its socket wants none."""
    monkeypatch.setattr(dispatch, "LOOK_S", 0.02)

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait}) as rig:
            await rig.say(request("wait"))
            await wait.are_running(1)
            rig.client.shutdown(socket.SHUT_WR)
            await asyncio.wait((rig.serving,), timeout=5 * dispatch.LOOK_S)
            assert (wait.running, rig.serving.done()) == (1, False)
            rig.client.close()
            await wait.are_running(0)
            await rig.serving
            assert not wait.may_answer.is_set()

    run(main())


@both_loops
@pytest.mark.parametrize("has_eof", [False, True])
def test_a_stop_cancels_commands(run: Run, has_eof: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that does not end soon gets an error as its answer, whether or not its caller will send more."""
    monkeypatch.setattr(dispatch, "STOP_S", 0.05)

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait}) as rig:
            await rig.say(request("wait"))
            await wait.are_running(1)
            if has_eof:
                rig.client.shutdown(socket.SHUT_WR)
            rig.connection.stop()
            (reply,) = (json.loads(line) for line in (await rig.rest()).splitlines())
            assert reply["error"]["code"] == CANCELLED
            await rig.serving

    run(main())


@both_loops
def test_a_stop_lets_commands_end_that_are_almost_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ends within its time is answered, and the connection does not wait any longer."""
    monkeypatch.setattr(dispatch, "STOP_S", 3600.0)

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait}) as rig:
            await rig.say(request("wait"))
            await wait.are_running(1)
            rig.connection.stop()
            wait.may_answer.set()
            assert json.loads(await rig.rest())["result"] == "at last"
            await rig.serving

    run(main())


@both_loops
def test_a_command_that_waited_may_close_the_connection(run: Run) -> None:
    """Its reply is sent, nothing more is read, and the client sees the end."""

    async def leave_later(request: Request, peer: Peer) -> object:
        await asyncio.sleep(0)
        raise CloseConnection("bye")

    async def main() -> None:
        async with Rig(commands={"leave": leave_later}) as rig:
            await rig.say(b"before\n" + request("leave"))
            assert json.loads(await rig.rest())["result"] == "bye"
            await rig.serving
            assert rig.texts == ["before"]

    run(main())
