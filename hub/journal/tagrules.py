"""
Retention by tag: which messages of a segment are to be left out.

The first rule whose glob matches a tag applies to it. A rule bounds the age of its messages, or what they take on the
disk, or both. All messages of a rule leave a segment together: when the last of them is too old, or when those in newer
segments take all that the rule allows. Then the segment is rewritten once, and not again for this rule.

The age of all other messages needs no rule while nothing is kept for longer: whole segments are deleted then. When a
rule keeps its messages for longer, the others leave the segments by a rule too, which stands after all that are given.

Always true:
- losses leave with the messages that have no rule;
- nothing leaves a segment in which a reader has something to deliver, nor the one that is being written.

Not here: leaving out (hub.journal.rewriting), what a segment holds (hub.query.holdings), who decides
(hub.query.upkeep).
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from hub.entries import NS
from hub.message import LOSS_TAG, Batch

SEAL_S_MIN = 3600.0
"""No rule has a segment sealed before this age: on a quiet host, each would hold hardly more than its header."""
_STEPS = 8


class TagRule(msgspec.Struct, frozen=True):
    """Messages under tags that the glob *tag* matches are kept for *age_s* seconds, and up to *size* bytes of them."""

    tag: str
    age_s: float | None = None
    size: int | None = None


class Retention(msgspec.Struct, frozen=True):
    """
    How long messages are kept: each as the first of the *rules* says that matches its tag; all others, and those of a
    rule without an age, for *age_s* seconds.
    """

    rules: tuple[TagRule, ...] = ()
    age_s: float | None = None

    @property
    def longest_s(self) -> float | None:
        """The age in seconds after which nothing is kept, so that whole segments are deleted. None if there is none."""
        ages = [rule.age_s for rule in self.rules if rule.age_s is not None]
        return None if self.age_s is None else max([self.age_s, *ages])

    @property
    def is_longer(self) -> bool:
        """Whether a rule keeps messages for longer than the others are kept."""
        return self.longest_s != self.age_s

    @property
    def leaving(self) -> tuple[TagRule, ...]:
        """The rules by which messages leave segments. If some are kept longer, the last is that of all others."""
        if not self.is_longer:
            return self.rules
        timed = (msgspec.structs.replace(rule, age_s=rule.age_s or self.age_s) for rule in self.rules)
        return (*timed, TagRule("*", self.age_s))

    @property
    def ages(self) -> list[float]:
        """The ages in seconds at which messages leave segments."""
        return [rule.age_s for rule in self.leaving if rule.age_s is not None]

    @property
    def seal_s(self) -> float | None:
        """
        The age in seconds at which a segment is sealed because of the rules, None without a limit: an eighth of the
        shortest age, because nothing leaves the segment that is being written.
        """
        return max(min(self.ages) / _STEPS, SEAL_S_MIN) if self.ages else None


def covers(earlier: str, later: str) -> bool:
    """
    Return whether the glob *earlier* matches every tag that the glob *later* matches. False also where that is hard to
    say.
    """
    return earlier == later or (not set(earlier) & set("?[") and fnmatch.fnmatchcase(later, earlier))


class Held(NamedTuple):
    """
    The messages of one tag in one segment: how many, the bytes of their blocks in the plain form, and when the first
    and the last of them were received (nanoseconds).
    """

    messages: int
    size: int
    first_received: int
    last_received: int

    def plus(self, other: Held) -> Held:
        """Return both together."""
        first, last = min(self.first_received, other.first_received), max(self.last_received, other.last_received)
        return Held(self.messages + other.messages, self.size + other.size, first, last)


class Holding(NamedTuple):
    """A segment, that of the next one, the bytes of its file, and what it holds by tag."""

    first: int
    following: int
    disk_bytes: int
    tags: Mapping[str, Held]

    def share(self, size: int) -> int:
        """Return about how many bytes of the file are those of blocks with *size* bytes in the plain form."""
        return size * self.disk_bytes // max(sum(held.size for held in self.tags.values()), 1)


class TagRules:
    """The rules by which messages leave segments, in their order."""

    def __init__(self, retention: Retention) -> None:
        self.rules: Sequence[TagRule] = retention.leaving
        self._others = len(self.rules) - 1 if retention.is_longer else None
        self._matches = [re.compile(fnmatch.translate(rule.tag)).match for rule in self.rules]
        self._known = dict[bytes, int | None]()

    def of_tag(self, tag: str) -> int | None:
        """Return the number of the rule that applies to *tag*; None if none does."""
        if tag == LOSS_TAG.decode():
            return self._others
        return next((number for number, match in enumerate(self._matches) if match(tag)), None)

    def of_batch(self, batch: Batch) -> int | None:
        """Return the number of the rule that applies to *batch*; None if none does."""
        if batch.tag not in self._known:
            if len(self._known) > _KNOWN_MAX:
                self._known.clear()
            self._known[batch.tag] = self.of_tag(batch.tag.decode("utf-8", "replace"))
        return self._known[batch.tag]

    def left_out(self, holdings: Sequence[Holding], *, now: int, needed_from: int) -> dict[int, frozenset[int]]:
        """
        Return which rules' messages are to leave which of the sealed segments *holdings*, by first sequence. *now* is
        the time in nanoseconds; what has a sequence of *needed_from* or above is needed.
        """
        found = dict[int, set[int]]()
        taken = [0] * len(self.rules)
        for holding in sorted(holdings, reverse=True):  # the newest first
            for number, held in self._by_rule(holding).items():
                rule = self.rules[number]
                taken[number] += holding.share(held.size)
                is_old = rule.age_s is not None and held.last_received < now - int(rule.age_s * NS)
                is_over = rule.size is not None and taken[number] > rule.size
                if (is_old or is_over) and holding.following <= needed_from:
                    found.setdefault(holding.first, set()).add(number)
        return {first: frozenset(numbers) for first, numbers in found.items()}

    def _by_rule(self, holding: Holding) -> dict[int, Held]:
        found = dict[int, Held]()
        for tag, held in holding.tags.items():
            if (number := self.of_tag(tag)) is not None:
                found[number] = found[number].plus(held) if number in found else held
        return found


_KNOWN_MAX = 10_000
"""Tags whose rule is remembered. A client may invent tags."""
