"""
Reads the journal for a sink, in portions: what is there now, filtered, in order.

Always true:
- a portion is made from at most `PORTION_BYTES` of entries and one piece more, or from one entry of at most
  `ENTRY_BYTES_MAX` (decoded), or of what the destination takes (undecoded). A larger one is not decoded; its portion
  has its size instead (`TooLarge`);
- what is missing in the journal is returned as `Missing`, also if the journal has expired from its beginning;
- messages under `mpsr.dead` are left out unless *tag* names tags of the hub: what a sink refuses must not come back.

Not here: the form of what a sink gets (hub.sinks.forms), when to read, and what happens to a portion
(hub.sinks.runner).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

import msgspec

from hub.control.pieces import OMITTED
from hub.control.reading import Pace
from hub.journal.reader import Gap, Reader
from hub.message import DEAD_TAG, Batch, Message
from hub.query.query import Query
from hub.sinks.forms import Form
from hub.sinks.kinds import SinkTable

PORTION_BYTES = 256 << 10
_OMITTED_BYTES_MAX = 256
_OWN = "mpsr."
T = TypeVar("T")


class Portion(NamedTuple, Generic[T]):
    """What is wanted of all messages up to the sequence *upto*, the last of which was received at *received*."""

    items: Sequence[T]
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


class Portions(Generic[T]):
    """What *table* wants of the messages of *reader*, which begins after the sequence *after*, in the form *form*."""

    def __init__(self, table: SinkTable, reader: Reader, after: int, form: Form[T], pace: Pace | None = None) -> None:
        self._by_tag = Query(tag=table.tag or None)
        self._wants_dead = any(glob.startswith(_OWN) for glob in table.tag)
        self._reader = reader
        self._form = form
        self._pace = pace or Pace(time.thread_time)
        self._items: list[T] = []  # of the portion that is being made
        self._size = 0
        self._after = self._given = after  # the last sequence that was looked at, and that was returned
        self._received = 0
        self._expired = reader.expired

    def close(self) -> None:
        self._reader.close()

    def read(self) -> Iterator[Portion[T] | Missing | TooLarge]:
        """Yield the portions that the journal holds now."""
        for found in self._reader.read(follow=True):
            if (missing := self._missing_before(found)) is not None:
                yield from self._flush()
                self._after = self._given = missing.upto
                yield missing
            if isinstance(found, Batch):
                is_large = len(found.entries) > self._form.entry_bytes_max
                for piece in self._form.pieces(found):
                    yield from self._take(piece, is_large=is_large)
                    self._pace.rest()
        yield from self._flush()

    def _missing_before(self, found: Batch | Gap) -> Missing | None:
        """
        Return what is missing before a batch, or is a gap. The reader does not report what has expired before the first
        batch that it reads. What has expired by rule is not missing.
        """
        expired, self._expired = self._reader.expired - self._expired, self._reader.expired
        upto = found.sequence - 1 + (found.count if isinstance(found, Gap) else 0)
        if (count := upto - self._after - expired) <= 0:
            return None
        reason = found.reason if isinstance(found, Gap) else "expired before it was read"
        return Missing(count, reason, upto, found.received)

    def _take(self, piece: Batch, *, is_large: bool) -> Iterator[Portion[T] | Missing | TooLarge]:
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
        wanted = [] if is_passed else self._form.wanted(piece, self._after)
        self._received = piece.received
        while len(self._items) + len(wanted) > self._form.items_max:
            room = self._form.items_max - len(self._items)
            self._items += wanted[:room]
            wanted = wanted[room:]
            self._after = self._form.last(self._items[-1])
            yield from self._flush()
        self._items += wanted
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

    def _flush(self) -> Iterator[Portion[T]]:
        """Yield what was looked at and not returned."""
        if self._after > self._given:
            portion = Portion(self._items, self._after, self._received)
            self._items, self._size, self._given = [], 0, self._after
            yield portion
