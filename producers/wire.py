"""
One connection for commands, of a program that waits: requests out, replies and values in.

Always true:
- it leads to a trusted hub (producers.connecting);
- one thread may send while another receives;
- a wait ends at its deadline, also in a program that gevent or eventlet has patched, whose other greenlets go on;
- a descriptor that the application has closed is not used (hub.descriptor).

Not here: which reply belongs to which request (producers.exchange, producers.stream).
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket

from hub import descriptor
from hub.trust import Untrusted
from hub.wire.jsonrpc import Reply, Value
from producers import clock
from producers.connecting import connected_socket, describe, hang_up
from producers.errors import NotConnected, NotTrusted
from producers.replies import Replies

_READ_BYTES = 256 << 10
_CLOSED = "the descriptor of the connection is closed"


class Wire:
    """A new connection to the hub at *path*. Raises OSError."""

    def __init__(self, path: str) -> None:
        self._identity: descriptor.Identity | None = None
        self._sock = connected_socket(path)
        self._identity = descriptor.identity(self._sock.fileno())
        self._replies = Replies()
        self._is_closed = False
        self._waits = [False, False]  # whether a thread waits: to send, to receive

    def send(self, data: bytes, deadline: float | None) -> None:
        """Send all of *data*. Raises TimeoutError or another OSError; then the hub has not received all of it."""
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[self._ours().send(rest) :]
            except BlockingIOError:
                self._wait(deadline, is_for_reading=False)

    def receive(self, deadline: float | None) -> list[Reply | Value]:
        """
        Wait for data, and return the replies and values that it completes. Raises TimeoutError, another OSError, or
        ValueError.
        """
        while True:
            self._wait(deadline, is_for_reading=True)
            try:
                data = self._ours().recv(_READ_BYTES)
            except BlockingIOError:  # it was not for us
                continue
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the hub closed the connection without an answer")
            return self._replies.feed(data)

    def close(self) -> None:
        """End the connection, and every wait for it."""
        if descriptor.is_same(self._sock.fileno(), self._identity):
            with contextlib.suppress(OSError):
                self._sock.shutdown(socket.SHUT_RDWR)
        self._is_closed = True
        if not any(self._waits):  # gevent and eventlet do not notice that a descriptor was closed
            self.forget()

    def forget(self) -> None:
        """Close the descriptor, as after a fork: the connection itself is the parent's."""
        hang_up(self._sock, self._identity)

    def __del__(self) -> None:
        if hasattr(self, "_sock"):
            self.forget()

    def _ours(self) -> socket.socket:
        if not descriptor.is_same(self._sock.fileno(), self._identity):
            raise OSError(errno.EBADF, _CLOSED)
        return self._sock

    def _wait(self, deadline: float | None, *, is_for_reading: bool) -> None:
        left_s = None if deadline is None else max(deadline - clock.now(), 0.0)
        self._waits[is_for_reading] = True  # before the descriptor is looked at: from now on, `close` leaves it to us
        try:
            is_ready = _is_ready(self._ours(), left_s, is_for_reading=is_for_reading)
        except ValueError as error:  # a `close` that had begun before has closed it since
            raise OSError(errno.EBADF, _CLOSED) from error
        finally:
            self._waits[is_for_reading] = False
            if self._is_closed:
                self.close()
        if not is_ready:
            raise TimeoutError


def _is_ready(sock: socket.socket, timeout: float | None, *, is_for_reading: bool) -> bool:
    """Return whether *sock* is ready within *timeout* seconds. Other greenlets run meanwhile."""
    if not hasattr(select, "poll"):  # in a program that eventlet has patched
        readers, writers = ([sock], []) if is_for_reading else ([], [sock])
        return any(select.select(readers, writers, [], timeout))
    poll = select.poll()
    poll.register(sock, select.POLLIN if is_for_reading else select.POLLOUT)
    return bool(poll.poll(None if timeout is None else timeout * 1000))


def refusal(error: Exception, path: str, timeout: float) -> NotConnected:
    """Return why there is no answer from the hub at *path*, for a caller that wanted one within *timeout* seconds."""
    if isinstance(error, Untrusted):
        return NotTrusted(path, describe(error, path))
    return NotConnected(path, reason_of(error, path, timeout))


def reason_of(error: Exception, path: str, timeout: float) -> str:
    """Return the same as text."""
    if isinstance(error, (TimeoutError, BlockingIOError)):
        return f"no answer within {timeout:g} s"
    if isinstance(error, OSError):
        return describe(error, path)
    return f"the answer is no JSON-RPC reply ({error})"
