"""
Reads the journal for a sink, in portions: what is there now, filtered, in order.

Always true:
- a portion is decoded from at most `PORTION_BYTES` of entries and one piece more, or from one entry of at most
  `ENTRY_BYTES_MAX`. A larger one is not decoded; its portion has its size instead (`TooLarge`);
- what is missing in the journal is returned as `Missing`, also if the journal has expired from its beginning;
- messages under `mpsr.dead` are left out unless *tag* names tags of the hub: what a sink refuses must not come back.

Not here: when to read, and what happens to a portion (hub.sinks.runner).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec

from hub.control.reading import OMITTED, PIECE_BYTES, Pace, pieces
from hub.journal.reader import Gap, Reader
from hub.message import DEAD_TAG, Batch, Message
from hub.query.condition import Condition
from hub.query.query import Query
from hub.sinks.table import SinkTable

PORTION_BYTES = 256 << 10
ENTRY_BYTES_MAX = 1 << 20
"""Decoded, an entry can take 80 times its size."""
_OMITTED_BYTES_MAX = 256
_OWN = "mpsr."


class Portion(NamedTuple):
    """The wanted messages of all those up to the sequence *upto*, the last of which was received at *received*."""

    messages: Sequence[Message]
    upto: int
    received: int


class Missing(NamedTuple):
    """*messages* messages up to the sequence *upto* are no longer in the journal."""

    messages: int
    reason: str
    upto: int
    received: int


class TooLarge(NamedTuple):
    """A wanted message whose entry of *size* bytes is not decoded; its record is empty."""

    message: Message
    size: int
    upto: int
    received: int


Found = Portion | Missing | TooLarge


class Portions:
    """The messages of *reader*, which begins after the sequence *after*, that *table* wants, at most *messages_max*."""

    def __init__(
        self, table: SinkTable, reader: Reader, after: int, messages_max: int, pace: Pace | None = None
    ) -> None:
        self._by_tag = Query(tag=table.tag or None)
        where = [Condition(text) for text in table.where]
        self._query = Query(tag=table.tag or None, level=table.level, where=where)
        self._wants_dead = any(glob.startswith(_OWN) for glob in table.tag)
        self._reader = reader
        self._messages_max = messages_max
        self._pace = pace or Pace(time.thread_time)
        self._messages: list[Message] = []  # of the portion that is being made
        self._size = 0
        self._after = self._given = after  # the last sequence that was looked at, and that was returned
        self._received = 0

    def close(self) -> None:
        self._reader.close()

    def read(self) -> Iterator[Found]:
        """Yield the portions that the journal holds now."""
        for found in self._reader.read(follow=True):
            if (missing := self._missing_before(found)) is not None:
                yield from self._flush()
                self._after = self._given = missing.upto
                yield missing
            if isinstance(found, Batch):
                is_large = len(found.entries) > ENTRY_BYTES_MAX
                for piece in self._pieces(found):
                    yield from self._take(piece, is_large=is_large)
                    self._pace.rest()
        yield from self._flush()

    def _missing_before(self, found: Batch | Gap) -> Missing | None:
        """
        Return what is missing before a batch, or is a gap. The reader does not report what has expired before the first
        batch that it reads.
        """
        upto = found.sequence - 1 + (found.count if isinstance(found, Gap) else 0)
        if upto <= self._after:
            return None
        reason = found.reason if isinstance(found, Gap) else "expired before it was read"
        return Missing(upto - self._after, reason, upto, found.received)

    def _pieces(self, batch: Batch) -> Iterator[Batch]:
        if len(batch.entries) > PIECE_BYTES:
            return pieces(batch, entry_bytes_max=ENTRY_BYTES_MAX)
        return iter((batch,))

    def _take(self, piece: Batch, *, is_large: bool) -> Iterator[Found]:
        last = piece.sequence + piece.count - 1
        if last <= self._after:
            return
        is_passed = piece.tag == DEAD_TAG and not self._wants_dead
        if is_large and not is_passed and (message := self._omitted(piece)) is not None:
            yield from self._flush()
            self._after = self._given = last
            size = message.record[OMITTED]
            yield TooLarge(msgspec.structs.replace(message, record={}), size, last, piece.received)
            return
        found = () if is_passed else self._query.messages(iter((piece,)))
        wanted = [message for message in found if message.sequence > self._after]
        self._received = piece.received
        while len(self._messages) + len(wanted) > self._messages_max:
            room = self._messages_max - len(self._messages)
            self._messages += wanted[:room]
            wanted = wanted[room:]
            self._after = self._messages[-1].sequence
            yield from self._flush()
        self._messages += wanted
        self._after = last
        self._size += len(piece.entries)
        if self._size >= PORTION_BYTES:
            yield from self._flush()

    def _omitted(self, piece: Batch) -> Message | None:
        """Return the message of *piece* if it is not decoded, because it is too large, and its tag is wanted."""
        if piece.count != 1 or len(piece.entries) > _OMITTED_BYTES_MAX:
            return None
        for message in self._by_tag.messages(iter((piece,))):
            if message.record.keys() == {OMITTED}:
                return message
        return None

    def _flush(self) -> Iterator[Portion]:
        """Yield what was looked at and not returned."""
        if self._after > self._given:
            portion = Portion(self._messages, self._after, self._received)
            self._messages, self._size, self._given = [], 0, self._after
            yield portion
