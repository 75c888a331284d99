"""hub.sources.greeting: what a client has to prove before it is served."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.address import Address
from hub.paths import AbsolutePath
from hub.sources.credentials import Credentials, load
from hub.sources.greeting import GREETING_BYTES_MAX, Greeted, Greeting, Unwelcome
from hub.sources.kinds import Tcp
from hub.turn import Turn
from tests.certificates import Certificates, ClientHalf
from tests.forwardshake import receive, shake_hands
from tests.hub.clients import Run, both_loops

KEY = b"secret"


def asking(certificates: Certificates, *, key: bytes | None = None, names: bool = False) -> Credentials:
    """Return credentials with TLS; with the shared *key*; *names*: with certificates of clients."""
    server, authority = certificates.server, AbsolutePath(certificates.authority.cert)
    table = Tcp(
        address=Address("127.0.0.1:0"),
        tls_cert=AbsolutePath(server.cert),
        tls_key=AbsolutePath(server.key),
        tls_client_ca=authority if names else None,
    )
    return load(table)._replace(shared_key=key)


async def greet(credentials: Credentials, client: Callable[[socket.socket], None]) -> Greeted:
    """Return the result for *client*, a function in a thread of its own that gets the other end."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(30)

    def talk() -> None:
        with theirs, contextlib.suppress(OSError):
            client(theirs)

    talking = asyncio.create_task(asyncio.to_thread(talk))
    try:
        with ours:
            return await Greeting(ours, credentials, Turn()).run()
    finally:
        await talking


async def refusal(credentials: Credentials, client: Callable[[socket.socket], None]) -> str:
    """Return why *client* is unwelcome; nothing if it has left before it was answered."""
    with pytest.raises((Unwelcome, ConnectionError)) as raised:
        await greet(credentials, client)
    return str(raised.value) if isinstance(raised.value, Unwelcome) else ""


@both_loops
def test_a_shared_key(run: Run) -> None:
    """A client that knows the key is served, with what it sent behind the handshake; one with another key is not."""
    pongs = []

    def right(sock: socket.socket) -> None:
        pongs.append(shake_hands(sock, KEY))

    def wrong(sock: socket.socket) -> None:
        pongs.append(shake_hands(sock, b"another"))

    async def main() -> None:
        assert await greet(Credentials(KEY), right) == Greeted(None, b"", "")
        assert await refusal(Credentials(KEY), wrong) == "its shared key is another one"
        assert [pong[:3] for pong in pongs] == [["PONG", True, ""], ["PONG", False, "shared key mismatch"]]

    run(main())


@both_loops
def test_nonces_are_random(run: Run) -> None:
    """No two clients get the same HELO: an answer cannot be used again."""
    nonces = []

    def look(sock: socket.socket) -> None:
        nonces.append(receive(sock)[1]["nonce"])

    async def main() -> None:
        for _ in range(3):
            await refusal(Credentials(KEY), look)
        assert len({*nonces}) == 3

    run(main())


@both_loops
def test_other_bytes(run: Run) -> None:
    """
    Anything other than the handshake ends it at once; a client that connects and sends nothing causes no line in the
    log.
    """

    def with_data(data: bytes) -> Callable[[socket.socket], None]:
        def talk(sock: socket.socket) -> None:
            receive(sock)
            sock.sendall(data)
            sock.recv(1000)  # the hub's end is closed then

        return talk

    def leave(sock: socket.socket) -> None:
        receive(sock)
        sock.sendall(b"\x96\xa4PING")

    async def main() -> None:
        credentials = Credentials(KEY)
        assert await refusal(credentials, with_data(b"text\n")) == "it sent something other than the handshake"
        assert await refusal(credentials, lambda _: None) == ""
        assert await refusal(credentials, leave) == "it left in the middle of the handshake"

    run(main())


