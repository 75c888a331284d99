"""
A number in the messages over time, for each value of a field: or, without a number, how many messages there are.

Always true: all values have the same bars; the counts of all bars together are the number of values.

Not here: one distribution over time (hub.query.spread), which values occur most often (hub.query.counting).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from hub.message import Message
from hub.query.counting import Value, reader_of
from hub.query.spread import Bar, Sketch, Spread


class SpreadBy:
    """
    The numbers of the field *name* (None: the messages), by what *by* names: for each of *values*, and for all other
    values together.
    """

    def __init__(self, name: str | None, by: str, values: Sequence[Value]) -> None:
        self._read = reader_of(by)
        self._others = Spread(name)
        self._spreads = {value: Spread(name) for value in values}

    @property
    def step_s(self) -> int:
        """Seconds that are told apart."""
        return max(each.step_s for each in self._all())

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(each.count for each in self._all())

    def add(self, messages: Iterable[Message]) -> None:
        """Count the values in *messages*."""
        groups = defaultdict[Value, list[Message]](list)
        for message in messages:
            groups[self._read(message)].append(message)
        for value, group in groups.items():
            self._spreads.get(value, self._others).add(group)

    def bars(self, bars_max: int) -> list[list[Bar]]:
        """Return the bars of each of the values, and last those of the others: at most *bars_max* of each."""
        spreads = self._all()
        filled = [each for each in spreads if each.count]
        if not filled:
            return [[] for _ in spreads]
        while not _is_common(filled, bars_max):
            least = min(each.step_s for each in filled)
            steppable = [each for each in filled if each.step_s == least]
            if not all(each.step_up() for each in steppable):  # one can exactly if all can
                break
        first, last = min(each.first for each in filled), max(each.last for each in filled)
        numbers, step_s = range(first, last + 1)[:bars_max], filled[0].step_s
        return [[Bar(number * step_s, each.at(number) or Sketch()) for number in numbers] for each in spreads]

    def _all(self) -> list[Spread]:
        return [*self._spreads.values(), self._others]


def _is_common(spreads: Sequence[Spread], bars_max: int) -> bool:
    """Return whether all have the same step, and not too many bars."""
    if len({each.step_s for each in spreads}) > 1:
        return False
    return max(each.last for each in spreads) - min(each.first for each in spreads) < bars_max
