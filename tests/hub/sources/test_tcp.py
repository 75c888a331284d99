"""hub.sources.tcp: clients on TCP, with and without a key, with and without TLS."""

from __future__ import annotations

import array
import asyncio
import contextlib
import fcntl
import json
import select
import socket
import ssl
import termios
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgpack
import pytest

from hub.access import Access, Rule, Rules
from hub.address import Address
from hub.connection import TLS_READ_BYTES
from hub.errors import SocketError, SourceError
from hub.paths import AbsolutePath
from hub.peer import peer_of_certificate, peer_of_host
from hub.secretfile import stamp_of
from hub.sources import configured, tcp
from hub.sources.credentials import Credentials
from hub.sources.kinds import Tcp
from hub.sources.table import make
from hub.sources.tcp import TcpSource
from hub.sources.values import Tag
from hub.tls import Tls
from hub.users import User
from tests.certificates import Certificates, ClientHalf, Pair
from tests.forwardshake import receive, shake_hands
from tests.hub.clients import Run, both_loops, chunk, read_acks, read_to_end, until
from tests.hub.sources.served import Served, served
from tests.support import logged

KEY = b"secret"
ANY_PORT = Address("127.0.0.1:0")


class Site(Served):
    """The source, and clients of it."""

    source: TcpSource

    def client(self, data: bytes = b"", *, by: str = "127.0.0.1") -> socket.socket:
        """Return a connected client with the address *by* that has sent *data*."""
        address = Address(self.source.where)
        client = socket.create_connection((address.host, address.port), timeout=30, source_address=(by, 0))
        client.sendall(data)
        return client

    async def wrapped(self, context: ssl.SSLContext, data: bytes = b"") -> ssl.SSLSocket:
        """Return a client in TLS that has sent *data*."""

        def wrap() -> ssl.SSLSocket:
            wrapped = context.wrap_socket(self.client(), server_hostname="localhost")
            wrapped.sendall(data)
            return wrapped

        return await asyncio.to_thread(wrap)

    @property
    def unproved(self) -> int:
        return self.endpoint.metrics.connections_unproved


@contextlib.asynccontextmanager
async def serving(folder: Path, table: Tcp | None = None, **options: Any) -> AsyncIterator[Site]:
    async with served(folder, "tcp", table=table or Tcp(address=ANY_PORT), site=Site, **options) as here:
        assert isinstance(here, Site)
        yield here


@pytest.fixture
def keyed(tmp_path: Path) -> Tcp:
    """A table with a shared key."""
    path = tmp_path / "key"
    path.write_bytes(KEY)
    path.chmod(0o600)
    return Tcp(address=ANY_PORT, shared_key_file=AbsolutePath(path))


def encrypted(pair: Pair, authority: str | None = None, *, address: Address = ANY_PORT) -> Tcp:
    """Return a table with TLS."""
    ca = None if authority is None else AbsolutePath(authority)
    return Tcp(address=address, tls_cert=AbsolutePath(pair.cert), tls_key=AbsolutePath(pair.key), tls_client_ca=ca)


