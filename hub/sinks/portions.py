"""
Reads the journal for a sink, in portions: what is there now, filtered, in order.

A sink gets decoded messages one by one (`Decoded`) or in groups (`Grouped`), or batches as they are stored
(`Undecoded`).

Always true:
- a portion is made from at most `PORTION_BYTES` of entries and one piece more, or from one entry of at most
  `ENTRY_BYTES_MAX` (decoded), or of what the destination takes (undecoded). A larger one is not decoded; its portion
  has its size instead (`TooLarge`);
- undecoded batches are decoded only for a filter by level or condition, in small pieces; a filter by tag needs none;
- what is missing in the journal is returned as `Missing`, also if the journal has expired from its beginning;
- messages under `mpsr.dead` are left out unless *tag* names tags of the hub: what a sink refuses must not come back.

Not here: when to read, and what happens to a portion (hub.sinks.runner).
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

import msgspec

from hub.control.reading import OMITTED, PIECE_BYTES, Pace, pieces
from hub.journal.reader import Gap, Reader
from hub.message import DEAD_TAG, Batch, Message
from hub.query.found import Found, Group, last_of
from hub.query.query import Query
from hub.sinks.kinds import SinkTable
from hub.sinks.stored import Stored, some, whole

PORTION_BYTES = 256 << 10
ENTRY_BYTES_MAX = 1 << 20
"""Decoded, an entry can take 80 times its size."""
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


class Form(Protocol[T]):
    """In which form a sink gets messages."""

    items_max: int
    """How many of them a portion has at most."""
    entry_bytes_max: int
    """An entry of more bytes is `TooLarge`."""

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        """Yield *batch*, in pieces if it is large."""

    def wanted(self, piece: Batch, after: int) -> list[T]:
        """Return what is wanted of *piece* after the sequence *after*."""

    def last(self, item: T) -> int:
        """Return the last sequence of *item*."""


class Grouped:
    """Messages in groups, none of which is empty, for a sink that takes at most *groups_max* of them at once."""

    def __init__(self, table: SinkTable, groups_max: int) -> None:
        self.items_max: int = groups_max
        self.entry_bytes_max: int = ENTRY_BYTES_MAX
        self._query = table.query()

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        if not self._query.reads(batch):  # nothing of it is decoded, however large it is
            return iter((batch,))
        return _cut(batch, PIECE_BYTES, self.entry_bytes_max)

    def wanted(self, piece: Batch, after: int) -> list[Group]:
        found = self._query.found_in(piece)
        group = found if isinstance(found, Found) else [*found]
        if piece.sequence <= after:
            group = [message for message in group if message.sequence > after]
        return [group] if group else []

    def last(self, item: Group) -> int:
        return last_of(item)


class Decoded:
    """Messages, for a sink that takes at most *messages_max* of them at once."""

    def __init__(self, table: SinkTable, messages_max: int) -> None:
        self._groups = Grouped(table, messages_max)
        self.items_max: int = self._groups.items_max
        self.entry_bytes_max: int = self._groups.entry_bytes_max

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        return self._groups.pieces(batch)

    def wanted(self, piece: Batch, after: int) -> list[Message]:
        return [*itertools.chain.from_iterable(self._groups.wanted(piece, after))]

    def last(self, item: Message) -> int:
        return item.sequence


class Undecoded:
    """
    Batches as they are stored. One of more than *batch_bytes_max* is cut into pieces; an entry that is larger is a
    piece by itself, up to *entry_bytes_max*.
    """

    def __init__(self, table: SinkTable, batch_bytes_max: int, entry_bytes_max: int) -> None:
        self.items_max: int = 1 << 30
        self._by_tag = Query(tag=table.tag or None)
        self._query = table.query() if table.where or table.level is not None else None
        self._batch_bytes_max = batch_bytes_max
        # What is too large to be decoded cannot pass a filter that decodes.
        self.entry_bytes_max: int = entry_bytes_max if self._query is None else min(entry_bytes_max, ENTRY_BYTES_MAX)

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        return _cut(batch, self._batch_bytes_max, self.entry_bytes_max)

    def wanted(self, piece: Batch, after: int) -> list[Stored]:
        if not self._by_tag.wants_tag(piece.tag):
            return []
        stored: Stored | None = whole(piece)
        assert stored is not None
        wanted: Sequence[int] = stored.sequences
        if self._query is not None:
            small = _cut(piece, PIECE_BYTES, self.entry_bytes_max)
            wanted = [message.sequence for message in self._query.messages(small)]
        if wanted and wanted[0] <= after:
            wanted = [sequence for sequence in wanted if sequence > after]
        stored = some(stored, wanted)
        return [] if stored is None else [stored]

    def last(self, item: Stored) -> int:
        return item.last


def _cut(batch: Batch, piece_bytes: int, entry_bytes_max: int) -> Iterator[Batch]:
    if len(batch.entries) > piece_bytes:
        return pieces(batch, piece_bytes=piece_bytes, entry_bytes_max=entry_bytes_max)
    return iter((batch,))


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
        batch that it reads.
        """
        upto = found.sequence - 1 + (found.count if isinstance(found, Gap) else 0)
        if upto <= self._after:
            return None
        reason = found.reason if isinstance(found, Gap) else "expired before it was read"
        return Missing(upto - self._after, reason, upto, found.received)

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
