"""
A connection that sends chunks to the hub and awaits their acknowledgements.

Always true:
- at most `WINDOW_BYTES` are on their way;
- a wait ends when nothing has moved for *timeout* seconds;
- it leads to a trusted hub (producers.connecting).

Not here: what is sent again (hub.importing.importer).
"""

from __future__ import annotations

import os
import select

import msgpack

from hub.importing.cutting import Chunk
from hub.wire import chunkid
from hub.wire.claim import Claim
from hub.wire.frame import decode_acks, encode_claimed_tail, encode_frame_head
from producers.connecting import connected_socket
from producers.record import encode_tag

WINDOW_BYTES = 4 << 20
_READ_BYTES = 64 << 10


class Broken(Exception):
    """The connection ended, or the hub has not answered in time; the text says which."""


class Delivery:
    """A new connection to the hub at *path*. Raises OSError, and BadRecord for a tag that cannot be one."""

    def __init__(self, path: str, tag: str, *, timeout: float) -> None:
        self._sock = connected_socket(path)
        self._tag = encode_tag(tag)
        self._timeout = timeout
        self._nonce = os.urandom(8).hex()
        self._number = 0
        self._in_flight: dict[bytes, int] = {}  # chunk id -> bytes
        self._in_flight_bytes = 0
        self._acks = msgpack.Unpacker(strict_map_key=False, max_buffer_size=1 << 20)

    def close(self) -> None:
        """End the connection."""
        self._sock.close()

    def send(self, chunk: Chunk, claim: Claim) -> None:
        """Send *chunk*. Wait while too much is on its way. Raises Broken."""
        self._number += 1
        # A new one each time: the claim alone decides whether the chunk is stored.
        chunk_id = chunkid.pack(f"import.{self._nonce}.{self._number}")
        head = encode_frame_head(self._tag, len(chunk.entries))
        frame = b"".join((head, chunk.entries, encode_claimed_tail(chunk_id, chunk.messages, claim)))
        self._in_flight[chunk_id] = len(frame)
        self._in_flight_bytes += len(frame)
        rest = memoryview(frame)
        while rest:
            sent = self._step(rest)
            rest = rest[sent:]
        while self._in_flight_bytes > WINDOW_BYTES:
            self._step(rest)

    def settle(self) -> None:
        """Wait until everything is acknowledged. Raises Broken."""
        while self._in_flight:
            self._step(memoryview(b""))

    def _step(self, rest: memoryview) -> int:
        """Send some of *rest*, or receive acknowledgements; return how many bytes were sent. Raises Broken."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN | (select.POLLOUT if rest else 0))
        found = poll.poll(self._timeout * 1000)
        if not found:
            raise Broken(f"the hub did not answer within {self._timeout:g} s (a rate limit? then a longer --timeout)")
        try:
            if found[0][1] & ~select.POLLOUT:
                self._receive()
                return 0
            return self._sock.send(rest)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise Broken(f"the connection to the hub broke: {error.strerror}") from error

    def _receive(self) -> None:
        data = self._sock.recv(_READ_BYTES)
        if not data:
            raise Broken("the hub closed the connection")
        try:
            chunk_ids = decode_acks(self._acks, data)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise Broken("the hub sent something other than acknowledgements") from error
        for chunk_id in chunk_ids:
            self._in_flight_bytes -= self._in_flight.pop(chunk_id, 0)
