"""hub.dispatch: streams and their ends, through a whole connection, on both event loops."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from hub import running
from hub.access import Access, Gate, Grant, Rule, Rules
from hub.batchreplies import REPLY_BYTES_MAX
from hub.budget import Budget
from hub.dispatch import AnyCommand, ForCaller
from hub.errors import CloseConnection, InvalidParams
from hub.holding import Holding
from hub.inbox import Inbox
from hub.intake import Intake
from hub.message import Peer
from hub.running import RUNNING_MAX
from hub.wire.jsonrpc import CANCELLED, INVALID_PARAMS, INVALID_REQUEST, NOT_ALLOWED, NOT_CARRIED_OUT, TOO_MANY, Request
from tests.hub.clients import Run, both_loops, records
from tests.hub.rig import Rig
from tests.hub.test_dispatch import cut_by_length, ping, prefixed, read_line, request


class Source:
    """A command that streams *values*, then waits until it *may_end*; it knows how far it came and how it ended."""

    def __init__(self, values: Iterable[object]) -> None:
        self.values = values
        self.given = 0
        self.end = ""
        self.may_end = asyncio.Event()
        self.changed = asyncio.Condition()

    async def __call__(self, request: Request, peer: Peer) -> AsyncIterator[object]:
        try:
            for value in self.values:
                yield value
                self.given += 1
            await self.may_end.wait()
            self.end = "ended"
        except asyncio.CancelledError:
            self.end = "cancelled"
            raise
        finally:
            self.end = self.end or "closed"
            async with self.changed:
                self.changed.notify_all()

    async def has_ended(self) -> str:
        async with self.changed:
            await self.changed.wait_for(lambda: self.end)
        return self.end


def value(value: object, id_: object = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "stream", "params": {"id": id_, "value": value}}


def cancel(id_: object, **members: object) -> bytes:
    line = {"jsonrpc": "2.0", "method": "cancel", "params": {"id": id_}, **members}
    return json.dumps(line).encode() + b"\n"


async def line_of(rig: Rig) -> Any:
    return await asyncio.to_thread(read_line, rig.client)


@both_loops
@pytest.mark.parametrize("by_length", [False, True])
def test_values_come_before_the_reply(run: Run, by_length: bool) -> None:
    """Each value is a notification with the id of the request, framed as that is; the reply at the end is null."""

    async def main() -> None:
        source = Source([1, "two", {"three": [3]}])
        source.may_end.set()
        async with Rig(commands={"count": source}) as rig:
            text = request("count", id="x").strip()
            await rig.say(prefixed(text) if by_length else text + b"\n")
            rig.client.shutdown(socket.SHUT_WR)
            data = await rig.rest()
            texts = cut_by_length(data) if by_length else data.splitlines()
            assert [json.loads(each) for each in texts] == [
                value(1, "x"), value("two", "x"), value({"three": [3]}, "x"),
                {"jsonrpc": "2.0", "id": "x", "result": None},
            ]  # fmt: skip

    run(main())


@both_loops
@pytest.mark.parametrize("is_known", [False, True])
def test_a_stream_is_called_alone_and_with_an_id(run: Run, is_known: bool) -> None:
    """As a notification, without an id, or in a batch it is refused, and not even begun if it is known to stream."""
    begun = []

    async def main() -> None:
        source = Source([1])

        def count(request: Request, peer: object) -> object:
            begun.append(request.id)
            return source(request, Peer())

        command: AnyCommand = ForCaller(count, streams=True) if is_known else count
        member = {"jsonrpc": "2.0", "method": "count"}
        async with Rig(commands={"count": command, "ping": ping}) as rig:
            await rig.say(json.dumps(member).encode() + b"\n" + request("count", id=None))
            refused = await line_of(rig)
            assert (refused["id"], refused["error"]["code"]) == (None, INVALID_REQUEST)
            assert refused["error"]["message"] == "count streams: call it alone, with an id"
            batch = [{**member, "id": 1}, {**member, "method": "ping", "id": 2}]
            await rig.say(json.dumps(batch).encode() + b"\n")
            one, two = await line_of(rig)
            assert (one["id"], one["error"]["code"]) == (1, INVALID_REQUEST)
            assert two["result"][0] == "pong"
            assert (source.given, source.end) == (0, "")
            assert bool(begun) is not is_known

    run(main())


@both_loops
def test_a_caller_cancels(run: Run) -> None:
    """The one with that id ends with an error, once its own clean-up is done; cancelling it again finds nothing."""

    async def main() -> None:
        source, other = Source([1]), Source([2])
        async with Rig(commands={"count": source, "other": other}) as rig:
            await rig.say(request("count", id=1) + request("other", id=2))
            assert [(await line_of(rig))["params"]["id"] for _ in range(2)] == [1, 2]
            await rig.say(cancel(1))
            assert await line_of(rig) == {
                "jsonrpc": "2.0",
                "id": 1,
                "error": {"code": CANCELLED, "message": "cancelled"},
            }
            assert (source.end, other.end) == ("cancelled", "")
            await rig.say(cancel(1, id="a") + cancel(None, id="b") + cancel(2, id="c"))
            answers = [await line_of(rig) for _ in range(4)]
            assert [(each["id"], each.get("result")) for each in answers] == [
                ("a", False), ("b", False), ("c", True), (2, None),
            ]  # fmt: skip
            assert other.end == "cancelled"

    run(main())


@both_loops
def test_a_request_that_has_not_begun_is_cancelled(run: Run) -> None:
    """A request and its cancellation may arrive together, also of a command that does not stream."""

    async def forever(request: Request, peer: Peer) -> object:
        return await asyncio.get_running_loop().create_future()

    async def main() -> None:
        source = Source([])
        async with Rig(commands={"count": source, "wait": forever}) as rig:
            await rig.say(request("count", id=1) + cancel(1) + request("wait", id=2) + cancel(2))
            answers = [await line_of(rig) for _ in range(2)]
            assert [(each["id"], each["error"]["code"]) for each in answers] == [(1, CANCELLED), (2, CANCELLED)]

    run(main())


@both_loops
def test_who_cancels_may_ask_again_at_once(run: Run) -> None:
    """Cancelled requests leave their places, although they end later. If they do not end at all, others must wait."""
    may_end, begun = asyncio.Event(), [0]

    async def stubborn(request: Request, peer: Peer) -> object:
        begun[0] += 1
        while not may_end.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await may_end.wait()
        return "at last"

    async def main() -> None:
        async with Rig(commands={"wait": stubborn}) as rig:
            rounds = 1 + running.ENDING_MAX // RUNNING_MAX
            for number in range(rounds):
                ids = range(number * RUNNING_MAX, (number + 1) * RUNNING_MAX)
                await rig.say(b"".join([*(request("wait", id=each) for each in ids), *map(cancel, ids)]))
            await rig.say(request("wait", id="more"))
            more = await line_of(rig)
            assert (more["id"], more["error"]["code"], begun[0]) == ("more", TOO_MANY, rounds * RUNNING_MAX)
            may_end.set()
            ended = [await line_of(rig) for _ in range(rounds * RUNNING_MAX)]
            assert {each["result"] for each in ended} == {"at last"}

    run(main())


@both_loops
@pytest.mark.parametrize("params", [None, [1], {}, {"id": 1, "more": 2}])
def test_cancel_needs_an_id(run: Run, params: object) -> None:
    """Anything else is wrong, and names what is missing."""

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(request("cancel", params=params))
            error = (await line_of(rig))["error"]
            assert (error["code"], error["data"]) == (INVALID_PARAMS, {"param": "id"})

    run(main())


@both_loops
def test_a_stream_waits_for_its_reader(run: Run) -> None:
    """While the client does not read, a stream goes on no further than one value; then nothing is missing."""
    values = [f"{number:06d}" + "x" * 50_000 for number in range(200)]

    async def main() -> None:
        source = Source(values)
        source.may_end.set()
        async with Rig(commands={"count": source, "ping": ping}) as rig:
            rig.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100_000)
            await rig.say(request("count"))
            before = -1
            while source.given > before:
                before = source.given
                await asyncio.sleep(0.05)  # it goes on for as long as the kernel takes something
            assert before < 20
            assert rig.intake.holding.reply_bytes <= 51_000
            await rig.say(request(id="end"))
            got = [await line_of_fast(rig) for _ in range(len(values) + 2)]
            assert [each["params"]["value"] for each in got if "params" in each] == values
            assert sorted(str(each["id"]) for each in got if "id" in each) == ["1", "end"]
            assert rig.intake.holding.reply_bytes == 0

    run(main())


async def line_of_fast(rig: Rig) -> Any:
    """Return the next line, read in large pieces."""
    rest: bytearray = rig.__dict__.setdefault("rest_of_lines", bytearray())
    while (end := rest.find(b"\n")) == -1:
        rest += await asyncio.to_thread(rig.client.recv, 1 << 20)
    line = bytes(rest[:end])
    del rest[: end + 1]
    return json.loads(line)


@both_loops
def test_a_stream_waits_for_memory(run: Run) -> None:
    """While its user is over its share, a value waits, and is not dropped."""

    async def main() -> None:
        budget = Budget(bytes_max=1 << 20)
        source = Source(["x" * 100_000])
        async with Rig(commands={"count": source, "ping": ping}, inbox=Inbox(budget)) as rig:
            other = Holding(rig.intake.user.account)
            budget.arrived(other, 1 << 20)
            await rig.say(request("count"))
            await rig.say(request(id="in between"))
            assert (await line_of(rig))["id"] == "in between"
            assert source.given == 0
            budget.keep(other, 0)
            assert (await line_of_fast(rig))["params"]["value"] == "x" * 100_000

    run(main())


@both_loops
def test_a_value_that_is_too_large_ends_the_stream(run: Run) -> None:
    """The caller learns its size, and the command is closed."""

    async def main() -> None:
        source = Source([1, "x" * REPLY_BYTES_MAX, 3])
        async with Rig(commands={"count": source}) as rig:
            await rig.say(request("count"))
            assert await line_of(rig) == value(1)
            error = (await line_of(rig))["error"]
            assert (error["code"], f"more than {REPLY_BYTES_MAX}" in error["message"]) == (-32000, True)
            assert source.end == "closed"

    run(main())


@both_loops
@pytest.mark.parametrize(
    ("error", "code"), [(KeyError("why"), -32603), (InvalidParams("no", param="x"), INVALID_PARAMS)]
)
def test_a_stream_that_fails(run: Run, error: Exception, code: int) -> None:
    """What it has sent stands, and the reply is the error."""

    async def fail(request: Request, peer: Peer) -> AsyncIterator[object]:
        yield 1
        raise error

    async def main() -> None:
        async with Rig(commands={"fail": fail}) as rig:
            await rig.say(request("fail"))
            assert await line_of(rig) == value(1)
            assert (await line_of(rig))["error"]["code"] == code

    run(main())


@both_loops
def test_a_stream_may_close_the_connection(run: Run) -> None:
    """Its result is the reply, then the connection ends."""

    async def leave(request: Request, peer: Peer) -> AsyncIterator[object]:
        yield 1
        raise CloseConnection("bye")

    async def main() -> None:
        async with Rig(commands={"leave": leave}) as rig:
            await rig.say(request("leave"))
            lines = [json.loads(line) for line in (await rig.rest()).splitlines()]
            assert lines == [value(1), {"jsonrpc": "2.0", "id": 1, "result": "bye"}]
            await rig.serving

    run(main())


@both_loops
def test_a_stream_ends_with_its_caller(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the client has left, the stream is cancelled, whether it waits for a value or for the client to read."""
    monkeypatch.setattr(running, "LOOK_S", 0.02)

    async def main() -> None:
        for values in ([], ["x" * 100_000] * 100):
            source = Source(values)
            async with Rig(commands={"count": source, "ping": ping}) as rig:
                await rig.say(request("count") + request())
                await asyncio.to_thread(rig.client.recv, 1)
                rig.client.close()
                assert await source.has_ended() in ("cancelled", "closed")
                await rig.serving

    run(main())


