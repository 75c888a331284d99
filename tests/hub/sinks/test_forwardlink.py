"""hub.sinks.forwardlink: connecting, proving, sending and waiting; what fails, and how it is said."""

from __future__ import annotations

import os
import socket
import ssl
import threading
import time
from pathlib import Path

import msgpack
import pytest

from hub.sinks.clienttls import client_context
from hub.sinks.destination import Server
from hub.sinks.forwardlink import ForwardLink, Terms
from hub.sinks.sink import Halted, SinkFault
from tests.certificates import Certificates
from tests.hub.sinks.delivering import Alone, halting
from tests.hub.sinks.recording import Recorder
from tests.support import free_port

PLAIN = Terms(None, None, None, 30)
FRAME = bytes(msgpack.packb(["t", b"\x92\x01\x80", {"chunk": "c"}]))
ACK = b"\x81\xa3ack\xa1c"


@pytest.fixture
def host() -> Alone:
    return Alone()


def link_to(recorder: Recorder | str, host: Alone, terms: Terms = PLAIN) -> ForwardLink:
    return ForwardLink(Server(recorder if isinstance(recorder, str) else recorder.address), terms, host)


def exchange(link: ForwardLink) -> bytes:
    """Send a chunk, and return the reply."""
    try:
        link.open()
        return link.send((FRAME,)) or link.receive(time.monotonic() + 30)
    finally:
        link.close()
        link.close()


def server_context(certificates: Certificates, *, asks: bool = False) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates.server)
    if asks:
        context.load_verify_locations(certificates.authority.cert)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def test_tcp_and_unix(tmp_path: Path, host: Alone) -> None:
    """A chunk goes there, and its acknowledgement comes back."""
    for path in (None, tmp_path / "s"):
        with Recorder(path=path) as recorder:
            assert exchange(link_to(recorder, host)) == ACK
            assert [got.entries for got in recorder.got] == [b"\x92\x01\x80"]


def test_a_name_with_several_addresses(host: Alone) -> None:
    """The next address is tried if one does not answer."""
    with Recorder() as recorder:
        address = recorder.address.replace("127.0.0.1", "localhost")
        assert exchange(link_to(address, host)) == ACK


def test_tls_and_the_shared_key(certificates: Certificates, host: Alone) -> None:
    """Both sides prove who they are: by certificates, and by the key."""
    context = client_context(certificates.authority.cert, *certificates.client)
    with Recorder(key=b"secret", context=server_context(certificates, asks=True)) as recorder:
        assert exchange(link_to(recorder, host, Terms(b"secret", context, None, 30))) == ACK
        assert exchange(link_to(recorder, host, Terms(b"secret", context, "localhost", 30))) == ACK
    with Recorder(key=b"secret") as recorder:
        assert exchange(link_to(recorder, host, Terms(b"secret", None, None, 30))) == ACK


def test_a_large_chunk_in_tls(certificates: Certificates, host: Alone) -> None:
    """It is written in parts, while its socket is full."""
    context = client_context(certificates.authority.cert, None, None)
    payload = b"\x92\x01\x80" * 2_000_000
    with Recorder(context=server_context(certificates)) as recorder:
        link = link_to(recorder, host, Terms(None, context, None, 30))
        link.open()
        link.send((b"\x93\xa1t\xc6" + len(payload).to_bytes(4, "big"), payload, msgpack.packb({"chunk": "c"})))
        assert link.receive(time.monotonic() + 30) == ACK
        assert recorder.got[0].entries == payload
        link.close()


def test_a_server_that_cannot_be_trusted(certificates: Certificates, host: Alone) -> None:
    """An unknown authority, another name, another key, or none: nothing is sent there."""
    trusting = client_context(certificates.authority.cert, None, None)
    strange = client_context(certificates.stranger.cert, None, None)
    cases = [
        (Terms(None, strange, None, 30), None, "its certificate is not accepted"),
        (Terms(None, trusting, "other.example", 30), None, "its certificate is not accepted: .*other.example"),
        (Terms(b"other", trusting, None, 30), b"secret", "it refuses us: shared key mismatch"),
    ]
    for terms, key, words in cases:
        with Recorder(key=key, context=server_context(certificates)) as recorder:
            with pytest.raises(SinkFault, match=f"{recorder.address}: {words}"):
                exchange(link_to(recorder, host, terms))
            assert recorder.seen == []


