"""hub.wire.compression: gzip members and zstd frames, bounded."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
from collections.abc import Callable

import pytest

from hub.wire.compression import (
    FLOOR_BYTES,
    METHODS,
    PIECES_MAX,
    RATIO_MAX,
    BadCompression,
    TooLarge,
    TooManyPieces,
    decompress,
    output_bytes_max,
)

if sys.version_info >= (3, 14):
    from compression import zstd

    _zstd = zstd.compress
else:
    import zstandard

    _zstd = zstandard.ZstdCompressor().compress

COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": _zstd}
TEXT = b"".join(b"line %d of a log\n" % number for number in range(1000))


def test_every_method_is_tried_here() -> None:
    """The table of methods and these tests have the same entries."""
    assert METHODS.keys() == COMPRESSORS.keys()


@pytest.mark.parametrize("method", COMPRESSORS)
def test_several_pieces_in_a_row_are_one_payload(method: str) -> None:
    """Consecutive pieces, empty ones included, are decompressed and joined; empty input gives empty output."""
    compress = COMPRESSORS[method]
    packed = compress(TEXT) + compress(b"") + compress(TEXT[:10])
    assert b"".join(decompress(memoryview(packed), method, 1 << 20)) == TEXT + TEXT[:10]
    assert b"".join(decompress(memoryview(b""), method, 10)) == b""


@pytest.mark.parametrize("method", COMPRESSORS)
def test_the_limit_is_exact(method: str) -> None:
    """Output of exactly the limit is returned; one byte more, over all pieces together, is refused."""
    packed = memoryview(COMPRESSORS[method](TEXT[:5000]) + COMPRESSORS[method](TEXT[5000:]))
    assert b"".join(decompress(packed, method, len(TEXT))) == TEXT
    with pytest.raises(TooLarge):
        decompress(packed, method, len(TEXT) - 1)


@pytest.mark.parametrize("method", COMPRESSORS)
def test_a_cut_payload_is_damaged_at_every_byte(method: str) -> None:
    """A payload that ends in the middle of a piece is damaged at every byte."""
    compress = COMPRESSORS[method]
    packed, border = compress(TEXT[:300]) + compress(TEXT), len(compress(TEXT[:300]))
    for cut in range(1, len(packed)):
        if cut == border:
            assert b"".join(decompress(memoryview(packed[:cut]), method, 1 << 20)) == TEXT[:300]
        else:
            with pytest.raises(BadCompression):
                decompress(memoryview(packed[:cut]), method, 1 << 20)


@pytest.mark.parametrize("method", COMPRESSORS)
def test_garbage_is_damaged(method: str) -> None:
    """A payload that is not compressed, or has a flipped byte, is damaged."""
    for garbage in (b"no such thing at all", b"\x1f\x8b" + b"\xff" * 40, b"\x28\xb5\x2f\xfd" + b"\xff" * 40):
        with pytest.raises(BadCompression):
            decompress(memoryview(garbage), method, 1 << 20)


@pytest.mark.parametrize("method", COMPRESSORS)
def test_a_bomb_costs_no_more_than_the_limit(method: str) -> None:
    """256 MiB of zeros in a few kilobytes are refused, without a peak in memory."""
    bomb = COMPRESSORS[method](bytes(256 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decompress(memoryview(bomb), method, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("method", COMPRESSORS)
def test_pieces_without_end_are_damaged(method: str) -> None:
    """Too many empty pieces are refused; fewer are opened."""
    empty = COMPRESSORS[method](b"")
    assert b"".join(decompress(memoryview(empty * PIECES_MAX), method, 10)) == b""
    with pytest.raises(BadCompression, match="pieces"):
        decompress(memoryview(empty * (PIECES_MAX + 1)), method, 10)


def test_fewer_pieces_may_be_asked_for() -> None:
    """A caller may set a lower number of pieces, and gets `TooManyPieces`."""
    with pytest.raises(TooManyPieces):
        decompress(memoryview(gzip.compress(b"x") * 3), "gzip", 10, pieces_max=2)


def test_what_may_come_out_is_bounded_by_what_went_in() -> None:
    """The output is limited to the ratio of gzip, at least 64 KiB, and never above the given limit."""
    assert output_bytes_max(0, 1 << 30) == output_bytes_max(10, 1 << 30) == FLOOR_BYTES
    assert output_bytes_max(1000, 1 << 30) == 1000 * RATIO_MAX
    assert output_bytes_max(1000, 5000) == 5000
    zeros = gzip.compress(bytes(64 << 20), 9)
    assert output_bytes_max(len(zeros), 1 << 30) >= 64 << 20
