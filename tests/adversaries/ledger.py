"""
Checks the messages of the ordinary producers in the journal, as they are read.

Always true: the sender of a message is the user reported by the kernel, never the tag, which an attacker may use.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from hub.journal.reader import Gap, open_reader
from hub.message import Batch

BUCKET_NS = 100_000_000
FAULTS_MAX = 100
"""Maximum faults kept, by tag and kind: more than four per producer. Attackers choose tags, so a limit is needed."""


class Author(NamedTuple):
    """The user that sends under a tag, and whether its messages must arrive in order."""

    uid: int
    is_ordered: bool


class _Row:
    """The messages that arrived under one tag."""

    def __init__(self) -> None:
        self.next = 0
        self.early: set[int] = set()
        self.buckets: Counter[int] = Counter()  # messages by time of receipt
        self.latest_ns = 0


class Ledger:
    """
    Reads the journal in *folder* and checks the messages of the *authors*, by tag.

    All other messages must come from one of the *strangers*.
    """

    def __init__(self, folder: str, authors: Mapping[str, Author], strangers: frozenset[int]) -> None:
        self.losses = 0
        self._authors = authors
        self._strangers = strangers
        self._faults: dict[tuple[str, str], tuple[str, int]] = {}  # by tag and kind: first text, count
        self._rows = {tag: _Row() for tag in authors}
        self._reader = open_reader(folder)
        self._sequence = 0

    @property
    def faults(self) -> list[str]:
        """The faults: the first of each kind under each tag, with the number of further ones."""
        return [text if count == 1 else f"{text}, and {count - 1} more" for text, count in self._faults.values()]

    def read(self) -> None:
        """Read the batches written since the last call."""
        for batch in self._reader.read(follow=True):
            if isinstance(batch, Gap):
                self._fail(
                    "",
                    "gap",
                    f"sequences {batch.sequence} to {batch.sequence + batch.count - 1} are gone: {batch.reason}",
                )
                self._sequence = batch.sequence + batch.count - 1
                continue
            if batch.count and batch.sequence != self._sequence + 1:
                self._fail("", "order", f"sequence {batch.sequence} after {self._sequence}")
            self._sequence = max(self._sequence, batch.sequence + batch.count - 1)
            self._take(batch)

    def close(self) -> None:
        self._reader.close()

    def stored(self, tag: str) -> int:
        """Return the number of messages under *tag* up to the first missing one."""
        return self._rows[tag].next

    def rate(self, tag: str, begin_ns: int, end_ns: int) -> float:
        """Return the messages received per second between the two times."""
        first, last = -(-begin_ns // BUCKET_NS), end_ns // BUCKET_NS
        buckets = self._rows[tag].buckets
        return sum(buckets[bucket] for bucket in range(first, last)) / max((last - first) * BUCKET_NS / 1e9, 0.1)

    def latest_s(self, tag: str) -> float:
        """Return the time of receipt of the last message under *tag*, in seconds since the epoch; infinity if none."""
        return self._rows[tag].latest_ns / 1e9 or math.inf

    def _take(self, batch: Batch) -> None:
        tag = batch.tag.decode("utf-8", "replace")
        author = self._authors.get(tag)
        if tag.startswith("mpsr.loss"):
            self.losses += batch.count
        elif author is not None and batch.peer.uid == author.uid:
            self._check(tag, author, batch)
        elif batch.peer.uid not in self._strangers:
            self._fail(tag, "owner", f"{tag}: stored as uid {batch.peer.uid}'s, at sequence {batch.sequence}")

    def _check(self, tag: str, author: Author, batch: Batch) -> None:
        row = self._rows[tag]
        row.buckets[batch.received // BUCKET_NS] += batch.count
        row.latest_ns = batch.received
        for message in batch.messages():
            number = message.record["n"]
            if number < row.next or number in row.early:
                self._fail(tag, "twice", f"{tag}: {number} is stored twice")
            elif number > row.next and author.is_ordered:
                self._fail(tag, "missing", f"{tag}: {number} where {row.next} was expected")
                row.next = number + 1
            else:
                row.early.add(number)
                while row.next in row.early:
                    row.early.remove(row.next)
                    row.next += 1

    def _fail(self, tag: str, kind: str, text: str) -> None:
        if len(self._faults) < FAULTS_MAX or (tag, kind) in self._faults:
            first, count = self._faults.get((tag, kind), (text, 0))
            self._faults[tag, kind] = first, count + 1
