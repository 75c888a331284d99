"""
In which form a sink gets what the journal holds: messages one by one (`Decoded`) or in groups (`Grouped`), or batches
as they are stored (`Undecoded`). One for each kind of sink (hub.sinks.sink).

Always true: undecoded batches are decoded only for a filter by level or condition, in small pieces; a filter by tag
needs none.

Not here: portions of them (hub.sinks.portions), the batches themselves (hub.sinks.stored).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, TypeVar, cast

from hub.control.pieces import PIECE_BYTES, pieces
from hub.message import Batch, Message
from hub.query.found import Found, Group, last_of
from hub.query.query import Query
from hub.sinks.kinds import SinkTable
from hub.sinks.sink import GroupSink, Sink, SinkBase, StoredSink
from hub.sinks.stored import Stored, some, whole

ENTRY_BYTES_MAX = 1 << 20
"""Decoded, an entry can take 80 times its size."""
T = TypeVar("T")


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
    Batches as they are stored. One of more than *batch_bytes_max*, with its tag, is cut into pieces; an entry that is
    larger is a piece by itself, up to *entry_bytes_max*.
    """

    def __init__(self, table: SinkTable, batch_bytes_max: int, entry_bytes_max: int) -> None:
        self.items_max: int = 1 << 30
        self._by_tag = Query(tag=table.tag or None)
        self._query = table.query() if table.where or table.level is not None else None
        self._batch_bytes_max = batch_bytes_max
        # What is too large to be decoded cannot pass a filter that decodes.
        self.entry_bytes_max: int = entry_bytes_max if self._query is None else min(entry_bytes_max, ENTRY_BYTES_MAX)

    def pieces(self, batch: Batch) -> Iterator[Batch]:
        return _cut(batch, max(self._batch_bytes_max - len(batch.tag), 1), self.entry_bytes_max)

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


def form_of(sink: SinkBase, table: SinkTable) -> Form[Any]:
    """Return in which form *sink* gets messages."""
    if isinstance(sink, StoredSink):
        return Undecoded(table, sink.batch_bytes_max, sink.entry_bytes_max)
    if isinstance(sink, GroupSink):
        return Grouped(table, sink.groups_max)
    return Decoded(table, cast(Sink, sink).messages_max)


def deliver(sink: SinkBase, items: Sequence[Any]) -> int:
    """Give *items* to *sink*. Return the number of messages."""
    if isinstance(sink, StoredSink):
        sink.deliver_stored(items)
        return sum(stored.batch.count for stored in items)
    if isinstance(sink, GroupSink):
        sink.deliver_groups(items)
        return sum(map(len, items))
    cast(Sink, sink).deliver(items)
    return len(items)
