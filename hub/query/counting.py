"""
Counts of messages by tag, level, writer, or a field of the record: the tables of `mpsr logs --by`.

A name that is also a filter (tag, level, pid, ...) has the same meaning as there: tag and writer are those of the
message, and the level is found as `--level` finds it. Every other name is a field of the record, dotted as in
`--where`; ``record.`` in front makes a field of any name.

Always true: the counts together are the number of messages. There are at most `VALUES_MAX` values; the messages of
later ones are counted together, so that the memory is bounded.

Not here: which messages (hub.query.query), counts by time (hub.query.timeline).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from hub.entries import is_value_deeper
from hub.message import Batch, Message
from hub.query.condition import ABSENT, look_up
from hub.query.found import Found
from hub.query.index import Counts
from hub.query.level import LEVELS, NO_RANK, rank_of
from hub.query.query import Query
from hub.query.ranks import Ranked

VALUES_MAX = 1_000_000
"""About 200 MB for short values."""
_RECORD = "record."
_NESTING_MAX = 100
_encode = msgspec.json.Encoder(enc_hook=str).encode
Value = str | None
"""The text of a value; None stands for messages without one."""

_OF_MESSAGE: dict[str, Callable[[Message], Value]] = {
    "tag": lambda message: message.tag,
    "level": lambda message: level_name(rank_of(message.record)),
    "pid": lambda message: str(message.peer.pid),
    "uid": lambda message: str(message.peer.uid),
    "comm": lambda message: message.peer.comm,
    "unit": lambda message: message.peer.unit or None,
    "container": lambda message: message.peer.container or None,
    "host": lambda message: None if message.home is None else message.home.host,
}
_OF_BATCH = {"pid", "uid", "comm", "unit", "container", "host"}
"""What a batch says about all its messages. Its tag is not that of an entry that cannot be read."""


def level_name(rank: int | None) -> Value:
    """Return the name of the level with this *rank*."""
    return None if rank in (None, NO_RANK) else LEVELS[rank]


class Row(NamedTuple):
    """Values, one for each name, and the number of messages that have them."""

    values: tuple[Value, ...]
    messages: int


class Table:
    """Counts messages by what *names* say, all together."""

    def __init__(self, names: Sequence[str], *, values_max: int | None = None) -> None:
        self.names = names
        self.others = 0
        """The messages whose values are not told apart, because there were *values_max* others before."""
        self._values_max = VALUES_MAX if values_max is None else values_max
        self._read = [reader_of(name) for name in names]
        self._counts = Counter[tuple[Value, ...]]()

    def add(self, messages: Iterable[Message]) -> None:
        """Count *messages*."""
        if isinstance(messages, Ranked) and self.takes_counts:
            tag = messages.batch.tag.decode("utf-8", "replace")
            for known, count in messages.counts().items():
                self._add_known(tag, known, count)
            return
        if isinstance(messages, Found) and self.takes_counts:
            tag = messages.batch.tag.decode("utf-8", "replace")
            for rank, count in Counter(map(rank_of, messages.records)).items():
                self._add_known(tag, rank, count)
            return
        if isinstance(messages, Found) and self.is_of_writers:
            self._add_of_writer(messages.batch, len(messages))
            return
        read = self._read
        for values, count in Counter(tuple([each(message) for each in read]) for message in messages).items():
            self.add_count(values, count)

    @property
    def takes_counts(self) -> bool:
        """Whether tag and level are all that it counts by."""
        return {*self.names} <= {"tag", "level"}

    @property
    def is_of_writers(self) -> bool:
        """Whether all messages of a batch count the same, so that none has to be decoded."""
        return {*self.names} <= _OF_BATCH

    def add_batch(self, batch: Batch) -> None:
        """Count all messages of *batch*, if `is_of_writers`."""
        self._add_of_writer(batch, batch.count)

    def _add_of_writer(self, batch: Batch, count: int) -> None:
        message = batch.message(batch.tag.decode("utf-8", "replace"), 0, {}, batch.sequence)
        self.add_count(tuple([read(message) for read in self._read]), count)

    def add_counts(self, counts: Counts, query: Query) -> None:
        """Count the messages of a segment that *query* wants."""
        for series, tag in counts.wanted(query):
            self._add_known(tag, series.rank, series.messages)

    def _add_known(self, tag: str, rank: int | None, count: int) -> None:
        known = {"tag": tag, "level": level_name(rank)}
        self.add_count(tuple([known[name] for name in self.names]), count)

    def add_count(self, values: tuple[Value, ...], count: int) -> None:
        """Count *count* messages that have these *values*."""
        if values in self._counts or len(self._counts) < self._values_max:
            self._counts[values] += count
        else:
            self.others += count

    def rows(self) -> list[Row]:
        """Return the counts, the largest first."""
        rows = itertools.starmap(Row, self._counts.items())
        return sorted(rows, key=lambda row: (-row.messages, [value or "" for value in row.values]))


class Tables:
    """Several tables of the same messages, which are read and decoded once for all of them."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.tables = tables
        self.takes_counts: bool = all(table.takes_counts for table in tables)
        self.is_of_writers: bool = all(table.is_of_writers for table in tables)

    def add(self, messages: Iterable[Message]) -> None:
        """Count *messages*."""
        whole = messages if isinstance(messages, (Found, Ranked)) else [*messages]
        apart = None
        for table in self.tables:
            if isinstance(whole, list) or table.takes_counts or table.is_of_writers:
                table.add(whole)
            else:
                apart = apart or [*whole]
                table.add(apart)

    def add_batch(self, batch: Batch) -> None:
        """Count all messages of *batch*, if `is_of_writers`."""
        for table in self.tables:
            table.add_batch(batch)

    def add_counts(self, counts: Counts, query: Query) -> None:
        """Count the messages of a segment that *query* wants, if all tables take counts."""
        for table in self.tables:
            table.add_counts(counts, query)


def reader_of(name: str) -> Callable[[Message], Value]:
    """Return the function that reads the value called *name* from a message."""
    if name in _OF_MESSAGE:
        return _OF_MESSAGE[name]
    name = name.removeprefix(_RECORD)
    path = name.split(".")
    return lambda message: text_of(look_up(message.record, name, path))


def text_of(value: Any) -> Value:
    """Return *value* as text: a text as it is, everything else as JSON."""
    if isinstance(value, str):
        return value
    if value is ABSENT:
        return None
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if is_value_deeper(value, _NESTING_MAX):
        return "…"
    try:
        return _encode(value).decode()
    except (TypeError, ValueError, RecursionError):  # keys that JSON does not know
        return str(value)
