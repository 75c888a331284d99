"""hub.connection: one client over a real socket pair, on both event loops, however it behaves and ends."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
from collections.abc import Iterator
from types import CoroutineType, FrameType
from typing import Any

import msgpack
import pytest

from hub import connection
from hub.acknowledgements import ACKS_MAX
from hub.budget import READ_BYTES, SHARE_BYTES_MAX, Budget
from hub.connection import PAUSE_BYTES
from hub.inbox import Inbox
from hub.message import LOSS_TAG, Batch
from hub.wire import chunkid
from tests.hub.clients import Run, both_loops, chunk, frame_of, is_open, own_chunk, records, until
from tests.hub.rig import PEER, Rig
from tests.support import descriptors


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
        async with Rig(inbox=Inbox(Budget(share_bytes_max=100_000)), receives=not is_behind) as rig:
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
            await until(lambda: rig.sock.sends)
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
            await rig.say(b"".join(chunk(f"{n}") for n in range(3000)))
            rig.client.shutdown(socket.SHUT_WR)
            await until(lambda: len(rig.got) >= 3000)
            assert len(rig.sock.sends) < 3000, "the kernel took all: the test shows nothing"
            assert await rig.acks(9999) == [f"{n}" for n in range(3000)]
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
            await until(lambda: rig.inbox.held_bytes >= len(ids) * 512)
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
            await until(lambda: rig.inbox.held_bytes >= 512)
            await rig.say(b"".join(own_chunk(n) for n in range(10, 20)))
            await until(lambda: rig.inbox.held_bytes >= 2 * 512)
            rig.may_receive.set()
            assert len(await rig.acks(20)) == 20
            assert len(rig.sock.sends) == 1

    run(main())


@both_loops
def test_many_acks_are_sent_in_short_steps(run: Run) -> None:
    """What becomes safe at one moment is acknowledged in order, a bounded number in each round of the loop."""
    ids = [f"{n}" for n in range(3 * ACKS_MAX)]

    async def main() -> None:
        async with Rig(receives=False) as rig:
            rig.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
            await rig.say(b"".join(map(chunk, ids)))
            taken: list[Batch] = []
            while len(taken) < len(ids):
                taken += await rig.inbox.take(1 << 30)
            for batch in taken:
                batch.acknowledge()
            sent = [0]
            while sent[-1] < len(ids):
                await asyncio.sleep(0)
                sent.append(len(rig.sock.sends))
            assert max(after - before for before, after in itertools.pairwise(sent)) == ACKS_MAX
            assert await rig.acks(len(ids)) == ids

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
            await until(lambda: rig.sock.sends)
            assert len(rig.sock.sends) == 1
            taken[0].acknowledge()
            rig.client.shutdown(socket.SHUT_WR)
            await rig.serving
            assert rig.sock.sends[1:] == [b"\x81\xa3ack\xa1a"]

    run(main())


@both_loops
def test_a_frame_over_a_limit_is_acknowledged(run: Run) -> None:
    """A client whose tag is too long gets its acknowledgement like the others, and does not send it again for ever."""

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(chunk("a") + chunk("long", 3, tag=b"t" * 5000) + chunk("b"))
            assert await rig.acks(3) == ["a", "long", "b"]
            assert [batch.tag for batch in rig.got] == [b"app", LOSS_TAG, b"app"]
            assert rig.metrics.losses == 3

    run(main())


@both_loops
def test_an_unread_client_is_told_by_being_closed(run: Run) -> None:
    """Acknowledgements that nobody reads are dropped; when the client reads again it is closed, having had a prefix."""
    ids = [f"{n:04}" + "i" * 200 for n in range(8000)]

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(b"".join(map(chunk, ids)))
            await until(lambda: len(rig.got) >= 8000)
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
    """The first bytes decide, and they may come byte by byte, like the rest."""

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


async def send_all_it_takes(rig: Rig, piece: bytes, limit: int = 1 << 30, sent: int = 0) -> int:
    """Send until *limit*, or until the hub, with nothing received, has no room to read on; return how much was sent."""
    rig.client.setblocking(False)

    def has_sent_all() -> bool:
        nonlocal sent
        try:
            while sent < limit:
                sent += rig.client.send(piece[sent % len(piece) :])
        except BlockingIOError:
            return not rig.may_receive.is_set() and rig.is_out_of_room
        return True

    await until(has_sent_all)
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
            sent = await send_all_it_takes(rig, piece)
            kernel = 2 * rig.client.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            on_the_wire = 2 * SHARE_BYTES_MAX  # of the tiny ones not half is their tag
            assert SHARE_BYTES_MAX / 2 < sent < on_the_wire + PAUSE_BYTES + 2 * READ_BYTES + kernel
            assert rig.inbox.held_bytes <= SHARE_BYTES_MAX + PAUSE_BYTES
            rig.may_receive.set()
            assert await send_all_it_takes(rig, piece, limit=12 << 20, sent=sent) >= 12 << 20

    run(main())


@both_loops
def test_what_was_decoded_is_not_held_while_a_client_is_silent(run: Run) -> None:
    """
    A connection that waits for more keeps neither the last bytes that had to wait nor their items: thousands of clients
    would hold half a megabyte each, which no limit counts.
    """

    async def main() -> None:
        async with Rig(receives=False) as rig:
            sent = await send_all_it_takes(rig, b"x" * 999 + b"\n")
            rig.may_receive.set()
            await until(lambda: sum(batch.count for batch in rig.got) == sent // 1000 and not rig.inbox.held_bytes)
            held = [value for frame in waiting_frames(rig.serving) for value in frame.f_locals.values()]
            assert rig.connection in held, "the frames of the connection's task are looked at"
            assert not [value for value in held if isinstance(value, (bytes, list, tuple)) and value]

    run(main())


def waiting_frames(task: asyncio.Task[None]) -> Iterator[FrameType]:
    """Return the frames of a task that waits, from the outermost to the innermost."""
    coroutine: Any = task.get_coro()
    while isinstance(coroutine, CoroutineType):
        if coroutine.cr_frame is not None:
            yield coroutine.cr_frame
        coroutine = coroutine.cr_await


@both_loops
@pytest.mark.parametrize("receives", [True, False])
def test_stop_reads_what_was_sent(run: Run, receives: bool) -> None:
    """At a stop everything that the client has sent by then is handed over, also what still lies in the kernel."""

    async def main() -> None:
        async with Rig(receives=receives) as rig:
            sent = await send_all_it_takes(rig, b"x" * 999 + b"\n", limit=8 << 20)
            rig.connection.stop()
            rig.connection.stop()
            rig.may_receive.set()
            await rig.serving
            assert len("\n".join(rig.texts)) in (sent, sent - 1)  # with or without the last line's end

    run(main())


@both_loops
@pytest.mark.parametrize(
    ("count", "is_gone", "has_transport"),
    [(0, True, False), (3, True, False), (3, False, True), (3000, True, True), (3000, False, True)],
)
def test_what_a_client_has_sent_before_it_is_served(run: Run, count: int, is_gone: bool, has_transport: bool) -> None:
    """A client that has sent a little and closed is served without a transport; of no other one anything is lost."""
    lines = [f"line {n:08}" for n in range(count + 1)]

    async def main() -> None:
        rig = Rig()
        rig.client.sendall("".join(f"{line}\n" for line in lines[:count]).encode())
        if is_gone:
            rig.client.close()
        serving, receiving = asyncio.create_task(rig.connection.serve(rig.sock)), asyncio.create_task(rig._receive())
        if not is_gone:
            await until(lambda: len(rig.texts) == count)
            await rig.say_and_close(lines[count].encode())
        await serving
        receiving.cancel()
        assert rig.texts == (lines[:count] if is_gone else lines)
        assert (rig.connection._transport is not None) == has_transport
        assert rig.intake.holding.loose_bytes == rig.inbox.budget.loose_bytes == 0

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
def test_at_a_stop_only_so_much_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends faster than the hub reads is read up to a bound after a stop, and one read more."""
    bytes_max = 1 << 20
    piece = (b"x" * 1023 + b"\n") * 64
    monkeypatch.setattr("hub.connection.DRAIN_BYTES_MAX", bytes_max)

    async def main() -> None:
        rig = Rig()
        pieces = itertools.chain(itertools.repeat(piece, 100), itertools.repeat(b""))
        monkeypatch.setattr(rig.sock, "recv", lambda size, flags: next(pieces))
        rig.connection.stop()
        receiving = asyncio.create_task(rig._receive())
        await rig.connection.run()
        rig.inbox.close()
        await receiving
        rig.client.close()
        assert bytes_max <= sum(map(len, rig.texts)) + len(rig.texts) < bytes_max + READ_BYTES

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
            await until(lambda: len(rig.got) >= 20)
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
            await until(lambda: not is_open(number))
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
            await rig.say(b"\x93\xa1t\xc1" if way == "garbage" else chunk("a") * 2)
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
        before = descriptors()
        for way in ("garbage", "half", "closed", "stop", "cancelled") * 4:
            await one(way)
        for _ in range(10):
            await asyncio.sleep(0)
        assert descriptors() == before

    run(main())


