"""
A server of the page at one address.

Always true: connections are bounded, those that have not shown the token more tightly (hub.web.strangers), and each
costs the host that connects until it has shown the token; when the server ends, its connections end too.

Not here: what is answered (hub.web.pagesite), who opens a server (hub.web.pages).
"""

from __future__ import annotations

import functools
import importlib.metadata
import socket
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

from hub.access import Gate
from hub.address import Address
from hub.dispatch import AnyCommand
from hub.endpoint import Endpoint
from hub.extras import without_extra
from hub.intake import NO_LIMITS, Admission, Intake
from hub.listener import Listener
from hub.message import Peer
from hub.peer import groups_of, remote_peer
from hub.sources.configured import Accepting
from hub.sources.shown import Shown
from hub.tcpsocket import TcpSocket
from hub.users import User, Users
from hub.web.connection import HttpConnection
from hub.web.pagedoor import PageDoor
from hub.web.pagesite import PageSite, Visit
from hub.web.strangers import Strangers

LOOPBACK = Address("127.0.0.1:0")
CONNECTIONS_MAX = 64
"""A page has one WebSocket, and a browser opens six connections to load it."""


class PageServer:
    """Serves the page at *address*. *look* is called every second."""

    def __init__(
        self,
        address: Address,
        door: PageDoor,
        visit: Visit,
        endpoint: Endpoint,
        shown: Shown,
        *,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._endpoint = endpoint
        self._strangers = Strangers()
        self._site = PageSite(door, visit, shown, on_token=self._strangers.remove)
        self._socket = TcpSocket(address)
        listener = Listener(
            self._socket,
            self._connect,
            users=Users(),
            metrics=endpoint.metrics,
            connections_max=CONNECTIONS_MAX,
            on_end=self._strangers.remove,
            identify=remote_peer,
        )
        self._accepting = Accepting(listener, look)

    @property
    def where(self) -> str:
        """The address, with the port that the kernel has chosen if it was 0."""
        return self._socket.path

    async def run(self) -> None:
        """Accept until `stop` is called, or this is cancelled; then the open connections end. Raises OSError."""
        await self._accepting.run()

    async def stop(self, timeout: float) -> None:
        """Accept no more clients, and return when all requests are answered, at most *timeout* seconds later."""
        await self._accepting.stop(timeout)

    def close(self) -> None:
        """Close the socket, if `run` has not done that."""
        self._socket.close()

    def _connect(self, sock: socket.socket, peer: Peer, _: User) -> HttpConnection:
        self._endpoint.metrics.connections_accepted += 1
        gate = Gate(self._endpoint.access, peer, lambda: groups_of(sock, peer))
        connection = HttpConnection(self._endpoint.admission(peer, gate, limits=NO_LIMITS), self._site.answer)
        self._strangers.add(connection)
        return connection


def page_for(
    caller: Intake, token: bytes, endpoint: Endpoint, shown: Shown, commands: Mapping[str, AnyCommand]
) -> PageServer:
    """Return a server on a port of loopback, where whoever knows *token* acts for *caller*. Raises SocketError."""
    admission = endpoint.admission(caller.peer, caller.gate, limits=NO_LIMITS)
    return page_at(LOOPBACK, (lambda: token, ()), admission, endpoint, shown, commands, look=lambda: None)


def greeting(endpoint: Endpoint, admission: Admission, commands: Mapping[str, AnyCommand]) -> dict[str, Any]:
    """Return what a page learns about its hub: names, version, time zone, methods that it may call, what they lack."""
    gate = admission.gate
    return {
        "name": "mpsr",
        "version": importlib.metadata.version("mpsr"),
        "host": socket.gethostname(),
        "socket": endpoint.path,
        "uid": admission.peer.uid,
        "zone_s": time.localtime().tm_gmtoff,
        "lacks": {method: fault for method, fault in (("sql", without_extra("SQL", "sql")),) if fault},
        "methods": sorted(method for method in commands if gate is None or gate.may_call(method)),
    }


def page_at(
    address: Address,
    lets_in: tuple[Callable[[], bytes], Collection[str]],
    admission: Admission,
    endpoint: Endpoint,
    shown: Shown,
    commands: Mapping[str, AnyCommand],
    *,
    look: Callable[[], None],
) -> PageServer:
    """
    Return a server at *address*. *lets_in* is what returns the token, and the accepted names of the host; who has the
    token acts for the user of *admission*. Raises SocketError.
    """
    visit = Visit(admission, commands, functools.partial(greeting, endpoint, admission, commands))
    return PageServer(address, PageDoor(*lets_in), visit, endpoint, shown, look=look)
