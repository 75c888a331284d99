"""
Connections to servers, made without blocking: the addresses of a name, the connection, the handshake of TLS.

Always true: nothing waits but the resolver and *wait*, which its caller ends when the sink is to stop, or by raising.

Not here: how the thread of a sink waits (hub.sinks.waker), what is sent (hub.sinks.forwardlink, hub.sinks.httplink).
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
Wait = Callable[[socket.socket, bool], None]
"""Returns when a socket can be written to (True) or read from (False). Raises what ends the attempt."""
_BUSY = (errno.EINPROGRESS, errno.EAGAIN, errno.EALREADY)


def first_reached(host: str, port: int, dial: Callable[[int, object], T]) -> T:
    """
    Return what *dial* returns for a family and an address of *host*: the first one for which it raises no OSError.
    Raises OSError, that of the last one.
    """
    # A name may take as long as its resolver likes: nothing interrupts that.
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for number, (family, _, _, _, address) in enumerate(found, 1):
        try:
            return dial(family, address)
        except OSError:
            if number == len(found):
                raise
    raise OSError(errno.EADDRNOTAVAIL, "the name has no address")


def connect(sock: socket.socket, address: object, wait: Wait) -> None:
    """Connect *sock*, which does not block, to *address*. Raises OSError, and what *wait* raises."""
    code = sock.connect_ex(address)  # type: ignore[arg-type]  # of the socket's family
    if code in _BUSY:
        wait(sock, True)
        code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))


def shake_hands(sock: ssl.SSLSocket, wait: Wait) -> None:
    """Do the handshake of TLS. Raises OSError, and what *wait* raises."""
    while True:
        try:
            return sock.do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
            wait(sock, isinstance(wanted, ssl.SSLWantWriteError))


def text_of(error: OSError) -> str:
    """Return why a connection cannot be made or used, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'unknown error').replace('_', ' ').lower()}"
    return error.strerror or str(error)
