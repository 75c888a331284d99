"""
What one sink loses or refuses: counted, logged, and stored once, however often it comes again.

For the thread of the sink; the runner's *call* takes what has to be stored to the event loop, and waits for it.

Always true:
- a report is committed together with the sequences that it covers (hub.sinks.reported), before it counts as made;
- a dead letter that is refused itself is not stored again: that would never end;
- one refusal is logged each `REFUSED_S`: any user may send what a destination refuses.

Not here: the messages that are stored (hub.sinks.deadletter), when the cursor moves (hub.sinks.runner).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from hub.journal.cursors import Cursor
from hub.journal.journal import Journal
from hub.log import get_logger
from hub.message import DEAD_TAG, Message, Position
from hub.sinks.deadletter import Reports, dead_letters
from hub.sinks.figures import Figures
from hub.sinks.portions import Missing
from hub.sinks.reported import Reported, position_name

REFUSED_S = 1.0
_DEAD = DEAD_TAG.decode()
log = get_logger("mpsr.sinks")


class Reporter:
    """The reports of the sink *name*, whose counters are *figures*. *call* awaits a coroutine on the event loop."""

    def __init__(
        self,
        name: str,
        journal: Journal,
        reports: Reports,
        figures: Figures,
        call: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        self._name = name
        self._journal = journal
        self._reports = reports
        self._figures = figures
        self._call = call
        self._position_name = position_name(name)
        self._reported = Reported()
        self._rewinds = 0
        self._refused_at = -REFUSED_S  # when a refusal was logged

    def begin(self, cursor: Cursor) -> None:
        """Learn what was reported of the messages after *cursor*, also before a kill."""
        if cursor.rewinds != self._rewinds:
            self._reported.clear()
            self._rewinds = cursor.rewinds
        self._reported.merge(self._journal.position(self._position_name), cursor.rewinds)
        self._reported.forget(cursor.sequence)

    def forget(self, upto: int) -> None:
        """Forget what the cursor has passed."""
        self._reported.forget(upto)

    def lose(self, count: int, reason: str) -> None:
        """Report *count* messages of which nobody knows which they are."""
        self._call(self._reports.lost(self._name, count, reason))
        self._figures.lost += count

    def miss(self, missing: Missing) -> None:
        """Report what is missing in the journal."""
        first = missing.upto - missing.messages + 1
        count = missing.upto - self._reported.upto(first)
        if count <= 0:
            return
        reported = self._reported.copy()
        reported.add(first, missing.upto)
        position = reported.position(self._position_name, self._rewinds)
        self._call(self._reports.lost(self._name, count, missing.reason, (position,)))
        self._reported = reported
        self._figures.lost += count

    def refuse(self, messages: Sequence[Message], reason: str, size: int | None = None) -> None:
        """Store *messages* as dead letters. *size*: the only one was not decoded."""
        messages = [message for message in messages if not self._reported.has(message.sequence)]
        if not messages:
            return
        if letters := [message for message in messages if message.tag != _DEAD]:
            reported = self._reported.copy()

            def position_after(sequences: Sequence[int]) -> Position:
                reported.add_each(sequences)
                return reported.position(self._position_name, self._rewinds)

            found = dead_letters(self._name, letters, reason, size, position_after=position_after)
            self._call(self._reports.dead(found))
            self._reported = reported
        self._figures.dead += len(messages)
        if (now := time.monotonic()) >= self._refused_at + REFUSED_S:
            self._refused_at = now
            sequence, dead = messages[0].sequence, self._figures.dead
            log.warning("sink.refused", name=self._name, sequence=sequence, reason=reason, dead=dead)