def docker_piece(number: int, *, last: bool = False) -> bytes:
    record = {"log": f"<{number}>", "partial_message": "true", "partial_id": "i"}
    record |= {"partial_ordinal": str(number), "partial_last": "true" if last else "false"}
    packed: bytes = msgpack.packb(["docker", 1, record, {}])
    return packed


@both_loops
def test_pieces_wait_for_the_others_for_a_while(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces that arrive apart are one message; those that the rest does not follow are stored after a while."""
    monkeypatch.setattr(connection, "WAIT_S", 0.2)

    def logs(rig: Rig) -> list[object]:
        return [message.record["log"] for batch in rig.got for message in batch.messages()]

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(docker_piece(1))
            await until(lambda: rig.intake.holding.loose_bytes > 0)
            await rig.say(docker_piece(2, last=True))
            await until(lambda: logs(rig) == ["<1><2>"])
            await until(lambda: rig.intake.holding.loose_bytes == 0)
            await rig.say(docker_piece(1) + docker_piece(2))
            await until(lambda: logs(rig)[1:] == ["<1>", "<2>"])
            await rig.say(docker_piece(3, last=True) + docker_piece(1))
            await rig.say_and_close(docker_piece(2))
            await until(lambda: logs(rig)[3:] == ["<3>", "<1>", "<2>"])

    run(main())


@both_loops
def test_pieces_of_a_connection_that_is_broken_off_are_kept(run: Run) -> None:
    """Half a frame is lost when memory is short; the whole pieces before it are stored."""

    async def main() -> None:
        async with Rig() as rig:
            await rig.say(docker_piece(1) + docker_piece(2)[:30])
            await until(lambda: rig.intake.holding.loose_bytes > 30)
            rig.connection.break_off()
            await until(lambda: len(rig.got) == 2)
            piece, loss = (message for batch in rig.got for message in batch.messages())
            assert (piece.record["log"], loss.record["bytes"]) == ("<1>", 30)

    run(main())
