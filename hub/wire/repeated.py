"""
PackedForward frames that begin like the one before, with options as our own producers write them: most of all frames.

Always true: what is read here is what `hub.wire.frame` would have read; anything else is left to it.
"""

from __future__ import annotations

from typing import NamedTuple

from hub.wire.frame import Option, Outer, own_head, payload_behind, read_own_option


class Repeated(NamedTuple):
    """A whole frame: its tag, where its payload is, its options, and where it ends."""

    tag: bytes
    payload: slice
    option: Option
    end: int


class Repeats:
    """Knows how the last PackedForward frame of a stream began."""

    __slots__ = ("_head", "_tag")

    def __init__(self) -> None:
        self._head = b""
        self._tag = b""

    def note(self, data: bytes, at: int, outer: Outer) -> None:
        """Take note of the whole frame at *at*."""
        self._head, self._tag = own_head(data, at, outer), data[outer.tag]

    def next(self, data: bytes, at: int, frame_bytes_max: int) -> Repeated | None:
        """Return the frame at *at* if it is whole, within the limit, and begins and ends as expected."""
        head = self._head
        if not head or not data.startswith(head, at) or len(data) < at + len(head) + 4:
            return None
        payload = payload_behind(data, at + len(head))
        found = read_own_option(data, payload.stop)
        if found is None or payload.stop - at > frame_bytes_max:
            return None
        return Repeated(self._tag, payload, *found)
