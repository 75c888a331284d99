"""
Messages as columns, for programs that work on columns: SQL, Parquet.

Only what the wanted columns need is decoded: nothing of a record, a few of its keys, or all of it.

Always true:
- each message is one row, and no value stops a reader: one that does not fit its column is None there and is counted.
  The column `record` has it as it was sent;
- an entry is unreadable, and so a loss, if what is decoded of it cannot be read.

Not here: Arrow (hub.query.arrow), which batches are read (hub.query.sqlrows).
"""

from __future__ import annotations

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any, NamedTuple, Protocol, TypeAlias

from hub import entries as codec
from hub.entries import NS
from hub.journal.reader import Gap
from hub.message import Batch, Message
from hub.query.condition import ABSENT, look_up
from hub.query.counting import text_of
from hub.query.found import Found, found_of
from hub.query.level import LEVELS, NO_RANK, OF_LEVEL, has_level, rank_of, rank_of_name
from hub.query.ranks import RankFinder, Ranks
from hub.query.rendering import TEXT_KEYS, clamped, records_json, text_in

_US, _NS_OF_US = 1_000_000, 1_000
PART_ROWS, FIRST_ROWS = 1 << 16, 1 << 11
"""
Rows that are handed on together: large enough that the steps for each part do not count. The first part is smaller, and
each is twice as large as the one before: who wants a few rows (``LIMIT 3``) does not wait for more.
"""
PART_BYTES = 8 << 20
"""Bytes of entries that are handed on together, so that long messages do not take much memory."""
_NAMES_MAX = 1_000
_INDEX_OF_RANK = {**dict(zip(range(len(LEVELS)), range(len(LEVELS)), strict=True)), NO_RANK: len(LEVELS)}
_NUMBER_MIN, _NUMBER_MAX = -(1 << 63), (1 << 63) - 1


class Choices(NamedTuple):
    """Texts that repeat: the different ones, and the index (u32) of each row's. The last one may be None."""

    texts: list[str | None]
    indexes: array[int]


Values: TypeAlias = "array[int] | Choices | list[str | None]"
"""The values of a column: numbers (i64), texts that repeat, or texts."""


class Rows(NamedTuple):
    """
    Messages of one tag and one peer: the first one, and sequences, times (ns) and records of all. Or their *ranks*, if
    the level is all that is wanted of the records; then there are none.
    """

    first: Message
    sequences: Sequence[int]
    times: Found | list[int]
    records: Sequence[dict[Any, Any]]
    ranks: Ranks | None = None


class Part(NamedTuple):
    """Some rows, as a list of values for each column. *misfits* is the number of values that do not fit."""

    rows: int
    columns: list[Values]
    misfits: int


class _Column(Protocol):
    misfits: int

    def add(self, rows: Rows) -> None:
        """Add the values of *rows*."""

    def take(self) -> Values:
        """Return the values, and begin again."""


class _Numbers:
    """Numbers that *read* returns for each of some rows."""

    def __init__(self, read: Callable[[Rows], Iterable[int]]) -> None:
        self.misfits = 0
        self._read = read
        self._values = array("q")

    def add(self, rows: Rows) -> None:
        self._values.extend(self._read(rows))

    def take(self) -> Values:
        values, self._values = self._values, array("q")
        return values


class _Texts:
    """Texts that *read* returns for each of some rows, with the number of values that are no texts."""

    def __init__(self, read: Callable[[Sequence[dict[Any, Any]]], tuple[Iterable[str | None], int]]) -> None:
        self.misfits = 0
        self._read = read
        self._values: list[str | None] = []

    def add(self, rows: Rows) -> None:
        values, misfits = self._read(rows.records)
        self._values += values
        self.misfits += misfits

    def take(self) -> Values:
        values, self._values = self._values, []
        return values


class _Sources:
    """A text that all messages of a batch have in common."""

    def __init__(self, read: Callable[[Message], str | None]) -> None:
        self.misfits = 0
        self._read = read
        self._known: dict[str | None, int] = {}
        self._indexes = array("I")

    def add(self, rows: Rows) -> None:
        index = self._known.setdefault(self._read(rows.first), len(self._known))
        self._indexes.extend(array("I", (index,)) * len(rows.sequences))

    def take(self) -> Values:
        taken = Choices([*self._known], self._indexes)
        self._known, self._indexes = {}, array("I")
        return taken


