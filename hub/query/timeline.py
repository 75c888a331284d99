"""
Counts of messages by time of receipt and level: the histogram of `mpsr logs --histogram`.

A timeline begins with steps of one second. When it has more than `STEPS_KEPT` of them, it takes longer steps, so its
memory is bounded whatever the journal holds. `bars` puts the steps together to no more than the bars that are wanted.

Always true: the counts of all bars together are the number of messages; each step is a multiple of the shorter ones.

Not here: which messages (hub.query.query), how bars look (hub.cli.figures).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from hub.entries import NS
from hub.message import Message
from hub.query.found import Found
from hub.query.index import Counts
from hub.query.level import NO_RANK, rank_of
from hub.query.query import Query
from hub.query.ranks import Ranked

STEPS_S = (1, 5, 15, 60, 300, 900, 3600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_419_200, 29_030_400)
STEPS_KEPT = 4096


class Bar(NamedTuple):
    """When it begins, in seconds since the epoch, and the number of messages by rank of their level."""

    begin_s: int
    counts: Counter[int]

    @property
    def messages(self) -> int:
        """The number of messages."""
        return self.counts.total()


class Timeline:
    """Counts messages. *zone_s*: seconds by which local time is ahead of UTC: days begin at local midnight."""

    def __init__(self, *, zone_s: int = 0) -> None:
        self._zone_s = zone_s
        self._step = 0  # index of STEPS_S
        self.step_s: int = STEPS_S[0]
        """Seconds that are told apart."""
        self._counts = Counter[tuple[int, int]]()  # by number of the step and rank
        self._numbers = set[int]()

    def add(self, messages: Iterable[Message]) -> None:
        """Count *messages*."""
        if isinstance(messages, Ranked):
            for known, count in messages.counts().items():
                self.add_count(messages.batch.received // NS, known, count)
            return
        if isinstance(messages, Found):
            received = messages.batch.received
            found = Counter(zip(itertools.repeat(received), map(rank_of, messages.records), strict=False))
        else:
            found = Counter((message.received, rank_of(message.record)) for message in messages)
        for (received, rank), count in found.items():
            self.add_count(received // NS, NO_RANK if rank is None else rank, count)

    def add_count(self, second: int, rank: int, count: int) -> None:
        """Count *count* messages received in this *second* since the epoch, or in a longer step that begins there."""
        number = (second + self._zone_s) // self.step_s
        self._counts[number, rank] += count
        if number not in self._numbers:
            self._numbers.add(number)
            while len(self._numbers) > STEPS_KEPT and self._step < len(STEPS_S) - 1:
                self._step_up()

    def add_counts(self, counts: Counts, query: Query) -> None:
        """Count the messages of a segment that *query* wants."""
        while self.step_s < counts.step_s:
            self._step_up()
        for series in counts.together(query):
            for step, count in series.each():
                self.add_count(counts.begin_s + step * counts.step_s, series.rank, count)

    def bars(self, bars_max: int) -> list[Bar]:
        """Return the bars from the first message to the last, also those without messages: at most *bars_max*."""
        if not self._numbers:
            return []
        while max(self._numbers) - min(self._numbers) >= bars_max and self._step < len(STEPS_S) - 1:
            self._step_up()
        first, last = min(self._numbers), max(self._numbers)
        bars = [Bar(number * self.step_s - self._zone_s, Counter()) for number in range(first, last + 1)[:bars_max]]
        for (number, rank), count in self._counts.items():
            bars[min(number - first, bars_max - 1)].counts[rank] += count
        return bars

    def _step_up(self) -> None:
        """Take the next longer step."""
        before_s = self.step_s
        self._step += 1
        self.step_s = STEPS_S[self._step]
        counts = Counter[tuple[int, int]]()
        for (number, rank), count in self._counts.items():
            counts[number * before_s // self.step_s, rank] += count
        self._counts, self._numbers = counts, {number for number, _ in counts}
