"""
A hub without a process for the tests of sinks: a journal, an endpoint, a receiver, and a destination in memory.

Not here: other processes (tests.system.test_sinks).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hub import Batch, Journal
from hub import entries as codec
from hub.endpoint import Endpoint
from hub.message import Message
from hub.receiver import Receiver
from hub.sinks.deadletter import Reports
from hub.sinks.kinds import File
from hub.sinks.sink import Halted, Host
from hub.sinks.stored import Stored
from hub.sinks.values import SinkName, Template
from hub.sinks.waker import Waker
from hub.socketfile import SocketFile

TABLE = File(name=SinkName("a"), path=Template("/nowhere/a.log"), begin="start")


def batch(*records: dict[str, Any], tag: bytes = b"t") -> Batch:
    """Return a batch of *records*."""
    packed = [codec.stamp(1) + msgspec.msgpack.encode(record) for record in records]
    return Batch(tag, codec.join(tuple(packed), len(packed)), len(packed))


def numbered(*numbers: int, tag: bytes = b"t") -> Batch:
    """Return a batch of numbered messages."""
    return batch(*({"n": number} for number in numbers), tag=tag)


class Rig:
    """A journal, an endpoint, and what sinks report."""

    def __init__(self, journal: Journal, endpoint: Endpoint) -> None:
        self.journal = journal
        self.endpoint = endpoint
        self.reports = Reports(endpoint, journal)

    def stored(self, tag: str) -> list[Message]:
        """Return the messages in the journal under *tag*."""
        reader = self.journal.read()
        try:
            found = [found for found in reader.read() if isinstance(found, Batch)]
        finally:
            reader.close()
        return [message for each in found for message in each.messages() if message.tag == tag]


@contextlib.asynccontextmanager
async def hub_in(folder: Path, **options: Any) -> AsyncIterator[Rig]:
    """Run a hub without sources; *options* are those of its journal."""
    journal = await Journal.open(str(folder / "j"), **options)
    endpoint = Endpoint(SocketFile.bind(str(folder / "s")))
    receiving = asyncio.create_task(Receiver(endpoint.inbox, journal, endpoint.metrics).run())
    try:
        yield Rig(journal, endpoint)
    finally:
        receiving.cancel()
        await asyncio.wait((receiving,))
        await endpoint.stop(timeout=0)
        endpoint.close()
        await journal.close()


hosts: list[Alone] = []
"""All hosts of the present test (conftest.py closes them)."""


class Alone(Host):
    """A runner for a sink by itself; *checkpoints* are the details that were stored, *refused* what it gave up."""

    def __init__(self) -> None:
        hosts.append(self)
        self.waker = Waker()
        self.kept: dict[str, Any] = {}
        self.hub_id = bytes(range(16))
        self.boot_id = b""
        self.rewound = 0
        self.halted = False
        self.sink: Any = None
        self.checkpoints: list[bytes] = []
        self.refused: list[tuple[int, str]] = []
        self.lost: list[tuple[int, str]] = []
        self.went_back: list[tuple[int, bytes]] = []

    @property
    def is_halted(self) -> bool:
        return self.halted

    @property
    def rewinds(self) -> int:
        return self.rewound

    def rest(self) -> None:
        """Do nothing: there is no hub."""

    def checkpoint(self) -> None:
        self.checkpoints.append(self.sink.settle())

    def go_back(self, after: int, detail: bytes) -> None:
        self.went_back.append((after, detail))
        raise Halted

    def refuse(self, message: Message, reason: str) -> None:
        self.refused.append((message.sequence, reason))

    def lose(self, count: int, reason: str) -> None:
        self.lost.append((count, reason))

    def refuse_stored(self, stored: Stored, reason: str) -> None:
        self.refused += [(sequence, reason) for sequence in stored.sequences]


@contextlib.contextmanager
def halting(host: Alone, when: threading.Event | None = None) -> Iterator[None]:
    """Tell the sink of *host* to halt within the block: when *when* is set, or soon after the block has begun."""

    def halt() -> None:
        if when is not None:
            when.wait(30)
        host.halted = True
        host.waker.wake()

    thread = threading.Timer(0.05 if when is None else 0, halt)
    thread.start()
    try:
        yield
    finally:
        thread.join()


class Memory:
    """
    A destination: what is there, and how its sinks fail. While *may_go* is not set, `deliver` waits; if it *is_deaf*,
    also when the sink is to halt.
    """

    def __init__(self) -> None:
        self.got: list[Message] = []
        self.calls: list[str] = []
        self.faults: list[Exception] = []
        self.safe = 0
        self.refusing: dict[int, str] = {}
        self.wakers: list[Waker] = []
        self.may_go = threading.Event()
        self.may_go.set()
        self.is_blocked = threading.Event()
        self.is_deaf = False

    def go(self) -> None:
        """Let `deliver` return, from now on."""
        self.may_go.set()
        for waker in self.wakers:
            waker.wake()

    def make(self, _: Any, host: Host) -> MemorySink:
        self.wakers.append(host.waker)
        return MemorySink(self, host)

    def make_stored(self, _: Any, host: Host) -> MemoryStoredSink:
        self.wakers.append(host.waker)
        return MemoryStoredSink(self, host)

    @property
    def numbers(self) -> list[Any]:
        """The numbers of the messages that were delivered."""
        return [message.record.get("n") for message in self.got]


class MemorySink:
    """A sink that delivers to *memory*."""

    messages_max = 3

    def __init__(self, memory: Memory, host: Host) -> None:
        self._memory = memory
        self._host = host
        self.safe = 0

    def open(self, after: int, detail: bytes) -> None:
        self._memory.calls.append(f"open {after} {detail.decode()}")

    def deliver(self, messages: Sequence[Message]) -> None:
        from hub.sinks.sink import Halted

        memory = self._memory
        while not memory.may_go.is_set():
            memory.is_blocked.set()
            if self._host.is_halted and not memory.is_deaf:
                raise Halted
            self._host.waker.wait(30)
        if memory.faults:
            self.safe = memory.safe
            raise memory.faults.pop(0)
        for message in messages:
            if message.sequence in memory.refusing:
                self._host.refuse(message, memory.refusing[message.sequence])
            else:
                memory.got.append(message)

    def settle(self) -> bytes:
        return b"%d" % len(self._memory.got)

    def idle(self, now: int) -> None:
        self._memory.calls.append("idle")

    def close(self) -> None:
        self._memory.calls.append("close")


class MemoryStoredSink:
    """A sink that takes batches as they are stored, and confirms them when it settles."""

    batch_bytes_max = 64
    entry_bytes_max = 128

    def __init__(self, memory: Memory, host: Host) -> None:
        self._memory = memory
        self._host = host
        self._flying: list[Stored] = []
        self.safe = 0

    def open(self, after: int, detail: bytes) -> None:
        self._memory.calls.append(f"open {after} {detail.decode()}")

    def deliver_stored(self, batches: Sequence[Stored]) -> None:
        for stored in batches:
            if self._memory.faults:
                raise self._memory.faults.pop(0)
            if stored.first in self._memory.refusing:
                self._host.refuse_stored(stored, self._memory.refusing[stored.first])
            else:
                self._flying.append(stored)

    def settle(self) -> bytes:
        for stored in self._flying:
            self._memory.got += stored.messages()
            self.safe = stored.last
        self._flying = []
        return b"settled"

    def idle(self, now: int) -> None:
        self.settle()
        self._memory.calls.append("idle")

    def close(self) -> None:
        self._memory.calls.append("close")
