"""hub.listener: no connection is lost, at the limit, without descriptors, or at the end."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hub.connection import Connection
from hub.intake import Intake
from hub.listener import STEP_MAX, Listener
from hub.message import Batch, Loss, Peer
from hub.metrics import Metrics
from hub.socketfile import SocketFile
from hub.users import User, Users
from tests.hub.clients import Run, both_loops, chunk, connect, read_acks, records, until, without_collection
from tests.hub.door import Door
from tests.support import eventually


class Site(Door):
    """A door whose clients are of the users *peers*, and then of one."""

    accepting: asyncio.Task[None]

    def __init__(self, path: str, *, connections_max: int = 10_000, peers: Iterable[int] = ()) -> None:
        uids = itertools.chain(peers, itertools.repeat(-1))
        super().__init__(path, connections_max=connections_max, identify=lambda _: Peer(uid=next(uids)))
        self.most = 0
        """The largest number of connections at once."""

    def _connect(self, sock: socket.socket, peer: Peer, user: User) -> Connection:
        self.most = max(self.most, self.listener.connections + 1)
        return super()._connect(sock, peer, user)

    async def got_all(self, count: int) -> None:
        await until(lambda: len(records(self.got)) >= count)

    @property
    def texts(self) -> list[str]:
        return sorted(record["message"] for record in records(self.got))


@contextlib.asynccontextmanager
async def serving(path: str, **options: Any) -> AsyncIterator[Site]:
    site = Site(path, **options)
    site.accepting, receiving = asyncio.create_task(site.listener.run()), asyncio.create_task(site.receive())
    try:
        yield site
    finally:
        await stop(site, 0)
        receiving.cancel()
        await asyncio.wait((receiving,))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "s")


def numbered(count: int) -> list[str]:
    return sorted(f"message {number}" for number in range(count))


def leave_messages(path: str, count: int) -> None:
    """Connect, write a line, and close, *count* times."""
    for text in numbered(count):
        connect(path, text.encode() + b"\n").close()


@both_loops
def test_many_at_once(run: Run, path: str) -> None:
    """A thousand clients connect together; each is received and acknowledged."""

    async def main() -> None:
        async with serving(path) as site:
            clients = [connect(path, chunk(f"id {number}")) for number in range(1000)]
            await site.got_all(1000)
            assert site.listener.connections == site.most == 1000
            replies = await asyncio.to_thread(lambda: [read_acks(client, 1) for client in clients])
            assert replies == [[f"id {number}"] for number in range(1000)]
            for client in clients:
                client.close()
            await until(lambda: not site.listener.connections)

    run(main())


def test_a_client_is_identified_in_the_round_that_sees_it(path: str) -> None:
    """A client that waits is identified by the loop's own callback, not by a task in the round after it."""

    async def main() -> None:
        async with serving(path) as site:
            await asyncio.sleep(0)  # the listener waits
            client, seen = connect(path), []
            for _ in range(2):
                await asyncio.sleep(0)  # a round ends with the callbacks of what it has seen
                seen.append(site.listener.connections)
            assert seen == [0, 1]
            client.close()

    asyncio.run(main())


@both_loops
def test_a_flood_is_accepted_in_short_steps(run: Run, path: str) -> None:
    """However many wait in the backlog, in one round of the loop only some of them are accepted."""

    async def main() -> None:
        async with serving(path) as site:
            clients = [connect(path) for _ in range(5 * STEP_MAX)]
            seen = [0]
            while seen[-1] < len(clients):
                await asyncio.sleep(0)
                seen.append(site.listener.connections)
            assert max(after - before for before, after in itertools.pairwise(seen)) == STEP_MAX
            for client in clients:
                client.close()

    run(main())