def test_a_server_without_tls_or_key(host: Alone, certificates: Certificates) -> None:
    """One that speaks something else is a fault; one that waits for us is left after a time."""
    context = client_context(certificates.authority.cert, None, None)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(SinkFault, match=r"TLS handshake in 0\.1 s"):
            exchange(link_to(address, host, Terms(None, context, None, 0.1)))
        with pytest.raises(SinkFault, match=r"did not begin the handshake in 0\.1 s"):
            exchange(link_to(address, host, Terms(b"secret", None, None, 0.1)))
    with Recorder(key=b"secret") as recorder, pytest.raises(SinkFault, match="TLS: wrong version number"):
        exchange(link_to(recorder, host, Terms(None, context, None, 30)))


def test_nobody_is_there(tmp_path: Path, host: Alone) -> None:
    """Each reason is in the words of the system, after the server's name."""
    for server_name, words in (
        (f"127.0.0.1:{free_port()}", "Connection refused"),
        (f"{tmp_path}/absent", "No such file or directory"),
    ):
        with pytest.raises(SinkFault, match=f"{server_name}: {words}"):
            link_to(server_name, host).open()


def test_a_name_that_is_not_known(host: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver says why; one that knows the name and no address of it is a fault, too."""

    def unknown(*_: object, **__: object) -> list[object]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    for resolve, words in ((unknown, "Name or service not known"), (lambda *_, **__: [], "the name has no address")):
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        with pytest.raises(SinkFault, match=f"log.example:1: {words}"):
            link_to("log.example:1", host).open()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user")
def test_a_socket_that_another_user_may_have_put_there(tmp_path: Path, host: Alone) -> None:
    """It gets nothing: messages may be secret."""
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with Recorder(path=folder / "s") as recorder:
        with pytest.raises(SinkFault, match="can be written by"):
            exchange(link_to(recorder, host))
        assert recorder.connections == 0


def test_a_server_that_closes(host: Alone) -> None:
    """Waiting and looking both raise a fault."""
    with Recorder("closing") as recorder:
        with pytest.raises(SinkFault, match="it has closed the connection"):
            exchange(link_to(recorder, host))
        link = link_to(recorder, host)
        link.open()
        assert link.poll() == b""
        recorder.close()
        with pytest.raises(SinkFault, match=r"it has closed the connection|reset"):
            link.receive(time.monotonic() + 30)
        link.close()


def test_a_server_that_does_not_read(host: Alone) -> None:
    """Sending is given up after a time without progress."""
    with Recorder("deaf") as recorder:
        link = link_to(recorder, host, Terms(None, None, None, 0.1))
        link.open()
        with pytest.raises(SinkFault, match=r"it has read nothing in 0\.1 s"):
            link.send((bytes(64 << 20),))
        link.close()


def test_an_order_ends_any_wait(host: Alone) -> None:
    """Whether it sends or receives, it leaves at once."""
    with Recorder("deaf") as recorder:
        for is_sending in (False, True):
            link = link_to(recorder, host, Terms(None, None, None, 60))
            host.halted = False
            link.open()
            with halting(host), pytest.raises(Halted):
                _ = link.send((bytes(64 << 20),)) if is_sending else link.receive(time.monotonic() + 60)
            link.close()


def test_replies_are_read_while_it_sends(host: Alone) -> None:
    """A server that waits for its replies to be read is not waited for."""
    left, right = socket.socketpair()
    left.setblocking(False)
    link = link_to("/nowhere", host)
    link._sock = left
    taken = bytearray()

    def serve() -> None:
        right.sendall(b"x" * 100_000)  # more than fits, until it is read
        while len(taken) < 10 << 20:
            taken.extend(right.recv(1 << 20))

    serving = threading.Thread(target=serve)
    left.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    serving.start()
    received = link.send((b"a", bytes((10 << 20) - 1)))
    serving.join(30)
    assert (len(taken), set(received)) == (10 << 20, {ord("x")})
    link.close()
    right.close()