class _Levels:
    """The level of each message."""

    def __init__(self) -> None:
        self.misfits = 0
        self._indexes = array("I")
        self._known: dict[object, int] = {}  # the index of a name under `level`, which is the first key that counts

    def add(self, rows: Rows) -> None:
        if rows.ranks is not None:
            ranks = rows.ranks.ranks
            self._indexes.extend(map(_INDEX_OF_RANK.__getitem__, ranks) if NO_RANK in ranks else ranks)
            self.misfits += rows.ranks.misfits
            return
        known, records = self._known, rows.records
        try:
            indexes = [known.get(record.get("level"), -1) for record in records]
        except TypeError:  # a list or a map
            indexes = [-1] * len(records)
        if -1 in indexes:
            indexes = [
                self._index(record) if index < 0 else index for index, record in zip(indexes, records, strict=True)
            ]
        self._indexes.extend(indexes)

    def _index(self, record: dict[Any, Any]) -> int:
        rank = rank_of(record)
        if rank is None:
            self.misfits += has_level(record)
            return len(LEVELS)
        name = record.get("level")
        if (
            isinstance(name, str)
            and not name.isdecimal()
            and rank_of_name(name) == rank
            and len(self._known) < _NAMES_MAX
        ):
            self._known[name] = rank
        return rank

    def take(self) -> Values:
        indexes, self._indexes = self._indexes, array("I")
        return Choices([*LEVELS, None], indexes)


def _messages(records: Sequence[dict[Any, Any]]) -> tuple[list[str | None], int]:
    """Return the text of each record, and how many records have something else in its place."""
    texts = [text_in(record) for record in records]
    if None not in texts:
        return texts, 0
    return texts, sum(
        text is None and any(record.get(key) is not None for key in TEXT_KEYS)
        for text, record in zip(texts, records, strict=True)
    )


def _of_field(name: str) -> Callable[[Sequence[dict[Any, Any]]], tuple[list[str | None], int]]:
    """Return the reader of a column with the texts of a field, dotted as in `--where`."""
    path = name.split(".")

    def read(records: Sequence[dict[Any, Any]]) -> tuple[list[str | None], int]:
        found = (look_up(record, name, path) for record in records)
        return [None if value is ABSENT else text_of(value) for value in found], 0

    return read


def microseconds(time_ns: int) -> int:
    """Return a time in microseconds, clamped to the years 1 to 9999."""
    seconds, nanoseconds = divmod(time_ns, NS)
    return clamped(seconds) * _US + nanoseconds // _NS_OF_US


