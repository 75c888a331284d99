"""
A Forward server that records what it gets, and misbehaves as it is told. Written from the specification alone: it uses
nothing of hub.wire.

Each connection takes the next of *manners* (the last one again and again):

    "good"          acknowledges each chunk
    "silent"        acknowledges nothing
    "wrong"         acknowledges another id
    "empty"         replies {}
    "closing"       closes after the first chunk, without a reply
    "backwards"     acknowledges the second chunk before the first
    "deaf"          reads nothing
    "slow"          acknowledges in single bytes
    "forgetting"    stores a chunk, acknowledges nothing, closes
"""

from __future__ import annotations

import contextlib
import gzip
import os
import socket
import ssl
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import msgpack

from tests.forwardshake import digest


class Got(NamedTuple):
    """A chunk as it came."""

    tag: str
    entries: bytes
    options: dict[str, Any]

    @property
    def values(self) -> list[Any]:
        """Its entries."""
        data = gzip.decompress(self.entries) if self.options.get("compressed") == "gzip" else self.entries
        unpacker = msgpack.Unpacker(strict_map_key=False)
        unpacker.feed(data)
        return list(unpacker)

    @property
    def numbers(self) -> list[Any]:
        return [record.get("n") for _, record in self.values]


class Recorder:
    """Listens at a port of its own, or at *path*. *key*: what it asks for; *context*: TLS."""

    def __init__(
        self,
        *manners: str,
        path: Path | None = None,
        key: bytes | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.got: list[Got] = []
        self.seen: list[Got] = []
        """All chunks, also those that it does not store."""
        self.connections = 0
        self._manners = list(manners or ("good",))
        self._key = key
        self._context = context
        if path is None:
            self._sock = socket.create_server(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{self._sock.getsockname()[1]}"
        else:
            self._sock = socket.socket(socket.AF_UNIX)
            self._sock.bind(str(path))
            self._sock.listen()
            self.address = str(path)
        self._clients: list[socket.socket] = []
        self._is_closed = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def numbers(self) -> list[Any]:
        """The field n of all messages that are stored, a chunk that came again once."""
        stored = {got.options["chunk"]: got for got in self.got}
        return [number for got in stored.values() for number in got.numbers]

    def close(self) -> None:
        """Close all, and end."""
        self._is_closed = True  # before: who is accepted from now on is shut down by the thread
        for sock in (self._sock, *self._clients):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        for sock in (self._sock, *self._clients):
            sock.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._sock.accept()
                manner = self._manners.pop(0) if len(self._manners) > 1 else self._manners[0]
                self.connections += 1
                self._keep(client)
                with contextlib.suppress(OSError, ValueError, TypeError, msgpack.UnpackException):
                    self._serve(client, manner)
                if manner != "deaf":
                    with contextlib.suppress(OSError):
                        client.shutdown(socket.SHUT_RDWR)

    def _keep(self, client: socket.socket) -> None:
        """Note that *client* is to be closed at the end, which may have come."""
        self._clients.append(client)
        if self._is_closed:
            client.shutdown(socket.SHUT_RDWR)

    def _serve(self, client: socket.socket, manner: str) -> None:
        if manner == "deaf":
            return
        if self._context is not None:
            client = self._context.wrap_socket(client, server_side=True)
            self._keep(client)
        unpacker = msgpack.Unpacker(raw=False, unicode_errors="surrogateescape", max_buffer_size=1 << 27)
        if self._key is not None and not self._prove(client, unpacker):
            return
        while data := client.recv(1 << 16):
            unpacker.feed(data)
            for tag, entries, options in unpacker:
                if not self._take(client, Got(tag, entries, options), manner):
                    return

    def _take(self, client: socket.socket, got: Got, manner: str) -> bool:
        """Take a chunk; False if the connection ends."""
        self.seen.append(got)
        ack = msgpack.packb({"ack": got.options["chunk"]})
        if manner in ("good", "slow", "forgetting"):
            self.got.append(got)
        if manner == "good":
            client.sendall(ack)
        elif manner == "slow":
            for at in range(len(ack)):
                client.sendall(ack[at : at + 1])
        elif manner == "wrong":
            client.sendall(msgpack.packb({"ack": got.options["chunk"][:-1] + "x"}))
        elif manner == "empty":
            client.sendall(b"\x80")
        elif manner == "backwards" and len(self.seen) % 2 == 0:
            client.sendall(ack)
        return manner not in ("closing", "forgetting")

    def _prove(self, client: socket.socket, unpacker: msgpack.Unpacker) -> bool:
        assert self._key is not None
        nonce = os.urandom(16)
        client.sendall(msgpack.packb(["HELO", {"nonce": nonce, "auth": b"", "keepalive": True}]))
        while data := client.recv(4096):
            unpacker.feed(data)
            for _, name, salt, code, _, _ in unpacker:
                is_known: bool = code == digest(salt.encode(), name.encode(), nonce, self._key)
                proof = digest(salt.encode(), b"server.example", nonce, self._key)
                pong: Sequence[Any] = ["PONG", True, "", "server.example", proof]
                client.sendall(msgpack.packb(pong if is_known else ["PONG", False, "shared key mismatch", "", ""]))
                return is_known
        return False
