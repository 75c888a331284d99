"""hub.dispatch: requests on the way of the messages, through a whole connection, on both event loops."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from hub import running
from hub.batchreplies import REPLY_BYTES_MAX
from hub.budget import RUNNING_BYTES_MAX
from hub.dispatch import Command
from hub.errors import CloseConnection, CommandError, InvalidParams
from hub.message import Peer
from hub.running import RUNNING_MAX
from hub.wire import jsonrpc
from hub.wire.jsonrpc import NOT_CARRIED_OUT, TOO_MANY, Request, encode_result
from tests.hub.clients import Run, both_loops, until
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


class Wordless(Exception):
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


def wordless(request: Request, peer: Peer) -> object:
    raise Wordless


def leave(request: Request, peer: Peer) -> object:
    raise CloseConnection("bye")


COMMANDS: Mapping[str, Command] = {
    "ping": ping,
    "slow": slow,
    "broken": broken,
    "unspeakable": unspeakable,
    "leave": leave,
    "wordless": wordless,
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
        (request("nope"), {"id": 1, "error": (-32601, "broken, cancel, leave, ping, slow, unspeakable, wordless")}),
        (request(jsonrpc="1.0"), {"id": 1, "error": (-32600, "jsonrpc")}),
        (request(5), {"id": 1, "error": (-32600, "method")}),
        (request(params="x"), {"id": 1, "error": (-32600, "params")}),
        (request(id=[1]), {"id": None, "error": (-32600, "id")}),
        (request("broken"), {"id": 1, "error": (-32603, "KeyError: 'why'")}),
        (request("unspeakable"), {"id": 1, "error": (-32603, "TypeError")}),
        (request("wordless"), {"id": 1, "error": (-32603, "Wordless: (its text cannot be had: RuntimeError)")}),
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
    monkeypatch.setattr(running, "LOOK_S", 0.02)

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait}) as rig:
            await rig.say(request("wait"))
            await wait.are_running(1)
            rig.client.shutdown(socket.SHUT_WR)
            await asyncio.wait((rig.serving,), timeout=5 * running.LOOK_S)
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
    monkeypatch.setattr(running, "STOP_S", 0.05)

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait}) as rig:
            await rig.say(request("wait"))
            await wait.are_running(1)
            if has_eof:
                rig.client.shutdown(socket.SHUT_WR)
            rig.connection.stop()
            (reply,) = (json.loads(line) for line in (await rig.rest()).splitlines())
            assert reply["error"]["code"] == NOT_CARRIED_OUT
            await rig.serving

    run(main())


@both_loops
def test_a_stop_lets_commands_end_that_are_almost_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that ends within its time is answered, and the connection does not wait any longer."""
    monkeypatch.setattr(running, "STOP_S", 3600.0)

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


def subtract(request: Request, peer: Peer) -> object:
    if isinstance(request.params, dict):
        return request.params["minuend"] - request.params["subtrahend"]
    assert request.params is not None
    return request.params[0] - request.params[1]


def refuse(request: Request, peer: Peer) -> object:
    raise InvalidParams("limit is no number", param="limit")


def fail_with(data: object) -> Command:
    def fail(request: Request, peer: Peer) -> object:
        raise CommandError("no", code=-32050, data=data)

    return fail


SPECIFIED: Mapping[str, Command] = {
    "subtract": subtract,
    "sum": lambda request, peer: sum(request.params or ()),
    "get_data": lambda request, peer: ["hello", 5],
    "update": ping,
    "notify_hello": ping,
    "refuse": refuse,
    "fail": fail_with([1, {"a": None}]),
    "unspeakable": fail_with(object()),
    "leave": leave,
    "slow": slow,
}


def answer(id_: object, result: object) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id_, "result": result}


def failure(id_: object, code: int) -> dict[str, object]:
    return {"jsonrpc": "2.0", "id": id_, "error": code}


