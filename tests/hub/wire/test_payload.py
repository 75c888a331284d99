"""
hub.wire.payload: compressed frames, from the stream to messages.
"""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import msgpack
import pytest

from hub.entries import ARRAY_HEADER_BYTES
from hub.message import Batch, Loss
from hub.wire.compression import output_bytes_max
from hub.wire.detect import Item
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import FRAME_BYTES_MAX
from hub.wire.payload import Parts, Unopened, _join, credible_count
from tests.hub.wire.feeding import feed, opened, steps
from tests.hub.wire.test_compression import COMPRESSORS

ENTRIES = [[1, {"n": number}] for number in range(100)]
PAYLOAD = b"".join(map(msgpack.packb, ENTRIES))


def frame(payload: bytes, **option: object) -> bytes:
    packed: bytes = msgpack.packb(["app", payload, option])
    return packed


def repeated(size: int) -> bytes:
    """Return bytes that repeat every 16 KiB."""
    return random.Random(1).randbytes(16 << 10) * (size >> 14)


def decoded(stream: bytes, limit: int = 1 << 20) -> list[Item]:
    """Return the items of a stream with its payloads opened."""
    return feed(ForwardDecoder(frame_bytes_max=limit), stream)


@pytest.mark.parametrize("method", COMPRESSORS)
@pytest.mark.parametrize("size", [{}, {"size": 100}, {"size": 7}, {"size": 99999}])
def test_a_compressed_chunk_is_stored_decompressed(method: str, size: dict[str, int]) -> None:
    """The entries are returned unchanged, whatever the declared size, and one item carries the chunk id."""
    compress = COMPRESSORS[method]
    payload = compress(PAYLOAD[:500]) + compress(PAYLOAD[500:])
    (batch,) = decoded(frame(payload, chunk="id", compressed=method, **size))
    assert isinstance(batch, Batch)
    assert [message.record for message in batch.messages()] == [record for _, record in ENTRIES]
    assert (batch.entries[5:], batch.chunk_id) == (PAYLOAD, b"\xa2id")


def test_text_is_not_compressed() -> None:
    """fluentd sends ``compressed: text`` with every plain chunk."""
    (batch,) = decoded(frame(PAYLOAD, compressed="text"))
    assert isinstance(batch, Batch)
    assert batch.count == 100


@pytest.mark.parametrize(
    ("payload", "method", "reason"),
    [
        (gzip.compress(bytes(1 << 21), mtime=0), "gzip", "gzip of more than 1048576 bytes"),
        (COMPRESSORS["zstd"](bytes(1 << 21)), "zstd", "zstd of more than 1032 times its size"),
        (COMPRESSORS["zstd"](repeated(1 << 21)), "zstd", "zstd of more than 1048576 bytes"),
        (PAYLOAD, "gzip", "not gzip"),
        (gzip.compress(PAYLOAD, mtime=0)[:-1], "gzip", "not gzip: it ends in the middle"),
        (gzip.compress(b"no entries", mtime=0), "gzip", "does not begin with [time, record]"),
        (PAYLOAD, "lz4", "compressed as 'lz4'"),
    ],
)
def test_what_cannot_be_opened_is_one_loss_and_acknowledged(payload: bytes, method: str, reason: str) -> None:
    """A bomb, a damaged payload or an unknown method is a loss with the chunk id, and the next frame is read."""
    stream = frame(payload, chunk="bad", compressed=method, size=3) + frame(PAYLOAD, chunk="good")
    loss, batch = decoded(stream)
    assert isinstance(loss, Loss)
    assert isinstance(batch, Batch)
    assert reason in loss.reason
    assert (loss.count, loss.chunk_id, loss.tag, loss.fatal) == (3, b"\xa3bad", b"app", False)
    assert batch.count == 100


def test_a_fault_inside_keeps_what_is_before_it() -> None:
    """Entries before a fault in a decompressed payload are kept, and only they carry the chunk id."""
    loss, batch = decoded(frame(gzip.compress(PAYLOAD + b"\xc1\xc1"), chunk="id", compressed="gzip", size=102))
    assert isinstance(loss, Loss)
    assert isinstance(batch, Batch)
    assert (loss.count, loss.lost_bytes, loss.chunk_id) == (1, 2, None)
    assert (batch.count, batch.chunk_id) == (100, b"\xa2id")