@both_loops
def test_the_limit(run: Run, path: str, capsys: pytest.CaptureFixture[str]) -> None:
    """At the limit, further clients wait in the backlog and are accepted when others leave; none is lost."""

    async def main() -> None:
        async with serving(path, connections_max=3, peers=itertools.count()) as site:
            clients = [connect(path, text.encode() + b"\n") for text in numbered(12)]
            for heard in range(3, 13):
                await site.got_all(min(heard, 12))
                for _ in range(20):
                    await asyncio.sleep(0)
                assert len(records(site.got)) == heard if heard < 12 else True
                clients.pop(0).close()
            for client in clients:
                client.close()
            assert site.texts == numbered(12)
            assert site.most == 3

    run(main())
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert events[0]["event"] == "listener.paused"
    assert events[0]["connections"] == 3


@both_loops
@pytest.mark.parametrize("turns", range(8))
def test_stop_loses_nobody(run: Run, path: str, turns: int) -> None:
    """Clients that connected, wrote and closed before the stop are all received, at any point of the loop."""

    async def main() -> None:
        async with serving(path) as site:
            for _ in range(5):
                await asyncio.sleep(0)
            leave_messages(path, 1 if turns % 2 else 200)
            for _ in range(turns):
                await asyncio.sleep(0)
            assert await stop(site) == 0
            assert site.texts == numbered(1 if turns % 2 else 200)
            assert not os.path.exists(path)

    run(main())


