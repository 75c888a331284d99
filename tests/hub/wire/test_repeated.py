"""
hub.wire.repeated: frames that begin like the previous one are read faster, with the same result.
"""

import random
from typing import Any

from hub.message import Batch
from hub.wire.chunkid import pack_own
from hub.wire.forward import ForwardDecoder
from hub.wire.frame import encode_frame_head
from tests.hub.clients import chunks_of, frame_of


def test_frames_of_ours_among_others_are_cut_alike() -> None:
    """Our own frames among others give the same items, whole, byte by byte, and in between."""
    frames = [frame_of(pack_own("s" * 22, n), {"n": n, "x": "x" * (n % 7)}, tag=b"app") for n in range(1, 9)]
    odd = [
        frame_of(pack_own("s" * 22, 9), {"n": 9}, tag=b"apq"),
        frame_of(b"\xa3abc", {"n": 10}, tag=b"app"),
        frame_of(None, {"n": 11}, tag=b"app"),
        b"\x93\xa3app\x01\x80",
        b"\xc0",
    ]
    dice = random.Random(3)
    stream = b"".join(dice.choice([*frames, *frames, *odd]) for _ in range(300))

    def decoded(step: int) -> list[Any]:
        decoder = ForwardDecoder()
        items = [item for at in range(0, len(stream), step) for item in decoder.receive(stream[at : at + step])]
        batches = [item for item in items if isinstance(item, Batch)]
        assert len(batches) == len(items)
        return [(u.tag, u.chunk_id, m.record) for batch in batches for u in chunks_of(batch) for m in u.messages()]

    expected = decoded(1)
    assert len(expected) > 250
    assert all(decoded(step) == expected for step in (7, 100, 1000, len(stream)))


def test_an_oversize_frame_that_begins_alike_is_a_loss_like_any_other() -> None:
    """A repeated frame over the limit is a loss like any other, and the connection continues."""
    small = frame_of(pack_own("s" * 22, 1), {"n": 1}, tag=b"app")
    large = frame_of(pack_own("s" * 22, 2), {"x": "x" * 5000}, tag=b"app")
    decoder = ForwardDecoder(frame_bytes_max=1000)
    items = decoder.receive(small + large + small)
    assert [type(item).__name__ for item in items] == ["Batch", "Loss", "Batch"]
    assert large.startswith(encode_frame_head(b"app", 0)[:-4])
