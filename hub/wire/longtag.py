"""
A frame with a tag over the limit: passed over as it arrives, and reported with its chunk id.

The tag is skipped by its length. What follows is read like any frame, with a short tag in the place of the long one.

Always true: neither the tag nor the content is held; the work for an arrival is proportional to its bytes.
Not here: other frames (hub.wire.arriving).
"""

from __future__ import annotations

from hub.message import Loss
from hub.wire.arriving import Arriving
from hub.wire.frame import NO_OPTION, TAG_BYTES_MAX, Incomplete, LongTag, Malformed, Option, oversize_reason, read_frame

_SAMPLE_BYTES = 64
_SHORT_TAG = b"\xa1t"
_HEADER_BYTES_MAX = 5  # of a payload or an array


class LongTagged:
    """The frame of *long*, from the first byte of its tag. Feed it with `take` until `is_whole`. Raises Malformed."""

    def __init__(self, long: LongTag, frame_bytes_max: int) -> None:
        self._length = self._tag_left = long.length
        self._sample = long.outside
        self._outside = long.array + _SHORT_TAG
        self._header = b""  # the received part of the header after the tag
        self._rest: Arriving | None = None  # the frame, once that header is whole
        self._frame_bytes_max = frame_bytes_max
        self._reason = f"a tag of {long.length} bytes ({TAG_BYTES_MAX} at most)"

    @property
    def is_whole(self) -> bool:
        """Whether the whole frame has arrived."""
        return self._rest is not None and self._rest.is_whole

    @property
    def held_bytes(self) -> int:
        """Number of bytes of the frame that are held, its sample included."""
        rest = self._rest.held_bytes if self._rest is not None else 0
        return len(self._sample) + len(self._header) + rest

    def take(self, data: bytes, at: int) -> int:
        """Take the bytes from *at* on that belong to the frame. Return where they end, as `Arriving.take` does."""
        self._sample += data[at : at + min(self._tag_left, _SAMPLE_BYTES - len(self._sample))]
        passed = min(self._tag_left, len(data) - at)
        self._tag_left -= passed
        at += passed
        if self._rest is None and at < len(data):
            at = self._take_header(data, at)
        if self._rest is None:
            return at
        at = self._rest.take(data, at)
        if not self._rest.is_declared and self._length + self._rest.passed_bytes > self._frame_bytes_max:
            raise Malformed(oversize_reason(self._frame_bytes_max))
        return at

    def option(self) -> Option:
        """Return the options of the whole frame. Raises Malformed."""
        assert self._rest is not None
        return self._rest.option()

    def begin(self) -> bytes:
        """Return the first 64 bytes of the frame."""
        return self._sample

    def loss(self, option: Option) -> Loss:
        """Return the loss of the frame. Only received bytes are counted."""
        tag_bytes = self._length - self._tag_left
        if self._rest is None:
            return Loss(self._reason, lost_bytes=tag_bytes + len(self._header), sample=self._sample)
        loss = self._rest.loss(option)
        return Loss(self._reason, loss.count, tag_bytes + loss.lost_bytes, self._sample, b"", loss.chunk_id)

    def half_loss(self) -> Loss:
        """Return the loss of a frame that is cut off by the end of the stream."""
        return self.loss(NO_OPTION)

    def _take_header(self, data: bytes, at: int) -> int:
        """Take the header after the tag: of a payload, of an array, or none. Return the offset where it ends."""
        had = len(self._header)
        self._header += data[at : at + _HEADER_BYTES_MAX - had]
        try:
            frame = read_frame(self._outside + self._header, 0)
            self._rest = Arriving(frame, self._frame_bytes_max, is_lost=True)
        except Incomplete:
            return len(data)
        if frame.packed is not None:
            payload_bytes = frame.packed.stop - frame.packed.start
            if self._length + payload_bytes > self._frame_bytes_max:
                self._reason = oversize_reason(self._frame_bytes_max)
        self._header = b""
        return at + self._rest.start - len(self._outside) - had
