"""
Runs: Message frames of one tag, one behind the other, that become one batch.

A Message frame ``[tag, time, record]`` and its entry ``[time, record]`` differ in their first bytes only, the *prefix*:
header, tag, and the first byte of the time, which tells a Message frame from the other kinds.

`cut_at_once` does that for a whole read with one replacement instead of a step for each frame. Are there as many whole
objects as prefixes, then each is a frame that begins with it. A record that quotes a prefix makes a difference, and so
do frames of another kind among them: then the frames are cut one by one.

Always true: what is cut at once has been checked, before and after (hub.entries.is_well_formed).
Not here: frames that want an acknowledgement, the ends of frames (hub.wire.forward).
"""

from __future__ import annotations

from hub import entries as codec

_NO_PREFIX = b"\xc1"  # the one byte that msgpack never uses: nothing begins with it
_RUN_MIN = 8  # fewer are as quickly cut one by one


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

    None where they are few, or are not that many whole objects.
    """
    last = data.rfind(prefix, at)
    frames = data[at:last]
    rests = frames.split(prefix)  # nothing, and the rest of each frame
    count = len(rests) - 1
    if count < _RUN_MIN or not codec.is_well_formed(codec.join((frames,), count)):
        return None
    rests[0] = codec.array_header(count)
    entries = (b"\x92" + prefix[-1:]).join(rests)
    return (entries, count, last) if codec.is_well_formed(entries) else None
