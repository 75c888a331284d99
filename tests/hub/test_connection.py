"""hub.connection: one client over a real socket pair, on both event loops, however it behaves and ends."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any

import msgpack
import pytest

from hub.connection import PAUSE_BYTES, READ_BYTES, Command, Connection
from hub.errors import CloseConnection
from hub.inbox import SHARE_BYTES_MAX, Inbox
from hub.message import Batch, Peer
from hub.metrics import Metrics
from hub.wire import chunkid
from hub.wire.jsonrpc import Request
from tests.hub.clients import Run, both_loops, chunk, frame_of, own_chunk, read_acks, read_to_end, records

NO_COMMANDS: Mapping[str, Command] = MappingProxyType({})
PEER = Peer(11, 22, 33, "me")


class Spy(socket.socket):
    """A socket that remembers what was sent with each call."""

    def __init__(self, original: socket.socket) -> None:
        super().__init__(fileno=original.detach())
        self.sends: list[bytes] = []

    def send(self, data: Any, flags: int = 0, /) -> int:
        sent = super().send(data, flags)
        self.sends.append(bytes(data[:sent]))
        return sent


class Rig:
    """A connection and its client; unless *receives* is false, a receiver that keeps and acknowledges what comes."""

    def __init__(
        self, *, commands: Mapping[str, Command] = NO_COMMANDS, inbox: Inbox | None = None, receives: bool = True
    ) -> None:
        self.client, ours = socket.socketpair()
        self.client.settimeout(30)
        self.sock = Spy(ours)
        self.sock.setblocking(False)
        self.inbox = inbox or Inbox()
        self.metrics = Metrics()
        self.got: list[Batch] = []
        self.connection = Connection(
            self.sock, PEER, self.inbox, commands=commands, metrics=self.metrics, clock=lambda: 7_000_000_000
        )
        self.may_receive = asyncio.Event()
        if receives:
            self.may_receive.set()

    async def __aenter__(self) -> Rig:
        await asyncio.get_running_loop().connect_accepted_socket(lambda: self.connection, self.sock)
        self.serving = asyncio.create_task(self.connection.run())
        self.receiving = asyncio.create_task(self._receive())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.receiving.cancel()
        self.serving.cancel()
        await asyncio.gather(self.receiving, self.serving, return_exceptions=True)

    async def _receive(self) -> None:
        while await self.may_receive.wait() and (batches := await self.inbox.take(4 << 20)):
            self.got += batches
            for batch in batches:
                batch.acknowledge()
            self.inbox.release()

    async def say(self, data: bytes) -> None:
        """Send *data*, however long it takes."""
        await asyncio.to_thread(self.client.sendall, data)

    async def say_and_close(self, data: bytes) -> None:
        await self.say(data)
        self.client.close()

    async def acks(self, count: int) -> list[str | bytes]:
        return await asyncio.to_thread(read_acks, self.client, count)

    async def rest(self) -> bytes:
        """Return what the hub says until it closes."""
        return await asyncio.to_thread(read_to_end, self.client)

    @property
    def texts(self) -> list[Any]:
        return [record.get("message", record.get("n")) for record in records(self.got)]


@both_loops
@pytest.mark.parametrize("way", ["chunks", "own chunks", "messages", "lines"])
@pytest.mark.parametrize("is_behind", [False, True], ids=["at pace", "behind"])
def test_a_client_that_sends_a_lot_and_closes_at_once(run: Run, way: str, is_behind: bool) -> None:
    """1.5 MB from a client that never reads an acknowledgement and goes: every byte is handed over, in order."""
    text = "x" * 960
    packed = {"n": 0, "text": text}
    pieces = {
        "chunks": lambda n: frame_of(chunkid.pack(f"{n:08x}"), {**packed, "n": n}),
        "own chunks": lambda n: frame_of(chunkid.pack_own("s" * 22, n), {**packed, "n": n}),
        "messages": lambda n: msgpack.packb(["app", 1_700_000_000, {**packed, "n": n}]),
        "lines": lambda n: json.dumps({**packed, "n": n}).encode() + b"\n",
    }
    stream = b"".join(pieces[way](n) for n in range(1500))
    assert len(stream) > 1_470_000

    async def main() -> None:
        async with Rig(inbox=Inbox(share_bytes_max=100_000), receives=not is_behind) as rig:
            closing = asyncio.create_task(rig.say_and_close(stream))
            if not is_behind:
                await closing
            rig.may_receive.set()
            await closing
            await rig.serving
            assert rig.texts == list(range(1500))

    run(main())


@both_loops
def test_reset_by_a_client_with_unread_acks(run: Run) -> None:
    """A client that closes with acknowledgements unread resets the connection: what it sent is there all the same."""

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(chunk("first"))
            while not rig.sock.sends:
                await asyncio.sleep(0)
            rig.may_receive.clear()
            await rig.say(b"".join(chunk(f"{n:04}", text="y" * 900) for n in range(1500)))
            rig.client.close()
            rig.may_receive.set()
            await rig.serving
            assert len(records(rig.got)) == 1501

    run(main())


@both_loops
def test_half_closed_clients_get_their_acks(run: Run) -> None:
    """A client that closed its sending half still hears of everything, and then the end."""

    async def main() -> None:
        async with Rig(receives=False) as rig:
            await rig.say(b"".join(chunk(f"{n}") for n in range(100)))
            rig.client.shutdown(socket.SHUT_WR)
            rig.may_receive.set()
            assert await rig.acks(200) == [f"{n}" for n in range(100)]
            await rig.serving

    run(main())


@both_loops
def test_half_closed_clients_may_read_late(run: Run) -> None:
    """More acknowledgements than the kernel holds reach a half-closed client that reads them at the end."""

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(b"".join(chunk(f"{n}") for n in range(5000)))
            rig.client.shutdown(socket.SHUT_WR)
            while len(rig.got) < 5000:
                await asyncio.sleep(0)
            assert len(rig.sock.sends) < 5000, "the kernel took all: the test shows nothing"
            assert await rig.acks(9999) == [f"{n}" for n in range(5000)]
            await rig.serving
            assert rig.metrics.acks_dropped == 0

    run(main())


@both_loops
def test_half_closed_and_never_reading(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A half-closed client that never reads is waited for no longer than was set."""
    monkeypatch.setattr("hub.connection.UNREAD_S", 0.01)

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(b"".join(chunk(f"{n}") for n in range(5000)))
            rig.client.shutdown(socket.SHUT_WR)
            await rig.serving
            assert len(records(rig.got)) == 5000

    run(main())