@both_loops
def test_a_stop_ends_streams(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """They get a moment, then an error, as any command."""
    monkeypatch.setattr(running, "STOP_S", 0.05)

    async def main() -> None:
        source = Source([1])
        async with Rig(commands={"count": source}) as rig:
            await rig.say(request("count"))
            assert await line_of(rig) == value(1)
            rig.connection.stop()
            (reply,) = [json.loads(line) for line in (await rig.rest()).splitlines()]
            assert reply["error"]["code"] == NOT_CARRIED_OUT
            assert source.end == "cancelled"

    run(main())


@both_loops
def test_an_endless_stream_holds_up_nobody(run: Run) -> None:
    """While values are always there and always read, a request on the same connection is answered."""

    async def main() -> None:
        def numbers() -> Iterable[int]:
            number = 0
            while True:
                yield (number := number + 1)

        source = Source(numbers())
        async with Rig(commands={"count": source, "ping": ping}) as rig:
            await rig.say(request("count", id=1))
            await line_of_fast(rig)
            await rig.say(request(id="end"))
            while (line := await line_of_fast(rig)).get("id") != "end":
                assert "params" in line
            await rig.say(cancel(1))
            while (line := await line_of_fast(rig)).get("id") != 1:
                assert "params" in line

    run(main())


@both_loops
def test_streams_count_as_running(run: Run) -> None:
    """A connection has no more streams at once than commands; a cancel always gets through."""

    async def main() -> None:
        sources = Source([])
        async with Rig(commands={"count": sources}) as rig:
            await rig.say(b"".join(request("count", id=number) for number in range(RUNNING_MAX + 1)))
            reply = await line_of(rig)
            assert (reply["id"], reply["error"]["code"]) == (RUNNING_MAX, TOO_MANY)
            await rig.say(cancel(5))
            assert (await line_of(rig))["error"]["code"] == CANCELLED

    run(main())


@both_loops
def test_a_command_for_its_caller(run: Run) -> None:
    """It is called with the intake of the connection instead of the peer."""

    def who(request: Request, caller: Intake) -> object:
        return [caller.peer.pid, caller.user.uid]

    async def main() -> None:
        async with Rig(commands={"who": ForCaller(who)}) as rig:
            await rig.say(request("who"))
            assert (await line_of(rig))["result"] == [11, 22]

    run(main())


@both_loops
def test_an_iterator_without_an_end_streams(run: Run) -> None:
    """What returns values one by one is enough: it need not be a generator."""

    class Numbers:
        def __init__(self) -> None:
            self.number = 0

        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            self.number += 1
            if self.number > 3:
                raise StopAsyncIteration
            return self.number

    async def main() -> None:
        async with Rig(commands={"count": lambda request, peer: Numbers()}) as rig:
            await rig.say(request("count"))
            lines = [await line_of(rig) for _ in range(4)]
            assert lines == [value(1), value(2), value(3), {"jsonrpc": "2.0", "id": 1, "result": None}]

    run(main())


@both_loops
def test_a_stream_whose_client_reads_no_more_ends(run: Run) -> None:
    """A client may close its receiving half and send on: the stream ends, and its messages are kept."""

    async def main() -> None:
        source = Source(["x" * 100_000] * 100)
        async with Rig(commands={"count": source}) as rig:
            rig.client.shutdown(socket.SHUT_RD)
            await rig.say(request("count"))
            assert await source.has_ended() == "closed"
            await rig.say(b"more\n")
            rig.client.shutdown(socket.SHUT_WR)
            await rig.serving
            assert rig.texts == ["more"]

    run(main())


@both_loops
def test_a_method_that_is_denied(run: Run) -> None:
    """The error names the key or the table that decides, and the refusal is counted and reported."""
    deny = Grant(Rules(deny=(Rule.parse("all"),)), ("ping",))
    access = Access(methods={"stats": "read", "tail": "messages"}, grants=[deny])

    async def main() -> None:
        async with Rig(commands={"ping": ping, "stats": ping, "tail": ping}) as rig:
            rig.intake.gate = Gate(access, Peer(1, 4321), frozenset)
            await rig.say(request("ping") + request("stats") + request("tail"))
            errors = [(await line_of(rig))["error"] for _ in range(3)]
            assert [each["code"] for each in errors] == [NOT_ALLOWED] * 3
            assert ["[[access]]" in each["message"] for each in errors] == [True, False, True]
            assert "key read_allow" in errors[1]["message"]
            assert rig.metrics.refused == 3
            rig.client.close()
            await rig.serving
            (loss,) = records(rig.got)
            assert loss["reason"] == "refused: uid 22 may not call ping"

    run(main())
