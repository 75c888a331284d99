"""hub.sinks.httplink: a connection that is kept, replies, and what can happen to both."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from hub.sinks.clienttls import client_context
from hub.sinks.destination import Url
from hub.sinks.httplink import REPLY_BYTES_MAX, HttpLink
from hub.sinks.sink import Halted, SinkFault
from tests.certificates import Certificates
from tests.hub.sinks.collector import Collector
from tests.hub.sinks.delivering import Alone, halting
from tests.support import free_port

HEADERS = {"Host": "127.0.0.1:1", "Content-Type": "application/x-protobuf", "Content-Length": "0"}


@pytest.fixture
def host() -> Alone:
    return Alone()


def link_to(url: str, host: Alone, *, context: ssl.SSLContext | None = None, timeout: float = 30) -> HttpLink:
    return HttpLink(Url.parse(url), context, timeout, host)


@contextlib.contextmanager
def replying(*replies: bytes, reads: bool = True) -> Iterator[str]:
    """Serve one connection after the other: each gets a reply to the request that it sends, and is closed."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for reply in replies:
                client, _ = server.accept()
                with client, contextlib.suppress(OSError):  # it has read enough, and leaves
                    client.recv(65536 if reads else 1)
                    client.sendall(reply)
                    client.shutdown(socket.SHUT_WR)
                    if reads:
                        while client.recv(65536):
                            pass

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"
        serving.join(30)


def test_a_connection_is_kept(host: Alone) -> None:
    """Requests follow each other on it; one that the server has closed is replaced, without a fault."""
    with Collector() as collector:
        link = link_to(collector.url, host)
        for _ in range(3):
            assert link.post(HEADERS, b"").status == 200
        assert collector.connections == 1
        collector._server._clients[0].shutdown(socket.SHUT_RDWR)
        assert link.post(HEADERS, b"").status == 200
        assert (collector.connections, collector.empty) == (2, 4)
        link.close()
        link.close()


def test_tls(host: Alone, certificates: Certificates) -> None:
    """The server proves its name; one that cannot gets nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.server)
    with Collector(context=context) as collector:
        link = link_to(collector.url, host, context=client_context(certificates.authority.cert, None, None))
        assert link.post(HEADERS, b"").status == 200
        assert link.post(HEADERS, b"").status == 200
        link.close()
        strange = link_to(collector.url, host, context=client_context(certificates.stranger.cert, None, None))
        with pytest.raises(SinkFault, match="its certificate is not accepted"):
            strange.post(HEADERS, b"")
        plain = collector.url.replace("https", "http")
        with pytest.raises(SinkFault):
            link_to(plain, host).post(HEADERS, b"")
        assert collector.empty == 2
    with Collector() as collector:
        context = client_context(None, None, None)
        with pytest.raises(SinkFault, match="TLS: "):
            link_to(collector.url.replace("http", "https"), host, context=context).post(HEADERS, b"")


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"", "closed connection|without response"), (b"SSH-2.0-x\r\n\r\n", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n" + b"X: y\r\n" * 200 + b"\r\nabcde", "is not HTTP"),
    ],
)  # fmt: skip
def test_what_is_no_reply(host: Alone, reply: bytes, words: str) -> None:
    """Each is a fault that names the URL."""
    with replying(reply) as url:
        link = link_to(url, host)
        with pytest.raises(SinkFault, match=f"{url}v1/logs: .*({words})"):
            link.post(HEADERS, b"")
        link.close()


def test_of_a_long_reply_the_beginning_is_kept(host: Alone) -> None:
    """It may be a page of HTML; the connection is given up."""
    body = b"x" * (REPLY_BYTES_MAX * 2)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-Name: Value\r\n\r\n" % len(body)
    with replying(head + body) as url:
        link = link_to(url, host)
        reply = link.post(HEADERS, b"")
        assert (reply.status, len(reply.body), reply.headers["x-name"]) == (200, REPLY_BYTES_MAX, "Value")
        assert link._connection is None


def test_a_server_that_refuses_before_it_has_read(host: Alone) -> None:
    """Its reply counts, or it is a fault; nothing waits."""
    reply = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"
    with replying(reply, reads=False) as url:
        link = link_to(url, host)
        headers = HEADERS | {"Content-Length": str(32 << 20)}
        with contextlib.suppress(SinkFault):  # the reply may be lost with the connection
            assert link.post(headers, bytes(32 << 20)).status == 413
        assert link._connection is None


def test_no_answer(host: Alone) -> None:
    """It is waited for, not longer than the limit, and an order ends the wait."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        link = link_to(url, host, timeout=0.1)
        for body in (b"", bytes(64 << 20)):
            with pytest.raises(SinkFault, match=r"no answer in 0\.1 s"):
                link.post(HEADERS, body)
        link = link_to(url, host, timeout=60)
        with halting(host), pytest.raises(Halted):
            link.post(HEADERS, b"")
    with pytest.raises(SinkFault, match="Connection refused"):
        link_to(f"http://127.0.0.1:{free_port()}/", Alone()).post(HEADERS, b"")


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nX: ",
        b"HTTP/1.1 100 Continue\r\nX: ",
        b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n",
    ],
)
def test_a_reply_without_an_end(host: Alone, head: bytes) -> None:
    """Each byte of it is progress for the socket; the limit is that of the request, and an order ends the wait."""
    is_over, has_begun = threading.Event(), threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            for _ in range(2):
                client, _ = server.accept()
                with client, contextlib.suppress(ConnectionError):  # it has waited enough, and leaves
                    client.sendall(head)
                    while not is_over.wait(0.01):
                        client.sendall(b"a")
                        has_begun.set()

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(SinkFault, match=r"no answer in 0\.3 s"):
            link_to(url, host, timeout=0.3).post(HEADERS, b"")
        has_begun.clear()
        with halting(host, has_begun), pytest.raises(Halted):
            link_to(url, host, timeout=60).post(HEADERS, b"")
        is_over.set()
        serving.join(30)


@pytest.mark.parametrize("is_full", [False, True])
def test_a_server_that_does_not_let_in(host: Alone, is_full: bool) -> None:
    """It answers no handshake, or accepts no connection: the limit holds, and an order ends the wait."""
    context = client_context(None, None, None)
    with contextlib.ExitStack() as clients, socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        for _ in range(4 if is_full else 0):
            waiting = clients.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        url = f"https://127.0.0.1:{server.getsockname()[1]}/"
        with pytest.raises(SinkFault, match=r"no answer in 0\.1 s"):
            link_to(url, host, context=context, timeout=0.1).post(HEADERS, b"")
        with halting(host), pytest.raises(Halted):
            link_to(url, host, context=context, timeout=60).post(HEADERS, b"")
