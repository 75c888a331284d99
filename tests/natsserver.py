"""
A real NATS server with JetStream, and a hub that ships blocks to it, as the tests write them.

`NatsServer` can be killed, stopped (SIGSTOP) and started again at the same port, with what it has stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec
import nats
from nats.aio.client import Client

from hub import entries as codec
from hub.message import Peer
from hub.wire.shipped import Label, pack_entries, pack_label
from tests.support import free_port

PROGRAM = Path(sys.executable).with_name("nats-server")
START_S = 30.0


class NatsServer:
    """
    A server of its own for *folder*; *more* is added to its configuration, *jetstream* to that of JetStream (None: it
    has none).
    """

    def __init__(self, folder: Path, *, more: str = "", jetstream: str | None = "") -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._more, self._jetstream = more, jetstream
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and return when it accepts connections."""
        self.folder.mkdir(exist_ok=True)
        config = self.folder / "nats.conf"
        store = f'jetstream {{ store_dir: "{self.folder}/store"\n{self._jetstream} }}'
        more = self._more if self._jetstream is None else f"{store}\n{self._more}"
        config.write_text(f'listen: "127.0.0.1:{self.port}"\n{more}\n')
        with (self.folder / "nats.log").open("ab") as log:
            self._process = subprocess.Popen([PROGRAM, "-c", config], stdout=log, stderr=log)
        deadline = time.monotonic() + START_S
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as client:
                    if client.recv(5) == b"INFO ":
                        return
            except OSError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError((self.folder / "nats.log").read_text())
            time.sleep(0.01)

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int:
        """The process of the server that runs."""
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGSTOP makes it as slow as can be, also each of its threads."""
        assert self._process is not None
        os.kill(self._process.pid, number)
        if number is signal.SIGSTOP:
            for stat in Path(f"/proc/{self._process.pid}/task").glob("*/stat"):
                while stat.read_text().rpartition(")")[2].split()[0] != "T":
                    time.sleep(0.001)

    @contextlib.asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Client]:
        """Connect."""
        client = await nats.connect(self.url, **options)
        try:
            yield client
        finally:
            await client.close()


class NatsCluster:
    """Three servers, which hold each stream three times."""

    def __init__(self, folder: Path) -> None:
        ports = [free_port() for _ in range(3)]
        routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in ports)
        self.servers = []
        for number, port in enumerate(ports):
            cluster = f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
            more = f'server_name: "n{number}"\n{cluster}'
            self.servers.append(NatsServer(folder / f"nats{number}", more=more))
        self.urls = [server.url for server in self.servers]

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()

    def leader_of(self, stream: str) -> NatsServer:
        """Return the server that leads *stream*."""

        async def ask() -> str:
            client = await nats.connect(self.urls, connect_timeout=2)
            try:
                leader = (await client.jetstream().stream_info(stream)).cluster
                return (leader.leader if leader is not None else "") or ""
            finally:
                await client.close()

        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(Exception):
                if name := asyncio.run(ask()):
                    return self.servers[int(name.removeprefix("n"))]
            assert time.monotonic() < deadline, "the stream has no leader"
            time.sleep(0.1)


class Shipper:
    """A hub that ships blocks, as a sink does: each names the last sequence before it."""

    def __init__(self, client: Client, number: int, *, prefix: str = "mpsr") -> None:
        self.hub = bytes([number]) * 16
        self.host = f"web-{number}"
        self.next = 1
        self._client = client
        self._after = 0
        self.subject = f"{prefix}.{self.hub.hex()}"

    def label(self, count: int = 1, *, first: int | None = None, received: int = 1_000, **more: Any) -> Label:
        """Return the label of the next block, and go on behind it."""
        first = self.next if first is None else first
        label = Label(self.hub, self.host, b"app", Peer(7, 1000, 100, "web"), first, count, self._after, received)
        self.next, self._after = first + count, first + count - 1
        return label._replace(**more)

    async def ship(self, label: Label | None = None, *, payload: bytes | None = None) -> None:
        """Publish a block, of one message if no *label* is given; return when the stream has it."""
        label = label or self.label()
        numbers = range(label.first, label.first + label.messages)
        body = (
            pack_entries(entries_of([{"message": f"{self.host} {n}"} for n in numbers])) if payload is None else payload
        )
        headers = pack_label(label) | {"Nats-Msg-Id": os.urandom(8).hex()}  # the server drops no repetition
        await self._client.jetstream().publish(self.subject, body, headers=headers)

    async def ship_many(self, count: int) -> None:
        """Publish *count* blocks of one message."""
        for _ in range(count):
            await self.ship()


def entries_of(records: Sequence[dict[str, Any]], *, time_ns: int = 5) -> bytes:
    """Return *records* as stored entries."""
    return codec.join([codec.stamp(time_ns) + msgspec.msgpack.encode(record) for record in records], len(records))


async def make_stream(client: Client, *, name: str = "LOGS", **config: Any) -> None:
    """Make the stream of the blocks."""
    await client.jetstream().add_stream(name=name, subjects=["mpsr.*"], **config)


@contextlib.asynccontextmanager
async def shipping(server: NatsServer) -> AsyncIterator[tuple[Client, Shipper]]:
    """A client of *server*, on which it has made the stream, and a hub that ships to it."""
    async with server.client() as client:
        await make_stream(client)
        yield client, Shipper(client, 1)
