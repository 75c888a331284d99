"""
A hub that the test controls: the test accepts, reads chunks and acknowledges, when and how it likes.

Always true: it reads the wire with msgpack alone, so that an error in our encoder is not repeated here; every wait has
a limit, so that a producer that does not connect is a failed test.
"""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

import msgpack

from tests.support import PATIENCE_S


class Received(NamedTuple):
    """A chunk as it arrived: tag, id, records, bytes."""

    tag: str
    id: str
    records: list[Any]
    raw: bytes


class FakeHub:
    """Listens at *path*."""

    def __init__(self, path: str, *, backlog: int = 16) -> None:
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.bind(path)
        self.sock.listen(backlog)
        self.sock.settimeout(PATIENCE_S)
        self._accepted: list[FakeConnection] = []

    def accept(self) -> FakeConnection:
        """Return the next connection."""
        connection = FakeConnection(self.sock.accept()[0])
        self._accepted.append(connection)
        return connection

    def __enter__(self) -> FakeHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()
        for connection in self._accepted:
            connection.close()


class FakeConnection:
    """One producer."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.settimeout(PATIENCE_S)
        self._data = b""

    def peek(self) -> bytes:
        """Receive what has arrived, and keep it for `chunk`."""
        data = self.sock.recv(1 << 20)
        self._data += data
        return data

    def chunk(self) -> Received:
        """Read one whole chunk."""
        while True:
            unpacker = msgpack.Unpacker(max_buffer_size=1 << 30, use_list=True)
            unpacker.feed(self._data)
            try:
                tag, payload, option = unpacker.unpack()
            except msgpack.OutOfData:
                data = self.sock.recv(1 << 20)
                assert data, "the producer hung up"
                self._data += data
                continue
            end = unpacker.tell()
            raw, self._data = self._data[:end], self._data[end:]
            entries = msgpack.Unpacker(max_buffer_size=1 << 30, ext_hook=msgpack.ExtType)
            entries.feed(payload)
            records = [record for _, record in entries]
            assert option["size"] == len(records)
            return Received(tag, option["chunk"], records, raw)

    def chunks_until(self, last: Any, key: str = "n") -> list[Received]:
        """Read chunks up to the one that holds the message whose *key* is *last*."""
        chunks = [self.chunk()]
        while chunks[-1].records[-1].get(key) != last:
            chunks.append(self.chunk())
        return chunks

    def ack(self, *chunks: Received | str) -> None:
        """Send all acknowledgements with one call."""
        ids = [chunk if isinstance(chunk, str) else chunk.id for chunk in chunks]
        self.sock.sendall(b"".join(msgpack.packb({"ack": chunk_id}) for chunk_id in ids))

    def is_closed_by_peer(self) -> bool:
        """Read to the end of the stream; return True when it comes."""
        while True:
            try:
                if not self.sock.recv(1 << 20):
                    return True
            except ConnectionResetError:
                return True

    def close(self) -> None:
        self.sock.close()


def numbers(chunks: list[Received], key: str = "n") -> list[Any]:
    """Return the *key* of each message."""
    return [record[key] for chunk in chunks for record in chunk.records]
