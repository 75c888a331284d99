"""
Decides when an alert fires: it counts matches within a time, and is quiet after it has fired, or while it is silenced.

Always true:
- only the times of receipt count, which the journal holds and which never decrease. So reading the same messages again
  gives the same firings;
- a match belongs to at most one firing: each one begins to count from zero;
- a match at most *within* before the last one counts; with *count* 1, each match does;
- a window that was packed and unpacked decides as it did before.

Not here: which messages match (hub.query.query), what happens then (hub.alerts.watch).
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Self

import msgspec


class Rule(msgspec.Struct, frozen=True):
    """How many matches, within which time, and the pause after a firing; times in nanoseconds."""

    count: int
    within: int
    pause: int


class Match(NamedTuple):
    """A message that matches: when it was received, and its sequence."""

    received: int
    sequence: int


class Fired(msgspec.Struct, frozen=True):
    """*first* and *last* of the *count* matches that made an alert fire. *matches*: all since it has fired before."""

    first: Match
    last: Match
    count: int
    matches: int
    sequences: tuple[int, ...]


class _Stored(msgspec.Struct, array_like=True, frozen=True):
    """A window in the cursor of its alert. A new field goes to the end, with a default."""

    upto: int
    matches: int
    fired_at: int
    fired_last: int
    firings: int
    silenced_until: int
    times: list[tuple[int, int]]


_decode = msgspec.msgpack.Decoder(_Stored).decode


class Window:
    """The matches of an alert with *rule* that still count, and when it has fired."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self._recent: deque[Match] = deque(maxlen=rule.count)
        self.upto: int = 0
        """The last sequence that was looked at."""
        self.matches: int = 0
        """Since the last firing."""
        self.fired_at: int = 0
        """When the last match of the last firing was received; 0: it has never fired."""
        self.fired_last: int = 0
        """The sequence of that match."""
        self.firings: int = 0
        self.silenced_until: int = 0

    def match(self, received: int, sequence: int) -> Fired | None:
        """Count a match. Return the firing that it causes, if any."""
        self.upto = sequence
        self.matches += 1
        self._recent.append(Match(received, sequence))
        rule, first = self._rule, self._recent[0]
        if len(self._recent) < rule.count or (rule.count > 1 and received - first.received > rule.within):
            return None
        if received <= self.silenced_until or (self.firings and received < self.fired_at + rule.pause):
            return None
        sequences = tuple(match.sequence for match in self._recent)
        fired = Fired(first, self._recent[-1], rule.count, self.matches, sequences)
        self._recent.clear()
        self.matches = 0
        self.fired_at, self.fired_last = received, sequence
        self.firings += 1
        return fired

    def recent(self, now: int) -> int:
        """Return how many matches count at *now*. It may be called on another thread."""
        return sum(now - match.received <= self._rule.within for match in list(self._recent))

    def pack(self) -> bytes:
        """Return the window as bytes, for the cursor."""
        return msgspec.msgpack.encode(
            _Stored(
                self.upto,
                self.matches,
                self.fired_at,
                self.fired_last,
                self.firings,
                self.silenced_until,
                [(match.received, match.sequence) for match in self._recent],
            )
        )

    @classmethod
    def unpack(cls, rule: Rule, detail: bytes) -> Self:
        """Return the window that was packed as *detail*, perhaps under another rule; an empty one if there is none."""
        window = cls(rule)
        try:
            stored = _decode(detail)
        except msgspec.DecodeError:  # of a version that stores it in another way, or of a fresh alert
            return window
        window.upto, window.matches = stored.upto, stored.matches
        window.fired_at, window.fired_last, window.firings = stored.fired_at, stored.fired_last, stored.firings
        window.silenced_until = stored.silenced_until
        window._recent.extend(Match(*each) for each in stored.times)
        return window
