"""hub.natsclient: a connection to a real NATS server, also with a password, TLS and certificates of clients."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub import natsclient
from hub.natsclient import NO_STREAM, NatsClient, NatsFault, answer_in
from hub.natsplace import ServerUrl
from hub.paths import AbsolutePath
from hub.sources.kinds import Jetstream
from tests.certificates import Certificates
from tests.natscredentials import make_credentials
from tests.natsserver import NatsServer
from tests.support import PATIENCE_S, eventually, free_port


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that runs during the test."""
    with NatsServer(tmp_path / "nats") as running:
        yield running


def fault_of(table: Jetstream) -> str:
    """Return why a client cannot connect; empty if it can."""

    async def main() -> str:
        client = NatsClient("test", lambda: None)
        try:
            await client.open(table)
        except NatsFault as error:
            return str(error)
        await client.close()
        return ""

    return asyncio.run(main())


async def streams_of(table: Jetstream) -> int:
    """Return how many streams the account of a client has."""
    client = NatsClient("test", lambda: None)
    await client.open(table)
    try:
        return int((await client.ask("INFO"))["streams"])
    finally:
        await client.close()


def test_what_is_published_arrives(server: NatsServer) -> None:
    """With its headers."""

    async def main() -> None:
        client = NatsClient("test", lambda: None)
        await client.open(Jetstream(servers=(ServerUrl(server.url),)))
        arrived: asyncio.Queue[tuple[bytes, dict[str, str] | None]] = asyncio.Queue()
        inbox = await client.subscribe(lambda message: arrived.put_nowait((message.data, message.headers)))
        await client.publish(f"{inbox}.7", b"x", headers={"A": "b"})
        assert await asyncio.wait_for(arrived.get(), 10) == (b"x", {"A": "b"})
        assert client.payload_bytes_max == 1 << 20
        await client.flush()
        with pytest.raises(NatsFault, match="stream not found") as raised:
            await client.ask("STREAM.INFO.LOGS")
        assert raised.value.code == NO_STREAM
        assert (await client.ask("INFO"))["streams"] == 0
        await client.close()
        await client.close()
        with pytest.raises(NatsFault, match="connection closed"):
            await client.publish("a", b"")
        with pytest.raises(NatsFault, match="connection closed"):
            await client.ask("INFO")
        with pytest.raises(NatsFault, match="connection closed"):
            await client.subscribe(lambda _: None)
        with pytest.raises(NatsFault, match="connection closed"):
            await client.flush()

    asyncio.run(main())


