"""
The newest messages, for callers that ask again and again because more arrive than they can show: one search for all
that ask for the same.

Always true:
- callers share an answer only if they select the same, and may read the same;
- an answer is no older than each of them allows. It has all that the caller has asked for, up to when it was found;
- at most `ANSWERS_MAX` are kept, each of the size of a page.

Not here: what is asked for and found (hub.control.messages).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

import msgspec

ANSWERS_MAX = 8
"""The last ones: a megabyte at most."""


class _Sequence(msgspec.Struct):
    sequence: int


_decode = msgspec.json.Decoder(_Sequence).decode


class _Answer:
    """What was found after the sequence *after*; *is_full*: as many messages as were wanted, so *after* is no bound."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.found_at = float("-inf")
        self.after = 0
        self.is_full = False
        self.next: int | None = None
        self.messages: list[tuple[int, msgspec.Raw]] = []

    def take(self, page: dict[str, Any], after: int, count: int, found_at: float) -> None:
        self.messages = [(_decode(text).sequence, text) for text in page["messages"]]
        self.is_full = len(self.messages) >= count
        self.next, self.after, self.found_at = page["next"], after, found_at

    def serves(self, after: int, since: float) -> bool:
        """Return whether it is not older than *since*, and has everything after the sequence *after*."""
        return self.found_at >= since and (self.is_full or (self.next is None and after >= self.after))

    def later_than(self, after: int) -> dict[str, Any]:
        return {"messages": [text for sequence, text in self.messages if sequence > after], "next": self.next}


class Newest:
    """The last answers, by what was asked for."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._answers: dict[Hashable, _Answer] = {}

    async def find(
        self, key: Hashable, after: int, count: int, age_s: float, find: Callable[[], Awaitable[dict[str, Any]]]
    ) -> dict[str, Any]:
        """
        Return the page that *find* returns: the last *count* messages after the sequence *after* of all that *key*
        stands for. It may be one that was begun for another caller, at most *age_s* seconds ago.
        """
        answer = self._answers.pop(key, None) or _Answer()
        self._answers[key] = answer  # the last one now
        if len(self._answers) > ANSWERS_MAX:
            del self._answers[next(iter(self._answers))]
        async with answer.lock:
            now = self._clock()
            if not answer.serves(after, now - age_s):
                answer.take(await find(), after, count, now)
            return answer.later_than(after)
