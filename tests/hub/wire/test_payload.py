"""hub.wire.payload: compressed frames, from the stream to messages."""

from __future__ import annotations

import gzip
import random

import msgpack
import pytest

from hub.message import Batch, Loss
from hub.wire.detect import Unit
from hub.wire.forward import ForwardDecoder
from tests.hub.wire.feeding import feed
from tests.hub.wire.test_compression import COMPRESSORS

ENTRIES = [[1, {"n": number}] for number in range(100)]
PAYLOAD = b"".join(map(msgpack.packb, ENTRIES))


def frame(payload: bytes, **option: object) -> bytes:
    packed: bytes = msgpack.packb(["app", payload, option])
    return packed


def repeated(size: int) -> bytes:
    """Return bytes that repeat themselves every 16 KiB."""
    return random.Random(1).randbytes(16 << 10) * (size >> 14)


def opened(stream: bytes, limit: int = 1 << 20) -> list[Unit]:
    """Return what a stream holds, its payloads opened."""
    return feed(ForwardDecoder(frame_bytes_max=limit), stream)


@pytest.mark.parametrize("method", COMPRESSORS)
@pytest.mark.parametrize("size", [{}, {"size": 100}, {"size": 7}, {"size": 99999}])
def test_a_compressed_chunk_is_stored_decompressed(method: str, size: dict[str, int]) -> None:
    """The entries come out as they were sent, whatever the size says, and the chunk id is carried once."""
    compress = COMPRESSORS[method]
    payload = compress(PAYLOAD[:500]) + compress(PAYLOAD[500:])
    (batch,) = opened(frame(payload, chunk="id", compressed=method, **size))
    assert isinstance(batch, Batch)
    assert [message.record for message in batch.messages()] == [record for _, record in ENTRIES]
    assert (batch.entries[5:], batch.chunk) == (PAYLOAD, b"\xa2id")


def test_text_is_not_compressed() -> None:
    """fluentd says ``compressed: text`` of every plain chunk."""
    (batch,) = opened(frame(PAYLOAD, compressed="text"))
    assert isinstance(batch, Batch)
    assert batch.count == 100


@pytest.mark.parametrize(
    ("payload", "method", "reason"),
    [
        (gzip.compress(bytes(1 << 21)), "gzip", "gzip of more than 1048576 bytes"),
        (COMPRESSORS["zstd"](bytes(1 << 21)), "zstd", "zstd of more than 1032 times its size"),
        (COMPRESSORS["zstd"](repeated(1 << 21)), "zstd", "zstd of more than 1048576 bytes"),
        (PAYLOAD, "gzip", "not gzip"),
        (gzip.compress(PAYLOAD)[:-1], "gzip", "not gzip: it ends in the middle"),
        (gzip.compress(b"no entries"), "gzip", "does not begin with [time, record]"),
        (PAYLOAD, "lz4", "compressed as 'lz4'"),
    ],
)
def test_what_cannot_be_opened_is_one_loss_and_acknowledged(payload: bytes, method: str, reason: str) -> None:
    """A bomb, a spoilt or unknown payload is a loss with the chunk id; the frame behind it is read."""
    stream = frame(payload, chunk="bad", compressed=method, size=3) + frame(PAYLOAD, chunk="good")
    loss, batch = opened(stream)
    assert isinstance(loss, Loss)
    assert isinstance(batch, Batch)
    assert reason in loss.reason
    assert (loss.count, loss.chunk, loss.tag, loss.fatal) == (3, b"\xa3bad", b"app", False)
    assert batch.count == 100


def test_a_fault_inside_keeps_what_is_before_it() -> None:
    """Entries before a fault in a decompressed payload are kept; the chunk id is carried by them alone."""
    loss, batch = opened(frame(gzip.compress(PAYLOAD + b"\xc1\xc1"), chunk="id", compressed="gzip", size=102))
    assert isinstance(loss, Loss)
    assert isinstance(batch, Batch)
    assert (loss.count, loss.lost_bytes, loss.chunk) == (1, 2, None)
    assert (batch.count, batch.chunk) == (100, b"\xa2id")
