"""hub.sinks.dialing: the addresses of a name, connecting without blocking, and why it failed."""

from __future__ import annotations

import errno
import select
import socket
import ssl

import pytest

from hub.sinks.dialing import connect, first_reached, text_of
from tests.support import free_port

FAMILY = socket.AF_INET


def answers(*addresses: str) -> list[tuple[object, ...]]:
    return [(FAMILY, socket.SOCK_STREAM, 6, "", (address, 1)) for address in addresses]


def test_the_first_address_that_can_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are tried in turn; the fault is that of the last one, and a name without addresses is one, too."""
    tried: list[object] = []

    def dial(family: int, address: object) -> str:
        assert family == FAMILY
        tried.append(address)
        if address != ("192.0.2.3", 1):
            raise OSError(errno.ECONNREFUSED, f"not {address}")
        return "reached"

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers("192.0.2.1", "192.0.2.3", "192.0.2.4"))
    assert first_reached("name", 1, dial) == "reached"
    assert tried == [("192.0.2.1", 1), ("192.0.2.3", 1)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers("192.0.2.1", "192.0.2.2"))
    with pytest.raises(OSError, match=r"not \('192\.0\.2\.2', 1\)"):
        first_reached("name", 1, dial)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(OSError, match="the name has no address"):
        first_reached("name", 1, dial)


def test_a_connection() -> None:
    """It is waited for; a refusal is an error."""

    def wait(sock: socket.socket, writes: bool) -> None:
        assert writes
        assert select.select((), (sock,), (), 30)[1]

    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as sock:
        sock.setblocking(False)
        connect(sock, server.getsockname(), wait)
        assert sock.getpeername() == server.getsockname()
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(ConnectionRefusedError):
            connect(sock, ("127.0.0.1", free_port()), wait)


def tls_error(reason: str) -> ssl.SSLError:
    """Return an error as the module ssl makes it."""
    error = ssl.SSLError(1, "x")
    error.reason = reason
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"), "Connection refused"),
        (OSError("no number"), "no number"),
        (tls_error("WRONG_VERSION_NUMBER"), "TLS: wrong version number"),
    ],
)
def test_why_it_failed(error: OSError, text: str) -> None:
    """The fault is one line."""
    assert text_of(error) == text
