"""
A socket to the hub, or in words why there is none.

Always true: connecting does not block; a Unix socket answers at once.
Not here: when to try again (producers.link).
"""

from __future__ import annotations

import socket

SEND_BUFFER_BYTES = 1 << 20


def connected_socket(path: str) -> socket.socket:
    """Return a non-blocking socket, connected to the hub at *path*. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        sock.connect(path)
    except OSError:
        sock.close()
        raise
    return sock


def describe(error: BaseException, path: str) -> str:
    """Return in words why there is no connection to the hub at *path*."""
    if isinstance(error, FileNotFoundError):
        return f"no hub at {path}"
    if isinstance(error, ConnectionRefusedError):
        return f"the hub at {path} is gone"
    if isinstance(error, BlockingIOError):
        return f"the hub at {path} does not accept connections now"
    if isinstance(error, OSError):
        return f"{path}: {error.strerror or error}"
    return f"the hub at {path} sent something else than acknowledgements"
