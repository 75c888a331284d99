"""hub.tcpsocket: listening on TCP."""

from __future__ import annotations

import errno
import socket

import pytest

from hub.address import Address
from hub.errors import SocketError
from hub.tcpsocket import KEEP_ALIVE, TcpSocket
from tests.support import free_port


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]"])
def test_it_listens(host: str) -> None:
    """A client can connect to the port that the kernel has chosen; its connection is kept alive and not delayed."""
    try:
        listening = TcpSocket(Address.parse(f"{host}:0"))
    except SocketError as error:  # a machine without IPv6
        pytest.skip(f"needs a newer kernel: {error}")
    address = Address.parse(listening.path)
    assert address.port
    with socket.create_connection((address.host, address.port)):
        listening.sock.setblocking(True)
        ours, _ = listening.sock.accept()
        assert ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        found = {name: ours.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEP_ALIVE}
        assert found == KEEP_ALIVE
        ours.close()
    listening.remove()
    listening.close()
    assert not listening.is_kept
    assert listening.sock.fileno() == -1


def test_the_port_can_be_used_again_at_once() -> None:
    """Connections of a former hub that are not forgotten yet do not hold up the next one."""
    address = Address(f"127.0.0.1:{free_port()}")
    first = TcpSocket(address)
    client = socket.create_connection((address.host, address.port))
    first.sock.setblocking(True)
    first.sock.accept()[0].close()  # the hub's end closes first: its port waits in TIME_WAIT
    client.close()
    first.close()
    TcpSocket(address).close()


def test_ipv6_does_not_take_ipv4() -> None:
    """The address :: takes no connections of IPv4, which another source may want."""
    try:
        six = TcpSocket(Address(f"[::]:{(port := free_port())}"))
    except SocketError as error:
        pytest.skip(f"needs a newer kernel: {error}")
    four = TcpSocket(Address(f"127.0.0.1:{port}"))
    four.close()
    six.close()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EADDRINUSE, "another process is already listening there (stop it, or choose another address)"),
        (errno.EADDRNOTAVAIL, "this host has no such address (choose one of `ip address`)"),
        (errno.EACCES, "Permission denied (choose another address)"),
    ],
)
def test_refusals(number: int, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what is wrong, and what to do."""

    def bind(*_: object) -> None:
        raise OSError(number, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(SocketError) as raised:
        TcpSocket(Address("127.0.0.1:24224"))
    assert str(raised.value) == f"cannot listen on 127.0.0.1:24224: {said}"


def test_a_system_without_keep_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel refuses an option, it listens all the same."""

    def refuse(self: object, level: int, *_: object) -> None:
        if level == socket.IPPROTO_TCP:
            raise OSError(errno.ENOPROTOOPT, "no")

    with monkeypatch.context() as patching:
        patching.setattr(socket.socket, "setsockopt", refuse)
        TcpSocket(Address("127.0.0.1:0")).close()
    monkeypatch.delattr(socket, "TCP_KEEPIDLE")
    listening = TcpSocket(Address("127.0.0.1:0"))
    interval = listening.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL)
    listening.close()
    assert interval == KEEP_ALIVE["TCP_KEEPINTVL"]


def test_two_cannot_have_one_port() -> None:
    """A port in use is refused."""
    first = TcpSocket(Address("127.0.0.1:0"))
    with pytest.raises(SocketError, match="already listening"):
        TcpSocket(Address(first.path))
    first.close()
