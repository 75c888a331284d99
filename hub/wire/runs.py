"""
Runs: consecutive Message frames of one tag that become one batch.

A Message frame ``[tag, time, record]`` and its entry ``[time, record]`` differ only in their first bytes, the *prefix*:
header, tag, and the first byte of the time, which distinguishes a Message frame from the other kinds.

`cut_at_once` replaces all prefixes of a read in one operation instead of one step per frame. If each object of the
result is as long as what lay between two prefixes, each is an entry, and each frame began with a prefix. A record that
contains a prefix makes a difference, and so do frames of another kind; then the frames are cut one by one. Comparing
the numbers of objects and prefixes would not be enough: one record that contains a prefix can hide one frame of another
kind.

Always true: frames cut at once give the same entries as frames cut one by one, whatever the records contain.
Not here: frames that want an acknowledgement, the ends of frames (hub.wire.forward).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from operator import sub

import msgspec

from hub import entries as codec

_NO_PREFIX = b"\xc1"  # a byte that msgpack never uses: no frame begins with it
_RUN_MIN = 8  # fewer are cut one by one just as fast
_RUN_MAX = 16_000  # 2 ms; a read holds more only if they are shorter than 16 bytes
_BACKWARDS_MAX = 64
"""
The longest prefix that is looked for from the end. Python 3.11 does that twice as fast, but a read that was made for it
takes as many comparisons as half the product of the lengths: a millisecond.
"""


class MessageRun:
    """Message frames of one tag gathered one by one: slices that hold time and record."""

    __slots__ = ("cut", "has_options", "prefix", "slices", "tag")

    def __init__(self) -> None:
        self.begin(b"")

    def begin(self, tag: bytes) -> None:
        """Begin an empty run of *tag*."""
        self.tag = tag
        self.slices: list[bytes] = []
        self.prefix = _NO_PREFIX
        """Bytes that begin with it are a Message frame of this run, without options."""
        self.cut = 0
        """Length of the frame's part before the time."""
        self.has_options = False
        """Whether one of the frames has options, as all of Docker's do."""

    def take(self) -> list[bytes]:
        """Return the slices, and end the run."""
        slices = self.slices
        self.begin(self.tag)
        return slices


def cut_at_once(data: bytes, at: int, prefix: bytes) -> tuple[bytes, int, int] | None:
    """
    Return the entries of the frames from *at* up to the last *prefix*, their number, and the offset of that last
    prefix.

    Return None if there are few, or anything else is among them.
    """
    frames = data[at:] if at else data
    rests = _parts(frames, prefix)  # an empty one, what follows each prefix, and what follows the last one
    last = len(data) - len(rests.pop()) - len(prefix)
    count = len(rests) - 1
    if count < _RUN_MIN:
        return None
    rests[0] = codec.array_header(count)
    head = b"\x92" + prefix[-1:]
    entries = head.join(rests)
    try:
        objects = codec.split_fast(entries)
    except (msgspec.DecodeError, RecursionError):
        return None
    lengths = list(map(len, objects))
    differs = set(map(sub, lengths, map(len, islice(rests, 1, None)))) != {len(head)}
    if differs or (max(lengths) > codec.NESTING_MAX and codec.is_deeper(entries, codec.NESTING_MAX)):
        return None
    return entries, count, last


def _parts(frames: bytes, prefix: bytes) -> list[bytes]:
    """Return the parts of *frames* between the first prefixes: all, or `_RUN_MAX` and two."""
    if len(prefix) <= _BACKWARDS_MAX:
        parts = frames.rsplit(prefix, _RUN_MAX + 1)
        if not parts[0]:
            return parts
    return frames.split(prefix, _RUN_MAX + 1)


def count_good(slices: Sequence[bytes]) -> int:
    """Return the number of *slices* before the first faulty one. At least one is faulty."""
    good, bad = 0, len(slices)
    while bad - good > 1:
        middle = (good + bad) // 2
        if codec.is_well_formed(b"\x92".join((codec.array_header(middle - good), *slices[good:middle]))):
            good = middle
        else:
            bad = middle
    return good