@both_loops
def test_the_path_is_gone_before_the_last_accept(run: Run, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a stop nobody can connect to a socket that is accepted from no more: the path goes before the backlog."""
    is_there: list[bool] = []

    async def main() -> None:
        async with serving(path) as site:
            site.accepting.cancel()
            await asyncio.wait((site.accepting,))
            leave_messages(path, 2 * STEP_MAX)
            connect_it = site.listener._connect

            def watch(sock: socket.socket, peer: Peer, user: User) -> Connection:
                is_there.append(os.path.exists(path))
                return connect_it(sock, peer, user)

            monkeypatch.setattr(site.listener, "_connect", watch)
            assert await site.listener.stop(timeout=30) == 0
            assert site.texts == numbered(2 * STEP_MAX)

    run(main())
    assert is_there == [False] * (2 * STEP_MAX)


async def stop(site: Site, timeout: float = 30.0) -> int:
    """Stop as `hub.hub` does: the accept loop first, then the listener."""
    site.accepting.cancel()
    await asyncio.wait((site.accepting,))
    return await site.listener.stop(timeout=timeout)


@both_loops
def test_stop_at_the_limit(run: Run, path: str) -> None:
    """Clients in the backlog because of the limit are accepted and read at a stop."""

    async def main() -> None:
        async with serving(path, connections_max=2, peers=itertools.count()) as site:
            idle = [connect(path) for _ in range(2)]
            await until(lambda: site.listener.connections == 2)
            leave_messages(path, 50)
            assert await stop(site) == 0
            assert site.texts == numbered(50)
            for client in idle:
                assert client.recv(1) == b""
                client.close()

    run(main())


@both_loops
def test_stop_ends_a_client_that_never_stops(run: Run, path: str) -> None:
    """A client that sends without end is read for a bounded time and then cut off, so that the stop ends."""
    pour = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "while True: s.sendall((b'x' * 4095 + b'\\n') * 16)"
    )

    async def main() -> None:
        async with serving(path) as site:
            command = [sys.executable, "-c", pour, path]
            with subprocess.Popen(command, stderr=subprocess.PIPE) as pouring:
                await until(lambda: len(site.got) >= 20)
                assert await stop(site) == 0
                _, error = pouring.communicate(timeout=30)
                assert b"BrokenPipeError" in error or b"ConnectionResetError" in error

    run(main())


@both_loops
def test_who_is_late_is_cut_off(run: Run, path: str) -> None:
    """A connection whose batches are not acknowledged in time is cut off and counted; nothing stays open."""

    async def main() -> None:
        async with serving(path) as site:
            site.acknowledges = False
            client = connect(path, chunk("a"))
            await site.got_all(1)
            assert await stop(site, 0.01) == 1
            assert client.recv(1) == b""
            assert (site.listener.connections, await site.listener.stop(timeout=1)) == (0, 0)
            client.close()

    run(main())


@both_loops
def test_a_stop_that_was_cancelled_can_be_finished(run: Run, path: str) -> None:
    """A cancelled stop can be repeated, and then the path is free."""

    async def main() -> None:
        async with serving(path) as site:
            site.acknowledges = False
            client = connect(path, chunk("a"))
            await site.got_all(1)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await stop(site)
            assert site.listener.connections == 1
            assert await site.listener.stop(timeout=0) == 1
            again = SocketFile.bind(path)
            await site.listener.stop(timeout=0)
            assert os.path.exists(path)
            again.remove()
            again.close()
            client.close()

    run(main())


@both_loops
@pytest.mark.parametrize("place", ["take_now", "lose"])
def test_a_failing_connection_ends_alone(
    run: Run, path: str, place: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of ours in one connection, at an arrival or in its task, is logged once and closes it; others go on."""
    take_now = Intake.take_now

    async def broken(intake: Intake, loss: Loss) -> None:
        raise ZeroDivisionError

    def broken_now(intake: Intake, items: Sequence[object]) -> int:
        if any(isinstance(item, Batch) and item.tag == b"bad" for item in items):
            raise ZeroDivisionError
        return take_now(intake, items)

    monkeypatch.setattr(Intake, place, broken if place == "lose" else broken_now)

    async def main() -> None:
        async with serving(path) as site:
            bad_bytes = b"\x93\xa3app\xc1" if place == "lose" else msgpack.packb(["bad", [[1, {}]]])
            good, bad = connect(path, b"good\n"), connect(path, bad_bytes)
            assert await asyncio.to_thread(bad.recv, 1) == b""
            good.sendall(b"still good\n")
            await site.got_all(2)
            assert site.texts == ["good", "still good"]
            good.close()
            bad.close()

    run(main())
    (failed,) = [line for line in map(json.loads, capsys.readouterr().err.splitlines()) if "exception" in line]
    assert failed["event"] == "connection.failed"
    assert "ZeroDivisionError" in failed["exception"]


@both_loops
def test_a_fault_of_the_listening_socket_is_raised(run: Run, path: str) -> None:
    """An error other than a shortage ends the accept loop and is raised to its owner."""

    async def main() -> None:
        file = SocketFile.bind(path)
        file.sock.close()
        file.sock, other = socket.socketpair()  # a socket that does not listen
        other.send(b"x")
        site = Site.__new__(Site)
        site.listener = Listener(file, site._connect, users=Users(), metrics=Metrics())
        with pytest.raises(OSError, match="Invalid argument"):
            await site.listener.run()
        assert await site.listener.stop(timeout=1) == 0
        other.close()

    run(main())


SHORT_OF_DESCRIPTORS = """
import asyncio, os, resource, sys, uvloop
from hub import Hub

async def main(path):
    async with Hub(path) as hub:
        stopping = asyncio.Event()
        asyncio.get_running_loop().add_reader(0, stopping.set)

        async def stop():
            await stopping.wait()
            print("late", await hub.stop(timeout=30), flush=True)

        stopper = asyncio.create_task(stop())
        print("ready", flush=True)
        async for message in hub:
            print(message.record["message"], flush=True)
        await stopper

resource.setrlimit(resource.RLIMIT_NOFILE, (1000, 1000))
while os.dup(0) < 970:  # the program itself uses most of them
    pass
(uvloop.run if sys.argv[1] == "uvloop" else asyncio.run)(main(sys.argv[2]))
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("at_stop", [False, True], ids=["running", "at the stop"])
def test_out_of_descriptors(path: str, tmp_path: Path, loop: str, at_stop: bool) -> None:
    """Without descriptors, clients wait in the backlog, and are read when others leave or the hub stops."""
    command = [sys.executable, "-c", SHORT_OF_DESCRIPTORS, loop, path]
    with (
        (tmp_path / "log").open("w+") as log,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        idle = [connect(path) for _ in range(40)]
        leave_messages(path, 60)
        eventually((tmp_path / "log").read_text, "out of descriptors")
        if not at_stop:
            for client in idle:
                client.close()
            got = sorted(process.stdout.readline().rstrip() for _ in range(60))
            assert got == numbered(60)
        process.stdin.write("stop\n")
        process.stdin.close()
        rest = process.stdout.read().splitlines()
        assert sorted(rest) == ["late 0", *(numbered(60) if at_stop else [])]
        assert process.wait(30) == 0
        for client in idle:
            client.close()
        log.seek(0)
        assert {json.loads(line)["reason"] for line in log} == {"Too many open files"}


@both_loops
@pytest.mark.parametrize(
    "data",
    [b"", b"a line\n", chunk("a"), chunk("a")[:9], b"\x93\xa3app\xc1", b'{"jsonrpc": "2.0", "method": "m", "id": 1}\n'],
    ids=["nothing", "line", "chunk", "half a chunk", "malformed", "request"],
)
def test_a_crowd_that_has_gone_is_freed_without_a_collection(run: Run, path: str, data: bytes) -> None:
    """Connections leave no circle of references: a full collection of thousands of them would stop the loop."""

    async def main() -> None:
        async with serving(path) as site:
            clients = [connect(path, data) for _ in range(10)]
            await until(lambda: len(site.connections) == 10)
            refs = [weakref.ref(connection) for connection in site.connections]
            for client in clients:
                client.close()
            await until(lambda: not site.listener.connections)
            site.connections.clear()
            site.got.clear()
            await until(lambda: not any(ref() for ref in refs))

    with without_collection():
        run(main())


@both_loops
def test_a_path_that_is_bound_anew(run: Run, path: str) -> None:
    """Clients that connected before are served, also from the backlog, and so are clients that connect afterwards."""

    async def main() -> None:
        async with serving(path) as site:
            first = connect(path, b"message 0\n")
            await site.got_all(1)
            leave_messages(path, 1)  # in the backlog, for the loop has not seen it yet
            os.unlink(path)
            number, (ours, theirs) = site.listener._file.sock.fileno(), socket.socketpair()
            assert site.listener.renew(lambda: site.file.listen_again(0o660, None))
            os.dup2(ours.fileno(), number)  # another file gets the number of the former socket at once
            heard = asyncio.Event()
            asyncio.get_running_loop().add_reader(number, heard.set)
            await site.got_all(2)
            theirs.send(b"x")
            await heard.wait()
            asyncio.get_running_loop().remove_reader(number)
            os.close(number)
            ours.close()
            theirs.close()
            second = connect(path, b"message 1\n")
            first.sendall(b"message 2\n")
            await site.got_all(4)
            assert site.texts == ["message 0", "message 0", "message 1", "message 2"]
            first.close()
            second.close()

    run(main())


@both_loops
def test_at_the_limit_a_path_is_bound_later(run: Run, path: str) -> None:
    """A client that waits in the backlog at the limit is not lost: the former socket is kept until there is room."""

    async def main() -> None:
        async with serving(path, connections_max=1, peers=itertools.count()) as site:
            first, second = connect(path, b"message 0\n"), connect(path, b"message 1\n")
            await site.got_all(1)
            os.unlink(path)
            assert not site.listener.renew(lambda: site.file.listen_again(0o660, None))
            assert not os.path.exists(path)
            first.close()
            await site.got_all(2)
            second.close()
            await until(lambda: site.listener.connections == 0)
            assert site.listener.renew(lambda: site.file.listen_again(0o660, None))
            connect(path, b"message 2\n").close()
            await site.got_all(3)
            assert site.texts == ["message 0", "message 1", "message 2"]

    run(main())


def test_a_stop_ends_although_others_come(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where clients can connect during a stop, as on TCP, it accepts no more than any backlog holds."""
    steps = 0

    def endless(_: Listener[Connection]) -> bool:
        nonlocal steps
        steps += 1
        return True

    async def main() -> None:
        async with serving(path) as site:
            monkeypatch.setattr(Listener, "_accept_some", endless)
            await asyncio.wait_for(site.listener.stop(timeout=30), 30)

    asyncio.run(main())
    assert 4096 / STEP_MAX < steps < 10_000
