"""hub.endpoint: accepts connections while it runs, reads what was sent at a stop, and says so if it cannot accept."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.access import Access, Gate, Rule, Rules
from hub.connection import Connection
from hub.endpoint import Endpoint
from hub.errors import HubClosed, SocketError
from hub.listener import Listener
from hub.message import Batch, Loss, Peer
from hub.socketfile import SocketFile
from hub.users import LOSSES_PER_S
from hub.wire.jsonrpc import Request
from tests.hub.clients import Run, both_loops, chunk, connect, read_acks, read_to_end, until


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


@contextlib.asynccontextmanager
async def receiving(endpoint: Endpoint) -> AsyncIterator[list[Batch]]:
    """Acknowledge all that arrives; yield the list of it."""
    got: list[Batch] = []

    async def receive() -> None:
        while taken := await endpoint.inbox.take(1 << 20):
            for batch in taken:
                got.append(batch)
                batch.acknowledge()
            taken.release()

    task = asyncio.create_task(receive())
    try:
        yield got
    finally:
        endpoint.close()
        await task


@both_loops
def test_clients_wait_until_it_runs(run: Run, path: str) -> None:
    """A client that connects before `run` is served by it, and may call the commands given to it."""

    def answer(request: Request, peer: Peer) -> object:
        return peer.pid

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(path))
        async with receiving(endpoint) as got:
            client = connect(path, b'{"jsonrpc":"2.0","method":"answer","id":1}\n')
            client.shutdown(socket.SHUT_WR)
            await asyncio.sleep(0)
            assert endpoint.connections == 0
            running = asyncio.create_task(endpoint.run({"answer": answer}))
            assert json.loads(await asyncio.to_thread(read_to_end, client))["result"] == os.getpid()
            assert await endpoint.stop(timeout=30) == 0
            await running
            assert got == []
            client.close()

    run(main())


@both_loops
def test_stop_reads_what_was_sent(run: Run, path: str) -> None:
    """A stop returns when everything sent is settled and every connection is closed; the inbox stays open."""

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(path))
        async with receiving(endpoint) as got:
            running = asyncio.create_task(endpoint.run({}))
            await asyncio.sleep(0)
            clients = [connect(path, chunk(f"{n}")) for n in range(40)]
            assert await endpoint.stop(timeout=30) == 0
            await running
            assert (len(got), endpoint.connections, endpoint.metrics.connections_accepted) == (40, 0, 40)
            assert [read_acks(client, 2) for client in clients] == [[f"{n}"] for n in range(40)]
            intake = endpoint.intake(Peer(uid=7), Gate(Access(), Peer(uid=7), frozenset))
            await intake.take(got[:1])
            await until(lambda: len(got) == 41)
            endpoint.close()
            with pytest.raises(HubClosed):
                await intake.take(got[:1])
            for client in clients:
                client.close()
        assert not os.path.exists(path)

    run(main())


@both_loops
def test_it_does_not_run_after_a_stop(run: Run, path: str) -> None:
    """A task that begins after the stop returns at once; so does a second stop."""

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(path))
        running = asyncio.create_task(endpoint.run({}))
        assert await endpoint.stop(timeout=30) == 0
        await running
        await endpoint.run({})
        assert await endpoint.stop(timeout=30) == 0
        endpoint.close()
        endpoint.close()

    run(main())


@both_loops
def test_the_end_of_a_connection_is_noted(run: Run, path: str) -> None:
    """`connection_ended` is set at each end of a connection."""

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(path))
        running = asyncio.create_task(endpoint.run({}))
        for _ in range(3):
            endpoint.connection_ended.clear()
            client = connect(path)
            await until(lambda: endpoint.connections == 1)
            assert not endpoint.connection_ended.is_set()
            client.close()
            await endpoint.connection_ended.wait()
        await endpoint.stop(timeout=30)
        await running
        endpoint.close()

    run(main())


@both_loops
def test_its_rules(run: Run, path: str) -> None:
    """A client that may not send is refused, by rules that can be changed while it runs."""

    async def main() -> None:
        access = Access()
        endpoint = Endpoint(SocketFile.bind(path), access=access)
        async with receiving(endpoint) as got:
            running = asyncio.create_task(endpoint.run({}))
            with connect(path, chunk("a")) as client:
                assert await asyncio.to_thread(read_acks, client, 1) == ["a"]
            access.change({"send": Rules(deny=(Rule.parse("all"),))})
            with connect(path, chunk("b")) as client:
                assert await asyncio.to_thread(read_acks, client, 1) == []
            await endpoint.stop(timeout=30)
            await running
        assert [batch.tag for batch in got] == [b"app", b"mpsr.loss"]

    run(main())


@both_loops
def test_accepting_fails_for_good(
    run: Run, path: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`run` raises SocketError with the cause, and logs it; open connections continue."""

    def fail(_: Listener[Connection]) -> bool:
        raise OSError(errno.EINVAL, "ours")

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(path))
        async with receiving(endpoint) as got:
            running = asyncio.create_task(endpoint.run({}))
            client = connect(path)
            await until(lambda: endpoint.connections == 1)
            with monkeypatch.context() as patch:
                patch.setattr(Listener, "_accept_some", fail)
                with connect(path), pytest.raises(SocketError, match="can no longer be accepted") as raised:
                    await running
            assert isinstance(raised.value.__cause__, OSError)
            client.sendall(chunk("a"))
            assert await asyncio.to_thread(read_acks, client, 1) == ["a"]
            assert len(got) == 1
            client.close()
            await endpoint.stop(timeout=30)

    run(main())
    assert json.loads(capsys.readouterr().err)["event"] == "listener.failed"


