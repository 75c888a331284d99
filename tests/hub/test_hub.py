"""hub.hub: the hub as a library, on both event loops: one receiver, acknowledged when handled, received once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgpack
import pytest

from hub import Batch, CloseConnection, Hub, Peer, Request
from hub.errors import NotASocket, ReceiverTaken, SocketInUse
from producers import Producer
from tests.hub.clients import Run, both_loops, chunk, connect, frame_of, own_chunk, read_acks, read_to_end, turns, until


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def said(client: socket.socket) -> bytes:
    """Return the data that the hub has sent so far."""
    client.setblocking(False)
    try:
        return client.recv(65536)
    except BlockingIOError:
        return b""


@contextlib.asynccontextmanager
async def handling(hub: Hub) -> AsyncIterator[list[Batch]]:
    """Handle batches in the background; yield the list of handled batches."""
    got: list[Batch] = []

    async def handle() -> None:
        async for batch in hub.batches():
            got.append(batch)

    task = asyncio.create_task(handle())
    try:
        yield got
    finally:
        task.cancel()
        await asyncio.wait((task,))


@both_loops
def test_messages(run: Run, path: str) -> None:
    """Each message has tag, time, record, peer and sequence, in one order, from several protocols."""

    async def main() -> None:
        async with Hub(path) as hub:
            with connect(path, msgpack.packb(["app.web", 5, {"n": 1}]) + chunk("id", 2)):
                with connect(path, b'{"tag":"t","time":1700000000.5,"a":1}\nplain\n'):
                    got = []
                    async for message in hub:
                        got.append(message)
                        if len(got) == 5:
                            break
                assert [message.sequence for message in got] == [1, 2, 3, 4, 5]
                assert {message.peer.pid for message in got} == {os.getpid()}
                shown = {(message.tag, message.time, str(message.record)) for message in got}
                assert ("app.web", 5 * 10**9, "{'n': 1}") in shown
                assert ("t", 1_700_000_000_500_000_000, "{'a': 1}") in shown
                (plain,) = (message for message in got if message.tag == "text")
                assert (plain.record, plain.time) == ({"message": "plain"}, plain.received)
                assert [message.record["n"] for message in got if message.tag == "app"] == [0, 1]
                assert (hub.metrics.messages, hub.connections) == (5, 2)

    run(main())


@both_loops
def test_acknowledged_when_the_next_is_asked_for(run: Run, path: str) -> None:
    """A batch is acknowledged when the loop asks for the next one, not before."""

    async def main() -> None:
        async with Hub(path) as hub:
            client = connect(path, chunk("a") + chunk("b"))
            iteration = hub.batches()
            assert (await anext(iteration)).chunk_id == b"\xa1a"
            await turns(20)
            assert said(client) == b""
            await anext(iteration)
            await turns(20)
            assert said(client) == b"\x81\xa3ack\xa1a"
            client.close()

    run(main())


@both_loops
def test_acknowledged_by_hand_once(run: Run, path: str) -> None:
    """A batch acknowledged explicitly is not acknowledged again when the next is requested."""

    async def main() -> None:
        async with Hub(path) as hub:
            client = connect(path, chunk("a") + chunk("b"))
            iteration = hub.batches()
            batch = await anext(iteration)
            batch.acknowledge()
            batch.acknowledge()
            await turns(20)
            assert said(client) == b"\x81\xa3ack\xa1a"
            second = await anext(iteration)
            batch.acknowledge()
            await turns(20)
            assert said(client) == b""
            second.acknowledge()
            batch.acknowledge()
            await turns(20)
            assert said(client) == b"\x81\xa3ack\xa1b"
            client.settimeout(30)
            client.shutdown(socket.SHUT_WR)
            waiting = asyncio.ensure_future(anext(iteration))
            assert await asyncio.to_thread(read_to_end, client) == b""
            client.close()
            waiting.cancel()
            await asyncio.wait((waiting,))

    run(main())


@both_loops
def test_a_second_receiver_is_refused(run: Run, path: str) -> None:
    """A second loop of either kind is refused while one runs, and the first continues."""

    async def main() -> None:
        async with Hub(path) as hub:
            with connect(path, b"one\n"):
                iteration = hub.batches()
                assert [m.record for m in (await anext(iteration)).messages()] == [{"message": "one"}]
                with pytest.raises(ReceiverTaken):
                    await anext(hub.batches())
                with pytest.raises(ReceiverTaken):
                    async for _ in hub:
                        pass
            with connect(path, b"two\n"):
                assert [m.record for m in (await anext(iteration)).messages()] == [{"message": "two"}]
            await iteration.aclose()  # type: ignore[attr-defined]
            with connect(path, b"three\n"):
                assert (await anext(hub.batches())).count == 1

    run(main())


@both_loops
def test_a_crash_of_the_handler_means_redelivery(run: Run, path: str) -> None:
    """The unfinished batch is not acknowledged: its producer sends it, and only it, to the next hub."""

    def produce(producer: Producer) -> None:
        producer.send({"n": 1})
        producer.flush(30)
        producer.send({"n": 2})

    async def crash_at_2() -> None:
        async with Hub(path) as hub:
            async for message in hub:
                if message.record["n"] == 2:
                    raise ZeroDivisionError

    async def main() -> None:
        with Producer(path, tag="app") as producer:
            producing = asyncio.create_task(asyncio.to_thread(produce, producer))
            with pytest.raises(ZeroDivisionError):
                await crash_at_2()
            await producing
            async with Hub(path) as hub, handling(hub) as got:
                producer.send({"n": 3})
                await asyncio.to_thread(producer.flush, 30)
                assert [message.record["n"] for batch in got for message in batch.messages()] == [2, 3]

    run(main())


@both_loops
@pytest.mark.parametrize("make", [lambda n: chunk(f"id {n}"), own_chunk], ids=["foreign", "own"])
def test_a_resend_is_given_once(run: Run, path: str, make: Callable[[int], bytes]) -> None:
    """A resend after a reconnect is acknowledged again and not received again, by any iteration."""

    async def main() -> None:
        async with Hub(path) as hub:
            for numbers, expected in ((1, 2), [1, 2]), ((1, 2, 3), [3]), ((3, 2, 4), [4]):
                with connect(path, b"".join(map(make, numbers))) as client:
                    async with handling(hub) as got:
                        assert len(await asyncio.to_thread(read_acks, client, len(numbers))) == len(numbers)
                        assert [message.sequence for batch in got for message in batch.messages()] == expected
            assert (hub.metrics.duplicates, hub.metrics.batches, hub.metrics.messages) == (4, 4, 4)

    run(main())


@both_loops
def test_the_window_of_foreign_ids_is_from_the_first(run: Run, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeated id is a resend only within ten minutes of its first use, not of its last."""
    now = [10**18]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])

    async def main() -> None:
        async with Hub(path) as hub:
            with connect(path) as client:
                async with handling(hub) as got:
                    for minutes, given in ((0, 1), (6, 1), (12, 2), (18, 2)):
                        now[0] = 10**18 + minutes * 60 * 10**9
                        client.sendall(chunk("a content hash"))
                        await asyncio.to_thread(read_acks, client, 1)
                        assert len(got) == given

    run(main())