def test_a_server_that_hangs(server: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """It closes no connection, nor does one whose network is gone: it is given up when it answers no questions."""
    monkeypatch.setattr(natsclient, "PING_S", 0.05)

    async def main() -> None:
        lost = asyncio.Event()
        client = NatsClient("test", lost.set)
        await client.open(Jetstream(servers=(ServerUrl(server.url),)))
        server.signal(signal.SIGSTOP)
        try:
            await asyncio.wait_for(lost.wait(), 10)
        finally:
            server.signal(signal.SIGCONT)
        assert "the connection is lost" in str(client.lost)
        await client.close()

    asyncio.run(main())


def test_a_loss_of_the_connection_is_noted_once_it_was_open(server: NatsServer) -> None:
    """A close of our own is none."""

    async def main() -> None:
        lost = asyncio.Event()
        client = NatsClient("test", lost.set)
        await client.open(Jetstream(servers=(ServerUrl(server.url),)))
        server.kill()
        await asyncio.wait_for(lost.wait(), 10)
        assert "the connection is lost" in str(client.lost)
        await client.close()
        server.start()
        lost.clear()
        other = NatsClient("test", lost.set)
        await other.open(Jetstream(servers=(ServerUrl(server.url),)))
        await other.close()
        assert not lost.is_set()

    asyncio.run(main())


def test_any_of_the_servers(server: NatsServer) -> None:
    """The first that answers."""
    nowhere = ServerUrl(f"nats://127.0.0.1:{free_port()}")
    assert fault_of(Jetstream(servers=(nowhere, ServerUrl(server.url)))) == ""
    assert fault_of(Jetstream(servers=(nowhere,))).startswith("no connection: ")


def test_a_server_that_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes connections, and does not greet."""
    monkeypatch.setattr(natsclient, "CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = ServerUrl(f"nats://127.0.0.1:{silent.getsockname()[1]}")
        assert fault_of(Jetstream(servers=(url,))) == "no connection: the server does not answer"


def test_a_password(tmp_path: Path) -> None:
    """It is read from its file."""
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    with NatsServer(tmp_path / "nats", more='authorization { user: "hub", password: "secret" }') as server:
        url = ServerUrl(server.url)
        right = Jetstream(servers=(url,), user="hub", password_file=AbsolutePath(str(password)))
        assert fault_of(right) == ""
        eventually(lambda: "Authorization" in fault_of(Jetstream(servers=(url,))), "no reset has overtaken the reason")
        password.write_text("wrong")
        eventually(lambda: "Authorization" in fault_of(right), "no reset has overtaken the reason")
        password.unlink()
        assert "password" in fault_of(right)


def test_tls(tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's certificate is checked, and the client has one."""
    monkeypatch.setattr(natsclient, "CONNECT_S", 2.0)  # a client whose server is not the right one waits until then
    files = [*certificates.server, certificates.authority.cert]
    more = 'tls {{ cert_file: "{}", key_file: "{}", ca_file: "{}", verify: true }}'.format(*files)
    with NatsServer(tmp_path / "nats", more=more) as server:
        url = ServerUrl(server.url.replace("nats://127.0.0.1", "tls://localhost"))
        ca, pair = AbsolutePath(certificates.authority.cert), certificates.client
        own: dict[str, Any] = {"tls_cert": AbsolutePath(pair.cert), "tls_key": AbsolutePath(pair.key)}
        assert fault_of(Jetstream(servers=(url,), tls_ca=ca, **own)) == ""
        assert "certificate" in fault_of(Jetstream(servers=(url,), **own)).lower(), "signed by nobody we know"
        assert fault_of(Jetstream(servers=(url,), tls_ca=ca))


def test_tls_where_the_server_does_not_ask_for_it(tmp_path: Path, certificates: Certificates) -> None:
    """The connection is encrypted all the same, or is none."""
    files = certificates.server
    more = 'tls {{ cert_file: "{}", key_file: "{}" }}\nallow_non_tls: true'.format(*files)
    with NatsServer(tmp_path / "nats", more=more) as server:
        url, ca = server.url.replace("nats://127.0.0.1", "tls://localhost"), certificates.authority.cert
        table = Jetstream(servers=(ServerUrl(url),), tls_ca=AbsolutePath(ca))
        assert fault_of(table) == ""
        assert "certificate" in fault_of(Jetstream(servers=(ServerUrl(url),))).lower(), "signed by nobody we know"
        assert fault_of(Jetstream(servers=(ServerUrl(server.url),))) == "", "without TLS"


@pytest.mark.parametrize("info", [b"{}", b'{"tls_required": false}', b'{"tls_available": false}'])
def test_no_password_is_sent_where_there_is_no_tls(tmp_path: Path, info: bytes) -> None:
    """Somebody on the way could have taken the word out of the server's greeting."""
    password = tmp_path / "password"
    password.write_text("secret\n")
    password.chmod(0o600)
    got = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"INFO " + info + b"\r\n")
        got.extend(await reader.read())
        writer.close()

    async def main() -> str:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
            url = ServerUrl(f"tls://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
            client = NatsClient("test", lambda: None)
            with pytest.raises(NatsFault) as raised:
                await client.open(Jetstream(servers=(url,), user="hub", password_file=AbsolutePath(str(password))))
        return str(raised.value)

    assert asyncio.run(main()) == "no connection: the server has no TLS (nats:// connects without it)"
    assert not got


def test_what_the_server_does_not_permit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    The request fails at once, with the server's reason, although the server answers none: the connection counts as
    lost. So do requests after it.
    """
    monkeypatch.setattr(natsclient, "REPLY_S", 600.0)
    permissions = '{ publish: ["$JS.API.INFO"], subscribe: ["_INBOX.>"] }'
    more = f'authorization {{ users: [ {{ user: "hub", password: "secret", permissions: {permissions} }} ] }}'
    password = tmp_path / "password"
    password.write_text("secret")
    password.chmod(0o600)

    async def main(url: str) -> None:
        lost = asyncio.Event()
        client = NatsClient("test", lost.set)
        key = AbsolutePath(str(password))
        await client.open(Jetstream(servers=(ServerUrl(url),), user="hub", password_file=key))
        assert (await client.ask("INFO"))["streams"] == 0
        assert not lost.is_set()
        reason = 'the server does not permit it: .*publish to "\\$js.api.stream.info.logs"'
        for _ in range(2):
            with pytest.raises(NatsFault, match=f"(?i){reason}"):
                await asyncio.wait_for(client.ask("STREAM.INFO.LOGS"), PATIENCE_S)
            assert lost.is_set()
        await client.close()
        lost.clear()
        other = NatsClient("test", lost.set)
        await other.open(Jetstream(servers=(ServerUrl(url),), user="hub", password_file=key))
        await other.publish("mpsr.x", b"")
        await asyncio.wait_for(lost.wait(), 10)
        assert 'publish to "mpsr.x"' in str(other.lost).lower()
        await other.close()

    with NatsServer(tmp_path / "nats", more=more) as server:
        asyncio.run(main(server.url))


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"error": {"code": 400}}', b'{"error": {"description": "d"}}'])
def test_answers(data: bytes) -> None:
    """An answer that is none, or is an error, is a fault."""
    with pytest.raises(NatsFault):
        answer_in(data)


def test_credentials(tmp_path: Path) -> None:
    """A file of credentials signs with its key; those of another operator are refused."""
    (tmp_path / "other").mkdir()
    right, other = make_credentials(tmp_path), make_credentials(tmp_path / "other")
    with NatsServer(tmp_path / "nats", more=right.config) as server:
        url = ServerUrl(server.url)
        signed = Jetstream(servers=(url,), credentials_file=AbsolutePath(str(right.path)))
        assert fault_of(signed) == ""
        assert asyncio.run(streams_of(signed)) == 0
        assert "uthorization" in fault_of(Jetstream(servers=(url,), credentials_file=AbsolutePath(str(other.path))))
        assert "uthorization" in fault_of(Jetstream(servers=(url,)))
