"""
Commands to a running hub: one request and one reply over its socket.

Always true:
- the reply is awaited for at most *timeout* seconds from the call; connecting and sending are bounded by the same time;
- the request goes only to a trusted hub (producers.connecting).

Not here: the methods (`mpsr call` lists them), the format of the lines (hub.wire.jsonrpc).
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import Any

from hub.configfile import socket_path
from hub.trust import Untrusted
from hub.wire.jsonrpc import decode_reply, encode_request
from producers import clock
from producers.connecting import connect, describe
from producers.errors import CommandFailed, NotConnected, NotTrusted

CALL_TIMEOUT_S = 10.0
_TIMEVAL = struct.Struct("ll")


def call(
    method: str,
    params: list[Any] | dict[str, Any] | None = None,
    *,
    path: str | None = None,
    timeout: float = CALL_TIMEOUT_S,
) -> Any:
    """
    Call *method* of the hub at *path* (default: see `hub.configfile.socket_path`) and return its result.

    Raises NotConnected, NotTrusted or CommandFailed, and ConfigError for a wrong path in the hub's configuration file.
    """
    path = path or socket_path()
    request = encode_request(method, params, 1)
    deadline = clock.now() + timeout
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            # Not `settimeout`: a non-blocking connect fails at once while the listen backlog is full.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIMEVAL.pack(*divmod(int(timeout * 1e6), 10**6)))
            connect(sock, path)
            sock.sendall(request)
            reply = decode_reply(_read_line(sock, deadline))
        except (TimeoutError, BlockingIOError):
            raise NotConnected(path, f"no answer within {timeout:g} s") from None
        except Untrusted as error:
            raise NotTrusted(path, describe(error, path)) from error
        except OSError as error:
            raise NotConnected(path, describe(error, path)) from error
        except ValueError as error:
            raise NotConnected(path, f"the answer is no JSON-RPC reply ({error})") from error
    if reply.code is not None:
        raise CommandFailed(reply.code, reply.message, reply.data)
    return reply.result


def _read_line(sock: socket.socket, deadline: float) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        if (left := deadline - clock.now()) <= 0:
            raise TimeoutError
        sock.settimeout(left)
        data = sock.recv(65536)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "the hub closed the connection without an answer")
        line += data
    return line
