"""
Which messages a sink has reported as lost or refused: what comes again after a fault or a kill is not reported again.

The sequences are stored in the same commit as the reports, as a position of the journal: its detail is what this file
packs, its number is how often the sink was rewound, because what is delivered again then is reported again. Those that
the cursor has passed are forgotten.

Always true: a sequence that is there was reported. If there are too many ranges for a position, the oldest are left
out: after a kill, these may be reported again.

Here alone: packing and unpacking.
Not here: the reports (hub.sinks.deadletter), positions (hub.journal.positions).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable

import msgspec

from hub.message import DETAIL_BYTES_MAX, Position

PREFIX = b"sink:"
_decode = msgspec.msgpack.Decoder(list[int]).decode
_encode = msgspec.msgpack.Encoder().encode


def position_name(sink: str) -> bytes:
    """Return the name of the position of a *sink*."""
    return PREFIX + sink.encode()


class Reported:
    """Ranges of sequences, in order."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._lasts: list[int] = []

    def has(self, sequence: int) -> bool:
        """Return whether *sequence* was reported."""
        return self.upto(sequence) >= sequence

    def upto(self, first: int) -> int:
        """Return the last of the sequences from *first* on that were all reported; the one before it if it was not."""
        at = bisect.bisect_right(self._firsts, first) - 1
        return max(self._lasts[at], first - 1) if at >= 0 else first - 1

    def add(self, first: int, last: int) -> None:
        """Note that all sequences from *first* to *last* are reported."""
        at = bisect.bisect_left(self._lasts, first - 1)  # the first range that touches it
        end = bisect.bisect_right(self._firsts, last + 1)
        if at < end:
            first, last = min(first, self._firsts[at]), max(last, self._lasts[end - 1])
        self._firsts[at:end], self._lasts[at:end] = [first], [last]

    def add_each(self, sequences: Iterable[int]) -> None:
        """Note that *sequences* are reported."""
        for sequence in sequences:
            self.add(sequence, sequence)

    def forget(self, upto: int) -> None:
        """Forget the sequences up to *upto*."""
        at = bisect.bisect_right(self._lasts, upto)
        del self._firsts[:at], self._lasts[:at]

    def clear(self) -> None:
        """Forget all."""
        self._firsts, self._lasts = [], []

    def copy(self) -> Reported:
        """Return the same as another object."""
        other = Reported()
        other._firsts, other._lasts = [*self._firsts], [*self._lasts]
        return other

    def position(self, name: bytes, rewinds: int) -> Position:
        """Return the position *name* with these sequences."""
        kept = len(self._firsts)
        while len(detail := self._pack(len(self._firsts) - kept)) > DETAIL_BYTES_MAX:
            kept = kept * 3 // 4
        return Position(name, rewinds, detail)

    def merge(self, position: Position | None, rewinds: int) -> None:
        """Add the sequences in *position*. One before the last rewind, or that cannot be read, has none."""
        if position is None or position.number != rewinds:
            return
        try:
            numbers = _decode(position.detail)
        except msgspec.DecodeError:
            return
        at = 0
        for gap, length in zip(numbers[::2], numbers[1::2], strict=False):
            first = at + gap
            at = first + length
            if gap >= 0 and length >= 0:
                self.add(first, at)

    def _pack(self, leave_out: int) -> bytes:
        """Return all but the first ranges: the gap before each, and how many sequences follow its first one."""
        numbers: list[int] = []
        at = 0
        for first, last in zip(self._firsts[leave_out:], self._lasts[leave_out:], strict=True):
            numbers += (first - at, last - first)
            at = last
        return _encode(numbers)