@pytest.mark.parametrize(
    ("claimed", "size", "count"), [(None, 100, 1), (0, 100, 1), (5, 100, 5), (2**32 - 1, 100, 33), (9, 2, 1), (9, 0, 1)]
)
def test_a_claim_is_bounded_by_the_bytes(claimed: int | None, size: int, count: int) -> None:
    """n bytes count as at most n // 3 lost messages, because no message is shorter than three bytes."""
    assert credible_count(claimed, size) == count


ENTRY = msgpack.packb([1, {"n": 1}])


@pytest.mark.parametrize(
    ("stream", "is_unopened"),
    [
        (frame(PAYLOAD, size=100), False),
        (frame(PAYLOAD), False),
        (frame(ENTRY * 40_000, size=40_000), False),
        (frame(ENTRY * 40_000, size=39_999), True),
        (frame(ENTRY * 40_000), True),
        (frame(ENTRY * 60_000, size=60_000), True),
        (msgpack.packb(["app", [[1, {"n": 1}]] * 40_000]), False),
        (msgpack.packb(["app", [[1, {"n": 1}]] * 60_000]), True),
        (msgpack.packb(["app", 1, {"n": "x" * 200_000}]), False),
        (msgpack.packb(["app", 1, {"n": "x" * 300_000}]), True),
        (frame(gzip.compress(ENTRY * 8000), compressed="gzip", size=8000), False),
        (frame(gzip.compress(ENTRY * 12_000), compressed="gzip", size=12_000), True),
    ],
    ids=[
        "small",
        "small, no size",
        "counted",
        "miscounted",
        "uncounted",
        "large",
        "forward",
        "large forward",
        "message",
        "large message",
        "little comes out",
        "much comes out",
    ],
)
def test_what_takes_long_is_not_opened_by_the_decoder(stream: bytes, is_unopened: bool) -> None:
    """Small payloads with a correct count are batches at once, others are `Unopened`; the bytes decide."""
    (item,) = [item for step in steps(ForwardDecoder(), stream) for item in step]
    assert isinstance(item, Unopened) == is_unopened
    (batch,) = opened([item])
    assert isinstance(batch, Batch)
    assert batch.tag == b"app"
    assert batch.crc == zlib.crc32(batch.entries)
    assert batch.count == len(list(batch.messages()))
    if isinstance(item, Unopened):
        assert item.held_bytes <= len(stream)
        assert len(batch.entries) <= output_bytes_max(item.held_bytes, FRAME_BYTES_MAX) + ARRAY_HEADER_BYTES


def test_the_chunk_id_of_a_large_frame_comes_with_its_batch() -> None:
    """Forward and Message frames of any size are acknowledged."""
    large = "x" * 300_000
    for body in ([[[1, {"n": large}]]], [1, {"n": large}]):
        (batch,) = feed(ForwardDecoder(), msgpack.packb(["app", *body, {"chunk": "id"}]))
        assert isinstance(batch, Batch)
        assert (batch.count, batch.chunk_id) == (1, b"\xa2id")


def test_a_fault_in_a_large_message_is_fatal() -> None:
    """
    A fault in a large Message frame is fatal, because the next frame's beginning is unknown, and the loss carries the
    chunk id.
    """
    record = b"\x82\xa1a\xdb\x00\x05\x00\x00" + b"x" * (5 << 16) + b"\xa1b\xc9\xff\xff\xff\xff"
    (loss,) = feed(ForwardDecoder(), b"\x94\xa1t\x01" + record + b"\x81\xa5chunk\xa1c")
    assert isinstance(loss, Loss)
    assert (loss.fatal, loss.chunk_id, loss.count) == (True, b"\xa1c", 1)
    assert loss.reason.startswith("malformed Forward frame: not msgpack")


def test_a_large_payload_is_never_there_twice() -> None:
    """Parts are let go as they are joined, and the result is handed out, and its header changed, without a copy."""
    size = 8 << 20
    parts: Parts = [bytes(size // 8) for _ in range(8)]
    tracemalloc.start()
    try:
        joined = _join(parts, b"12345")
        value = joined.getvalue()
        assert (value[:5], value.count(0), len(value)) == (b"12345", size, size + 5)
        del value
        joined.truncate(size)
        joined.seek(0)
        joined.write(b"54321")
        assert joined.getvalue()[:6] == b"54321\0"
        assert tracemalloc.get_traced_memory()[1] < 1.1 * size
    finally:
        tracemalloc.stop()
    assert parts == []
