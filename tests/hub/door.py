"""
A hub's door, with clients of several users in one process: a listener, its connections, and a receiver.

The test says whose the next connection is; the kernel would say it is ours. Every step of the event loop is measured.

Not here: real users (tests of the service), a journal.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from types import MappingProxyType

import pytest

from hub.budget import Budget
from hub.connection import Connection
from hub.dispatch import Command
from hub.inbox import Inbox
from hub.intake import Admission
from hub.listener import Listener
from hub.message import Batch, Peer
from hub.metrics import Metrics
from hub.opener import Opener
from hub.socketfile import SocketFile
from hub.users import User, Users
from tests.hub.clients import connect, until

NO_COMMANDS: Mapping[str, Command] = MappingProxyType({})
STEP_S = 0.02
"""No step on the loop may take longer, in CPU time."""


class Steps(list[float]):
    """The CPU times of the steps that the event loop has made; the test's own are set `aside`."""

    is_aside = False

    def aside(self) -> None:
        """Leave out the step that is being made."""
        self.is_aside = True


class Door:
    """What stands between the socket and the journal; *got* is what was received, by uid."""

    def __init__(
        self,
        path: str,
        *,
        commands: Mapping[str, Command] = NO_COMMANDS,
        budget: Budget | None = None,
        connections_max: int = 10_000,
        identify: Callable[[socket.socket], Peer] | None = None,
    ) -> None:
        self.path = path
        self.inbox = Inbox(budget)
        self.budget = self.inbox.budget
        self.metrics = Metrics()
        self.users = Users()
        self.opener = Opener(self.budget)
        self.commands = commands
        self.uid = 0
        self.got: list[Batch] = []
        self.receives = asyncio.Event()
        self.receives.set()
        self.acknowledges = True
        self.file = SocketFile.bind(path)
        self.listener = Listener(
            self.file,
            self._connect,
            users=self.users,
            metrics=self.metrics,
            connections_max=connections_max,
            identify=identify or (lambda _: Peer(1, self.uid, self.uid, f"of {self.uid}")),
        )
        self.connections: list[Connection] = []
        self.clients: list[socket.socket] = []

    def _connect(self, sock: socket.socket, peer: Peer, user: User) -> Connection:
        admission = Admission(peer, user, self.inbox, self.opener, self.metrics)
        self.connections.append(Connection(sock, admission, commands=self.commands))
        return self.connections[-1]

    async def client(self, uid: int, data: bytes = b"") -> socket.socket:
        """Return a connected client of user *uid* that does not block, *data* sent as far as the kernel takes it."""
        sock = connect(self.path)
        self.clients.append(sock)
        self.uid = uid
        before = len(self.connections) + self.metrics.connections_refused
        await until(lambda: len(self.connections) + self.metrics.connections_refused > before)
        sock.setblocking(False)
        if data:
            with contextlib.suppress(BlockingIOError):
                sock.send(data)
        return sock

    def of(self, uid: int) -> list[Batch]:
        """Return what was received of a user."""
        return [batch for batch in self.got if batch.peer.uid == uid]

    async def receive(self) -> None:
        while batches := await self.inbox.take(4 << 20):
            await self.receives.wait()
            self.got += batches
            for batch in batches if self.acknowledges else ():
                batch.acknowledge()
            batches.release()


@contextlib.asynccontextmanager
async def door(path: str, **options: object) -> AsyncIterator[Door]:
    """Serve on *path*."""
    here = Door(path, **options)  # type: ignore[arg-type]
    accepting, receiving = asyncio.create_task(here.listener.run()), asyncio.create_task(here.receive())
    try:
        yield here
    finally:
        for client in here.clients:
            client.close()
        accepting.cancel()
        await asyncio.wait((accepting,))
        await here.listener.stop(timeout=0)
        receiving.cancel()
        await asyncio.wait((receiving,))
        here.inbox.close()
        here.opener.close()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Steps]:
    """Measure each step of the standard library's event loop; garbage of other tests is not collected meanwhile."""
    taken = Steps()
    run = asyncio.events.Handle._run

    def measured(handle: asyncio.events.Handle) -> None:
        began = time.thread_time()
        run(handle)
        if not taken.is_aside:
            taken.append(time.thread_time() - began)
        taken.is_aside = False

    monkeypatch.setattr(asyncio.events.Handle, "_run", measured)
    gc.collect()
    gc.disable()
    yield taken
    gc.enable()
