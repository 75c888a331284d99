"""
A frame on its way: its outside is known, the rest comes in pieces.

The end of a payload is known by its declared length, the end of other entries is found as they come (hub.wire.scanner).
The options behind it are found the same way. A payload over the limit passes and is not held: its options are read,
for the chunk id.

Always true: an arrival costs what arrived; what is held is what has arrived of this frame.
Not here: what is in the frame (hub.wire.forward, hub.wire.payload).
"""

from __future__ import annotations

import struct

from hub.message import Loss
from hub.wire.buffer import Parts
from hub.wire.frame import (
    NO_OPTION,
    OPTION_BYTES_MAX,
    Incomplete,
    Malformed,
    Option,
    Outer,
    is_array,
    oversize_reason,
    read_array,
    read_option,
)
from hub.wire.payload import credible_count
from hub.wire.scanner import Scanner

_SAMPLE_BYTES = 64


class Arriving:
    """The frame at *at* of *data*, with this *outer*. Feed it with `take` until it `is_whole`. Raises Incomplete."""

    def __init__(self, data: bytes, at: int, outer: Outer, frame_bytes_max: int) -> None:
        self.tag = data[outer.tag]
        self.is_declared = outer.packed is not None
        self.is_message = not self.is_declared and not is_array(data[outer.body])
        """Whether it is a Message frame: then its body is one entry without the first byte."""
        self.count = 1
        """How many entries there are, where the length is not declared."""
        self._left = 0  # bytes of the payload that are still to come
        self._scanner = Scanner(0)
        start = outer.body
        if outer.packed is not None:
            start = outer.packed.start
            self._left = outer.packed.stop - start
        elif self.is_message:
            if outer.size < 3:
                raise Malformed("an array of two that is no Forward frame")
            self._scanner = Scanner(2)
        else:
            start, self.count = _read_array(data, outer.body)
            self._scanner = Scanner(self.count)
        self.start = start
        """Where the payload, or the entries, begin in *data*."""
        self.is_oversize = self.is_declared and start - at + self._left > frame_bytes_max
        self.head = b"" if self.is_oversize else data[at:start]
        self.body = Parts()
        self._is_option_due = outer.size == (4 if self.is_message else 3)
        self._options = Parts()
        self._option_scanner = Scanner(1)
        self._frame_bytes_max = frame_bytes_max
        self._passed_bytes = 0
        self._sample = b""

    @property
    def is_whole(self) -> bool:
        """Whether all of it is there."""
        return self._is_body_whole and (not self._is_option_due or self._option_scanner.is_done)

    @property
    def _is_body_whole(self) -> bool:
        return not self._left and self._scanner.is_done

    @property
    def held_bytes(self) -> int:
        """How many bytes of it are held."""
        return len(self.head) + self.body.held_bytes + self._options.held_bytes

    def take(self, data: bytes, at: int) -> int:
        """
        Take what belongs to the frame from *at* on; return where that ends: less far than *data* if the frame is whole,
        or if it took long: then the rest is to be given again. Raises Malformed.
        """
        if not self._is_body_whole:
            at = self._take_body(data, at)
        if self._is_option_due and self._is_body_whole:
            stop = self._option_scanner.scan(data, at)
            self._options.add(data[at:stop])
            at = stop
            if self._options.held_bytes > OPTION_BYTES_MAX:
                raise Malformed(f"options of more than {OPTION_BYTES_MAX} bytes")
        if not self.is_declared and self.held_bytes > self._frame_bytes_max:
            raise Malformed(oversize_reason(self._frame_bytes_max))
        return at

    def _take_body(self, data: bytes, at: int) -> int:
        if self.is_declared:
            stop = min(at + self._left, len(data))
            self._left -= stop - at
        else:
            stop = self._scanner.scan(data, at)
        self._passed_bytes += stop - at
        if not self.is_oversize:
            self.body.add(data[at:stop])
        elif len(self._sample) < _SAMPLE_BYTES:
            self._sample = (self._sample + data[at : min(stop, at + _SAMPLE_BYTES)])[:_SAMPLE_BYTES]
        return stop

    def option(self) -> Option:
        """Return the options of the whole frame. Raises Malformed."""
        return read_option(self._options.take(), 0)[0] if self._is_option_due else NO_OPTION

    def begin(self) -> bytes:
        """Return what the frame begins with."""
        return (self.head + self.body.begin(_SAMPLE_BYTES) + self._options.begin(_SAMPLE_BYTES))[:_SAMPLE_BYTES]

    def take_all(self, behind: memoryview) -> bytes:
        """Return all that is held of the frame, as it came, and what is *behind* it."""
        return b"".join((self.head, self.body.take(), self._options.take(), behind))

    def oversize_loss(self, option: Option) -> Loss:
        """Return the loss of a frame over the limit; only bytes that came are counted."""
        count = credible_count(option.size, self._passed_bytes)
        reason = oversize_reason(self._frame_bytes_max)
        return Loss(reason, count, self._passed_bytes, self._sample, self.tag, option.chunk)

    def half_loss(self) -> Loss:
        """Return the loss of a frame that the stream ended in."""
        if self.is_oversize:
            return self.oversize_loss(NO_OPTION)
        return Loss("half a frame at the end of the stream", lost_bytes=self.held_bytes, sample=self.begin())


def _read_array(data: bytes, at: int) -> tuple[int, int]:
    try:
        return read_array(data, at)
    except struct.error:
        raise Incomplete from None
