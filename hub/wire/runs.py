"""
Runs: Message frames of one tag, one behind the other, that become one batch.

A Message frame ``[tag, time, record]`` and its entry ``[time, record]`` differ in their first bytes only, the *prefix*:
header, tag, and the first byte of the time, which tells a Message frame from the other kinds.

`cut_at_once` does that for a whole read with one replacement instead of a step for each frame. Is every whole object as
long as what stands between two prefixes, then each is a frame that begins with one. A record that quotes a prefix makes
a difference, and so do frames of another kind among them: then the frames are cut one by one. To count them would not
do: a text can be made that quotes a prefix and hides a frame of another kind, and the sum is right.

Always true: what is cut at once is what would be cut one by one, whoever wrote the records.
Not here: frames that want an acknowledgement, the ends of frames (hub.wire.forward).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from operator import sub

import msgspec

from hub import entries as codec

_NO_PREFIX = b"\xc1"  # the one byte that msgpack never uses: nothing begins with it
_RUN_MIN = 8  # fewer are as quickly cut one by one
_RUN_MAX = 16_000  # 2 ms; a read has so many only if they are shorter than 16 bytes


class Run:
    """Message frames gathered one by one: the slices that hold time and record."""

    __slots__ = ("cut", "prefix", "slices", "tag")

    def __init__(self, tag: bytes = b"") -> None:
        self.tag = tag
        self.prefix = _NO_PREFIX
        self.cut = 0
        self.slices: list[bytes] = []


def cut_at_once(data: bytes, at: int, prefix: bytes) -> tuple[bytes, int, int] | None:
    """
    Return the entries of the frames from *at* to the last that begins with *prefix*, how many, and where that begins.

    None where they are few, or anything else is among them.
    """
    last = data.rfind(prefix, at)
    frames = data[at:last]
    rests = frames.split(prefix, _RUN_MAX + 1)  # nothing, and the rest of each frame
    if len(rests) > _RUN_MAX + 1:
        last -= len(prefix) + len(rests.pop())
        frames = data[at:last]
    count = len(rests) - 1
    if count < _RUN_MIN:
        return None
    try:
        objects = codec.split_fast(codec.join((frames,), count))
    except (msgspec.DecodeError, RecursionError):
        return None
    if set(map(sub, map(len, objects), map(len, islice(rests, 1, None)))) != {len(prefix)}:
        return None
    rests[0] = codec.array_header(count)
    return (b"\x92" + prefix[-1:]).join(rests), count, last


def count_good(slices: Sequence[bytes]) -> int:
    """Return how many of *slices*, not all of which hold, come before the first that does not."""
    good, bad = 0, len(slices)
    while bad - good > 1:
        middle = (good + bad) // 2
        if codec.is_well_formed(b"\x92".join((codec.array_header(middle - good), *slices[good:middle]))):
            good = middle
        else:
            bad = middle
    return good
