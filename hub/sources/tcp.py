"""
Clients on TCP: Forward with or without a shared key, lines, syslog, JSON; in TLS if certificates are configured.

Always true:
- where other hosts can reach it, a client has proved that it knows the shared key, or has a certificate, before a byte
  of it is stored (hub.sources.kinds refuses anything else);
- the kernel identifies nobody: the peer is the host with that address, or the name in its certificate, `verified` is
  false, and the shares and limits of a user are those of that host. It calls no commands;
- clients that are not served cause one log line a second, all of them together;
- a certificate or key that is renewed is used from the next client on. One that cannot be used is logged once, and the
  former one stays in use;
- a stop reads what clients have sent; a client in the middle of a handshake is cut off.

Not here: what a client proves (hub.sources.greeting), connections (hub.connection, hub.listener).
"""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Callable

from hub.access import Gate
from hub.connection import Connection
from hub.endpoint import Endpoint
from hub.intake import Tally
from hub.listener import Client, Listener
from hub.log import get_logger
from hub.message import Peer
from hub.peer import peer_of_certificate, remote_peer
from hub.ration import Lines
from hub.sources.configured import CONNECTIONS_MAX, Accepting
from hub.sources.credentials import Credentials, load
from hub.sources.greeting import GREETING_S, Greeted, Greeting, Unwelcome
from hub.sources.kinds import Tcp
from hub.sources.renewed import Renewed
from hub.sources.tagging import TaggingDecoder
from hub.tcpsocket import TcpSocket
from hub.users import User, Users

log = get_logger("mpsr.sources")


class TcpSource:
    """Serves the address of *table*."""

    def __init__(self, table: Tcp, endpoint: Endpoint) -> None:
        self.tally: Tally = Tally()
        self._table = table
        self._endpoint = endpoint
        tag = None if table.tag is None else table.tag.encode()
        self._decoder = None if tag is None else functools.partial(TaggingDecoder, tag=tag)
        self._lines = Lines()
        paths = (table.shared_key_file, table.tls_cert, table.tls_key, table.tls_client_ca)
        self._credentials = Renewed(table, paths, lambda: load(table))
        self._socket = TcpSocket(table.address)
        self._listener = Listener(
            self._socket,
            self._connect,
            users=Users(),
            metrics=self._endpoint.metrics,
            connections_max=CONNECTIONS_MAX,
            identify=remote_peer,
            lines=self._lines,
        )
        self._accepting = Accepting(self._listener, self._look)

    @property
    def where(self) -> str:
        """The address that it listens at, also if the kernel has chosen the port."""
        return self._socket.path

    def permit(self, mode: int, group: str | None) -> None:
        """Do nothing: there is no file."""

    async def run(self) -> None:
        """Accept until `stop` is called, and read what was sent. Raises OSError."""
        await self._accepting.run()

    async def stop(self, timeout: float) -> None:
        """Accept no more clients, and return when what was sent is stored, at most *timeout* seconds later."""
        await self._accepting.stop(timeout)

    def _look(self) -> None:
        """Follow the limit of frames, and read the files again if they have changed."""
        self._listener.limit(connections_max=CONNECTIONS_MAX, frame_bytes_max=self._endpoint.frame_bytes_max)
        self._credentials.look()

    def _connect(self, sock: socket.socket, peer: Peer, _: User) -> Client:
        """Return what serves *sock*: its connection, or first its greeting."""
        self._endpoint.metrics.connections_accepted += 1
        credentials = self._credentials.value
        if not credentials.are_any:
            return self._connection(sock, peer, Greeted())
        return Arrival(sock, peer, self._endpoint.users.of(peer.uid), credentials, self._connection, self._reject)

    def _connection(self, sock: socket.socket, peer: Peer, greeted: Greeted) -> Connection:
        """Return the connection of a client that has proved what is required."""
        if greeted.name:
            peer = peer_of_certificate(greeted.name)
        gate = Gate(self._endpoint.access, peer, lambda: frozenset((peer.gid,)))
        return Connection(
            sock,
            self._endpoint.admission(peer, gate, self.tally),
            commands={},
            frame_bytes_max=self._endpoint.frame_bytes_max,
            decoder=self._decoder,
            tls=greeted.tls,
            first=greeted.first,
        )

    def _reject(self, peer: Peer, reason: str) -> None:
        self._endpoint.metrics.connections_unproved += 1
        self._lines.log(log.warning, "connection.unproved", address=self.where, remote=peer.comm, reason=reason)


class Arrival:
    """
    A client that has to prove something first. *connect* then makes its connection; *reject* is called if it fails.
    """

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        user: User,
        credentials: Credentials,
        connect: Callable[[socket.socket, Peer, Greeted], Connection],
        reject: Callable[[Peer, str], None],
    ) -> None:
        self.peer = peer
        self.user = user
        self._sock = sock
        self._greeting = Greeting(sock, credentials, user.turn)
        self._connect = connect
        self._reject = reject
        self._connection: Connection | None = None
        self._deadline: asyncio.Timeout | None = None
        self._is_stopping = False

    async def serve(self, sock: socket.socket) -> None:
        """Greet the client, and then serve it until it ends."""
        greeted = None if self._is_stopping else await self._greeted()
        if greeted is not None:
            self._connection = self._connect(sock, self.peer, greeted)
            await self._connection.serve(sock)

    def stop(self) -> None:
        """End as a connection does; a greeting is broken off."""
        self._is_stopping = True
        if self._connection is not None:
            self._connection.stop()
        elif self._deadline is not None and not self._deadline.expired():
            self._deadline.reschedule(asyncio.get_running_loop().time())

    def limit(self, frame_bytes_max: int) -> None:
        """Change the largest size of a frame."""
        if self._connection is not None:
            self._connection.limit(frame_bytes_max)

    async def _greeted(self) -> Greeted | None:
        """Return the greeted client when it has proved what is required; None if it has not."""
        reason = ""
        try:
            async with asyncio.timeout(GREETING_S) as self._deadline:
                return await self._greeting.run()
        except Unwelcome as unwelcome:
            reason = str(unwelcome)
        except TimeoutError:
            reason = "" if self._is_stopping else f"it has not finished its handshake in {GREETING_S:g} s"
        except OSError:  # it left
            pass
        if reason:
            self._reject(self.peer, reason)
        return None
