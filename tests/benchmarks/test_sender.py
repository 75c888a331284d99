"""The dialects of a producer: messages have the size that was asked for, and acknowledgements are counted in pieces."""

from __future__ import annotations

import struct

import msgpack
import pytest

from hub.wire.chunkid import pack_own
from tests.benchmarks.sender import DIALECTS, Chunks, Orders, Publish, Resp, Stream


def orders(dialect: str, *, size: int = 130, chunk: int = 10) -> Orders:
    return Orders(dialect, "/nowhere", 0, 1, 1.0, size, chunk, ack=True, run="12345678")


@pytest.mark.parametrize("size", [64, 130, 1024, 65536])
def test_messages_have_their_size(size: int) -> None:
    """In every stream, a message takes the bytes that were asked for, besides what the protocol puts around it."""
    around = {"prefixed": 4}
    streams = [name for name, kind in DIALECTS.items() if isinstance(kind, type) and issubclass(kind, Stream)]
    assert len(streams) == 4
    for name in streams:
        dialect = DIALECTS[name](orders(name, size=max(size, 128 if name != "prefixed" else 0)), 0)
        each = max(size, 128 if name != "prefixed" else 0) + around.get(name, 0)
        assert len(dialect.next(0)) == dialect.count * each


def test_prefixed_messages_are_those_of_the_hub() -> None:
    """A peer without chunks gets the same bytes as the hub: the entries of a chunk."""
    data, entries = bytes(DIALECTS["prefixed"](orders("prefixed"), 0).next(0)), []
    while data:
        (length,) = struct.unpack(">I", data[:4])
        entries.append(data[4 : 4 + length])
        data = data[4 + length :]
    tag, payload, option = msgpack.unpackb(DIALECTS["chunks"](orders("chunks"), 0).next(0))
    assert payload == b"".join(entries[:10])
    assert (tag, option["size"]) == ("bench.0", 10)


def replies(kind: str) -> bytes:
    """Return the acknowledgements of three pieces of two messages."""
    if kind == "chunks":
        names = [msgpack.unpackb(pack_own("s" * 22, counter)) for counter in (1, 2, 3)]
        return b"".join(msgpack.packb({"ack": name}) for name in names)
    if kind == "resp":
        return b"$15\r\n1700000000000-0\r\n" * 6
    return b"".join(b'MSG _INBOX.x.1 1 30\r\n{"stream":"bench", "seq":%d}\r\n' % number for number in range(6))


@pytest.mark.parametrize("kind", ["chunks", "resp", "publish"])
def test_acknowledgements_are_counted_wherever_they_are_cut(kind: str) -> None:
    """Six messages are acknowledged, in whichever two pieces their acknowledgements arrive."""
    data = replies(kind)
    for cut in range(len(data)):
        dialect = DIALECTS[kind](orders(kind, chunk=2), 0)
        assert dialect.acknowledged(data[:cut]) + dialect.acknowledged(data[cut:]) == 6, cut


def test_an_acknowledgement_is_for_the_chunks_before_it_too() -> None:
    """A hub may answer several chunks of a session with the id of the last."""
    dialect = Chunks(orders("chunks", chunk=2), 0)
    assert dialect.acknowledged(replies("chunks")[-len(replies("chunks")) // 3 :]) == 6


@pytest.mark.parametrize(
    ("dialect", "reply"),
    [
        (Resp, b"-ERR unknown command\r\n"),
        (Resp, b"$15\r\n1700000000000-0\r\n-OOM command not allowed\r\n"),
        (Publish, b'MSG _INBOX.x.1 1 60\r\n{"error":{"code":503,"description":"no"},"seq":0}\r\n'),
    ],
)
def test_an_error_is_no_acknowledgement(dialect: type[Resp | Publish], reply: bytes) -> None:
    """What a server refuses ends the run."""
    with pytest.raises(ValueError, match=r"ERR|OOM|no"):
        dialect(orders("x"), 0).acknowledged(reply)
