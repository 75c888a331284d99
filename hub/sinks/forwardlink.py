"""
One connection to a Forward server: TCP or a Unix socket, TLS, the handshake with the shared key, bytes both ways.

It blocks the thread of its sink, and waits for nothing but the socket, a time, and the order to stop.

Always true:
- a call returns or raises within `timeout` seconds without progress, and at once when the sink is to stop;
- a server in TLS has proved that the name is its own before a byte is sent to it;
- a Unix socket that another user could have put there is not connected to (hub.trust).

Not here: what is sent (hub.sinks.forwardchunk), which server (hub.sinks.forward), the handshake's messages
(hub.wire.clientshake).
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import time
from collections.abc import Sequence
from typing import NamedTuple

from hub.sinks.destination import Server
from hub.sinks.dialing import connect, first_reached, shake_hands, text_of
from hub.sinks.sink import Halted, Host, SinkFault
from hub.trust import Untrusted, check, check_peer
from hub.wire.clientshake import SALT_BYTES, ClientShake, Refused
from hub.wire.replies import RECEIVED_BYTES_MAX

SEND_BUFFER_BYTES = 1 << 20
RECORD_BYTES = 256 << 10
"""How much is given to TLS at once."""


class Terms(NamedTuple):
    """What every server of a sink is asked for. *tls_name*: the name in its certificate, if it is not its host."""

    shared_key: bytes | None
    context: ssl.SSLContext | None
    tls_name: str | None
    timeout: float


class ForwardLink:
    """A connection to *server*. *host* is the runner of the sink."""

    def __init__(self, server: Server, terms: Terms, host: Host) -> None:
        self.server = server
        self._terms = terms
        self._host = host
        self._sock: socket.socket | None = None
        self._wants_write = False  # TLS has to write before it can read
        self._early = b""  # what came after the handshake

    def open(self) -> None:
        """Connect, and prove what is asked for. Raises SinkFault or Halted."""
        try:
            self._connect()
            if self._terms.context is not None:
                self._encrypt(self._terms.context)
            if self._terms.shared_key is not None:
                self._prove(self._terms.shared_key)
        except Refused as error:
            raise self._fault(f"{error}") from error
        except OSError as error:
            raise self._fault(_reason(error)) from error

    def close(self) -> None:
        """Close the connection. Never raises."""
        sock, self._sock = self._sock, None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    def send(self, parts: Sequence[bytes | memoryview]) -> bytes:
        """
        Send *parts*. Return what the server has sent meanwhile: it may not read before its replies are read.
        Raises SinkFault or Halted.
        """
        left = [memoryview(part) for part in parts if part]
        received = b""
        until = self._deadline()
        while left:
            sent = self._write(left)
            if sent:
                until = self._deadline()
                _drop(left, sent)
            elif not self._wait(until, writes=True):
                raise self._fault(f"it has read nothing in {self._terms.timeout:g} s")
            elif data := self._read():
                received += data
        return received

    def receive(self, until: float) -> bytes:
        """Return what the server sends; empty if nothing comes until then. Raises SinkFault or Halted."""
        while not (data := self._read()):
            if not self._wait(until, writes=self._wants_write):
                return b""
        return data

    def poll(self) -> bytes:
        """Return what the server has sent by now. Raises SinkFault if it has closed the connection."""
        return self._read()

    def _deadline(self) -> float:
        return time.monotonic() + self._terms.timeout

    def _fault(self, reason: str) -> SinkFault:
        return SinkFault(f"{self.server}: {reason}")

    def _connect(self) -> None:
        until = self._deadline()
        if self.server.is_unix:
            self._connect_locally(str(self.server), until)
        else:
            host, port = self.server.host, self.server.port
            first_reached(host, port, lambda family, address: self._connect_to(family, address, until))

    def _connect_locally(self, path: str, until: float) -> None:
        there = check(path, is_client=True).described
        if there is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        self._connect_to(socket.AF_UNIX, path, until)
        assert self._sock is not None
        check_peer(self._sock, path, there.st_uid)

    def _connect_to(self, family: int, address: object, until: float) -> None:
        self._sock = sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

        def wait(_: socket.socket, writes: bool) -> None:
            if not self._wait(until, writes=writes):
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

        try:
            connect(sock, address, wait)
        except OSError:
            self.close()
            raise

    def _encrypt(self, context: ssl.SSLContext) -> None:
        assert self._sock is not None
        name = self._terms.tls_name or self.server.host
        self._sock = sock = context.wrap_socket(self._sock, server_hostname=name, do_handshake_on_connect=False)
        until = self._deadline()

        def wait(_: socket.socket, writes: bool) -> None:
            if not self._wait(until, writes=writes):
                raise self._fault(f"it did not answer the TLS handshake in {self._terms.timeout:g} s")

        shake_hands(sock, wait)

    def _prove(self, shared_key: bytes) -> None:
        shake = ClientShake(shared_key, socket.gethostname(), os.urandom(SALT_BYTES))
        until = self._deadline()
        while not shake.is_done:
            data = self.receive(until)
            if not data:
                raise self._fault(f"it did not begin the handshake in {self._terms.timeout:g} s (has it a shared key?)")
            if reply := shake.receive(data):
                self.send((reply,))
        self._early = shake.rest

    def _write(self, left: Sequence[memoryview]) -> int:
        """Write some of *left*. Return how many bytes were written."""
        sock = self._sock
        assert sock is not None
        try:
            if isinstance(sock, ssl.SSLSocket):
                return sock.send(left[0][:RECORD_BYTES])
            return sock.sendmsg(left[:16])
        except (BlockingIOError, ssl.SSLWantWriteError):
            return 0
        except ssl.SSLWantReadError:  # a renegotiation, which the context forbids, or a key update
            return 0
        except OSError as error:
            raise self._fault(_reason(error)) from error

    def _read(self) -> bytes:
        """Return what is there. Raises SinkFault at the end."""
        if self._early:
            data, self._early = self._early, b""
            return data
        assert self._sock is not None
        self._wants_write = False
        try:
            data = self._sock.recv(RECEIVED_BYTES_MAX)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except ssl.SSLWantWriteError:
            self._wants_write = True
            return b""
        except OSError as error:
            raise self._fault(_reason(error)) from error
        if not data:
            raise self._fault("it has closed the connection")
        return data

    def _wait(self, until: float, *, writes: bool) -> bool:
        """Wait for the socket; False if it is not ready until then. Raises Halted."""
        assert self._sock is not None
        fd = self._sock.fileno()
        while (rest_s := until - time.monotonic()) > 0:
            ready = self._host.waker.wait(rest_s, readable=(fd,), writable=(fd,) if writes else ())
            if self._host.is_halted:
                raise Halted
            if ready:
                return True
        return False


def _drop(left: list[memoryview], sent: int) -> None:
    """Remove the first *sent* bytes of *left*."""
    while sent:
        if sent < len(left[0]):
            left[0] = left[0][sent:]
            return
        sent -= len(left.pop(0))


def _reason(error: OSError) -> str:
    return str(error) if isinstance(error, Untrusted) else text_of(error)