@both_loops
def test_acks_are_byte_identical_one_send_each(run: Run) -> None:
    """A foreign chunk id comes back with its bytes and type, in order, each in a send of its own."""
    ids = [b"\xa2id", b"\xc4\x02\x00\xff", b"\xa2\xff\xfe", b"\xda\x01\x2c" + b"i" * 300, b"\xd9\x28" + b"j" * 40]

    async def main() -> None:
        async with Rig(receives=False) as rig:
            await rig.say(b"".join(frame_of(packed, {"n": 1}) for packed in ids))
            while rig.inbox.held_bytes < len(ids) * 512:
                await asyncio.sleep(0)
            rig.may_receive.set()
            rig.client.shutdown(socket.SHUT_WR)
            assert await rig.rest() == b"".join(b"\x81\xa3ack" + packed for packed in ids)
            assert rig.sock.sends == [b"\x81\xa3ack" + packed for packed in ids]
            assert rig.metrics.acks == len(ids)

    run(main())


@both_loops
def test_own_acks_are_joined(run: Run) -> None:
    """What our own producers wait for, and becomes safe together, is acknowledged with one send."""

    async def main() -> None:
        async with Rig(receives=False) as rig:
            await rig.say(b"".join(own_chunk(n) for n in range(10)))
            while rig.inbox.held_bytes < 10 * 512:
                await asyncio.sleep(0)
            rig.may_receive.set()
            assert len(await rig.acks(10)) == 10
            assert len(rig.sock.sends) == 1

    run(main())


@both_loops
def test_no_ack_before_it_is_safe(run: Run) -> None:
    """While the receiver has not acknowledged, nothing at all is sent."""

    async def main() -> None:
        async with Rig(receives=False) as rig:
            await rig.say(chunk("a") + own_chunk(1))
            taken = await rig.inbox.take(1) + await rig.inbox.take(1)
            for _ in range(20):
                await asyncio.sleep(0)
            assert rig.sock.sends == []
            taken[1].acknowledge()
            while not rig.sock.sends:
                await asyncio.sleep(0)
            assert len(rig.sock.sends) == 1
            taken[0].acknowledge()
            rig.client.shutdown(socket.SHUT_WR)
            await rig.serving
            assert rig.sock.sends[1:] == [b"\x81\xa3ack\xa1a"]

    run(main())


@both_loops
def test_an_unread_client_is_told_by_being_closed(run: Run) -> None:
    """Acknowledgements that nobody reads are dropped; when the client reads again it is closed, having had a prefix."""
    ids = [f"{n:04}" + "i" * 200 for n in range(8000)]

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(b"".join(map(chunk, ids)))
            while len(rig.got) < 8000:
                await asyncio.sleep(0)
            assert not rig.serving.done()
            acknowledged = await rig.acks(9999)
            assert acknowledged == ids[: len(acknowledged)]
            assert 0 < len(acknowledged) < 8000
            await rig.serving
            assert rig.metrics.acks_dropped == 8000 - len(acknowledged)

    run(main())