@both_loops
def test_all_protocols(run: Run, tmp_path: Path) -> None:
    """Lines, JSON, syslog and frames are distinguished as on the hub's socket; the peer is the host."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            here.client(b'text\n{"tag": "app", "n": 1}\n<12>app: hello\n').close()
            with here.client(chunk("a", 2)) as client:
                assert await asyncio.to_thread(read_acks, client, 1) == ["a"]
            with here.client(b'{"jsonrpc": "2.0", "id": 1, "method": "stats"}\n') as client:
                reply = json.loads(await asyncio.to_thread(client.recv, 65536))
            await until(lambda: len(here.got) == 5)
        assert reply["error"]["code"] == -32601  # no commands
        assert sorted(message.tag for message in here.got) == ["app", "app", "app", "syslog", "text"]
        assert {message.peer for message in here.got} == {peer_of_host("127.0.0.1")}
        assert here.source.tally.messages == 5
        assert here.endpoint.metrics.connections_accepted == 3

    run(main())


def test_a_tag(tmp_path: Path) -> None:
    """Messages that name no tag have that of the table."""

    async def main() -> None:
        async with serving(tmp_path, Tcp(address=ANY_PORT, tag=Tag("ours"))) as here:
            here.client(b"text\n").close()
            await until(lambda: here.got)
        assert here.got[0].tag == "ours"

    asyncio.run(main())


@both_loops
def test_a_shared_key(run: Run, tmp_path: Path, keyed: Tcp, capsys: pytest.CaptureFixture[str]) -> None:
    """A client that knows the key is served and acknowledged; another one is not, and the log says why."""

    def talk(here: Site, key: bytes) -> tuple[bool, list[str | bytes]]:
        with here.client() as client:
            pong = shake_hands(client, key)
            if not pong[1]:
                return False, [read_to_end(client)]
            client.sendall(chunk("a"))
            return True, read_acks(client, 1)

    async def main() -> None:
        async with serving(tmp_path, keyed) as here:
            assert await asyncio.to_thread(talk, here, KEY) == (True, ["a"])
            assert await asyncio.to_thread(talk, here, b"another") == (False, [b""])
            for _ in range(50):
                with here.client(b"text\n") as client:
                    await asyncio.to_thread(read_to_end, client)
            here.client().close()
            await until(lambda: here.unproved == 51 and not here.source._listener.connections)
        assert len(here.got) == 1

    run(main())
    lines = [line for line in logged(capsys) if line["event"] == "connection.unproved"]
    assert lines[0]["reason"] == "its shared key is another one"
    assert (lines[0]["remote"], "secret" in str(lines)) == ("127.0.0.1", False)
    assert len(lines) <= 10  # one a second


@both_loops
def test_a_deadline(
    run: Run, tmp_path: Path, keyed: Tcp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client that does not finish its handshake in time is closed, however slowly it goes on."""
    monkeypatch.setattr(tcp, "GREETING_S", 0.05)

    async def main() -> None:
        async with serving(tmp_path, keyed) as here:
            with here.client(b"\x96\xa4PING") as client:
                assert (await asyncio.to_thread(receive, client))[0] == "HELO"
                await asyncio.to_thread(read_to_end, client)
            assert here.unproved == 1

    run(main())
    assert "it has not finished its handshake in 0.05 s" in [line.get("reason") for line in logged(capsys)]


@both_loops
def test_tls(run: Run, tmp_path: Path, certificates: Certificates) -> None:
    """Lines and acknowledged frames in TLS; a client without TLS is refused."""

    async def main() -> None:
        async with serving(tmp_path, encrypted(certificates.server)) as here:
            context = certificates.context()
            with await here.wrapped(context, b"text\nlast") as client:
                await asyncio.to_thread(client.unwrap)
            await until(lambda: len(here.got) == 2)
            with await here.wrapped(context, chunk("a") + chunk("b")) as client:
                assert await asyncio.to_thread(read_acks, client, 2) == ["a", "b"]
            with here.client(b"text without TLS\n") as plain:
                await asyncio.to_thread(read_to_end, plain)
            await until(lambda: here.unproved == 1)
        assert [message.record.get("message") for message in here.got][:2] == ["text", "last"]
        assert len(here.got) == 4
        assert here.got[0].peer == peer_of_host("127.0.0.1")

    run(main())


def test_reads_in_tls_are_small(tmp_path: Path, certificates: Certificates) -> None:
    """A read that is nothing but changes of the key takes 30 µs for each of 27 bytes: no step may take 20 ms."""

    async def main() -> None:
        async with serving(tmp_path, encrypted(certificates.server)) as here:
            with await here.wrapped(certificates.context(), b"text\n"):
                await until(lambda: here.got)
                (arrival,) = here.source._listener.clients
                assert isinstance(arrival, tcp.Arrival)
                assert arrival._connection is not None
                assert len(arrival._connection.get_buffer(-1)) == TLS_READ_BYTES <= 8192

    asyncio.run(main())