@both_loops
def test_cancelled(run: Run, path: str) -> None:
    """A cancelled `run` leaves no accept loop; a following stop frees the path."""

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(path))
        running = asyncio.create_task(endpoint.run({}))
        await asyncio.sleep(0)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert [task for task in asyncio.all_tasks() if task.get_name().startswith("mpsr-")] == []
        await endpoint.stop(timeout=0)
        endpoint.close()
        assert not os.path.exists(path)

    run(main())


@both_loops
def test_a_lost_path(run: Run, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is bound anew while connections are accepted, and only then; the log says so."""

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(path))
        assert not endpoint.keep_path(0o660, None)
        os.unlink(path)
        assert not endpoint.keep_path(0o660, None)
        async with receiving(endpoint) as got:
            running = asyncio.create_task(endpoint.run({}))
            await asyncio.sleep(0)
            assert [endpoint.keep_path(0o660, None), endpoint.keep_path(0o660, None)] == [True, False]
            with connect(path, chunk("a")) as client:
                assert await asyncio.to_thread(read_acks, client, 1) == ["a"]
            assert len(got) == 1
            endpoint.stop_accepting()
            os.unlink(path)
            assert not endpoint.keep_path(0o660, None)
            await running
            await endpoint.stop(timeout=30)

    run(main())
    (event,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (event["event"], event["level"], event["socket"]) == ("socket.renewed", "warning", path)


@both_loops
def test_a_lost_path_of_another(run: Run, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The path of an inherited socket is left to its maker; each loss is logged once."""

    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(path)
            sock.listen()
            sock.setblocking(False)
            endpoint = Endpoint(SocketFile.adopt(sock))
            async with receiving(endpoint):
                running = asyncio.create_task(endpoint.run({}))
                await asyncio.sleep(0)
                os.rename(path, path + ".away")
                assert not endpoint.keep_path(0o660, None)
                assert not endpoint.keep_path(0o660, None)
                assert not os.path.exists(path)
                os.rename(path + ".away", path)
                assert not endpoint.keep_path(0o660, None)
                os.rename(path, path + ".away")
                assert not endpoint.keep_path(0o660, None)
                await endpoint.stop(timeout=30)
                await running

    run(main())
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(event["event"], event["level"]) for event in events] == [("socket.lost", "error")] * 2


@both_loops
def test_a_stop_does_not_wait_for_the_ration_of_losses(run: Run, path: str) -> None:
    """What a client has lost, and waits to be reported bit by bit, is stored at once when the hub stops."""
    losses = 10 * int(LOSSES_PER_S)

    async def main() -> None:
        endpoint = Endpoint(SocketFile.bind(path))
        running = asyncio.create_task(endpoint.run({}))
        async with receiving(endpoint) as got:
            peer = Peer(uid=4321)
            intake = endpoint.intake(peer, Gate(endpoint.access, peer, lambda: None))
            taking = asyncio.create_task(intake.take([Loss(f"{n}", chunk_id=b"x") for n in range(losses)]))
            await until(lambda: len(got) >= LOSSES_PER_S)
            assert not taking.done()
            endpoint.stop_accepting()
            assert await taking
            await intake.all_settled()
            assert len(got) == losses
            await endpoint.stop(timeout=10)
        await running

    run(main())
