"""
Reads the journal back: is every message present, once, in order?

Raw chunks are compared byte by byte, and by the counter in their ids. Unbatched messages are compared with the
repeating row of numbered entries that they were cut from. Messages of our own producers are compared by their numbers,
lines by their count.

Of a run that was longer than its journal, the oldest messages have expired. The check of each producer then begins with
its oldest batch that is left; sequences say how many messages are gone.

Always true: the reader verifies the CRC and the sequence of every batch (hub.journal.reader).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hub import entries as codec
from hub.bench.load import Orders, group_entries
from hub.journal.files import DiskFiles
from hub.journal.reader import Gap, open_reader
from hub.journal.segment import list_segments
from hub.message import Batch
from hub.wire.chunkid import unpack_own


class Checked(NamedTuple):
    """The number of messages in the journal, and how many were lost, duplicated or out of order."""

    messages: int
    lost: int
    duplicated: int
    disordered: int


class _Expected:
    """What is expected next from one producer; if it *joins*, its first batch may be any of its batches."""

    def __init__(self, orders: Orders, *, joins: bool) -> None:
        self.messages = 0
        self.disordered = 0
        self.duplicated = 0
        self._orders = orders
        self._joins = joins
        self._next = 0
        self._counter = 0
        if orders.client == "raw":
            entries = group_entries(orders)
            self._entry_bytes = len(entries[0])
            self._row = b"".join(entries)

    def take(self, batch: Batch) -> None:
        self.messages += batch.count
        if self._joins:
            self._joins = False
            self._join(batch)
        if self._orders.client in ("producer", "async", "logging", "structlog"):
            for message in batch.messages():
                self._number(message.record.get("n", -1))
        elif self._orders.client == "raw" and batch.chunk_id is not None:
            self._chunk(batch, batch.chunk_id)
        elif self._orders.client == "raw":
            self._unbatched(batch)

    def _join(self, batch: Batch) -> None:
        """Expect *batch* next."""
        if self._orders.client != "raw":
            self._next = next(batch.messages()).record.get("n", 0)
        elif batch.chunk_id is not None:
            own = unpack_own(batch.chunk_id)
            self._counter = own[1] - 1 if own else 0
        else:
            first = bytes(batch.entries[codec.ARRAY_HEADER_BYTES :][: self._entry_bytes])
            self._next = max(self._row.find(first) // self._entry_bytes, 0)

    def _number(self, number: int) -> None:
        self.duplicated += number < self._next
        self.disordered += number > self._next
        self._next = max(self._next, number + 1)

    def _chunk(self, batch: Batch, chunk: bytes) -> None:
        own = unpack_own(chunk)
        counter = own[1] if own else -1
        if counter <= self._counter:
            self.duplicated += batch.count
        elif counter != self._counter + 1 or bytes(batch.entries[codec.ARRAY_HEADER_BYTES :]) != self._row:
            self.disordered += batch.count
        self._counter = max(counter, self._counter)

    def _unbatched(self, batch: Batch) -> None:
        """Compare with the row, cyclically, starting where the last batch ended."""
        body = memoryview(batch.entries)[codec.ARRAY_HEADER_BYTES :]
        at, row = self._next * self._entry_bytes, self._row
        while len(body):
            part = body[: len(row) - at]
            if part != row[at : at + len(part)]:
                self.disordered += batch.count
                break
            body, at = body[len(part) :], 0
        self._next = (self._next + batch.count) % (len(row) // self._entry_bytes)


def check(journal: str, all_orders: Sequence[Orders], sent: Mapping[int, int], *, after: int = 0) -> Checked:
    """
    Compare the journal at *journal*, which nobody writes now, with the number of messages that each producer, by its
    number, reports as *sent*. The run began after sequence *after*.
    """
    expired = max(list_segments(DiskFiles(journal))[0] - 1 - after, 0)
    expected = {orders.tag: _Expected(orders, joins=expired > 0) for orders in all_orders}
    text = _Expected(all_orders[0], joins=False) if all_orders[0].client == "connect" else None
    gaps = 0
    reader = open_reader(journal, after=after + expired)
    try:
        for batch in reader.read():
            if isinstance(batch, Gap):
                gaps += batch.count
            elif (one := expected.get(batch.tag) or text) is not None:
                one.take(batch)
    finally:
        reader.close()
    everybody = [*expected.values(), *([text] if text else [])]
    messages = sum(one.messages for one in everybody)
    duplicated = sum(one.duplicated for one in everybody)
    lost = max(sum(sent.values()) - expired - (messages - duplicated), gaps)
    return Checked(messages, lost, duplicated, sum(one.disordered for one in everybody))
