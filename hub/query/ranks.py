"""
The levels of all messages of a batch, which are found without decoding the records.

The first key of a record that has a level decides (hub.query.level), and that is usually `level`. So this key alone is
decoded at first: a tenth of the time of whole records. If it leaves the level of a message open, all keys that may
hold one are decoded.

Always true: the ranks are those of the whole records. Only an entry of which something else cannot be decoded has a
rank here, although it is unreadable.

Not here: which level a name or a number is (hub.query.level), which messages are wanted (hub.query.query).
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

import msgspec

from hub import entries as codec
from hub.message import Batch, Message
from hub.query.found import stamps_of
from hub.query.level import KEYS, NO_RANK, OF_LEVEL, has_level, rank_of, rank_of_name

_FIRST, *_ = KEYS
_KNOWN_MAX = 1_000
"""Names of levels, and tags, that are remembered."""
_NAME_CHARS_MAX = 32
_TIME, _RECORD, _VALUE = itemgetter(0), itemgetter(1), attrgetter("value")


class Ranks(NamedTuple):
    """The packed times and the ranks of all messages of a batch. *misfits*: how many have something else as a level."""

    stamps: bytes
    ranks: Sequence[int]
    misfits: int = 0


class Ranked(msgspec.Struct, frozen=True, gc=False):
    """
    The messages of *batch* whose level is *rank_min* at least. They are decoded only if they are iterated over.
    *misfits*: how many messages of the batch have something else as a level.
    """

    batch: Batch
    ranks: Sequence[int]
    rank_min: int
    misfits: int = 0

    def __iter__(self) -> Iterator[Message]:
        messages = zip(self.batch.messages(), self.ranks, strict=True)
        return (message for message, rank in messages if rank >= self.rank_min)

    def __len__(self) -> int:
        return len(self.ranks) if self.rank_min == NO_RANK else sum(self.counts().values())

    def counts(self) -> dict[int, int]:
        """Return the number of messages by rank."""
        found = {self.ranks[0]: 1} if len(self.ranks) == 1 else Counter(self.ranks)
        if self.rank_min == NO_RANK:
            return found
        return {rank: count for rank, count in found.items() if rank >= self.rank_min}


class RankFinder:
    """Finds the ranks of batches. It remembers names of levels, and under which tags the usual key does not do."""

    def __init__(self) -> None:
        self._known = dict[object, int]()
        self._known_items = dict[tuple[tuple[str, object], ...], int]()
        self._other_tags = set[bytes]()

    def find(self, batch: Batch) -> Ranks | None:
        """Return the ranks of *batch*, or None if its messages have to be decoded one by one."""
        if codec.may_have_syslog(batch.entries):
            return None
        is_usual = batch.tag not in self._other_tags
        if is_usual and (found := self._by_first_key(batch)) is not None:
            return found
        found = self._by_all_keys(batch)
        if found is not None and is_usual and len(self._other_tags) < _KNOWN_MAX:
            self._other_tags.add(batch.tag)
        return found

    def _by_first_key(self, batch: Batch) -> Ranks | None:
        pairs = _values_reader()(batch.entries, batch.count)
        stamps = stamps_of([*map(_TIME, pairs)]) if pairs else None
        if not pairs or stamps is None:
            return None
        known = self._known
        if len(pairs) == 1 and isinstance(value := pairs[0][1].value, str) and (rank := known.get(value)) is not None:
            return Ranks(stamps, (rank,))
        values = [*map(_VALUE, map(_RECORD, pairs))]
        try:
            return Ranks(stamps, [*map(known.__getitem__, values)])
        except KeyError:
            return Ranks(stamps, [*map(known.__getitem__, values)]) if self._learn({*values}) else None
        except TypeError:  # a list or a map
            return None

    def _learn(self, values: set[object]) -> bool:
        """Return whether the rank of each of *values* is known now: each is a name, and decides alone."""
        for value in values - self._known.keys():
            is_name = isinstance(value, str) and not value.isdecimal() and len(value) <= _NAME_CHARS_MAX
            rank = rank_of_name(str(value)) if is_name else None
            if rank is None or len(self._known) >= _KNOWN_MAX:
                return False
            self._known[value] = rank
        return True

    def _by_all_keys(self, batch: Batch) -> Ranks | None:
        pairs = _pairs_reader()(batch.entries, batch.count)
        stamps = stamps_of([*map(_TIME, pairs)]) if pairs else None
        if not pairs or stamps is None:
            return None
        records: list[dict[str, Any]] = [*map(_RECORD, pairs)]
        ranks = [*map(self._rank, records)]
        misfits = 0
        if NO_RANK in ranks:
            misfits = sum(
                has_level(record) for record, rank in zip(records, ranks, strict=True) if record and rank == NO_RANK
            )
        return Ranks(stamps, ranks, misfits)

    def _rank(self, record: dict[str, Any]) -> int:
        items = tuple(record.items())
        try:
            return self._known_items[items]
        except (KeyError, TypeError):
            rank = rank_of(record)
        found = NO_RANK if rank is None else rank
        if len(self._known_items) < _KNOWN_MAX and "log" not in record and all(map(_is_plain, record.values())):
            self._known_items[items] = found
        return found


def _is_plain(value: object) -> bool:
    """Return whether *value* is short, and equals no value of which the level would be another one: True equals 1."""
    if isinstance(value, str):
        return len(value) <= _NAME_CHARS_MAX
    return type(value) is int and value not in (0, 1)


@functools.cache
def _values_reader() -> Callable[[bytes | memoryview, int], Sequence[tuple[msgspec.Raw, Any]] | None]:
    return codec.values_with(_FIRST)


@functools.cache
def _pairs_reader() -> Callable[[bytes | memoryview, int], Sequence[tuple[msgspec.Raw, dict[Any, Any]]] | None]:
    return codec.pairs_with(sorted(OF_LEVEL))
