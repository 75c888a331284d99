"""
In which order the generations of a log file were made.

    app.log.2  made at 5, written last at 5      a copy of app.log, which was then truncated
    app.log.1  made at 1, written last at 9      what was app.log: all that is in it was written after the copy was made

What was made first is older, except a file that was truncated after it was copied: it was made before its copies, and
what is in it is younger. Its name shows that.

Always true: the order does not depend on the order in which the files are given.
Not here: which files are generations (hub.sources.generations), in which order they are read (hub.sources.readorder).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from hub.sources.generations import numbers_of

COUNT_MAX = 100_000
"""A generation's number is lower; what is higher is a date."""
COMPARED_MAX = 256
"""Generations that a file is compared with."""
_COUNT, _NONE, _DATE = range(3)


class Age(NamedTuple):
    """When a generation was made (0: unknown) and written last, in ns since the epoch, and its name."""

    born_ns: int
    mtime_ns: int
    name: str


class _Turn(NamedTuple):
    """What a name says: its numbers. The older one has the smaller ones, if rotation counts from the youngest."""

    kind: int
    numbers: tuple[int, ...] = ()

    def is_before(self, other: _Turn) -> bool:
        """Return whether this one is older than *other*, by their names."""
        return self.kind == other.kind and self.numbers < other.numbers


Key = tuple[int, _Turn, int]


def keys(ages: Sequence[Age]) -> list[Key]:
    """Return a key for each of *ages*, by which they are in order, the oldest first."""
    turns = [_turn(each.name) for each in ages]
    begun = _begun(ages, turns)
    if _is_rising(sorted((at, turn.numbers[0]) for at, turn in zip(begun, turns, strict=True) if turn.kind == _COUNT)):
        turns = [turn if turn.kind != _COUNT else _Turn(_COUNT, (-turn.numbers[0],)) for turn in turns]
    return [(at, turn, age.mtime_ns) for at, turn, age in zip(begun, turns, ages, strict=True)]


def _begun(ages: Sequence[Age], turns: Sequence[_Turn]) -> list[int]:
    """Return when each file can have been begun that is as it is: not before copies of what it was before."""
    begun = [each.born_ns or each.mtime_ns for each in ages]
    by_turn = sorted(range(len(ages)), key=lambda at: turns[at])
    youngest = 0
    for place, at in enumerate(by_turn):
        if begun[at] < youngest:
            older = [
                begun[other] + 1
                for other in by_turn[max(place - COMPARED_MAX, 0) : place]
                if turns[other].is_before(turns[at]) and ages[other].mtime_ns < ages[at].mtime_ns
            ]
            begun[at] = max(begun[at], *older, 0)
        youngest = max(youngest, begun[at])
    return begun


def _is_rising(counts: Sequence[tuple[int, int]]) -> bool:
    """Return whether those made later have the higher numbers (Log4j: ``fileIndex="max"``), by those of other times."""
    steps = [younger[1] - older[1] for older, younger in pairwise(counts) if older[0] != younger[0]]
    return sum(step < 0 for step in steps) > sum(step > 0 for step in steps)


def _turn(name: str) -> _Turn:
    """Return what *name* says: app.log.2 is older than app.log.1, and app.log-20261126 than app.log-20261127."""
    numbers = numbers_of(name)
    if len(numbers) == 1 and numbers[0] < COUNT_MAX:
        return _Turn(_COUNT, (-numbers[0],))
    return _Turn(_DATE, numbers) if numbers else _Turn(_NONE)