@both_loops
def test_stop_ends_the_iteration(run: Run, path: str) -> None:
    """After a stop the loop handles all that was sent, which is acknowledged; then the loop ends."""

    async def main() -> None:
        async with Hub(path) as hub:
            clients = [connect(path, chunk(f"{n}", 3)) for n in range(50)]
            for n in range(50):
                connect(path, f"line {n}\n".encode()).close()
            stopping = asyncio.create_task(hub.stop(timeout=30))
            got = [message async for message in hub]
            assert await stopping == 0
            assert len(got) == 200
            assert [message.sequence for message in got] == list(range(1, 201))
            assert [read_acks(client, 2) for client in clients] == [[f"{n}"] for n in range(50)]
            assert not os.path.exists(path)
            assert await hub.stop() == 0
            assert [message async for message in hub] == []
            for client in clients:
                client.close()

    run(main())


@both_loops
@pytest.mark.parametrize("kind", ["messages", "batches"])
def test_stop_inside_the_loop(run: Run, path: str, kind: str) -> None:
    """A stop requested inside the loop returns at once; the loop handles what was sent, and ends before the timeout."""

    async def main() -> None:
        async with Hub(path) as hub:
            clients = [connect(path, chunk(f"{n}")) for n in range(10)]
            connect(path, b"a line\n").close()
            got = []
            async with asyncio.timeout(60):
                async for item in hub if kind == "messages" else hub.batches():
                    got.append(item.sequence)
                    if len(got) in (1, 3):
                        assert await hub.stop(timeout=1e6) == 0
            assert got == list(range(1, 12))
            assert [read_acks(client, 2) for client in clients] == [[f"{n}"] for n in range(10)]
            assert not os.path.exists(path)
            for client in clients:
                client.close()

    run(main())


