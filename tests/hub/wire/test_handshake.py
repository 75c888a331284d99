"""hub.wire.handshake: a client is admitted if it knows the key, and only then."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.wire import handshake
from hub.wire.handshake import NONCE_BYTES, PING_BYTES_MAX, Answer, Handshake
from tests.forwardshake import digest, ping

NONCE = bytes(range(NONCE_BYTES))
KEY = b"secret"
# Of an implementation of the specification: nonce 00 to 0f, salt "0123456789abcdef", names client.example and
# server.example.
PING_DIGEST = (
    "1f733082a8dc919c2ece6fc38c79f7d0172002854a2e6600505f614f99f73247"
    "65b97b1174ba22d7b770a2ed11ff79ab51dac115ccbe0f7a39df9a4d514445f0"
)
PONG_DIGEST = (
    "0b46bc88f3290af8143bf267ede5d64a20e3bbd1ba2dd82bdd4397922e2a0bde"
    "ac9084c38244392dfd8d3e842d080dbc25ed2a71f46a72610e7935c4b175dda7"
)
GOOD = ["PING", "client.example", "0123456789abcdef", PING_DIGEST, "", ""]


def shaking() -> Handshake:
    return Handshake(KEY, NONCE)


def answer_to(data: bytes) -> Answer:
    answer = shaking().receive(data)
    assert answer is not None
    return answer


def test_the_first_message() -> None:
    """HELO has the nonce, asks for no password, and says that connections last."""
    assert msgpack.unpackb(shaking().hello) == ["HELO", {"nonce": NONCE, "auth": b"", "keepalive": True}]


def test_the_known_digests(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client's PING is accepted, and the PONG proves that we know the key, too."""
    monkeypatch.setattr(handshake, "OUR_NAME", b"server.example")
    answer = answer_to(msgpack.packb(GOOD))
    assert msgpack.unpackb(answer.data) == ["PONG", True, "", "server.example", PONG_DIGEST]
    assert (answer.refusal, answer.rest) == ("", b"")


@pytest.mark.parametrize("salt", [b"0123456789abcdef", b"\xff" * 16, b""])
def test_any_salt_and_what_follows(salt: bytes) -> None:
    """The salt may be any bytes, as a str or a bin; what is sent behind the PING is kept."""
    hello = msgpack.unpackb(shaking().hello)
    rest = b"\x93\xa1a\x00\x80"
    answer = answer_to(ping(hello, KEY, salt=salt) + rest)
    assert (answer.refusal, answer.rest) == ("", rest)
    fields = [b"PING", b"c", salt, digest(salt, b"c", NONCE, KEY).encode(), b"", b""]
    assert answer_to(msgpack.packb(fields) + rest)[1:] == ("", rest)


def test_byte_by_byte() -> None:
    """A PING may come in pieces, and is answered with the last."""
    data, shake = msgpack.packb(GOOD), shaking()
    for at in range(len(data) - 1):
        assert shake.receive(data[at : at + 1]) is None
    answer = shake.receive(data[-1:])
    assert answer is not None
    assert answer.refusal == ""


@pytest.mark.parametrize("at", range(1, 4))
def test_another_key(at: int) -> None:
    """A wrong digest, name or salt is refused with a PONG that says so, and proves nothing."""
    fields = [*GOOD]
    fields[at] = fields[at][:-1] + "X"
    answer = answer_to(msgpack.packb(fields))
    assert msgpack.unpackb(answer.data) == ["PONG", False, "shared key mismatch", "", ""]
    assert (answer.refusal, answer.rest) == ("its shared key is another one", b"")


@pytest.mark.parametrize(
    "data", [b"<13>text\n", b"{}", b"\x93\xa1a\x00\x80", b"\x16\x03\x01", b"\x96\xa4PONG", b"\xc0"]
)
def test_something_else(data: bytes) -> None:
    """Bytes that cannot be a PING are refused at once, and answered with nothing."""
    assert answer_to(data) == Answer(b"", "it sent something other than the handshake", b"")


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb(["PING", 1, "", "", "", ""]),
        msgpack.packb(["PING", "", [[]], "", "", ""]),
        b"\x96\xa4PING" + b"\xc1",
        b"\x96\xa4PING" + b"\x97",  # an array that is too long
        b"\x96\xa4PING" + b"\x81",
    ],
)
def test_a_broken_one(data: bytes) -> None:
    """A PING that is no PING is refused."""
    assert answer_to(data) == Answer(b"", "its handshake is malformed", b"")


@pytest.mark.parametrize("head", [b"\xda\xff\xff", b"\xc6\xff\xff\xff\xff"])
def test_a_large_one(head: bytes) -> None:
    """A PING that does not end, or says that it will have 4 GiB, is refused at the limit."""
    shake = shaking()
    assert shake.receive(b"\x96\xa4PING" + head + b"x" * (PING_BYTES_MAX - 7 - len(head))) is None
    answer = shake.receive(b"xx")
    assert answer is not None
    assert answer.refusal == f"its handshake has more than {PING_BYTES_MAX} bytes"


@given(st.lists(st.binary(max_size=300), max_size=8), st.booleans())
def test_any_bytes(pieces: list[bytes], begins_well: bool) -> None:
    """Whatever a client sends is refused or waited for, and little is held; nobody gets in without the key."""
    shake = shaking()
    for piece in [b"\x96\xa4PING", *pieces] if begins_well else pieces:
        answer = shake.receive(piece)
        assert len(shake._held) <= PING_BYTES_MAX + 300
        if answer is not None:
            assert answer.refusal
            break
