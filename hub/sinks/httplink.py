"""
One connection for requests of HTTP/1.1, kept between them. It blocks the thread of its sink.

Always true:
- a request is sent whole or fails; its wait for the connection and for the reply ends when the sink is to stop;
- a connection that its server has closed while nothing was sent is replaced without a fault;
- of a reply, at most `REPLY_BYTES_MAX` are kept.

Not here: what is sent, and what a status means (hub.sinks.otlp).
Source: RFC 9110, RFC 9112, by http.client.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import io
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from hub.sinks.destination import Url
from hub.sinks.dialing import connect, first_reached, shake_hands, text_of
from hub.sinks.sink import Halted, Host, SinkFault

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

REPLY_BYTES_MAX = 64 << 10
PIECE_BYTES = 64 << 10
RETRY_AFTER_S_MAX = 300.0
TEXT_MAX = 200
"""How much of a server's reason for a refusal is shown."""
_REFUSED = (OSError, http.client.HTTPException)


class Reply(NamedTuple):
    """The status, the headers with names in lower case, and the body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def reason_in(reply: Reply) -> str:
    """Return what the server says about a refusal, in printable characters."""
    text = "".join(char if char.isprintable() else " " for char in reply.body.decode("utf-8", "replace"))
    return f": {text.strip()[:TEXT_MAX]}" if text.strip() else ""


def retry_after_s(reply: Reply) -> float:
    """Return the seconds in the header Retry-After, at most `RETRY_AFTER_S_MAX`; 0 if there is none."""
    given = reply.headers.get("retry-after", "").strip()
    if given.isdecimal():
        return min(float(given), RETRY_AFTER_S_MAX)
    try:
        at = email.utils.parsedate_to_datetime(given).timestamp()
    except ValueError:
        return 0.0
    return min(max(at - time.time(), 0.0), RETRY_AFTER_S_MAX)


class _Incoming(io.RawIOBase):
    """What *sock* receives. *wait* is called before each read: a server may send a byte at a time, without an end."""

    def __init__(self, sock: socket.socket, wait: Callable[[], None]) -> None:
        self._raw = sock.makefile("rb", buffering=0)
        self._wait = wait

    def makefile(self, mode: str) -> io.BufferedReader:
        """Return a reader, as `http.client` makes one of a socket."""
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int | None:
        self._wait()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class HttpLink:
    """Requests to *url*. *context*: the rules of TLS, if it is https. *host* is the runner of the sink."""

    def __init__(self, url: Url, context: ssl.SSLContext | None, timeout: float, host: Host) -> None:
        self._url = url
        self._context = context
        self._timeout = timeout
        self._host = host
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection. Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()

    def post(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """Return the reply to a POST of *body*. Raises SinkFault or Halted."""
        until = time.monotonic() + self._timeout
        is_kept = self._connection is not None
        try:
            try:
                return self._post(headers, body, until)
            except (ConnectionError, http.client.RemoteDisconnected):
                if not is_kept:  # else its server may have closed it at any time: once more, on a fresh one
                    raise
                self.close()
                return self._post(headers, body, until)
        except Halted:
            self.close()
            raise
        except _REFUSED as error:
            self.close()
            raise SinkFault(f"{self._url.shown}: {_reason(error)}") from error

    def _post(self, headers: Mapping[str, str], body: bytes, until: float) -> Reply:
        connection = self._connection or self._connect(until)
        connection.putrequest("POST", self._url.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        is_sent = self._send(connection, body, until)
        with self._reply(connection, until) as response:
            found = response.read(REPLY_BYTES_MAX)
            is_whole = len(found) < REPLY_BYTES_MAX
            if is_whole and response.length:
                raise http.client.IncompleteRead(found, response.length)
            reply = Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, found)
            if response.will_close or not is_whole or not is_sent:
                self.close()
        return reply

    def _reply(self, connection: http.client.HTTPConnection, until: float) -> http.client.HTTPResponse:
        """Return the reply when its head has come. Each read of it waits until *until* at most."""
        sock = connection.sock

        def make_response(_: object, **more: Any) -> http.client.HTTPResponse:
            incoming = _Incoming(sock, lambda: self._wait(sock, until, writes=False))
            return http.client.HTTPResponse(cast(socket.socket, incoming), **more)

        connection.response_class = make_response  # type: ignore[assignment]  # it is called, and nothing else
        return connection.getresponse()

    def _connect(self, until: float) -> http.client.HTTPConnection:
        """Return a connection. `http.client` never makes one itself: that would wait for nothing else."""
        host, port = self._url.host, self._url.port
        connection = self._connection = http.client.HTTPConnection(host, port)
        connection.sock = first_reached(host, port, lambda family, address: self._dial(family, address, until))
        return connection

    def _dial(self, family: int, address: object, until: float) -> socket.socket:
        """Return a socket that is connected to *address*, encrypted if that is asked for. Raises OSError and Halted."""

        def wait(sock: socket.socket, writes: bool) -> None:
            self._wait(sock, until, writes=writes)

        with contextlib.ExitStack() as undone:
            sock = undone.enter_context(socket.socket(family, socket.SOCK_STREAM))
            sock.setblocking(False)
            connect(sock, address, wait)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._context is not None:
                host = self._url.host
                encrypted = self._context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
                sock = undone.enter_context(encrypted)
                shake_hands(encrypted, wait)
            sock.settimeout(self._timeout)
            undone.pop_all()
            return sock

    def _send(self, connection: http.client.HTTPConnection, body: bytes, until: float) -> bool:
        """Send *body*. Return False if the server reads no more: it may have replied, that it is too large."""
        left = memoryview(body)
        while left:
            self._wait(connection.sock, until, writes=True)
            try:
                left = left[connection.sock.send(left[:PIECE_BYTES]) :]
            except ConnectionError:
                return False
        return True

    def _wait(self, sock: socket.socket, until: float, *, writes: bool) -> None:
        """Wait for *sock*. Raises TimeoutError and Halted."""
        if not writes and isinstance(sock, ssl.SSLSocket) and sock.pending():
            return
        fd = sock.fileno()
        while (rest_s := until - time.monotonic()) > 0:
            readable, writable = ((), (fd,)) if writes else ((fd,), ())
            ready = self._host.waker.wait(rest_s, readable=readable, writable=writable)
            if self._host.is_halted:
                raise Halted
            if ready:
                return
        raise TimeoutError(f"no answer in {self._timeout:g} s")


def _reason(error: Exception) -> str:
    if isinstance(error, http.client.HTTPException) and not isinstance(error, ConnectionError):
        return f"its reply is not HTTP ({type(error).__name__})"
    return text_of(error) if isinstance(error, OSError) else str(error)
