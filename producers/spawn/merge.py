"""
Puts the messages of a child's streams into the order in which they began.

A message that is held, because more lines may belong to it, keeps its place: messages that began after it wait, until
it comes out or until the caller no longer lists it as held.

Always true: messages come out in the order of the reads in which they began, those of one read in the order in which
they were added.
Not here: how long a message may be held (producers.spawn.output).
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable
from typing import NamedTuple

from producers.spawn.delivery import Parcel

WAITING_BYTES_MAX = 4 << 20


class _Waiting(NamedTuple):
    read: int
    parcel: Parcel


class Merge:
    """`add` for messages that are complete, then `release` for those that need not wait."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._waiting_bytes = 0

    def add(self, read: int, parcel: Parcel) -> None:
        """Add messages that began with the read number *read*."""
        bisect.insort(self._waiting, _Waiting(read, parcel), key=lambda one: one.read)
        self._waiting_bytes += len(parcel.entries)

    def release(self, held: Iterable[int]) -> list[Parcel]:
        """
        Return the messages that began before the first of the reads *held*, in which unfinished messages began, or in
        it.

        Return everything if more than `WAITING_BYTES_MAX` bytes wait.
        """
        first = min(held, default=None)
        end = len(self._waiting)
        if first is not None and self._waiting_bytes <= WAITING_BYTES_MAX:
            end = bisect.bisect_right(self._waiting, first, key=lambda one: one.read)
        done = [one.parcel for one in self._waiting[:end]]
        del self._waiting[:end]
        self._waiting_bytes -= sum(len(parcel.entries) for parcel in done)
        return done