# The examples of the specification, section 7, except that an array without a request in it is a text here.
EXAMPLES: list[tuple[str, Any]] = [
    ('{"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1}', answer(1, 19)),
    ('{"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3}', answer(3, 19)),
    ('{"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]}', None),
    ('{"jsonrpc": "2.0", "method": "foobar"}', None),
    ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', failure("1", -32601)),
    ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', failure(None, -32700)),
    ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', failure(None, -32600)),
    ('[{"jsonrpc": "2.0", "method": "sum", "id": "1"},{"jsonrpc": "2.0", "method"]', failure(None, -32700)),
    ("[]", failure(None, -32600)),
    (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},'
        '{"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},'
        '{"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"}, {"foo": "boo"},'
        '{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},'
        '{"jsonrpc": "2.0", "method": "get_data", "id": "9"}, 1]',
        [
            answer("1", 7),
            answer("2", 19),
            failure(None, -32600),
            failure("5", -32601),
            answer("9", ["hello", 5]),
            failure(None, -32600),
        ],
    ),
    ('[{"jsonrpc": "2.0", "method": "update", "params": [1]}, {"jsonrpc": "2.0", "method": "update"}]', None),
    (
        '[{"jsonrpc": "2.0", "method": "slow", "id": 1.5}, {"jsonrpc": "2.0", "method": "sum", "id": null}]',
        [answer(None, 0), answer(1.5, "at last")],
    ),
]


def short(reply: Any) -> Any:
    """Return *reply* with only the codes of its errors."""
    if isinstance(reply, list):
        return [short(each) for each in reply]
    return {**reply, "error": reply["error"]["code"]} if "error" in reply else reply


def prefixed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def cut_by_length(data: bytes) -> list[bytes]:
    texts = []
    while data:
        size = int.from_bytes(data[:4], "big")
        assert len(data) >= 4 + size
        texts.append(data[4 : 4 + size])
        data = data[4 + size :]
    return texts


@both_loops
@pytest.mark.parametrize("by_length", [False, True])
def test_the_examples_of_the_specification(run: Run, by_length: bool) -> None:
    """Requests, notifications and batches are answered as specified, in frames like those of the requests."""
    end = request("sum", id="end").strip()

    async def main() -> None:
        for text, expected in EXAMPLES:
            async with Rig(commands=SPECIFIED) as rig:
                texts = [text.encode(), end]
                await rig.say(b"".join(map(prefixed, texts)) if by_length else b"\n".join(texts))
                rig.client.shutdown(socket.SHUT_WR)
                data = await rig.rest()
                assert by_length or data.endswith(b"\n")
                replies = [
                    short(json.loads(each)) for each in (cut_by_length(data) if by_length else data.splitlines())
                ]
                replies.remove(answer("end", 0))
                assert replies == ([] if expected is None else [expected]), text

    run(main())


@both_loops
def test_an_error_of_a_command_has_code_and_data(run: Run) -> None:
    """Whatever JSON can hold is passed on; wrong parameters name the wrong one, an unknown method lists the others."""

    async def main() -> None:
        async with Rig(commands=SPECIFIED) as rig:
            await rig.say(b"".join(map(request, ("refuse", "fail", "unspeakable", "nope"))))
            errors = [(await asyncio.to_thread(read_line, rig.client))["error"] for _ in range(4)]
            assert errors[0] == {"code": -32602, "message": "limit is no number", "data": {"param": "limit"}}
            assert errors[1] == {"code": -32050, "message": "no", "data": [1, {"a": None}]}
            assert (errors[2]["code"], "data" in errors[2]) == (-32603, False)
            assert (errors[3]["code"], errors[3]["data"]) == (-32601, {"methods": sorted((*SPECIFIED, "cancel"))})

    run(main())


@both_loops
def test_a_batch_may_close_the_connection(run: Run) -> None:
    """The requests after the one that closes it are not carried out, and are answered; what follows is not read."""
    members = [
        {"jsonrpc": "2.0", "method": method, "id": number} for number, method in enumerate(("slow", "leave", "sum"))
    ]

    async def main() -> None:
        async with Rig(commands=SPECIFIED) as rig:
            await rig.say(b"before\n" + json.dumps(members).encode() + b"\nafter\n")
            replies = short(json.loads(await rig.rest()))
            assert sorted(replies, key=lambda reply: int(reply["id"])) == [
                answer(0, "at last"), answer(1, "bye"), failure(2, NOT_CARRIED_OUT),
            ]  # fmt: skip
            await rig.serving
            assert rig.texts == ["before"]

    run(main())


