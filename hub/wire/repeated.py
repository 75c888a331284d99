"""
A fast path for PackedForward frames that begin like the previous one and have options of our own producers.

Most frames are of this kind.

Always true: the result equals that of `hub.wire.frame`; all other frames are left to it.
"""

from __future__ import annotations

from typing import NamedTuple

from hub.wire.frame import Frame, Option, own_head, payload_after, read_own_option


class Repeated(NamedTuple):
    """A whole frame: its tag, where its payload is, its options, and the offset of its end."""

    tag: bytes
    payload: slice
    option: Option
    end: int


class Repeats:
    """Remembers the beginning of the last PackedForward frame of a stream."""

    __slots__ = ("_head", "_tag")

    def __init__(self) -> None:
        self._head = b""
        self._tag = b""

    def note(self, frame: Frame) -> None:
        """Remember *frame*, which is whole."""
        self._head, self._tag = own_head(frame), frame.tag

    def next(self, data: bytes, at: int, frame_bytes_max: int) -> Repeated | None:
        """
        Return the frame at *at* if it is whole, within the limit, and begins and ends as expected; otherwise None.
        """
        head = self._head
        if not head or not data.startswith(head, at) or len(data) < at + len(head) + 4:
            return None
        payload = payload_after(data, at + len(head))
        found = read_own_option(data, payload.stop)
        if found is None or payload.stop - at > frame_bytes_max:
            return None
        return Repeated(self._tag, payload, *found)
