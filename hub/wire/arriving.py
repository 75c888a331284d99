"""
A frame that arrives in pieces: its headers are known, its body is not whole.

The end of a payload is known from its declared length; the end of other entries is found on arrival (hub.wire.scanner),
and so is the end of the options that follow. A payload over the limit is discarded as it arrives. Its options are still
read, for the chunk id.

Always true: the work for an arrival is proportional to its bytes; only received bytes of this frame are held.
Not here: the content of the frame (hub.wire.forward, hub.wire.payload).
"""

from __future__ import annotations

import struct

from hub.message import Loss
from hub.wire.buffer import ByteBuffer
from hub.wire.frame import (
    NO_OPTION,
    OPTION_BYTES_MAX,
    Frame,
    Incomplete,
    Malformed,
    Option,
    oversize_reason,
    read_array,
    read_option,
)
from hub.wire.payload import credible_count
from hub.wire.scanner import Scanner

_SAMPLE_BYTES = 64


class Arriving:
    """
    *frame*, of which not everything has arrived. Feed it with `take` until `is_whole`. Raises Incomplete, Malformed.
    """

    def __init__(self, frame: Frame, frame_bytes_max: int, *, is_lost: bool = False) -> None:
        self.tag = frame.tag
        self.is_declared = frame.packed is not None
        self.is_message = frame.is_message
        """Whether it is a Message frame. Then its body is one entry without the entry's first byte."""
        self.count = 1
        """Number of entries, if the length is not declared."""
        self._left = 0  # bytes of the payload that have not arrived
        self._scanner = Scanner(0)
        start = frame.body
        if frame.packed is not None:
            start = frame.packed.start
            self._left = frame.packed.stop - start
        elif self.is_message:
            if frame.size < 3:
                raise Malformed("an array of two that is no Forward frame")
            self._scanner = Scanner(2)
        else:
            start, self.count = _read_array(frame.data, frame.body)
            self._scanner = Scanner(self.count)
        self.start = start
        """Offset in the data where the payload, or the entries, begin."""
        self.is_lost = is_lost or (self.is_declared and start - frame.at + self._left > frame_bytes_max)
        """Whether its content is discarded as it arrives: it is over the limit, or as *is_lost* says."""
        self.head = b"" if self.is_lost else frame.data[frame.at : start]
        self.body = ByteBuffer()
        self._is_option_due = frame.size == (4 if self.is_message else 3)
        self._options = ByteBuffer()
        self._option_scanner = Scanner(1)
        self._frame_bytes_max = frame_bytes_max
        self.passed_bytes = 0
        """Number of bytes of the content that have arrived."""
        self._sample = b""

    @property
    def is_whole(self) -> bool:
        """Whether the whole frame has arrived."""
        return self._is_body_whole and (not self._is_option_due or self._option_scanner.is_done)

    @property
    def _is_body_whole(self) -> bool:
        return not self._left and self._scanner.is_done

    @property
    def held_bytes(self) -> int:
        """Number of bytes of the frame that are held."""
        return len(self.head) + self.body.held_bytes + self._options.held_bytes

    def take(self, data: bytes, at: int) -> int:
        """
        Take the bytes from *at* on that belong to the frame. Return the offset where they end.

        If the result is less than the length of *data*, the frame is whole, or the scanner reached its limit: then pass
        the rest again. Raises Malformed.
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
        self.passed_bytes += stop - at
        if not self.is_lost:
            self.body.add(data[at:stop])
        elif len(self._sample) < _SAMPLE_BYTES:
            self._sample = (self._sample + data[at : min(stop, at + _SAMPLE_BYTES)])[:_SAMPLE_BYTES]
        return stop

    def option(self) -> Option:
        """Return the options of the whole frame. Raises Malformed."""
        return read_option(self._options.take(), 0)[0] if self._is_option_due else NO_OPTION

    def begin(self) -> bytes:
        """Return the first 64 bytes of the frame."""
        return (self.head + self.body.begin(_SAMPLE_BYTES) + self._options.begin(_SAMPLE_BYTES))[:_SAMPLE_BYTES]

    def take_all(self, rest: memoryview) -> bytes:
        """Return all held bytes of the frame in their original order, followed by *rest*."""
        return b"".join((self.head, self.body.take(), self._options.take(), rest))

    def loss(self, option: Option) -> Loss:
        """Return the loss of a frame over the limit. Only received bytes are counted."""
        count = credible_count(option.size if self.is_declared else self.count, self.passed_bytes)
        reason = oversize_reason(self._frame_bytes_max)
        return Loss(reason, count, self.passed_bytes, self._sample, self.tag, option.chunk_id)

    def half_loss(self) -> Loss:
        """Return the loss of a frame that is cut off by the end of the stream."""
        if self.is_lost:
            return self.loss(NO_OPTION)
        return Loss("half a frame at the end of the stream", lost_bytes=self.held_bytes, sample=self.begin())


def _read_array(data: bytes, at: int) -> tuple[int, int]:
    try:
        return read_array(data, at)
    except struct.error:
        raise Incomplete from None