@both_loops
@pytest.mark.parametrize("size", [0, 1])
def test_replies_that_are_too_large_together_are_one_error(run: Run, size: int) -> None:
    """An array that fits is sent; one that a slow client could not be kept for is an error without an id."""
    alone = len(encode_result(1, ""))
    whole = REPLY_BYTES_MAX - 2 - 3 * alone

    def long(request: Request, peer: Peer) -> object:
        return "x" * (whole // 3 + (whole % 3 if request.id == 1 else 0) + size)

    members = [{"jsonrpc": "2.0", "method": "long", "id": number} for number in range(3)]

    async def main() -> None:
        async with Rig(commands={"long": long}) as rig:
            await rig.say(json.dumps(members).encode() + b"\n")
            reply = await asyncio.to_thread(read_line, rig.client)
            if size:
                assert (reply["id"], reply["error"]["code"]) == (None, -32603)
            else:
                assert [each["id"] for each in reply] == [0, 1, 2]

    run(main())


@both_loops
def test_a_text_that_is_no_request_is_kept_although_it_is_answered(run: Run) -> None:
    """Nothing is refused: a broken request is a message, too."""

    async def main() -> None:
        async with Rig(commands=COMMANDS) as rig:
            await rig.say(b'[]\n{"jsonrpc": "2.0", "method": "pi\n' + request(id="end"))
            codes = [(await asyncio.to_thread(read_line, rig.client))["error"]["code"] for _ in range(2)]
            assert codes == [-32600, -32700]
            rig.client.shutdown(socket.SHUT_WR)
            await rig.rest()
            assert rig.texts == ["[]", '{"jsonrpc": "2.0", "method": "pi']

    run(main())


@both_loops
def test_replies_that_wait_for_the_rest_of_their_batch_are_bounded(run: Run) -> None:
    """
    What the batches of a user hold is counted. One that would hold too much is an error when its last reply is there,
    and the memory is free again.
    """

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait, "long": lambda *_: "x" * 200_000}) as rig:
            account, may_run = rig.intake.holding.account, rig.inbox.budget.may_run
            batch = json.dumps(
                [{"jsonrpc": "2.0", "method": "wait", "id": 1}, {"jsonrpc": "2.0", "method": "long", "id": 2}]
            )
            await rig.say(batch.encode() + b"\n")
            await wait.are_running(1)
            assert 200_000 < account.running_bytes < 300_000
            rig.inbox.budget.count_running(account, RUNNING_BYTES_MAX // 2 - account.running_bytes - 100_000)
            await rig.say(batch.encode() + b"\n")
            await wait.are_running(2)
            assert may_run(account, 80_000)
            assert not may_run(account, 100_000)
            wait.may_answer.set()
            replies = [await asyncio.to_thread(read_line, rig.client) for _ in range(2)]
            assert [each["id"] for each in replies[0]] == [2, 1]
            assert (replies[1]["id"], replies[1]["error"]["code"]) == (None, TOO_MANY)
            assert "smaller batches" in replies[1]["error"]["message"]
            await until(lambda: may_run(account, 300_000))

    run(main())


@both_loops
def test_what_requests_hold_is_bounded(run: Run) -> None:
    """Their parameters count, with all that is in them. A request that is over it gets an error at once."""
    large = [[{"a": [1]}] * 1200]
    line = request("wait", params=large)
    fit = RUNNING_BYTES_MAX // 2 // running.size_of(jsonrpc.as_request(msgspec.json.decode(line)))

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait}) as rig:
            account = rig.intake.holding.account
            await rig.say(b"".join(request("wait", id=number, params=large) for number in range(RUNNING_MAX)))
            reply = await asyncio.to_thread(read_line, rig.client)
            assert (reply["id"], reply["error"]["code"]) == (fit, TOO_MANY)
            assert 30 < fit < RUNNING_MAX
            assert "take all its memory" in reply["error"]["message"]
            assert RUNNING_BYTES_MAX // 2 - 500_000 < account.running_bytes <= RUNNING_BYTES_MAX // 2
            wait.may_answer.set()
            for _ in range(RUNNING_MAX - 1):
                await asyncio.to_thread(read_line, rig.client)
            await until(lambda: not account.running_bytes)

    run(main())


@both_loops
def test_a_connection_that_ends_holds_nothing_for_its_requests(run: Run) -> None:
    """Neither for those that ran, nor for a batch that was not answered to its end."""

    async def main() -> None:
        wait = Waiting()
        async with Rig(commands={"wait": wait, "long": lambda *_: "x" * 200_000}) as rig:
            account = rig.intake.holding.account
            members = [{"jsonrpc": "2.0", "method": method, "id": 1} for method in ("long", "wait")]
            replies = rig.connection._dispatching()._gather([Request("long", id=number) for number in range(2)])
            replies(b"x" * 200_000)  # the other one is never answered
            await rig.say(json.dumps(members).encode() + b"\n" + request("wait"))
            await wait.are_running(2)
            assert account.running_bytes > 400_000
            rig.client.close()
            await until(rig.serving.done)
            await until(lambda: not account.running_bytes)
            assert wait.running == 0

    run(main())
