"""
Keeps large batches while callers read them, so that a step continues inside a batch where an earlier one stopped.

Always true:
- the time to read a whole batch in steps is in proportion to its size, also if several readings share it: the place of
  each piece that was found is known as long as the batch is kept;
- at most `KEPT_BYTES_MAX` are kept, or the one batch that was used last;
- a batch that is not kept any longer is read again. It may have expired meanwhile, or be in a packed segment: places
  are those of the batch itself.

Not here: the thread on which all this happens, and when batches are let go (hub.control.reading).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterator

from hub.control.pieces import beginning_of, pieces_from
from hub.message import Batch

KEPT_BYTES_MAX = 32 << 20
"""Of all batches together: those of most senders are smaller than 1 MiB, and not kept here at all."""


class LargeBatches:
    """The large batches that were read lately. Use it on one thread."""

    def __init__(self) -> None:
        self._kept: dict[int, _Divided] = {}  # by the first sequence; the one that was used last is the last one

    def __len__(self) -> int:
        return len(self._kept)

    def with_sequence(self, sequence: int) -> Batch | None:
        """Return the batch that contains *sequence*, if it is kept."""
        for each in self._kept.values():
            if each.batch.sequence <= sequence < each.batch.sequence + each.batch.count:
                return each.batch
        return None

    def pieces(self, batch: Batch, sequence: int) -> Iterator[Batch]:
        """
        Keep *batch*, and yield its pieces, from the one that contains *sequence* on; also those before it if it is not
        known yet where that begins.
        """
        divided = self._kept.pop(batch.sequence, None) or _Divided(batch)
        self._kept[batch.sequence] = divided
        divided.is_used = True
        size = sum(len(each.batch.entries) for each in self._kept.values())
        while size > KEPT_BYTES_MAX and len(self._kept) > 1:
            size -= len(self._kept.pop(next(iter(self._kept))).batch.entries)
        return divided.pieces(sequence)

    def let_go(self) -> None:
        """Discard the batches that were not used since the last call."""
        self._kept = {first: each for first, each in self._kept.items() if each.is_used}
        for each in self._kept.values():
            each.is_used = False


class _Divided:
    """A batch, and where its pieces begin, as far as that is known."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.is_used = True
        self._known = [beginning_of(batch)]

    def pieces(self, sequence: int) -> Iterator[Batch]:
        """Yield the pieces from the last known place on that is not after *sequence*."""
        index = bisect.bisect_right(self._known, sequence, key=lambda begin: begin.sequence) - 1
        for piece, following in pieces_from(self.batch, self._known[max(index, 0)]):
            if following.sequence > self._known[-1].sequence:
                self._known.append(following)
            yield piece
