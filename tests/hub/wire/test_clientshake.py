"""hub.wire.clientshake: the server is trusted if it proves that it knows the key, and only then."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire.clientshake import MESSAGE_BYTES_MAX, SALT_BYTES, ClientShake, Refused
from hub.wire.handshake import NONCE_BYTES, Handshake
from tests.forwardshake import digest

KEY = b"secret"
NONCE = bytes(range(NONCE_BYTES))
SALT = bytes(range(SALT_BYTES))


def shaking(key: bytes = KEY) -> ClientShake:
    return ClientShake(key, "client.example", SALT)


def hello(**options: Any) -> bytes:
    return bytes(msgpack.packb(["HELO", {"nonce": NONCE, "auth": b"", **options}]))


def pong(key: bytes = KEY, name: str = "server.example") -> bytes:
    code = digest(SALT.hex().encode(), name.encode(), NONCE, key)
    return bytes(msgpack.packb(["PONG", True, "", name, code]))


def test_both_halves_of_ours_agree() -> None:
    """The server's half admits the client's, and the other way round; what follows is kept. Another key is refused."""
    server, client = Handshake(KEY, NONCE), shaking()
    answer = server.receive(client.receive(server.hello))
    assert answer is not None
    assert (answer.refusal, client.is_done) == ("", False)
    assert client.receive(answer.data + b"\x81\xa3ack") == b""
    assert (client.is_done, client.rest) == (True, b"\x81\xa3ack")
    server, client = Handshake(KEY, NONCE), shaking(b"other")
    answer = server.receive(client.receive(server.hello))
    assert answer is not None
    with pytest.raises(Refused, match="it refuses us: shared key mismatch"):
        client.receive(answer.data)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_in_pieces(size: int) -> None:
    """Messages may come in pieces, or together with the next one."""
    client, replies = shaking(), b""
    data = hello(keepalive=True) + pong()
    for at in range(0, len(data), size):
        replies += client.receive(data[at : at + size])
    assert client.is_done
    fields = msgpack.unpackb(replies)
    code = digest(SALT.hex().encode(), b"client.example", NONCE, KEY)
    assert fields == ["PING", "client.example", SALT.hex(), code, "", ""]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (hello(auth=b"x" * 16), "a user and a password"), (hello(keepalive=False), "after each message"),
        (msgpack.packb(["HELO", {}]), "malformed"), (msgpack.packb(["HELO", 1]), "malformed"),
        (msgpack.packb(["HELO"]), "malformed"), (msgpack.packb(["PONG"]), "does it ask for a shared key"),
        (msgpack.packb([]), "something other than HELO"), (b"\xc1", "something other than HELO"),
        (b"GET / HTTP", "something other than HELO"),
        (b"\x92\xa4HELO\xdb\0\0\x20\0" + b"x" * MESSAGE_BYTES_MAX, "more than"),
        (hello() + msgpack.packb(["PONG", True, "", "a", "b"]), "does not know the shared key"),
        (hello() + pong(b"other"), "does not know the shared key"),
        (hello() + msgpack.packb(["PONG", True, "", 1, "b"]), "malformed"),
        (hello() + msgpack.packb(["PONG", True, "", "a", 1]), "malformed"),
        (hello() + msgpack.packb(["PONG", True, ""]), "malformed"),
        (hello() + msgpack.packb(["PONG", False, "go away", "", ""]), "refuses us: go away"),
        (hello() + msgpack.packb(["PONG", None, 1, "", ""]), "no reason given"), (hello() + hello(), "other than PONG"),
    ],
)  # fmt: skip
def test_what_is_refused(data: bytes, words: str) -> None:
    """Each reason is a sentence, without the key."""
    with pytest.raises(Refused, match=words) as refused:
        shaking().receive(data)
    assert KEY.decode() not in str(refused.value)


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_or_waited_for(data: bytes) -> None:
    """No bytes raise anything else, or make a handshake."""
    for begin in (b"", hello()):
        client = shaking()
        try:
            client.receive(begin + data)
        except Refused:
            continue
        assert not client.is_done