def test_decrypting_takes_its_turn(tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host whose time in this round is used up waits with all its connections; nothing is lost."""
    was_spent: list[bool] = []

    async def main() -> None:
        async with serving(tmp_path, encrypted(certificates.server)) as here:
            with await here.wrapped(certificates.context(), b"first\n") as client:
                await until(lambda: here.got)
                (arrival,) = here.source._listener.clients
                decrypt, turn = Tls.decrypt, arrival.user.turn

                def noting(tls: Tls, data: bytes) -> bytes:
                    was_spent.append(turn.is_spent)
                    return decrypt(tls, data)

                monkeypatch.setattr(Tls, "decrypt", noting)
                client.sendall(b"second\n")
                turn.spend(0.1)
                await until(lambda: len(here.got) == 2)
                assert was_spent == [False]

    asyncio.run(main())


@both_loops
def test_much_in_tls(run: Run, tmp_path: Path, certificates: Certificates) -> None:
    """Thousands of frames, large ones among them, arrive whole and in order; each is acknowledged."""
    count = 3000

    def talk(here: Site) -> list[str]:
        half = ClientHalf(certificates.context())
        with here.client(half.shake_hands()) as sock:
            sock.sendall(half.last_of_handshake(sock))  # before the rest: the hub has a time limit
            unsent = b""
            for at in range(count):
                unsent += half.send(chunk(f"{at}", text="x" * (300_000 if at % 500 == 0 else 100)))
            acks: list[str] = []
            rest, unpacker = memoryview(unsent), msgpack.Unpacker()
            sock.setblocking(False)
            while len(acks) < count:
                readable, writable, _ = select.select([sock], [sock] if rest else [], [], 30)
                if writable:
                    rest = rest[sock.send(rest) :]
                if readable:
                    data = sock.recv(65536)
                    assert data, "closed"
                    unpacker.feed(half.receive(data))
                    acks += [reply["ack"] for reply in unpacker]
            return acks

    async def main() -> None:
        async with serving(tmp_path, encrypted(certificates.server)) as here:
            assert await asyncio.to_thread(talk, here) == [f"{at}" for at in range(count)]
        assert len(here.got) == count

    run(main())


@both_loops
@pytest.mark.parametrize("is_stopped", [False, True])
def test_many_records_at_once(run: Run, tmp_path: Path, certificates: Certificates, is_stopped: bool) -> None:
    """Records that one step does not decrypt are decrypted in the next ones, also behind the end, or a stop."""
    count = 4000

    def talk(here: Site) -> None:
        half = ClientHalf(certificates.context())
        with here.client(half.shake_hands()) as sock:
            last = half.last_of_handshake(sock)
            sock.sendall(last + b"".join(half.send(b"%d\n" % at) for at in range(count)))

    async def main() -> None:
        async with serving(tmp_path, encrypted(certificates.server)) as here:
            await asyncio.to_thread(talk, here)
            if not is_stopped:
                await until(lambda: len(here.got) == count)
        assert [message.record["message"] for message in here.got] == [str(at) for at in range(count)]

    run(main())


@both_loops
def test_a_client_that_reads_no_acknowledgement(run: Run, tmp_path: Path, certificates: Certificates) -> None:
    """Everything that has reached this host is stored, although its client has reset the connection."""

    def send(client: ssl.SSLSocket) -> None:
        with client:
            for at in range(500):
                client.sendall(chunk(f"{at}", text="x" * 3000))
            left = array.array("i", (1,))
            while left[0]:  # bytes that the hub's kernel does not have yet: closing throws them away
                fcntl.ioctl(client, termios.TIOCOUTQ, left)

    async def main() -> None:
        async with serving(tmp_path, encrypted(certificates.server)) as here:
            await asyncio.to_thread(send, await here.wrapped(certificates.context()))
            await until(lambda: len(here.got) == 500)

    run(main())


@both_loops
@pytest.mark.parametrize("is_whole", [False, True], ids=["in pieces, with its half closed", "in one piece"])
def test_a_client_that_says_goodbye(run: Run, tmp_path: Path, certificates: Certificates, is_whole: bool) -> None:
    """One that sends no more still gets its acknowledgement, and our goodbye, whether or not it closes its half."""

    def talk(here: Site) -> bytes:
        half = ClientHalf(certificates.context())
        with here.client(half.shake_hands()) as sock:
            data = half.last_of_handshake(sock) + half.send(chunk("a"))
            if not is_whole:
                sock.sendall(data)
                data = b""
            with contextlib.suppress(ssl.SSLWantReadError):
                half.object.unwrap()
            sock.sendall(data + half.outgoing.read())
            if not is_whole:
                sock.shutdown(socket.SHUT_WR)
            got = half.receive(read_to_end(sock))
            half.object.unwrap()  # raises without a goodbye
            return got

    async def main() -> None:
        async with serving(tmp_path, encrypted(certificates.server)) as here:
            assert await asyncio.to_thread(talk, here) == b"\x81\xa3ack\xa1a"

    run(main())


@both_loops
def test_a_record_that_was_changed(
    run: Run, tmp_path: Path, certificates: Certificates, capsys: pytest.CaptureFixture[str]
) -> None:
    """What came before is stored, the connection ends, and the log says so."""

    async def main() -> None:
        async with serving(tmp_path, encrypted(certificates.server)) as here:
            client = await here.wrapped(certificates.context(), b"good\n")
            with socket.socket(fileno=client.detach()) as sock:
                sock.settimeout(30)
                sock.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
                await asyncio.to_thread(read_to_end, sock)
        assert [record["message"] for record in here.records] == ["good"]

    run(main())
    assert [line["event"] for line in logged(capsys)] == ["connection.garbled"]


@both_loops
def test_certificates_of_clients(run: Run, tmp_path: Path, certificates: Certificates) -> None:
    """The name in the certificate is the client's, whatever its address; a stranger is refused."""

    async def main() -> None:
        table = encrypted(certificates.server, certificates.authority.cert)
        async with serving(tmp_path, table) as here:
            (await here.wrapped(certificates.context(certificates.client), b"text\n")).close()
            await until(lambda: len(here.got) == 1)
            with contextlib.suppress(ssl.SSLError, ConnectionError):  # with TLS 1.3 a client learns it when it reads
                (await here.wrapped(certificates.context(certificates.stranger), b"text\n")).close()
            await until(lambda: here.unproved == 1)
        assert here.got[0].peer == peer_of_certificate("client.example")
        assert len(here.got) == 1

    run(main())


@both_loops
def test_access_rules(run: Run, tmp_path: Path) -> None:
    """A rule can deny a host, by its address; where rules name who may send, it has to be named."""
    access = Access({"send": Rules(deny=(Rule.parse("comm:127.0.0.2"),))})

    async def main() -> None:
        async with serving(tmp_path, access=access) as here:
            here.client(b"one\n").close()
            await until(lambda: len(here.got) == 1)
            here.client(b"two\n", by="127.0.0.2").close()
            await until(lambda: here.endpoint.metrics.refused == 1 and len(here.got) == 2)
            assert here.records[1]["reason"] == "refused: 127.0.0.2 may not send"
            access.change({"send": Rules(allow=(Rule.parse("uid:0"),))})
            here.client(b"three\n").close()
            await until(lambda: here.endpoint.metrics.refused == 2)

    run(main())


@both_loops
def test_shares_of_hosts(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One host has half of the connections that the others leave free; refusals are one line for all hosts."""
    monkeypatch.setattr(tcp, "CONNECTIONS_MAX", 4)
    monkeypatch.setattr(tcp, "remote_peer", lambda sock: peer_of_host(sock.getpeername()[0].replace("127", "10")))

    async def main() -> None:
        async with serving(tmp_path) as here, contextlib.AsyncExitStack() as stack:
            for _ in range(3):
                stack.enter_context(here.client())
            await until(lambda: here.endpoint.metrics.connections_refused == 1)
            for by in ("127.0.0.2", "127.0.0.2"):
                stack.enter_context(here.client(b"text\n", by=by))
            await until(lambda: len(here.got) == 1)
            await until(lambda: here.endpoint.metrics.connections_refused == 2)
            assert here.got[0].peer == peer_of_host("10.0.0.2")

    run(main())
    assert [line["comm"] for line in logged(capsys) if line["event"] == "connection.refused"] == ["10.0.0.1"]


@both_loops
def test_a_stop(run: Run, tmp_path: Path, keyed: Tcp) -> None:
    """A stop stores what served clients have sent, and does not wait for those in the middle of a handshake."""

    async def main() -> None:
        async with serving(tmp_path, keyed) as here:
            served_client, arriving = here.client(), here.client()
            assert (await asyncio.to_thread(shake_hands, served_client, KEY))[1]
            await asyncio.to_thread(receive, arriving)
            served_client.sendall(b"text\n")
            stopping = asyncio.create_task(here.source.stop(30))
            await asyncio.wait_for(stopping, 5)
            assert [record["message"] for record in here.records] == ["text"]
            assert here.unproved == 0
        served_client.close()
        arriving.close()

    run(main())


@both_loops
def test_a_backlog_at_the_stop(run: Run, tmp_path: Path, keyed: Tcp) -> None:
    """A client that waits in the backlog at a stop is not greeted any more."""

    async def main() -> None:
        async with serving(tmp_path, keyed) as here:
            waiting = here.client()
            await here.source.stop(30)
            await asyncio.to_thread(read_to_end, waiting)
            waiting.close()
            assert here.unproved == 0

    run(main())


def test_a_stop_before_the_greeting() -> None:
    """A client that was accepted in the moment of a stop is not greeted."""
    ours, theirs = socket.socketpair()

    def never(*_: object) -> Any:
        raise AssertionError

    async def main() -> None:
        arrival = tcp.Arrival(ours, peer_of_host("10.0.0.5"), User(-5), Credentials(KEY), never, never)
        arrival.stop()
        await arrival.serve(ours)

    with ours, theirs:
        asyncio.run(main())
        theirs.setblocking(False)
        with pytest.raises(BlockingIOError):
            theirs.recv(1)


@both_loops
def test_limits_of_frames(run: Run, tmp_path: Path, keyed: Tcp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload that lowers the limit holds for open connections, too, and harms no handshake."""
    monkeypatch.setattr(configured, "LOOK_S", 0.001)

    async def main() -> None:
        async with serving(tmp_path, keyed) as here:
            client, arriving = here.client(), here.client()
            assert (await asyncio.to_thread(shake_hands, client, KEY))[1]
            client.sendall(chunk("a"))
            assert await asyncio.to_thread(read_acks, client, 1) == ["a"]
            here.endpoint.limit(connections_max=10, frame_bytes_max=1000)
            arrivals = [*here.source._listener.clients]
            decoder = next(each._connection for each in arrivals if each._connection)._decoder  # type: ignore[attr-defined]
            await until(lambda: decoder._frame_bytes_max == 1000)
            client.sendall(chunk("b", text="x" * 2000))
            assert await asyncio.to_thread(read_acks, client, 1) == ["b"]
            assert "limit" in here.records[-1]["reason"]
            client.close()
            arriving.close()

    run(main())


@both_loops
def test_files_that_change(
    run: Run, tmp_path: Path, keyed: Tcp, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new key counts from the next client on; with one that cannot be read, the former one stays."""
    monkeypatch.setattr(configured, "LOOK_S", 0.001)
    path = Path(str(keyed.shared_key_file))

    def knocks(here: Site, key: bytes) -> bool:
        with here.client() as client:
            return bool(shake_hands(client, key)[1])

    async def main() -> None:
        async with serving(tmp_path, keyed) as here:
            path.chmod(0o644)
            await until(lambda: here.source._credentials.stamps == [stamp_of(str(path))])
            assert await asyncio.to_thread(knocks, here, KEY)
            path.unlink()
            path.touch(0o600)
            path.write_bytes(b"another")
            await until(lambda: here.source._credentials.value.shared_key == b"another")
            assert await asyncio.to_thread(knocks, here, b"another")
            assert not await asyncio.to_thread(knocks, here, KEY)

    run(main())
    assert next(line["event"] for line in logged(capsys)) == "source.failed"


def test_what_cannot_be_opened(tmp_path: Path, keyed: Tcp) -> None:
    """A file that others can read, or a port in use, is an error when the source is opened."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            with pytest.raises(SocketError, match="already listening"):
                make(Tcp(address=Address(here.source.where)), here.endpoint)
            Path(str(keyed.shared_key_file)).chmod(0o644)
            with pytest.raises(SourceError, match="can be read or changed by other users"):
                make(keyed, here.endpoint)
            here.source.permit(0o600, None)

    asyncio.run(main())


@both_loops
def test_accepting_fails(run: Run, tmp_path: Path) -> None:
    """If the socket cannot be used any more, the source ends with the error."""

    async def main() -> None:
        async with serving(tmp_path) as here:
            other = make(Tcp(address=ANY_PORT), here.endpoint)

            async def fail() -> None:
                raise OSError(22, "Invalid argument")

            other._listener.run = fail  # type: ignore[attr-defined]
            with pytest.raises(OSError, match="Invalid argument"):
                await other.run()

    run(main())
