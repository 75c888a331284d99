"""
One connection for commands, in an asyncio program.

Always true: what happens is reported in order: answers, then the loss of the connection, once. After `close` nothing is
reported.

Not here: which reply belongs to which request (producers.async_client, producers.async_stream).
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import cast

from hub.wire.jsonrpc import Reply, Value
from producers.connecting import connected_socket
from producers.replies import Replies


class AsyncWire(asyncio.Protocol):
    """Reports each answer to *on_answer*, which may raise OSError, and the loss of the connection to *on_lost*."""

    _transport: asyncio.Transport

    def __init__(
        self,
        sock: socket.socket,
        on_answer: Callable[[Reply | Value], object],
        on_lost: Callable[[AsyncWire, Exception], None],
    ) -> None:
        self._sock = sock
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._replies = Replies()
        self.is_over: bool = False
        """Whether it was lost or closed."""
        self._is_paused = False
        self.read_bytes: int = 0
        """Bytes that have arrived since `resume`."""

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        on_answer: Callable[[Reply | Value], object],
        on_lost: Callable[[AsyncWire, Exception], None],
    ) -> AsyncWire:
        """Return a new connection to the hub at *path*. Raises OSError."""
        # Not the loop's sock_connect: it treats EAGAIN (a full listen backlog) as a connection in progress.
        sock = connected_socket(path)
        try:
            _, wire = await asyncio.get_running_loop().create_unix_connection(
                lambda: cls(sock, on_answer, on_lost), sock=sock
            )
        except BaseException:
            sock.close()
            raise
        return wire

    def has_ended(self) -> bool:
        """Return whether it was lost or closed, also if the event loop has not noticed yet that the hub closed it."""
        if not self.is_over:
            try:
                if not self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                    self.connection_lost(None)
            except BlockingIOError:
                pass
            except OSError as error:
                self.connection_lost(error)
        return self.is_over

    def send(self, data: bytes) -> None:
        """Send *data*, unless the connection is lost."""
        if not self.is_over:
            self._transport.write(data)

    def pause(self) -> None:
        """Read no more until `resume`."""
        if not self.is_over and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        self.read_bytes = 0
        if self._is_paused and not self.is_over:
            self._is_paused = False
            self._transport.resume_reading()

    def close(self) -> None:
        """End the connection."""
        self.is_over = True
        self._transport.abort()

    # Called by the transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(
            asyncio.Transport, transport
        )  # uvloop's transport has the methods but not the base class

    def data_received(self, data: bytes) -> None:
        self.read_bytes += len(data)
        try:
            for answer in self._replies.feed(data):
                if self.is_over:
                    return
                self._on_answer(answer)
        except (OSError, ValueError) as error:
            self.connection_lost(error)

    def eof_received(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.is_over:
            self.close()
            reset = ConnectionResetError(errno.ECONNRESET, "the hub closed the connection without an answer")
            self._on_lost(self, error or reset)
