"""
A test rig: one connection over a real socket pair, with the test at the other end.

Not here: a listener, a hub, a process.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from types import MappingProxyType, TracebackType
from typing import Any

from hub.connection import Connection
from hub.dispatch import AnyCommand
from hub.inbox import Inbox
from hub.intake import Admission, Intake
from hub.message import Batch, Peer
from hub.metrics import Metrics
from hub.opener import Opener
from hub.users import User
from tests.hub.clients import read_acks, read_to_end, records

NO_COMMANDS: Mapping[str, AnyCommand] = MappingProxyType({})
PEER = Peer(11, 22, 33, "me")


class Spy(socket.socket):
    """A socket that records the data of each send call."""

    def __init__(self, original: socket.socket) -> None:
        super().__init__(fileno=original.detach())
        self.sends: list[bytes] = []

    def send(self, data: Any, flags: int = 0, /) -> int:
        sent = super().send(data, flags)
        self.sends.append(bytes(data[:sent]))
        return sent


class Rig:
    """A connection and its client. Unless *receives* is false, a receiver keeps and acknowledges its batches."""

    def __init__(
        self,
        *,
        commands: Mapping[str, AnyCommand] = NO_COMMANDS,
        inbox: Inbox | None = None,
        user: User | None = None,
        receives: bool = True,
    ) -> None:
        self.client, ours = socket.socketpair()
        self.client.settimeout(30)
        self.sock = Spy(ours)
        self.sock.setblocking(False)
        self.inbox = inbox or Inbox()
        self.metrics = Metrics()
        self.got: list[Batch] = []
        self.opener = Opener(self.inbox.budget)
        admission = Admission(PEER, user or User(PEER.uid), self.inbox, self.opener, self.metrics)
        self.connection = Connection(self.sock, admission, commands=commands)
        self.intake: Intake = self.connection._intake
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
        self.opener.close()
        self.receiving.cancel()
        self.serving.cancel()
        await asyncio.gather(self.receiving, self.serving, return_exceptions=True)

    async def _receive(self) -> None:
        while True:
            await self.may_receive.wait()
            batches = await self.inbox.take(4 << 20)
            self.got += batches
            for batch in batches:
                batch.acknowledge()
            batches.release()
            if not batches:
                return

    async def say(self, data: bytes) -> None:
        """Send all of *data*, waiting for the kernel as needed."""
        await asyncio.to_thread(self.client.sendall, data)

    async def say_and_close(self, data: bytes) -> None:
        await self.say(data)
        self.client.close()

    async def acks(self, count: int) -> list[str | bytes]:
        return await asyncio.to_thread(read_acks, self.client, count)

    async def rest(self) -> bytes:
        """Return what the hub sends until it closes."""
        return await asyncio.to_thread(read_to_end, self.client)

    @property
    def is_out_of_room(self) -> bool:
        """Whether the hub has stopped reading until the receiver has taken something."""
        return self.intake.holding.is_held_up and not self.inbox.budget.may_decode(self.intake.holding)

    @property
    def texts(self) -> list[Any]:
        return [record.get("message", record.get("n")) for record in records(self.got)]
