"""
A listening socket on TCP.

Always true: it is bound when it exists, and closed by `close`; connections die with the host at the other end
(keep-alive), in about two minutes.

Not here: accepting (hub.listener).
Source: listen(2), of which a second call changes the limit alone; tcp(7), TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT;
ipv6(7), IPV6_V6ONLY; bind(2).
"""

from __future__ import annotations

import contextlib
import errno
import socket

from hub.address import Address
from hub.errors import SocketError

BACKLOG = 4096
KEEP_ALIVE = {"TCP_KEEPIDLE": 60, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""Seconds of silence before the first probe, and between two; probes without an answer. By default it is two hours."""


class TcpSocket:
    """A listening, non-blocking socket at *address*."""

    is_kept = False
    """No other process keeps listening there after we stop."""

    def __init__(self, address: Address) -> None:
        """Listen. Raises SocketError."""
        is_6 = ":" in address.host
        self.sock: socket.socket = socket.socket(
            socket.AF_INET6 if is_6 else socket.AF_INET, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0)
        )
        try:
            self.sock.setblocking(False)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if is_6:  # else the address :: would take IPv4 too, from another source
                self.sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _keep_alive(self.sock)  # accepted sockets have it from this one
            self.sock.bind((address.host, address.port))
            self.sock.listen(BACKLOG)
        except OSError as error:
            self.sock.close()
            raise SocketError(address, _reason(error)) from error
        self.path = f"{address.rpartition(':')[0]}:{self.sock.getsockname()[1]}"
        """The address, with the port that the kernel has chosen if it was 0."""

    def remove(self) -> None:
        """
        Shrink the backlog, so that hardly any further clients wait. There is no file to remove, and clients may connect
        until `close`.
        """
        with contextlib.suppress(OSError):
            self.sock.listen(0)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()


def _keep_alive(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for name, value in KEEP_ALIVE.items():
            if (option := getattr(socket, name, None)) is not None:  # macOS has only some of them
                sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process is already listening there (stop it, or choose another address)"
    if error.errno == errno.EADDRNOTAVAIL:
        return "this host has no such address (choose one of `ip address`)"
    return f"{error.strerror} (choose another address)"
