"""
The accept loop: one task per connection, and a limit on connections.

It replaces the event loop's server. That server closes new connections when descriptors run out, and the data they have
sent is lost. This loop stops accepting instead, so that clients wait in the backlog.

Always true:
- a user has at most half of the connections that the other users leave free, and at least one. While the hub runs,
  further ones are closed at once, so that they delay no other user;
- no other connection is lost: `stop` accepts and reads the backlog, or leaves it to the next hub if the socket is kept;
- one step on the event loop accepts or stops at most `STEP_MAX` connections;
- an error in one connection is logged and ends only that connection.

Not here: the socket's file (hub.socketfile), the work of a connection (hub.connection).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import resource
import socket
from collections.abc import Callable, Collection
from typing import Generic, Protocol, TypeVar

from hub.log import get_logger
from hub.message import Peer
from hub.metrics import Metrics
from hub.peer import peer_of
from hub.ration import Lines
from hub.users import User, Users
from hub.waiting import until_set

CONNECTIONS_MAX = 10_000
BACKLOG_MAX = 8192
"""Connections accepted after a stop has begun: more than wait in any backlog, which has 4,096."""
DESCRIPTORS_EACH = 2
"""Descriptors per connection: the socket, and a duplicate to watch it while its client does not read (hub.outbox)."""
DESCRIPTORS_RESERVED = 64
"""Descriptors for the rest: journal, spool, log, event loop, libraries."""
STEP_MAX = 12
"""Maximum connections accepted in one step, 2 to 3 milliseconds. With 32, others waited three times as long."""
SEND_BUFFER_BYTES = 1 << 20
"""The kernel counts a small acknowledgement as 768 bytes. Its default buffer holds 278 of them; this one, thousands."""
RETRY_S = 0.1
_FOR_NOW = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
log = get_logger("mpsr.listener")


def bounded_connections(connections_max: int) -> int:
    """Return *connections_max*, reduced to what the descriptor limit of this process allows."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return connections_max
    possible = max((limit - DESCRIPTORS_RESERVED) // DESCRIPTORS_EACH, 1)
    if possible < connections_max:
        log.info("listener.limited", connections_max=possible, configured=connections_max, descriptors_max=limit)
    return min(possible, connections_max)


class Bound(Protocol):
    """A socket that listens, and what is to be done with its path."""

    sock: socket.socket

    @property
    def is_kept(self) -> bool: ...

    def remove(self) -> None: ...

    def close(self) -> None: ...


class Client(Protocol):
    """What serves one socket: a connection, or something that becomes one."""

    @property
    def peer(self) -> Peer: ...

    @property
    def user(self) -> User: ...

    async def serve(self, sock: socket.socket) -> None: ...

    def stop(self) -> None: ...

    def limit(self, frame_bytes_max: int) -> None: ...


ClientT = TypeVar("ClientT", bound=Client)


class Listener(Generic[ClientT]):
    """
    Accept connections on a bound socket.

    *connect* makes the client for a socket. *on_end* is called when a connection has ended. *identify* returns the peer
    of a socket. *admit* returns whether it may connect; without it, every client may. *lines* takes the log lines about
    refusals; without it, they are those of each user.
    """

    def __init__(  # noqa: PLR0913  all but two by name
        self,
        socket_file: Bound,
        connect: Callable[[socket.socket, Peer, User], ClientT],
        *,
        users: Users,
        metrics: Metrics,
        connections_max: int = CONNECTIONS_MAX,
        on_end: Callable[[ClientT], None] | None = None,
        identify: Callable[[socket.socket], Peer] = peer_of,
        admit: Callable[[socket.socket, Peer], bool] | None = None,
        lines: Lines | None = None,
    ) -> None:
        self._file = socket_file
        self._connect = connect
        self._users = users
        self._metrics = metrics
        self._connections_max = connections_max
        self._on_end = on_end
        self._identify = identify
        self._admit = admit
        self._refusals = lines
        self._lines = Lines()
        self._connections: dict[asyncio.Task[None], ClientT] = {}
        self._room = asyncio.Event()
        self._accepted: asyncio.Future[None] | None = None  # done when something was accepted
        self._is_stopping = False
        self._is_short = False  # out of descriptors or memory

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return len(self._connections)

    @property
    def clients(self) -> Collection[ClientT]:
        """The open connections."""
        return self._connections.values()

    async def run(self) -> None:
        """Accept until cancelled by the owner."""
        while True:
            try:
                await self._accept_next()
            except OSError as error:
                await self._wait_out(error)
            if len(self._connections) >= self._connections_max:
                self._log_paused("connection limit")
                await self._wait_for_room()
                self._lines.log(log.info, "listener.resumed")

    def limit(self, *, connections_max: int, frame_bytes_max: int) -> None:
        """Change the limits, that of frames for the open connections."""
        self._connections_max = connections_max
        self._room.set()
        for connection in self._connections.values():
            connection.limit(frame_bytes_max)

    def renew(self, bind: Callable[[], socket.socket]) -> bool:
        """
        Accept the backlog of the socket, whose file was lost, and replace it: *bind* binds the path anew, and returns
        the former socket. Return whether that was done: at the limit of connections it is not, because no client could
        be accepted.
        """
        with contextlib.suppress(OSError):  # a shortage; or the socket is closed, which `run` raises
            while self._accept_some():
                pass
            if len(self._connections) < self._connections_max:
                self._renew(bind())
                return True
        return False

    def _renew(self, former: socket.socket) -> None:
        """Close the *former* socket, and accept from the present one."""
        asyncio.get_running_loop().remove_reader(former.fileno())
        former.close()
        if self._accepted is not None and not self._accepted.done():
            self._accepted.set_result(None)

    async def stop(self, *, timeout: float) -> int:
        """
        Remove the path, accept the backlog, read what all clients have sent, and let the connections end.

        If the socket is kept open for the next hub, its path stays and its backlog waits for that hub.

        Returns the number of connections that were cut off at the deadline; their last batches were not committed.
        """
        self._is_stopping = True
        self._file.remove()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while not await self._accept_last() and loop.time() < deadline:  # out of descriptors: accept more when some end
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

    async def _accept_next(self) -> None:
        """
        Wait until the backlog is not empty, and accept from it. Raises OSError.

        The loop's callback accepts, not this task one step later: a client such as `logger` has often ended by then,
        and with it the name of its command. (A cancelled `sock_accept` can lose the connection that it accepted.)
        """
        loop, sock, fd = asyncio.get_running_loop(), self._file.sock, self._file.sock.fileno()
        accepted: asyncio.Future[None] = loop.create_future()
        self._accepted = accepted

        def accept() -> None:
            if accepted.done():
                return
            try:
                self._accept_some()
            except Exception as error:  # noqa: BLE001  raised in the task
                accepted.set_exception(error)
            else:
                accepted.set_result(None)

        loop.add_reader(fd, accept)
        try:
            await accepted
        finally:
            if sock is self._file.sock:  # otherwise its number may be that of another socket by now
                loop.remove_reader(fd)

    def _accept_some(self) -> bool:
        """Accept up to `STEP_MAX` connections within the limit. Return True if the backlog may hold more."""
        for _ in range(STEP_MAX):
            if len(self._connections) >= self._connections_max and not self._is_stopping:
                return False
            try:
                sock, _ = self._file.sock.accept()
            except (BlockingIOError, ConnectionAbortedError):
                return False
            if self._is_short:
                self._is_short = False
                self._lines.log(log.info, "listener.resumed")
            self._start(sock)
        return True

    async def _accept_last(self) -> bool:
        """Accept the backlog, unless it is kept, and stop every connection. Return False during a shortage."""
        try:
            if not self._file.is_kept:
                for _ in range(BACKLOG_MAX // STEP_MAX):  # if no file was removed, more clients may arrive
                    if not self._accept_some():
                        break
                    await asyncio.sleep(0)
        except OSError as error:
            return error.errno not in _FOR_NOW
        finally:
            for number, connection in enumerate(list(self._connections.values()), 1):
                connection.stop()
                if number % STEP_MAX == 0:
                    await asyncio.sleep(0)
        return True

    def _start(self, sock: socket.socket) -> None:
        """Serve a client, or close its socket if it may not connect, or its user has its share of the connections."""
        peer = self._identify(sock)  # first of all: the process may be about to end
        sock.setblocking(False)
        user = self._users.of(peer.uid)
        if self._admit is not None and not self._admit(sock, peer):
            self._refuse(sock, peer, user, "no rule allows it")
            return
        if not self._is_stopping and not user.may_connect(len(self._connections), self._connections_max):
            self._refuse(sock, peer, user, "it has its share")
            return
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        connection = self._connect(sock, peer, user)
        user.connections += 1
        task = asyncio.get_running_loop().create_task(self._serve(connection, sock))
        self._connections[task] = connection
        task.add_done_callback(functools.partial(self._ended, user))

    def _refuse(self, sock: socket.socket, peer: Peer, user: User, reason: str) -> None:
        sock.close()
        self._metrics.connections_refused += 1
        (self._refusals or user.lines).log(
            log.warning,
            "connection.refused",
            uid=user.uid,
            comm=peer.comm,
            connections=user.connections,
            reason=reason,
        )

    async def _serve(self, connection: ClientT, sock: socket.socket) -> None:
        try:
            await connection.serve(sock)
        except Exception:  # noqa: BLE001  logged with its traceback, at most once a second for each user
            connection.user.lines.log(log.exception, "connection.failed", peer_pid=connection.peer.pid)
        finally:
            sock.close()  # `run` closes it too, if it was reached

    def _ended(self, user: User, task: asyncio.Task[None]) -> None:
        connection = self._connections.pop(task)
        user.connections -= 1
        self._room.set()
        if self._on_end is not None:
            self._on_end(connection)

    async def _wait_for_room(self) -> None:
        while len(self._connections) >= self._connections_max:
            self._room.clear()
            await self._room.wait()

    async def _wait_out(self, error: OSError) -> None:
        """After a shortage, wait until a connection ends or `RETRY_S` pass. Raises any other error."""
        if error.errno == errno.ECONNABORTED:
            return
        if error.errno not in _FOR_NOW:
            raise error
        if not self._is_short:  # log once until the next successful accept
            self._is_short = True
            self._log_paused(error.strerror or str(error))
        await self._wait_a_little()

    def _log_paused(self, reason: str) -> None:
        self._lines.log(log.warning, "listener.paused", connections=len(self._connections), reason=reason)

    async def _wait_a_little(self) -> None:
        """Wait until a connection ends, at most `RETRY_S`."""
        self._room.clear()
        await until_set(self._room, RETRY_S)
