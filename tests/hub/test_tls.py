"""hub.tls: encryption between memory and memory, against the client's half of Python's ssl."""

from __future__ import annotations

import contextlib
import ssl

import pytest

from hub.tls import RECORD_BYTES, RECORDS_MAX, Tls, TlsFailed
from tests.certificates import Certificates, ClientHalf, Pair


def server_context(pair: Pair, *, authority: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    context.num_tickets = 0
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture(params=[ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def halves(request: pytest.FixtureRequest, certificates: Certificates) -> tuple[Tls, ClientHalf]:
    """Both halves, after their handshake."""
    context = certificates.context()
    context.maximum_version = request.param
    return shaken(Tls(server_context(certificates.server)), ClientHalf(context))


def shaken(tls: Tls, client: ClientHalf) -> tuple[Tls, ClientHalf]:
    """Let both shake hands, byte by byte."""
    data, is_done = client.shake_hands(), False
    while data or not is_done:
        for at in range(len(data)):
            is_done = tls.shake_hands(data[at : at + 1])
        data = client.shake_hands(tls.output())
    return tls, client


def test_both_ways(halves: tuple[Tls, ClientHalf]) -> None:
    """What one half sends, the other gets, in order, however large it is; no tickets come with it."""
    tls, client = halves
    assert tls.decrypt(client.send(b"one") + client.send(b"two")) == b"onetwo"
    large = bytes(range(256)) * 1024
    assert tls.decrypt(client.send(large)) == large
    sent = tls.encrypt(b"ack")
    assert client.receive(sent) == b"ack"
    assert len(sent) < 100
    assert client.receive(tls.encrypt(large)) == large
    assert (tls.is_closed, tls.fault, tls.client_name) == (False, "", "")


def test_a_record_in_pieces(halves: tuple[Tls, ClientHalf]) -> None:
    """A record is returned when it is whole, and never before."""
    tls, client = halves
    data = client.send(b"x" * RECORD_BYTES)
    for at in range(0, len(data) - 1, 1000):
        assert tls.decrypt(data[at : min(at + 1000, len(data) - 1)]) == b""
    assert tls.decrypt(data[-1:]) == b"x" * RECORD_BYTES


def test_many_records(halves: tuple[Tls, ClientHalf]) -> None:
    """One call decrypts some of them, wherever they are cut; the rest waits, half a header too."""
    tls, client = halves
    data = b"".join(client.send(bytes((n % 256,))) for n in range(1000))
    expected = bytes(n % 256 for n in range(1000))
    found = [tls.decrypt(data[:-20])]
    assert tls.held_bytes > len(data) / 2
    while tls.has_more:
        found.append(tls.decrypt(b""))
    assert [len(piece) for piece in found] == [RECORDS_MAX] * (999 // RECORDS_MAX) + [999 % RECORDS_MAX]
    assert tls.held_bytes < 5
    assert b"".join([*found, tls.decrypt(data[-20:])]) == expected
    data = client.send(b"one") + client.send(b"two")
    assert b"".join(tls.decrypt(data[at : at + 1]) for at in range(len(data))) == b"onetwo"
    first, second = client.send(b"one"), client.send(b"two")
    assert tls.decrypt(first[:3]) == b""
    assert (tls.has_more, tls.held_bytes) == (False, 3)
    tls.hold(first[3:] + second[:-1])
    assert tls.has_more
    assert tls.decrypt(b"") == b"one"
    tls.hold(second[-1:])
    assert tls.has_more
    assert tls.decrypt(b"") == b"two"
    assert not tls.has_more


def test_nothing_waits_behind_the_end(halves: tuple[Tls, ClientHalf]) -> None:
    """What follows the client's goodbye, or a fault, is let go."""
    tls, client = halves
    record = client.send(b"x")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.object.unwrap()
    assert tls.decrypt(record + client.outgoing.read() + record * 1000) == b"x"
    assert (tls.is_closed, tls.has_more, tls.held_bytes) == (True, False, 0)


def test_the_end(halves: tuple[Tls, ClientHalf]) -> None:
    """A client that has sent its last still gets what it waits for, and our goodbye."""
    tls, client = halves
    last = client.send(b"last")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.object.unwrap()
    assert tls.decrypt(last + client.outgoing.read() + b"garbage") == b"last"
    assert (tls.is_closed, tls.fault) == (True, "")
    assert tls.decrypt(b"more") == b""
    assert client.receive(tls.encrypt(b"ack") + tls.farewell()) == b"ack"
    client.object.unwrap()  # raises without a goodbye


def test_our_goodbye_first(halves: tuple[Tls, ClientHalf]) -> None:
    """The hub may end first: the client reads to the end without an error."""
    tls, client = halves
    client.incoming.write(tls.encrypt(b"ack") + tls.farewell())
    assert client.object.read(10) == b"ack"
    assert client.object.read(10) == b""
    with contextlib.suppress(ssl.SSLError):
        client.object.unwrap()
    assert tls.decrypt(client.outgoing.read()) == b""
    assert (tls.is_closed, tls.fault) == (True, "")


def test_a_record_that_was_changed(halves: tuple[Tls, ClientHalf]) -> None:
    """What came before is returned; then there is a fault, an alert is sent, and nothing more is taken or sent."""
    tls, client = halves
    good, bad = client.send(b"good"), bytearray(client.send(b"bad"))
    bad[-1] ^= 1
    assert tls.decrypt(good + bytes(bad)) == b"good"
    assert tls.is_closed
    assert "bad record mac" in tls.fault or "decryption failed" in tls.fault
    assert tls.output()
    assert tls.encrypt(b"ack") == b""
    tls.farewell()


@pytest.mark.parametrize(
    ("data", "said"), [(b"GET / HTTP/1.1\r\n\r\n", "http request"), (b"<13>text\n" * 10, "wrong version number")]
)
def test_no_tls_at_all(data: bytes, said: str, certificates: Certificates) -> None:
    """Bytes that are no handshake fail, with a reason."""
    with pytest.raises(TlsFailed, match=said):
        Tls(server_context(certificates.server)).shake_hands(data)


@pytest.mark.parametrize(
    ("who", "name"), [("client", "client.example"), ("nameless", "nameless.example"), ("stranger", None), (None, None)]
)
def test_certificates_of_clients(who: str | None, name: str | None, certificates: Certificates) -> None:
    """A client has the name in its certificate; without one that the authority has signed, the handshake fails."""
    tls = Tls(server_context(certificates.server, authority=certificates.authority.cert))
    client = ClientHalf(certificates.context(None if who is None else getattr(certificates, who)))
    if name is not None:
        shaken(tls, client)
        assert tls.client_name == name
        return
    with pytest.raises(TlsFailed, match="self.signed certificate" if who else "did not return a certificate"):
        shaken(tls, client)
    with pytest.raises(ssl.SSLError, match="ALERT"):
        client.receive(tls.output())