@both_loops
@pytest.mark.parametrize(
    ("garbage", "reason", "sample"),
    [
        (b"\x93\xc1\xc1\xc1", "malformed Forward frame", "93c1c1c1"),
        (b"\x9f" + b"\x01" * 100, "malformed Forward frame", "9f" + "01" * 63),
    ],
)
def test_garbage_costs_one_loss_and_this_connection(run: Run, garbage: bytes, reason: str, sample: str) -> None:
    """What came before garbage is kept and acknowledged, then comes one loss with who and what, then the end."""

    async def main() -> None:
        async with Rig() as rig, Rig(inbox=rig.inbox) as other:
            other.receiving.cancel()
            await other.say(chunk("other"))
            await rig.say(chunk("good") + garbage + chunk("lost"))
            assert await rig.acks(9) == ["good"]
            await rig.serving
            losses = [batch for batch in rig.got if batch.tag == b"mpsr.loss"]
            (record,) = records(losses)
            assert record["reason"].startswith(reason)
            assert record["sample"].startswith(sample)
            assert record["count"] == 1
            assert record["peer"] == {"pid": 11, "uid": 22, "gid": 33, "comm": "me"}
            assert losses[0].peer == PEER
            assert [message.time for message in losses[0].messages()] == [7_000_000_000]
            assert rig.metrics.losses == 1
            assert await other.acks(1) == ["other"]
            await other.say(chunk("still there"))
            assert await other.acks(1) == ["still there"]

    run(main())


@both_loops
def test_half_a_frame_at_the_end(run: Run) -> None:
    """A client that dies in mid-frame costs that frame, which is said; a last line without its end counts."""

    async def main() -> None:
        async with Rig() as rig:
            await rig.say_and_close(chunk("a") + chunk("b")[:-1])
            await rig.serving
            whole, loss = records(rig.got)
            assert whole["n"] == 0
            assert "half a frame" in loss["reason"]
        async with Rig() as rig:
            await rig.say_and_close(b"one\ntwo")
            await rig.serving
            assert rig.texts == ["one", "two"]

    run(main())


@both_loops
def test_any_cut(run: Run) -> None:
    """The first byte decides, and the rest may come byte by byte."""

    async def main() -> None:
        for stream, expected in ((chunk("id", 2), [0, 1]), (b'a\n{"n":5}\n', ["a", 5]), (b"\n", [""])):
            async with Rig() as rig:
                for index in range(len(stream)):
                    rig.client.send(stream[index : index + 1])
                    await asyncio.sleep(0)
                rig.client.shutdown(socket.SHUT_WR)
                await rig.serving
                assert rig.texts == expected

    run(main())


@both_loops
def test_nothing_said(run: Run) -> None:
    """A client that connects and goes leaves nothing."""

    async def main() -> None:
        async with Rig() as rig:
            rig.client.close()
            await rig.serving
            assert (rig.got, rig.sock.fileno()) == ([], -1)

    run(main())


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
        raise CloseConnection("x" * 2_000_000)

    async def main() -> None:
        async with Rig(commands={"leave": leave}) as rig:
            await rig.say(request("leave"))
            assert len(json.loads(await rig.rest())["result"]) == 2_000_000

    run(main())


async def send_all_it_takes(client: socket.socket, piece: bytes, limit: int = 1 << 30, sent: int = 0) -> int:
    """Send until *limit*, or until nothing more is taken however often the hub has its turn; return how much was."""
    client.setblocking(False)
    turns = 0
    while turns < 100 and sent < limit:
        try:
            sent += client.send(piece[sent % len(piece) :])
            turns = 0
        except BlockingIOError:
            turns += 1
            await asyncio.sleep(0)
    return sent


@both_loops
@pytest.mark.parametrize(
    "piece",
    [b"x" * 999 + b"\n", msgpack.packb(["a", 1, {"m": "x" * 50_000}]), msgpack.packb(["a", 1, {}]) * 5000],
    ids=["lines", "messages", "tiny"],
)
def test_a_receiver_that_does_not_take_stops_the_client(run: Run, piece: bytes) -> None:
    """Of endless data only so much is held: the connection's share, two reads, and what the kernel holds."""

    async def main() -> None:
        async with Rig(receives=False) as rig:
            sent = await send_all_it_takes(rig.client, piece)
            kernel = 2 * rig.client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            on_the_wire = 2 * SHARE_BYTES_MAX  # of the tiny ones not half is their tag
            assert SHARE_BYTES_MAX / 2 < sent < on_the_wire + PAUSE_BYTES + 2 * READ_BYTES + kernel
            assert rig.inbox.held_bytes <= SHARE_BYTES_MAX + PAUSE_BYTES
            rig.may_receive.set()
            assert await send_all_it_takes(rig.client, piece, limit=12 << 20, sent=sent) >= 12 << 20, "no going on"

    run(main())


