"""
The source `http`: a server at a Unix path or at an address.

Always true:
- on a path, the kernel identifies the peer, and the socket is bound as the hub's is (hub.socketfile); at an address,
  the peer is the host that connects, and without the token nothing is answered except what hub.web.door lists;
- a user has its share of the connections, as on the hub's socket (hub.listener);
- a token that is renewed is in force within a second. A file that cannot be used is logged once, and the former token
  stays in force;
- a stop answers the requests at hand, and ends what follows the journal.

Not here: requests (hub.web.website), connections (hub.web.connection).
"""

from __future__ import annotations

import importlib
import socket
from types import ModuleType

import msgspec

from hub.access import Gate
from hub.endpoint import Endpoint
from hub.errors import SourceError
from hub.intake import NO_LIMITS, Tally
from hub.listener import Listener
from hub.log import get_logger
from hub.message import Peer
from hub.peer import groups_of, peer_of, remote_peer
from hub.quantities import Mode
from hub.secretfile import Unusable, read_secret
from hub.socketfile import SocketFile
from hub.sources.configured import Accepting, renew_if_lost
from hub.sources.kinds import Http
from hub.sources.renewed import Renewed
from hub.sources.shown import Shown
from hub.tcpsocket import TcpSocket
from hub.users import User, Users
from hub.web.connection import HttpConnection
from hub.web.door import Door
from hub.web.website import Website

CONNECTIONS_MAX = 256
"""Maximum connections of one source; more wait in the backlog. Each may hold 128 KiB that are not parsed yet."""
log = get_logger("mpsr.sources")


class HttpSource:
    """Serves the path or the address of *table*."""

    def __init__(self, table: Http, endpoint: Endpoint, shown: Shown) -> None:
        self.tally: Tally = Tally()
        self._table = table
        self._endpoint = endpoint
        self._shown = shown
        self._token: Renewed[bytes] | None = None
        tag = None if table.tag is None else table.tag.encode()
        if table.token_file is not None:
            self._token = Renewed(table, (table.token_file,), lambda: _read_token(table))
        door = Door(None if table.address is None else self._expected)
        self._website = Website(self._endpoint, self._shown, door, tag=tag, otlp=_otlp())
        if table.address is not None:
            self._socket: SocketFile | TcpSocket = TcpSocket(table.address)
        else:
            assert table.path is not None
            assert table.mode is not None
            self._socket = SocketFile.bind(table.path, mode=table.mode, group=table.group)
        self._listener = Listener(
            self._socket,
            self._connect,
            users=Users(),
            metrics=self._endpoint.metrics,
            connections_max=CONNECTIONS_MAX,
            identify=peer_of if table.address is None else remote_peer,
        )
        self._accepting = Accepting(self._listener, self._look)

    @property
    def where(self) -> str:
        """The path, or the address, also if the kernel has chosen its port."""
        return self._socket.path

    def permit(self, mode: int, group: str | None) -> None:
        """Change mode and group of the socket's file, if there is one. Raises MpsrError."""
        if isinstance(self._socket, SocketFile):
            self._socket.permit(mode, group)
        self._table = msgspec.structs.replace(self._table, mode=Mode(mode), group=group)

    async def run(self) -> None:
        """Accept until `stop` is called, and answer what is at hand. Raises MpsrError or OSError."""
        await self._accepting.run()

    async def stop(self, timeout: float) -> None:
        """Accept no more clients, and return when all requests are answered, at most *timeout* seconds later."""
        await self._accepting.stop(timeout)

    def _connect(self, sock: socket.socket, peer: Peer, _: User) -> HttpConnection:
        self._endpoint.metrics.connections_accepted += 1
        gate = Gate(self._endpoint.access, peer, lambda: groups_of(sock, peer))
        # The requests look at the limits by themselves: they can be refused, so nothing has to be dropped.
        admission = self._endpoint.admission(peer, gate, self.tally, limits=NO_LIMITS)
        return HttpConnection(admission, self._website.answer)

    def _look(self) -> None:
        """Bind the socket anew if its file is gone, and read the token again if it has changed."""
        if isinstance(self._socket, SocketFile):
            assert self._table.mode is not None
            renew_if_lost(self._socket, self._listener, self._table.mode, self._table.group)
        elif self._token is not None:
            self._token.look()

    def _expected(self) -> bytes:
        """Return the token that a request needs."""
        return b"" if self._token is None else self._token.value


def _read_token(table: Http) -> bytes:
    """Return the token in the file of *table*. Raises SourceError."""
    assert table.token_file is not None
    try:
        return read_secret(table.token_file)
    except Unusable as error:
        raise SourceError(table.where, str(error)) from error


def _otlp() -> ModuleType | None:
    """Return hub.wire.otlp, or None if its libraries are not there."""
    try:
        return importlib.import_module("hub.wire.otlp")
    except ImportError:
        return None
