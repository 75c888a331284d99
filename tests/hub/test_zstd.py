"""hub.zstd: frames of zstd whose size is known."""

from __future__ import annotations

import pytest

from hub.zstd import ZstdFault, compress, decompress

DATA = b"one line of a log, and another " * 1000


def test_there_and_back() -> None:
    """What is compressed is smaller, and decompressed it is the same."""
    frame = compress(memoryview(DATA), 3)
    assert len(frame) < len(DATA) // 10
    assert decompress(frame, len(DATA)) == DATA


@pytest.mark.parametrize("frame", [b"", b"no frame", compress(DATA, 3)[:-8]])
def test_no_frame(frame: bytes) -> None:
    """Bytes that are no frame, or not all of one, are a fault."""
    with pytest.raises(ZstdFault):
        decompress(frame, len(DATA))


@pytest.mark.parametrize("size", [len(DATA) - 1, len(DATA) + 1])
def test_another_size(size: int) -> None:
    """A frame of another size is a fault."""
    with pytest.raises(ZstdFault):
        decompress(compress(DATA, 3), size)
