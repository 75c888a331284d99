"""
Connects a socket to the hub, or describes why that failed.

Always true:
- `connected_socket` does not block: connecting a Unix socket succeeds or fails at once;
- the path is checked before connecting and the peer after it, so that nothing is sent to another user who has put a
  socket there (hub.trust).

Not here: when to try again (producers.link).
"""

from __future__ import annotations

import errno
import os
import socket
import stat

from hub import descriptor
from hub.paths import is_abstract, socket_address
from hub.trust import Untrusted, check, check_name, check_peer
from producers import native

SEND_BUFFER_BYTES = 1 << 20
_OF_FOLDERS = "choose a socket in a folder that only you or root can write to"
_OF_NAMES = "choose a socket with a path, or let the hub run as root or as you"


def connected_socket(path: str) -> socket.socket:
    """Return a non-blocking socket, connected to the hub at *path*. Raises OSError."""
    sock = native.unix_socket()
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        connect(sock, path)
    except OSError:
        sock.close()
        raise
    return sock


def hang_up(sock: socket.socket, known: descriptor.Identity | None) -> None:
    """
    Close *sock* if its descriptor is still the socket *known*, or if *known* is None; otherwise leave the descriptor
    alone.
    """
    if known is None or descriptor.is_same(sock.fileno(), known):
        sock.close()
    else:
        sock.detach()


def connect(sock: socket.socket, path: str) -> None:
    """
    Connect to the hub at *path*, and to no other user's process. Raises Untrusted or another OSError.

    Every user can take an abstract name: there, only root and our own user are trusted.
    """
    if is_abstract(path):
        sock.connect(socket_address(path))
        check_name(sock, path)
        return
    there = check(path, is_client=True).described
    sock.connect(path)
    if there is None:  # it was created after the check
        there = check(path, is_client=True).described
    if there is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    check_peer(sock, path, there.st_uid)


def describe(error: BaseException, path: str) -> str:
    """Return why there is no connection to the hub at *path*, in words."""
    if isinstance(error, Untrusted):
        return f"{error}; {_OF_NAMES if is_abstract(path) else _OF_FOLDERS}"
    if isinstance(error, FileNotFoundError) or (isinstance(error, ConnectionRefusedError) and is_abstract(path)):
        return f"no hub at {path}"
    if isinstance(error, ConnectionRefusedError):
        return f"the hub at {path} is gone" if _is_socket(path) else f"{path} is not a socket"
    if isinstance(error, BlockingIOError):
        return f"the hub at {path} does not accept connections now"
    if isinstance(error, OSError):
        return f"{path}: {error.strerror or error}"
    return f"the hub at {path} sent something other than acknowledgements"


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:  # it has gone meanwhile
        return True
