"""hub.web.socketoutbox: replies wait for their client, within limits."""

from __future__ import annotations

import asyncio
import os

import pytest

from hub.access import Access, Gate
from hub.budget import Budget
from hub.inbox import Inbox
from hub.intake import Admission, Intake
from hub.message import Peer
from hub.metrics import Metrics
from hub.opener import Opener
from hub.outbox import OUTBOX_BYTES_MAX
from hub.users import User
from hub.web import socketoutbox
from hub.web.socketoutbox import SocketOutbox
from tests.hub.clients import run_in_time, turns


class Client:
    """Reads a message each time that it is let."""

    def __init__(self, budget: Budget | None = None) -> None:
        inbox = Inbox(budget or Budget())
        self.opener = Opener(inbox.budget)
        peer = Peer(uid=os.geteuid())
        gate = Gate(Access(), peer, frozenset)
        self.intake = Intake(Admission(peer, User(peer.uid), inbox, self.opener, Metrics(), gate))
        self.got: list[bytes] = []
        self.stale = 0
        self.reads = asyncio.Semaphore(0)
        self.outbox = SocketOutbox(self.write, self.intake, on_stale=self.note)
        self.running = asyncio.create_task(self.outbox.run())

    async def write(self, data: bytes) -> None:
        await self.reads.acquire()
        self.got.append(data)

    def note(self) -> None:
        self.stale += 1

    async def end(self) -> None:
        self.running.cancel()
        await asyncio.wait((self.running,))
        self.outbox.close()
        self.opener.close()
        assert self.intake.budget.loose_bytes == 0


def test_in_order() -> None:
    """Everything arrives in order, and room is there when nothing is kept."""

    async def main() -> None:
        client = Client()
        for number in range(3):
            client.outbox.send(b"%d" % number)
        room = asyncio.create_task(client.outbox.room(10))
        await turns()
        assert not room.done()
        for _ in range(3):
            client.reads.release()
        assert await room
        assert client.got == [b"0", b"1", b"2"]
        await client.outbox.emptied(5)
        await client.end()
        assert not await client.outbox.room(1)

    run_in_time(main())


def test_a_client_that_does_not_read() -> None:
    """What is kept is bounded; then nothing more is sent, and the client is given up."""

    async def main() -> None:
        client = Client()
        piece = b"x" * (OUTBOX_BYTES_MAX // 4)
        for _ in range(3):
            client.outbox.send(piece)
        waiting = asyncio.create_task(client.outbox.room(1))
        await turns()
        assert (client.stale, client.intake.budget.loose_bytes > 3 * len(piece)) == (0, True)
        client.outbox.send(piece)
        client.outbox.send(piece)
        assert not await waiting
        assert (client.stale, client.intake.budget.loose_bytes) == (1, 0)
        client.reads.release()
        await client.running
        await client.end()

    run_in_time(main())


def test_memory_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream waits while its user has no memory left; a reply that does not fit ends the connection."""
    monkeypatch.setattr(socketoutbox, "ROOM_S", 0)

    async def main() -> None:
        client = Client(Budget(bytes_max=64 << 10))
        room = asyncio.create_task(client.outbox.room(60 << 10))
        await turns()
        assert not room.done()
        client.outbox.send(b"x" * (60 << 10))
        assert client.stale == 1
        assert not await room
        await client.end()

    run_in_time(main())