def _times(rows: Rows) -> Iterable[int]:
    if isinstance(rows.times, Found):
        return [seconds * _US + nanoseconds // _NS_OF_US for seconds, nanoseconds in rows.times.times()]
    return map(microseconds, rows.times)


def _number(read: Callable[[Message], int]) -> Callable[[], _Column]:
    """Return a maker of the column of a number that all messages of a batch have in common."""

    def values(rows: Rows) -> Iterable[int]:
        return array("q", (min(max(read(rows.first), _NUMBER_MIN), _NUMBER_MAX),)) * len(rows.sequences)

    return lambda: _Numbers(values)


def _source(read: Callable[[Message], str | None]) -> Callable[[], _Column]:
    return lambda: _Sources(read)


class Kind(NamedTuple):
    """
    A column: its type in SQL, what collects its values, and the keys of a record that it needs; None: all. *of_batch*:
    it needs nothing of the entries at all, if they can be read.
    """

    type: str
    column: Callable[[], _Column]
    keys: tuple[str, ...] | None = ()
    of_batch: bool = False

    @property
    def has_choices(self) -> bool:
        """Whether its values are `Choices`."""
        return self.type == _LEVEL or (self.of_batch and self.type == _TEXT)


_TIME, _NUMBER, _TEXT, _LEVEL, _JSON = "TIMESTAMPTZ", "BIGINT", "VARCHAR", "LEVEL", "JSON"
COLUMNS: dict[str, Kind] = {
    "sequence": Kind(_NUMBER, lambda: _Numbers(lambda rows: rows.sequences), of_batch=True),
    "received": Kind(_TIME, _number(lambda message: microseconds(message.received)), of_batch=True),
    "time": Kind(_TIME, lambda: _Numbers(_times)),
    "tag": Kind(_TEXT, _source(lambda message: message.tag), of_batch=True),
    "pid": Kind(_NUMBER, _number(lambda message: message.peer.pid), of_batch=True),
    "uid": Kind(_NUMBER, _number(lambda message: message.peer.uid), of_batch=True),
    "gid": Kind(_NUMBER, _number(lambda message: message.peer.gid), of_batch=True),
    "comm": Kind(_TEXT, _source(lambda message: message.peer.comm), of_batch=True),
    "unit": Kind(_TEXT, _source(lambda message: message.peer.unit or None), of_batch=True),
    "container": Kind(_TEXT, _source(lambda message: message.peer.container or None), of_batch=True),
    "host": Kind(_TEXT, _source(lambda message: None if message.home is None else message.home.host), of_batch=True),
    "level": Kind(_LEVEL, _Levels, OF_LEVEL),
    "message": Kind(_TEXT, lambda: _Texts(_messages), TEXT_KEYS),
    "record": Kind(_JSON, lambda: _Texts(lambda records: (records_json(records), 0)), None),
}
OF_RECORD = ("level", "message", "record")


def field_kind(name: str) -> Kind:
    """Return the column of the field *name* of the record."""
    return Kind(_TEXT, lambda: _Texts(_of_field(name)), None)


class Columns:
    """Collects the columns *kinds* of the messages that are added and whose tag *may_read* does not exclude."""

    def __init__(self, kinds: Sequence[Kind], *, may_read: Callable[[str], bool] | None = None) -> None:
        self._may_read = may_read
        self.decoded_bytes = 0
        """The size of the entries that were decoded, in whole or in part."""
        self._columns = [kind.column() for kind in kinds]
        keys = {key for kind in kinds for key in kind.keys or ()}
        self._is_of_batch = all(kind.of_batch for kind in kinds)
        self._ranks = RankFinder() if keys == {*OF_LEVEL} and all(kind.keys is not None for kind in kinds) else None
        self._pairs = codec.pairs if any(kind.keys is None for kind in kinds) else codec.pairs_with(sorted(keys))
        self._rows = self._bytes = 0
        self._rows_max = min(FIRST_ROWS, PART_ROWS)  # of this part

    def add(self, found: Batch | Gap, *, is_readable: bool = False) -> None:
        """
        Add all messages of a batch, or the one that stands for a gap. *is_readable*: it is known that each of its
        entries can be read.
        """
        batch = found.as_batch() if isinstance(found, Gap) else found
        may_read = self._may_read
        if may_read is not None and not may_read(batch.tag.decode("utf-8", "replace")):
            return
        size = len(batch.entries)
        self._bytes += size
        if self._is_of_batch and is_readable:
            self._add(_rows_without_records(batch))
            return
        self.decoded_bytes += size
        ranks = None if self._ranks is None else self._ranks.find(batch)
        if ranks is not None:
            self._add(_rows_without_records(batch, ranks))
            return
        messages = self._messages(batch)
        if may_read is not None and not isinstance(messages, Found):  # an unreadable entry has a tag of its own
            messages = (message for message in messages if may_read(message.tag))
        self.add_messages(messages)

    def _messages(self, batch: Batch) -> Iterable[Message]:
        """Return all messages of *batch*, if possible together, and of their records only what is needed."""
        if not codec.may_have_syslog(batch.entries):
            pairs = self._pairs(batch.entries, batch.count)
            sequences = range(batch.sequence, batch.sequence + batch.count)
            if pairs is not None and (found := found_of(batch, sequences, [*pairs])) is not None:
                return found
        return batch.messages()

    def add_messages(self, messages: Iterable[Message]) -> None:
        """Add messages of one batch."""
        for rows in _rows_of(messages):
            self._add(rows)

    def _add(self, rows: Rows) -> None:
        for column in self._columns:
            column.add(rows)
        self._rows += len(rows.sequences)

    @property
    def is_full(self) -> bool:
        """Whether there are enough rows for a part."""
        return self._rows >= self._rows_max or self._bytes >= PART_BYTES

    def take(self) -> Part:
        """Return the rows, and begin again."""
        misfits = sum(column.misfits for column in self._columns)
        part = Part(self._rows, [column.take() for column in self._columns], misfits)
        for column in self._columns:
            column.misfits = 0
        self._rows = self._bytes = 0
        self._rows_max = min(2 * self._rows_max, PART_ROWS)
        return part


def _rows_of(messages: Iterable[Message]) -> Iterator[Rows]:
    if isinstance(messages, Found):
        yield Rows(next(iter(messages)), messages.sequences, messages, messages.records)
        return
    for _, group in itertools.groupby(messages, attrgetter("tag")):
        some = [*group]
        yield Rows(some[0], [each.sequence for each in some], [each.time for each in some], [m.record for m in some])


def _rows_without_records(batch: Batch, ranks: Ranks | None = None) -> Rows:
    sequences = range(batch.sequence, batch.sequence + batch.count)
    first = batch.message(batch.tag.decode("utf-8", "replace"), 0, {}, batch.sequence)
    return Rows(first, sequences, Found(batch, sequences, b"" if ranks is None else ranks.stamps, ()), (), ranks)