def talk_tls(
    context: ssl.SSLContext, then: Callable[[ssl.SSLSocket], object] = lambda _: None
) -> Callable[[socket.socket], None]:
    def talk(sock: socket.socket) -> None:
        with context.wrap_socket(sock, server_hostname="localhost") as wrapped:
            then(wrapped)

    return talk


@both_loops
def test_tls(run: Run, certificates: Certificates) -> None:
    """After the handshake of TLS the client is served; first bytes that came with it are not lost."""

    def in_one_piece(sock: socket.socket) -> None:
        half = ClientHalf(certificates.context())
        sock.sendall(half.shake_hands())
        last = b""
        while not last:
            last = half.shake_hands(sock.recv(65536))
        sock.sendall(last + half.send(b"line\n"))

    async def main() -> None:
        context = certificates.context()
        greeted = await greet(asking(certificates), talk_tls(context))
        assert greeted.tls is not None
        assert greeted.name == ""
        greeted = await greet(asking(certificates), in_one_piece)
        assert greeted.first == b"line\n"

    run(main())


@both_loops
def test_tls_and_a_shared_key(run: Run, certificates: Certificates) -> None:
    """Both can be asked for; the name in the certificate is that of the client."""
    pongs = []

    def say_goodbye(wrapped: ssl.SSLSocket) -> None:
        receive(wrapped)
        wrapped.unwrap()

    def look(wrapped: ssl.SSLSocket) -> None:
        receive(wrapped)

    async def main() -> None:
        credentials = asking(certificates, key=KEY, names=True)
        context = certificates.context(certificates.client)
        greeted = await greet(credentials, talk_tls(context, lambda wrapped: pongs.append(shake_hands(wrapped, KEY))))
        assert (greeted.name, greeted.first) == ("client.example", b"")
        wrong = talk_tls(context, lambda wrapped: pongs.append(shake_hands(wrapped, b"another")))
        assert await refusal(credentials, wrong) == "its shared key is another one"
        assert [pong[1] for pong in pongs] == [True, False]
        assert await refusal(credentials, talk_tls(context, say_goodbye)) == "it left in the middle of the handshake"
        assert await refusal(credentials, talk_tls(context, look)) == "it left in the middle of the handshake"

    run(main())


@both_loops
def test_tls_that_fails(run: Run, certificates: Certificates, tmp_path: Path) -> None:
    """Without TLS, without a certificate, with a stranger's: the reason is in the words of OpenSSL."""

    def send_random(sock: socket.socket) -> None:
        sock.sendall(b"\x16\x03\x01\x40\x00" + b"no handshake" * (GREETING_BYTES_MAX // 6))
        sock.recv(1000)

    def endless(sock: socket.socket) -> None:
        """Send the pieces of a first message that says it has 60 KiB, and nothing wrong in it."""
        rest = b"\x01\x00\xf0\x00\x03\x03" + bytes(32) + b"\0\0\x02\x13\x01\x01\0" + b"\xef\xf0" + b"\xff\x01\xef\xec"
        data = rest + bytes(60_000)
        for at in range(0, len(data), 16_000):
            piece = data[at : at + 16_000]
            sock.sendall(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece)
        sock.recv(1000)

    async def main() -> None:
        credentials = asking(certificates, names=True)
        assert (await refusal(credentials, lambda sock: sock.sendall(b"<13>text\n" * 9))).startswith("TLS: wrong ver")
        assert await refusal(credentials, lambda _: None) == ""
        assert (
            await refusal(credentials, lambda sock: sock.sendall(b"\x16")) == "it left in the middle of the handshake"
        )
        for pair, said in ((None, "peer did not return a certificate"), (certificates.stranger, "self-signed")):
            why = await refusal(credentials, talk_tls(certificates.context(pair), lambda wrapped: wrapped.recv(1)))
            assert why.startswith("TLS: ")
            assert said in why.replace("self signed", "self-signed")
        assert (await refusal(credentials, send_random)).startswith("TLS: ")
        assert await refusal(credentials, endless) == f"its handshake has more than {GREETING_BYTES_MAX} bytes"

    run(main())
