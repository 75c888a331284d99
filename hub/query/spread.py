"""
A number in the messages over time: how often it occurs in each step, its least and greatest value, and its quantiles.

Values are counted in classes whose bounds are a fixed ratio apart, so a quantile is off by `ERROR` of its value at
most, and the memory does not depend on the number of messages. Like a timeline (hub.query.timeline), it begins with
steps of a second and takes longer ones when there are too many.

Always true: the counts of all bars together are the number of values.

Not here: which messages (hub.query.query).
Source: Masson, Rim, Lee, "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees" (2019).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from hub.entries import NS
from hub.message import Message
from hub.query.condition import ABSENT, as_number, look_up
from hub.query.timeline import STEPS_S

ERROR = 0.02
LEAST = 1e-9
"""Values closer to zero count as zero."""
STEPS_KEPT = 512
"""Each has some hundred classes at most."""
_LOG = math.log((1 + ERROR) / (1 - ERROR))
_RECORD = "record."


class Sketch:
    """The distribution of some values."""

    __slots__ = ("classes", "count", "least", "most")

    def __init__(self) -> None:
        self.classes = Counter[int]()
        self.count = 0
        self.least = math.inf
        self.most = -math.inf

    def add(self, value: float) -> None:
        """Count *value*, which is finite."""
        self.count += 1
        self.least, self.most = min(self.least, value), max(self.most, value)
        self.classes[_class_of(value)] += 1

    def merge(self, other: Sketch) -> None:
        """Count the values of *other*, too."""
        self.count += other.count
        self.least, self.most = min(self.least, other.least), max(self.most, other.most)
        self.classes += other.classes

    def quantile(self, part: float) -> float:
        """Return the value below which *part* of the values are, from 0 to 1."""
        wanted, passed = part * (self.count - 1), 0
        for number in sorted(self.classes):
            passed += self.classes[number]
            if passed > wanted:
                return min(max(_value_of(number), self.least), self.most)
        return self.most


class Bar(NamedTuple):
    """When it begins, in seconds since the epoch, and the values in it."""

    begin_s: int
    sketch: Sketch


class Spread:
    """
    The values of the field *name*, dotted as in `--where`. Texts that are numbers count as numbers. Without a name,
    each message counts as a zero.
    """

    def __init__(self, name: str | None) -> None:
        self._name = None if name is None else name.removeprefix(_RECORD)
        self._path = (self._name or "").split(".")
        self._step = 0  # index of STEPS_S
        self._sketches: dict[int, Sketch] = {}  # by number of the step
        self.count: int = 0
        """The number of values."""

    @property
    def step_s(self) -> int:
        """Seconds that are told apart."""
        return STEPS_S[self._step]

    def add(self, messages: Iterable[Message]) -> None:
        """Count the values in *messages*."""
        name = self._name
        for message in messages:
            value = 0.0 if name is None else number_of(look_up(message.record, name, self._path))
            if value is not None:
                self._sketch(message.received // NS).add(value)
                self.count += 1

    @property
    def first(self) -> int:
        """The number of the first step with a value."""
        return min(self._sketches)

    @property
    def last(self) -> int:
        """The number of the last step with a value."""
        return max(self._sketches)

    def at(self, number: int) -> Sketch | None:
        """Return the values in the step with this number; None if there are none."""
        return self._sketches.get(number)

    def bars(self, bars_max: int) -> list[Bar]:
        """Return the bars from the first value to the last, also those without values: at most *bars_max*."""
        while self._sketches and self.last - self.first >= bars_max and self.step_up():
            pass
        if not self._sketches:
            return []
        numbers = range(self.first, self.last + 1)[:bars_max]
        return [Bar(number * self.step_s, self.at(number) or Sketch()) for number in numbers]

    def _sketch(self, second: int) -> Sketch:
        number = second // self.step_s
        found = self._sketches.get(number)
        if found is None:
            found = self._sketches[number] = Sketch()
            while len(self._sketches) > STEPS_KEPT and self.step_up():
                pass
            found = self._sketches[second // self.step_s]
        return found

    def step_up(self) -> bool:
        """Take the next longer step. Return False if there is none."""
        if self._step == len(STEPS_S) - 1:
            return False
        before_s = self.step_s
        self._step += 1
        sketches: dict[int, Sketch] = {}
        for number, sketch in self._sketches.items():
            sketches.setdefault(number * before_s // self.step_s, Sketch()).merge(sketch)
        self._sketches = sketches
        return True


def number_of(value: Any) -> float | None:
    """Return *value* as a finite number, or None if it is none."""
    if isinstance(value, str):
        value = as_number(value)
    if value is ABSENT or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _class_of(value: float) -> int:
    if abs(value) < LEAST:
        return 0
    number = math.floor(math.log(abs(value) / LEAST) / _LOG) + 1
    return number if value > 0 else -number


def _value_of(number: int) -> float:
    if not number:
        return 0.0
    middle = LEAST * math.exp((abs(number) - 0.5) * _LOG)
    return middle if number > 0 else -middle