@both_loops
@pytest.mark.parametrize("receives", [True, False])
def test_stop_reads_what_was_sent(run: Run, receives: bool) -> None:
    """At a stop everything that the client has sent by then is handed over, also what still lies in the kernel."""

    async def main() -> None:
        async with Rig(receives=receives) as rig:
            sent = await send_all_it_takes(rig.client, b"x" * 999 + b"\n", limit=8 << 20)
            rig.connection.stop()
            rig.connection.stop()
            rig.may_receive.set()
            await rig.serving
            assert len("\n".join(rig.texts)) in (sent, sent - 1)  # with or without the last line's end

    run(main())


@both_loops
def test_stop_before_the_transport(run: Run) -> None:
    """A connection stopped before it was connected to the loop is read all the same, and its descriptor closed."""

    async def main() -> None:
        rig = Rig()
        rig.client.sendall(chunk("a") + chunk("b"))
        rig.connection.stop()
        serving, receiving = asyncio.create_task(rig.connection.run()), asyncio.create_task(rig._receive())
        assert await rig.acks(9) == ["a", "b"]
        await serving
        receiving.cancel()
        rig.client.close()
        assert rig.sock.fileno() == -1

    run(main())


@both_loops
@pytest.mark.parametrize("turns", range(6))
def test_stop_while_being_connected(run: Run, turns: int) -> None:
    """A stop at any moment of being connected to the loop loses nothing that was sent, and ends."""

    async def main() -> None:
        rig = Rig()
        rig.client.sendall(chunk("a") + chunk("b"))

        async def serve() -> None:
            await asyncio.get_running_loop().connect_accepted_socket(lambda: rig.connection, rig.sock)
            await rig.connection.run()

        serving, receiving = asyncio.create_task(serve()), asyncio.create_task(rig._receive())
        for _ in range(turns):
            await asyncio.sleep(0)
        rig.connection.stop()
        assert await rig.acks(9) == ["a", "b"]
        await serving
        receiving.cancel()
        rig.client.close()

    run(main())


@both_loops
def test_stop_ends_a_client_that_never_stops(run: Run) -> None:
    """A client that sends without end does not keep its connection from ending."""

    def pour(client: socket.socket) -> None:
        try:
            while True:
                client.sendall(b"x" * 65535 + b"\n")
        except OSError:
            pass

    async def main() -> None:
        async with Rig() as rig:
            pouring = asyncio.create_task(asyncio.to_thread(pour, rig.client))
            while len(rig.got) < 20:
                await asyncio.sleep(0)
            rig.connection.stop()
            await rig.serving
            await pouring

    run(main())


@both_loops
def test_a_closed_inbox_ends_the_connection(run: Run) -> None:
    """When nothing more is taken the client is closed, without an acknowledgement: it must send again elsewhere."""

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(chunk("a"))
            assert await rig.acks(1) == ["a"]
            rig.inbox.close()
            await rig.say(chunk("b"))
            assert await rig.rest() == b""
            await rig.serving

    run(main())


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@both_loops
def test_an_ack_after_the_end_goes_nowhere(run: Run) -> None:
    """A batch acknowledged when its connection was cut sends nothing, least of all to who has the descriptor now."""

    async def main() -> None:
        async with Rig(receives=False) as rig:
            await rig.say(chunk("a"))
            (batch,) = await rig.inbox.take(1)
            number = rig.sock.fileno()
            rig.serving.cancel()
            await asyncio.wait((rig.serving,))
            while is_open(number):
                await asyncio.sleep(0)
            others = [end for _ in range(4) for end in socket.socketpair()]
            assert number in [end.fileno() for end in others]
            batch.acknowledge()
            for _ in range(5):
                await asyncio.sleep(0)
            for end in others:
                end.setblocking(False)
                with pytest.raises(BlockingIOError):
                    end.recv(1)
            for end in others:
                end.close()
            assert rig.sock.sends == []

    run(main())


@both_loops
def test_no_descriptor_leaks(run: Run) -> None:
    """However connections end, no descriptor stays."""

    async def one(way: str) -> None:
        async with Rig() as rig:
            await rig.say(b"\x93\xc1" if way == "garbage" else chunk("a") * 2)
            if way == "half":
                rig.client.shutdown(socket.SHUT_WR)
            elif way == "closed":
                rig.client.close()
            elif way == "stop":
                rig.connection.stop()
            elif way == "cancelled":
                rig.serving.cancel()
            await asyncio.wait((rig.serving,))

    async def main() -> None:
        await one("half")
        before = len(os.listdir("/proc/self/fd"))
        for way in ("garbage", "half", "closed", "stop", "cancelled") * 4:
            await one(way)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(os.listdir("/proc/self/fd")) == before

    run(main())
