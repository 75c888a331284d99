"""
The messages around those that are found, as `grep -C` shows the lines around a match.

Of a query, `grep`, `where` and `level` find messages. The other filters (tag, writer, host, times) select the messages
in which they are looked for, and these are the context: without a tag, it is what happened around, under all tags.

Batches without a match are kept undecoded, and only while they may be the context of a later match.

Always true:
- messages are shown in their order, each once; a break stands where messages that are selected were left out;
- what is kept between two batches are the batches that hold the last *before* messages.

Not here: which messages are found (hub.query.query), how a break looks (hub.cli.logs).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hub.journal.reader import Gap
from hub.message import Batch, Message
from hub.query.query import Query


class Shown(NamedTuple):
    """A message, and whether it was found, or is context. Without a message it is a break."""

    message: Message | None
    is_found: bool = False


BREAK = Shown(None)


class Context:
    """
    Finds what *query* wants with sequences above *after*, and adds *before* messages before, and *behind* after each.

    Messages below *first* are context only. `groups` can be called again with later batches, and goes on.
    """

    def __init__(self, query: Query, before: int, behind: int, *, after: int = 0, first: int = 0) -> None:
        self._query = query
        self._before, self._behind = before, behind
        self._after, self._least = after, max(after + 1, first)
        self._passed: deque[Batch | list[Message]] = deque()  # what was left out since the last message shown
        self._passed_count = 0
        self._skipped = 0  # how many were left out since then, also those that are no longer in `_passed`
        self._due = 0  # how many are still to be shown after a match
        self._has_shown = False

    def groups(self, batches: Iterator[Batch | Gap]) -> Iterator[list[Shown]]:
        """Yield what is shown of each batch, nothing included. Stop at the first batch received after *until*."""
        for found in batches:
            if self._query.is_after(found):
                return
            if isinstance(found, Gap):
                gap = [message for message in self._query.found_in(found) if message.sequence >= self._least]
                yield self._shown(gap, {message.sequence for message in gap})
            elif self._query.selects(found):
                yield self._of(found)

    def _of(self, batch: Batch) -> list[Shown]:
        found = {each.sequence for each in self._query.found_in(batch) if each.sequence >= self._least}
        if not found and not self._due and batch.sequence > self._after:
            self._pass(batch, batch.count)
            return []
        return self._shown((each for each in batch.messages() if each.sequence > self._after), found)

    def _shown(self, messages: Iterable[Message], found: set[int]) -> list[Shown]:
        shown: list[Shown] = []
        waiting: list[Message] = []
        for message in messages:
            if message.sequence in found:
                if waiting:
                    self._pass(waiting, len(waiting))
                    waiting = []
                shown += self._lead()
                shown.append(Shown(message, is_found=True))
                self._due, self._has_shown = self._behind, True
            elif self._due:
                shown.append(Shown(message))
                self._due -= 1
            else:
                waiting.append(message)
        if waiting:
            self._pass(waiting, len(waiting))
        return shown

    def _pass(self, left_out: Batch | list[Message], count: int) -> None:
        """Leave messages out, for now. Forget those that are too far back to be the context of what follows."""
        self._passed.append(left_out)
        self._passed_count += count
        self._skipped += count
        while self._passed_count - (size := _size(self._passed[0])) >= self._before:
            self._passed.popleft()
            self._passed_count -= size
            if not self._passed:
                return

    def _lead(self) -> list[Shown]:
        """Return the last *before* messages that were left out, after a break if there are more."""
        lead: list[Message] = []
        while self._passed and len(lead) < self._before:
            passed = self._passed.pop()
            lead[:0] = passed if isinstance(passed, list) else passed.messages()
        lead = lead[max(len(lead) - self._before, 0) :]
        has_break = self._has_shown and self._skipped > len(lead)
        self._passed.clear()
        self._passed_count = self._skipped = 0
        return [*([BREAK] if has_break else []), *map(Shown, lead)]


def _size(passed: Batch | list[Message]) -> int:
    return passed.count if isinstance(passed, Batch) else len(passed)
