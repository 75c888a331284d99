"""
Reads the journal back: is every message present, once, in order, and as it was sent?

Each message has a number: for raw chunks the counter in their ids, for unbatched messages and those of our own
producers a field of the record, for lines a number in their text. Raw messages are also compared byte by byte.

Of a run that was longer than its journal, the oldest messages have expired. The check of each producer then begins with
its oldest message that is left. Messages that have expired by rule are counted by the blocks that they have left: those
that are missing beyond them are lost.

Always true: the reader verifies the CRC and the sequence of every batch (hub.journal.reader).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hub import entries as codec
from hub.bench.load import FIRST_INDEX, GROUP, Group, group_entries
from hub.bench.orders import Orders
from hub.journal.files import DiskFiles
from hub.journal.reader import Gap, open_reader
from hub.journal.rewriting import blocks_of
from hub.journal.segment import Segment, list_segments
from hub.message import Batch
from hub.wire.chunkid import unpack_own

_match_line = re.compile(r"bench\.(\d+) (\d+) ").match


class Checked(NamedTuple):
    """
    The number of messages in the journal, and how many were lost, duplicated, out of order, or other than was sent.
    """

    messages: int
    lost: int
    duplicated: int
    disordered: int
    damaged: int


class Numbers:
    """
    Which of the numbers from 0 on were seen, and which are missing, were seen again, or came late. If it *joins*, the
    first number that is seen is the first one expected.
    """

    def __init__(self, *, joins: bool = False) -> None:
        self.next = 0
        """The number after the highest."""
        self.repeated = 0
        self.late = 0
        self._joins = joins
        self._first = 0
        self._missing: dict[int, int] = {}  # ranges: the first number -> the one after the last

    def missing(self, sent: int) -> int:
        """Return how many of the first *sent* numbers were not seen. 0 if none was left to join at."""
        if self._joins:
            return 0
        return sum(end - first for first, end in self._missing.items()) + max(sent - self.next, 0)

    def see(self, number: int, count: int = 1) -> None:
        """Take note of *number* and the *count* - 1 after it."""
        if self._joins:
            self._joins, self._first, self.next = False, number, number
        if number >= self.next:
            if number > self.next:
                self._missing[self.next] = number
            self.next = number + count
            return
        for each in range(number, number + count):
            self._see_late(each)

    def _see_late(self, number: int) -> None:
        if number >= self.next:
            self.see(number)
            return
        for first, end in self._missing.items():
            if first <= number < end:
                del self._missing[first]
                self._missing |= {first: number} if first < number else {}
                self._missing |= {number + 1: end} if number + 1 < end else {}
                self.late += 1
                return
        self.repeated += number >= self._first


class _Producer:
    """Compares the messages that one producer has sent with those that were stored."""

    def __init__(self, orders: Orders, *, joins: bool) -> None:
        self.messages = 0
        self.damaged = 0
        self.first_sequence: int | None = None if joins else 0
        """From where on everything is expected; None if nothing is left to join at."""
        self.numbers = Numbers(joins=joins)
        self.weight = orders.chunk if orders.client == "raw" and not orders.is_unbatched else 1
        """The number of messages with one number."""
        self._orders = orders
        if orders.is_unbatched:
            self._group = Group(orders)
        elif orders.client == "raw":
            self._row = b"".join(group_entries(orders))

    def take(self, batch: Batch) -> None:
        self.messages += batch.count
        if self.first_sequence is None:
            self.first_sequence = batch.sequence
        if self._orders.is_unbatched:
            self._unbatched(batch)
        elif self._orders.client == "raw":
            self._chunk(batch)
        else:
            for message in batch.messages():
                self.numbers.see(message.record.get("n", -1))

    def expected(self, gone: LeftOut) -> int:
        """Return how many messages of this producer that were expected are *gone*."""
        is_own = gone.tag == self._orders.tag
        is_later = self.first_sequence is not None and gone.sequence > self.first_sequence
        return gone.messages if is_own and is_later else 0

    def line(self, number: int) -> None:
        """Take the line with *number*."""
        self.messages += 1
        self.numbers.see(number)

    def _chunk(self, batch: Batch) -> None:
        own = unpack_own(batch.chunk_id or b"")  # of the last of its chunks
        chunks = -(-batch.count // self.weight)
        if own is None or batch.entries[codec.ARRAY_HEADER_BYTES :] != self._row * chunks:
            self.damaged += batch.count
        if own is not None:
            self.numbers.see(own[1] - chunks, chunks)

    def _unbatched(self, batch: Batch) -> None:
        """Compare with what comes next; if it differs, message by message."""
        if self._is_next(batch):
            self.numbers.see(self.numbers.next, batch.count)
            return
        for entry, message in zip(codec.split_raw(batch.entries), batch.messages(), strict=True):
            record = message.record
            round_number, index = record.get("round", -1), record.get("i", -1) - FIRST_INDEX
            if round_number < 0 or not 0 <= index < GROUP or bytes(entry) != self._group.entry(round_number, index):
                self.damaged += 1
            else:
                self.numbers.see(round_number * GROUP + index)

    def _is_next(self, batch: Batch) -> bool:
        body = memoryview(batch.entries)[codec.ARRAY_HEADER_BYTES :]
        round_number, at = divmod(self.numbers.next, GROUP)
        at *= self._group.entry_bytes
        while len(body):
            row = self._group.of_round(round_number)
            part = body[: len(row) - at]
            if part != row[at : at + len(part)]:
                return False
            body, at, round_number = body[len(part) :], 0, round_number + 1
        return True


class LeftOut(NamedTuple):
    """A block whose messages have expired by rule."""

    sequence: int
    messages: int
    tag: bytes


def left_out(journal: str, after: int = 0) -> list[LeftOut]:
    """Return the blocks after the sequence *after* whose messages have expired by rule."""
    found = list[LeftOut]()
    files = DiskFiles(journal)
    firsts = list_segments(files)
    for first, following in zip(firsts, [*firsts[1:], None], strict=True):
        with contextlib.suppress(FileNotFoundError), Segment(files, first) as segment:
            for block in blocks_of(segment, following):
                batch = segment.batch(block) if block.is_expired and block.sequence > after else None
                if batch is not None:
                    found.append(LeftOut(block.sequence, block.count, batch.tag))
    return found


def check(journal: str, all_orders: Sequence[Orders], sent: Mapping[int, int], *, after: int = 0) -> Checked:
    """
    Compare the journal at *journal*, which no process writes to now, with the number of messages that each producer, by
    its number, reports as *sent*. The run began after sequence *after*.

    The lines of a producer that connects for each line have no order: none of them is out of order.
    """
    expired = max(list_segments(DiskFiles(journal))[0] - 1 - after, 0)
    producers = {orders.number: _Producer(orders, joins=expired > 0) for orders in all_orders}
    by_tag = {orders.tag: producers[orders.number] for orders in all_orders}
    are_lines = all_orders[0].client == "connect"
    gaps = 0
    reader = open_reader(journal, after=after + expired)
    try:
        for batch in reader.read():
            if isinstance(batch, Gap):
                gaps += batch.count
            elif are_lines:
                _take_lines(batch, producers)
            elif (producer := by_tag.get(batch.tag)) is not None:
                producer.take(batch)
    finally:
        reader.close()
    gone = left_out(journal, after + expired) if reader.expired else []
    everybody = [(each, sent[number]) for number, each in producers.items()]
    lost = again = 0
    for each, count in everybody:
        missing = each.weight * each.numbers.missing(count // each.weight)
        unknown = missing - sum(each.expected(block) for block in gone)
        lost += max(unknown, 0)
        again += each.weight * each.numbers.repeated + max(-unknown, 0)  # some that are there have expired too
    return Checked(
        sum(each.messages for each, _ in everybody),
        max(lost, gaps),
        again,
        0 if are_lines else sum(each.weight * each.numbers.late for each, _ in everybody),
        sum(each.damaged for each, _ in everybody),
    )


def _take_lines(batch: Batch, producers: Mapping[int, _Producer]) -> None:
    for message in batch.messages():
        found = _match_line(str(message.record.get("message")))
        if found is not None and (producer := producers.get(int(found[1]))) is not None:
            producer.line(int(found[2]))
