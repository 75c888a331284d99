"""
The accept loop: one task for each connection, and no more connections than we can serve.

Our own loop and not the event loop's server: that one closes new connections when descriptors run out, with what they
sent; this one waits, and the backlog waits with it.

Always true:
- nobody who connected is lost: on `stop` the backlog is accepted and read too, or it is there for the next hub;
- a connection that fails is logged and ends alone.

Not here: the socket's file (hub.socketfile), what a connection does (hub.connection).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

from hub.connection import Connection
from hub.reporting import get_logger
from hub.socketfile import SocketFile

CONNECTIONS_MAX = 10_000
SEND_BUFFER_BYTES = 1 << 20
"""The kernel counts a small acknowledgement as 768 bytes: the default holds 278 of them, this some thousands."""
RETRY_S = 0.1
_FOR_NOW = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
log = get_logger("mpsr.listener")


class Listener:
    """Accepts connections on a bound socket; *connect* makes what serves one, *on_end* is called when one has ended."""

    def __init__(
        self,
        socket_file: SocketFile,
        connect: Callable[[socket.socket], Connection],
        *,
        connections_max: int = CONNECTIONS_MAX,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        self._file = socket_file
        self._connect = connect
        self._connections_max = connections_max
        self._on_end = on_end
        self._connections: dict[asyncio.Task[None], Connection] = {}
        self._room = asyncio.Event()
        self._is_stopping = False
        self._is_short = False  # of descriptors or memory

    @property
    def connections(self) -> int:
        """How many are connected now."""
        return len(self._connections)

    async def run(self) -> None:
        """Accept for ever; cancelled by its owner."""
        while True:
            await self._wait_for_client()
            try:
                self._accept_waiting()
            except OSError as error:
                await self._wait_out(error)
            if len(self._connections) >= self._connections_max:
                log.warning("listener.paused", connections=len(self._connections), reason="connection limit")
                await self._wait_for_room()
                log.info("listener.resumed")

    def change(self, *, mode: int, group: str | None, connections_max: int) -> None:
        """Change the socket's permissions and the limit. Raises UnknownGroup or SocketError, with nothing changed."""
        self._file.permit(mode, group)
        self._connections_max = connections_max
        self._room.set()

    async def stop(self, *, timeout_s: float) -> int:
        """
        Take the path away, accept who is waiting, read what all have sent, and let the connections end.

        With a socket that is kept open for the next hub, its path stays, and who is waiting waits for that.

        Returns how many had not ended in time (their batches were not committed; they were cut off).
        """
        self._is_stopping = True
        self._file.remove()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_s
        while not self._accept_last() and loop.time() < deadline:  # out of descriptors: accept more as some end
            await self._wait_a_little()
        late: set[asyncio.Task[None]] = set()
        if self._connections:
            _, late = await asyncio.wait(self._connections, timeout=max(deadline - loop.time(), 0.0))
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)
        self._file.close()
        return len(late)

    async def _wait_for_client(self) -> None:
        """Wait until somebody is in the backlog. Not by `sock_accept`: cancelled, it can lose whom it accepted."""
        loop, handle = asyncio.get_running_loop(), self._file.sock.fileno()
        arrived = asyncio.Event()
        loop.add_reader(handle, arrived.set)
        try:
            await arrived.wait()
        finally:
            loop.remove_reader(handle)

    def _accept_waiting(self) -> None:
        """Accept everybody in the backlog, as far as the limit allows."""
        while len(self._connections) < self._connections_max or self._is_stopping:
            try:
                sock, _ = self._file.sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return
            if self._is_short:
                self._is_short = False
                log.info("listener.resumed")
            self._start(sock)

    def _accept_last(self) -> bool:
        """Accept and end everybody; False if some could not be accepted for now."""
        try:
            if not self._file.is_kept:
                self._accept_waiting()
        except OSError as error:
            return error.errno not in _FOR_NOW
        finally:
            for connection in self._connections.values():
                connection.stop()
        return True

    def _start(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        connection = self._connect(sock)
        task = asyncio.get_running_loop().create_task(self._serve(connection, sock))
        self._connections[task] = connection
        task.add_done_callback(self._ended)

    async def _serve(self, connection: Connection, sock: socket.socket) -> None:
        try:
            if not connection.has_ended:
                await asyncio.get_running_loop().connect_accepted_socket(lambda: connection, sock)
            await connection.run()
        except Exception:
            log.exception("connection.failed", peer_pid=connection.peer.pid)
        finally:
            sock.close()  # a second time, unless it never came to `run`

    def _ended(self, task: asyncio.Task[None]) -> None:
        del self._connections[task]
        self._room.set()
        if self._on_end is not None:
            self._on_end()

    async def _wait_for_room(self) -> None:
        while len(self._connections) >= self._connections_max:
            self._room.clear()
            await self._room.wait()

    async def _wait_out(self, error: OSError) -> None:
        """Out of descriptors or memory: wait until somebody leaves, or a while; anything else is a fault of ours."""
        if error.errno == errno.ECONNABORTED:
            return
        if error.errno not in _FOR_NOW:
            raise error
        if not self._is_short:  # once, until somebody is accepted again
            self._is_short = True
            log.warning("listener.paused", connections=len(self._connections), reason=error.strerror)
        await self._wait_a_little()

    async def _wait_a_little(self) -> None:
        """Wait until a connection ends, or a while."""
        self._room.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S):  # not wait_for, which can swallow being cancelled (3.11)
                await self._room.wait()
