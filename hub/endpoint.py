"""
One socket, its connections, and the inbox that they fill: what `Hub` and the service have in common.

Always true:
- connections are accepted only while `run` runs; before that, clients wait in the backlog;
- every source of the hub shares the users, the budget, the inbox and the opener of the endpoint.

Not here: the receiver (hub.hub, hub.receiver), the work of a connection (hub.connection).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection, Mapping

from hub.access import Access, Gate
from hub.budget import INBOX_BYTES_MAX, Budget
from hub.connection import Connection
from hub.dispatch import AnyCommand
from hub.errors import SocketError
from hub.inbox import Inbox
from hub.intake import Admission, Intake, Tally
from hub.limits import Limits
from hub.listener import CONNECTIONS_MAX, Listener, bounded_connections
from hub.log import get_logger
from hub.losses import Losses
from hub.message import Peer
from hub.metrics import Metrics
from hub.opener import Opener
from hub.peer import groups_of
from hub.socketfile import SocketFile
from hub.users import User, Users
from hub.wire.detect import DecoderClass
from hub.wire.frame import FRAME_BYTES_MAX

log = get_logger("mpsr.endpoint")


class Endpoint:
    """
    Serve the clients of a bound socket, which the endpoint owns from now on.

    *access* holds the rules for sending and for commands; without it, everything is allowed. *losses* counts what is
    lost, of any source. Create it in a running event loop, and end it with `stop` and `close`.
    """

    def __init__(
        self,
        socket_file: SocketFile,
        *,
        access: Access | None = None,
        metrics: Metrics | None = None,
        losses: Losses | None = None,
        connections_max: int = CONNECTIONS_MAX,
        inbox_bytes_max: int = INBOX_BYTES_MAX,
        frame_bytes_max: int = FRAME_BYTES_MAX,
    ) -> None:
        self.path = socket_file.path
        self._file = socket_file
        self.access = access or Access()
        self.metrics = metrics or Metrics()
        self.frame_bytes_max = frame_bytes_max
        """Maximum size of one frame, from any source."""
        self.users = Users()
        """The users, and the share of each in the hub's resources."""
        self.limits = Limits()
        """How much each user may send a second, from any source."""
        self.losses = losses or Losses()
        """Recent losses, from any source."""
        self.inbox = Inbox(Budget(bytes_max=inbox_bytes_max))
        self.connection_ended = asyncio.Event()
        """Set at each end of a connection. The one task that waits for it clears it."""
        self._ended = Tally()  # of connections that have ended
        self._opener = Opener(self.inbox.budget)
        self._commands: Mapping[str, AnyCommand] = {}
        self._accepting: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._is_lost = False
        self._listener = Listener(
            socket_file,
            self._connect,
            users=self.users,
            metrics=self.metrics,
            connections_max=bounded_connections(connections_max),
            on_end=self._note_end,
            admit=self._admits if socket_file.is_abstract else None,
        )

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return self._listener.connections

    @property
    def clients(self) -> Collection[Connection]:
        """The open connections."""
        return self._listener.clients

    @property
    def tally(self) -> Tally:
        """The messages that all connections have sent since the start."""
        tally = Tally()
        for each in (self._ended, *(client.tally for client in self.clients)):
            tally.add(each)
        return tally

    async def run(self, commands: Mapping[str, AnyCommand]) -> None:
        """
        Accept connections, which may call *commands*, until `stop` is called or this task is cancelled.

        Raises SocketError if no more connections can be accepted; open connections continue.
        """
        if self._is_stopping:
            return
        self._commands = commands
        self._accepting = accepting = asyncio.create_task(self._listener.run(), name="mpsr-accept")
        try:
            await asyncio.wait((accepting,))
        finally:
            accepting.cancel()
            await asyncio.wait((accepting,))
        if not accepting.cancelled() and (error := accepting.exception()) is not None:
            log.error("listener.failed", error=repr(error))
            raise SocketError(self.path, "connections can no longer be accepted (see the log above)") from error

    def stop_accepting(self) -> None:
        """Accept no more clients, at once: the rest of the backlog is for `stop`."""
        self._is_stopping = True
        self.users.stop()
        if self._accepting is not None:
            self._accepting.cancel()

    async def stop(self, *, timeout: float) -> int:
        """
        Accept no new clients, read what was sent, and return when the receiver has settled it and every connection is
        closed.

        Return the number of connections that were cut off after *timeout* seconds. A call that was cancelled can be
        repeated.
        """
        self.stop_accepting()
        if self._accepting is not None:
            await asyncio.wait((self._accepting,))
        return await self._listener.stop(timeout=timeout)

    def close(self) -> None:
        """Close the inbox: what is in it can still be taken. Call it when all sources have stopped."""
        self.inbox.close()
        self._opener.close()

    @property
    def is_inherited(self) -> bool:
        """Whether another process made the socket. It decides on mode and group of the socket's file."""
        return self._file.is_adopted

    def keep_path(self, mode: int, group: str | None) -> bool:
        """
        Bind the path anew if its file was removed or replaced. Return whether that was done.

        The path of an inherited socket belongs to its maker: if it is lost, that is logged once. Raises SocketError and
        UnknownGroup.
        """
        was_lost, self._is_lost = self._is_lost, self._file.is_lost
        if not self._is_lost or self._accepting is None or self._is_stopping:
            return False
        if self._file.is_adopted:
            if not was_lost:
                log.error("socket.lost", socket=self.path, action="restart the socket unit: no client can connect")
            return False
        if not self._listener.renew(lambda: self._file.listen_again(mode, group)):
            return False
        log.warning("socket.renewed", socket=self.path)
        return True

    def permit(self, mode: int, group: str | None) -> None:
        """Change mode and group of the socket's file. Raises UnknownGroup or SocketError, with nothing changed."""
        self._file.permit(mode, group)

    def limit(self, *, connections_max: int, frame_bytes_max: int) -> None:
        """Change the limits, for open connections too."""
        self.frame_bytes_max = frame_bytes_max
        self._listener.limit(connections_max=bounded_connections(connections_max), frame_bytes_max=frame_bytes_max)

    def intake(self, peer: Peer, gate: Gate, tally: Tally | None = None) -> Intake:
        """Return the intake for messages of *peer*, from any source. *tally* counts what it accepts."""
        return Intake(self.admission(peer, gate, tally))

    def admission(
        self, peer: Peer, gate: Gate, tally: Tally | None = None, *, limits: Limits | None = None
    ) -> Admission:
        """
        Return what the intake for messages of *peer* begins with, for a connection that makes it. *limits* are others
        than those of the hub.
        """
        return Admission(
            peer,
            self.users.of(peer.uid),
            self.inbox,
            self._opener,
            self.metrics,
            gate,
            tally,
            self.limits if limits is None else limits,
            self.losses,
        )

    def listener(
        self, socket_file: SocketFile, decoder: DecoderClass, *, connections_max: int, tally: Tally
    ) -> Listener[Connection]:
        """
        Return the listener for another socket, whose connections all speak the protocol of *decoder*, and call no
        commands. It counts connections by itself; *tally* counts what they send.
        """

        def connect(sock: socket.socket, peer: Peer, _: User) -> Connection:
            self.metrics.connections_accepted += 1
            admission = self.admission(peer, Gate(self.access, peer, lambda: groups_of(sock, peer)), tally)
            return Connection(sock, admission, commands={}, frame_bytes_max=self.frame_bytes_max, decoder=decoder)

        return Listener(socket_file, connect, users=Users(), metrics=self.metrics, connections_max=connections_max)

    def _note_end(self, connection: Connection) -> None:
        self._ended.add(connection.tally)
        self.connection_ended.set()

    def _connect(self, sock: socket.socket, peer: Peer, user: User) -> Connection:
        self.metrics.connections_accepted += 1
        gate = Gate(self.access, peer, lambda: groups_of(sock, peer), is_open=not self._file.is_abstract)
        admission = self.admission(peer, gate)
        return Connection(sock, admission, commands=self._commands, frame_bytes_max=self.frame_bytes_max)

    def _admits(self, sock: socket.socket, peer: Peer) -> bool:
        """Return whether a peer may connect to a socket that has no file, and so no mode that would keep it away."""
        return self.access.admits(peer, groups_of(sock, peer))
