"""
Messages as the journal stores them, for sinks that pass entries on without decoding them.

Always true: the same block of the journal, cut with the same limit and the same filters, gives the same bytes, also
after a restart. So what is sent again can have the same id.

Not here: cutting and filtering (hub.sinks.portions), what a sink does with them (hub.sinks.sink).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from hub import entries as codec
from hub.message import Batch, Message


class Stored(NamedTuple):
    """
    Messages of one batch: the whole of it, a piece of a large one, or what filters have left of it.

    *batch* has the tag, the entries (one msgpack array, which may have group markers), the number of messages, the
    sequence of the first one, the time of receipt, the peer, and the home. *sequences* are those of all messages.
    """

    batch: Batch
    sequences: Sequence[int]

    @property
    def first(self) -> int:
        """The sequence of the first message."""
        return self.sequences[0]

    @property
    def last(self) -> int:
        """The sequence of the last message."""
        return self.sequences[-1]

    @property
    def is_continuous(self) -> bool:
        """Whether no sequence between the first and the last is missing."""
        return self.last - self.first + 1 == len(self.sequences)

    def messages(self) -> Iterator[Message]:
        """Yield the messages, decoded now. Where the rest of the entries is unreadable, one loss stands for it."""
        for sequence, message in zip(self.sequences, self.batch.messages(), strict=False):
            if message.sequence == sequence:
                yield message
            else:
                yield msgspec.structs.replace(message, sequence=sequence, home=self.batch.home_of(sequence))


def whole(batch: Batch) -> Stored:
    """Return all messages of *batch*."""
    return Stored(batch, range(batch.sequence, batch.sequence + batch.count))


def some(stored: Stored, wanted: Sequence[int]) -> Stored | None:
    """
    Return the messages of *stored* with the sequences *wanted*, which rise; None if there are none.

    Group markers are left out with the messages. So is what cannot be taken apart.
    """
    if len(wanted) == len(stored.sequences):
        return stored
    batch = stored.batch
    raws = codec.split_raw(batch.entries)
    if codec.array_length(batch.entries) != batch.count:
        raws = [raw for raw in raws if not codec.is_marker(bytes(raw))]
    by_sequence = dict(zip(stored.sequences, raws, strict=False))
    chosen = [sequence for sequence in wanted if sequence in by_sequence]
    if not chosen:
        return None
    entries = codec.join((memoryview(by_sequence[sequence]) for sequence in chosen), len(chosen))
    first = chosen[0]
    part = msgspec.structs.replace(
        batch, entries=entries, count=len(chosen), sequence=first, crc=None, home=batch.home_of(first)
    )
    return Stored(part, chosen)