@both_loops
def test_stop_inside_the_loop_and_leave(run: Run, path: str) -> None:
    """A loop that requests a stop and breaks leaves nothing running; what it did not finish is not acknowledged."""

    async def main() -> None:
        async with asyncio.timeout(60):
            async with Hub(path) as hub:
                client = connect(path, chunk("a") + chunk("b"))
                async for _ in hub.batches():
                    await hub.stop(timeout=1e6)
                    break
            assert client.recv(1) == b""
            client.close()
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("mpsr-")] == []
        assert not os.path.exists(path)

    run(main())


@both_loops
def test_after_the_loop_another_task_can_wait_for_a_stop(run: Run, path: str) -> None:
    """A task that has left its loop waits for the stop like any other, while another loop handles the rest."""

    async def main() -> None:
        async with Hub(path) as hub:
            client = connect(path, chunk("a") + chunk("b"))
            async for batch in hub.batches():
                assert batch.chunk_id == b"\xa1a"
                break
            async with handling(hub) as got:
                assert await hub.stop(timeout=30) == 0
                assert [batch.chunk_id for batch in got] == [b"\xa1a", b"\xa1b"]
            assert read_acks(client, 3) == ["a", "b"]
            client.close()

    run(main())


@both_loops
def test_a_stop_that_was_cancelled_goes_on(run: Run, path: str) -> None:
    """After the caller of a stop was cancelled, the iteration still ends when everything is handled."""

    async def main() -> None:
        async with Hub(path) as hub:
            client = connect(path, chunk("a"))
            await until(lambda: hub.connections == 1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await hub.stop(timeout=1e6)
            async with asyncio.timeout(60):
                assert [message.sequence async for message in hub] == [1]
            assert read_acks(client, 2) == ["a"]
            client.close()

    run(main())


@both_loops
def test_leaving_waits_for_nobody(run: Run, path: str) -> None:
    """Leaving the block closes all connections at once, unacknowledged, and frees the path."""

    async def main() -> None:
        async with Hub(path) as hub:
            clients = [connect(path, chunk("a")), connect(path), connect(path, b"half a li")]
            async for _ in hub:
                break
        assert [client.recv(1) for client in clients] == [b""] * 3
        for client in clients:
            client.close()
        assert not os.path.exists(path)
        async with Hub(path):
            pass

    run(main())


@both_loops
def test_a_stop_that_was_cancelled(run: Run, path: str) -> None:
    """A cancelled stop followed by leaving the block leaves no socket, no lock and no connection."""

    async def main() -> None:
        async with Hub(path) as hub:
            client = connect(path, chunk("a"))
            await anext(hub.batches())
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await hub.stop(timeout=30)
        assert client.recv(1) == b""
        client.close()
        assert hub.connections == 0
        async with Hub(path):
            pass

    run(main())


@both_loops
def test_a_failed_accept_loop_ends_the_iteration(run: Run, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """If accepting fails for good, the iteration ends and the error is logged."""

    async def main() -> None:
        ours, other = socket.socketpair()
        other.send(b"x")
        async with Hub(path) as hub:
            assert hub._endpoint is not None
            listening = hub._endpoint._listener._file.sock
            os.dup2(ours.fileno(), listening.fileno(), inheritable=False)  # does not listen
            assert [message async for message in hub] == []
        ours.close()
        other.close()

    run(main())
    assert json.loads(capsys.readouterr().err)["event"] == "listener.failed"


def test_entered_once(path: str) -> None:
    """A hub is used inside its block, and entered once."""

    async def main() -> None:
        hub = Hub(path)
        with pytest.raises(RuntimeError, match="enter the Hub first"):
            await anext(hub.batches())
        assert (hub.connections, await hub.stop()) == (0, 0)
        async with hub:
            with pytest.raises(RuntimeError, match="entered only once"):
                await hub.__aenter__()
        with pytest.raises(RuntimeError, match="entered only once"):
            await hub.__aenter__()

    asyncio.run(main())


def test_refusals(path: str, tmp_path: Path) -> None:
    """A path that is taken or is not a socket is refused on entering, and nothing is left running."""

    async def main() -> None:
        async with Hub(path) as hub:
            with pytest.raises(SocketInUse, match=f"process {os.getpid()} "):
                await Hub(path).__aenter__()
            with connect(path, b"still here\n"):
                assert (await anext(hub.batches())).count == 1
        (tmp_path / "file").touch()
        with pytest.raises(NotASocket):
            await Hub(str(tmp_path / "file")).__aenter__()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@both_loops
def test_commands(run: Run, path: str) -> None:
    """A hub answers its commands with or without an iteration; a command can stop it."""
    stop = asyncio.Event()

    def leave(request: Request, peer: Peer) -> object:
        stop.set()
        raise CloseConnection(peer.pid)

    async def main() -> None:
        async with Hub(path, commands={"leave": leave}) as hub:
            with connect(path, b'{"jsonrpc":"2.0","method":"leave","id":1}\n') as client:
                reply = await asyncio.to_thread(read_to_end, client)
                assert json.loads(reply) == {"jsonrpc": "2.0", "id": 1, "result": os.getpid()}
            await stop.wait()
            assert hub.metrics.commands == 1

    run(main())


@both_loops
def test_its_limits(run: Run, path: str) -> None:
    """A frame over the limit is a loss and is acknowledged; connections beyond the limit wait."""

    async def main() -> None:
        async with Hub(path, frame_bytes_max=10_000, connections_max=1) as hub:
            client = connect(path, frame_of(b"\xa3big", {"text": "x" * 20_000}))
            waiting = connect(path, b"hello\n")
            got = []
            async for message in hub:
                got.append(message)
                if len(got) == 1:
                    client.close()
                else:
                    break
            assert got[0].tag == "mpsr.loss"
            assert "over the limit of 10000 bytes" in got[0].record["reason"]
            assert got[1].record == {"message": "hello"}
            waiting.close()

    run(main())


LIBRARY = """
import asyncio, socket, structlog, sys

def never(*args):
    raise RuntimeError("the program's own structlog was used")

structlog.configure(processors=[never], logger_factory=never, wrapper_class=never, cache_logger_on_first_use=True)
from hub import Hub
structlog.configure(processors=[never], logger_factory=never, wrapper_class=never)

async def main(path):
    async with Hub(path) as hub:
        client = socket.socket(socket.AF_UNIX)
        client.connect(path)
        client.sendall(b"\\x93\\xa1t\\xc1")
        async for message in hub:
            assert message.tag == "mpsr.loss"
            break

asyncio.run(main(sys.argv[1]))
"""


def test_a_library_is_quiet(path: str) -> None:
    """A hub writes nothing to standard output, and warnings to standard error, whatever the program configured."""
    ran = subprocess.run([sys.executable, "-c", LIBRARY, path], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout == ""
    assert [json.loads(line)["event"] for line in ran.stderr.splitlines()] == ["message.lost"]


@both_loops
def test_a_loop_that_was_left_can_be_followed_by_another(run: Run, path: str) -> None:
    """The next loop continues after the last message received, and the batch is acknowledged once."""

    async def scenario() -> None:
        async with Hub(path) as hub:
            with connect(path, b"one\ntwo\nthree\n"):
                async for message in hub:
                    assert message.record == {"message": "one"}
                    break
                seen = []
                async for message in hub:
                    seen.append((message.sequence, message.record["message"]))
                    if len(seen) == 2:
                        break
                assert seen == [(2, "two"), (3, "three")]

    run(scenario())


@both_loops
def test_a_batch_that_was_left_is_given_again(run: Run, path: str) -> None:
    """A following loop over batches begins with the unfinished batch."""

    async def scenario() -> None:
        async with Hub(path) as hub:
            with connect(path, b"one\n"):
                for _ in range(2):
                    async for batch in hub.batches():
                        assert (batch.sequence, batch.count) == (1, 1)
                        break

    run(scenario())


@both_loops
@pytest.mark.parametrize("is_left", [True, False], ids=["in place", "gone"])
def test_a_socket_made_by_others(run: Run, path: str, is_left: bool) -> None:
    """A stop finishes open connections; the backlog is left to the next hub, or received if the path is gone."""

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)
            made.listen()
            made.setblocking(False)
            async with Hub("/never/used", sock=made.dup()) as hub, handling(hub) as got:
                assert hub.path == path
                served = connect(path, chunk("served"))
                assert await asyncio.to_thread(read_acks, served, 1) == ["served"]
                waiting = connect(path, chunk("waiting"))  # the event loop does not run before the stop
                waiting.shutdown(socket.SHUT_WR)
                if not is_left:
                    os.unlink(path)
                assert await hub.stop(timeout=30) == 0
                assert read_to_end(served) == b""
                expected = [b"\xa6served"] if is_left else [b"\xa6served", b"\xa7waiting"]
                assert [batch.chunk_id for batch in got] == expected
            assert os.path.exists(path) == is_left
            if is_left:
                async with Hub(sock=made.dup()) as hub, handling(hub):
                    assert await asyncio.to_thread(read_acks, waiting, 1) == ["waiting"]
            else:
                assert read_acks(waiting, 1) == ["waiting"]
            served.close()
            waiting.close()

    run(main())
