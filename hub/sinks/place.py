"""
Where a sink is in the journal: its stored cursor, on the thread of the sink.

Always true:
- a new sink has a stored cursor before it delivers, so that messages that arrive meanwhile are not passed over;
- a cursor is never beyond the end of the journal: other messages will have the sequences of those it has covered;
- each change is durable when it returns, and is reported.

Not here: when the cursor moves (hub.sinks.runner), its file (hub.journal.cursors).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import msgspec

from hub.journal.cursors import Cursor, CursorDamaged
from hub.journal.journal import Journal
from hub.log import get_logger
from hub.sinks.kinds import SinkTable

log = get_logger("mpsr.sinks")


class Place:
    """
    The place of the sink for *table* in *journal*. *on_known* is called when the cursor is known or has changed,
    *forget* with its sequence when it has changed.
    """

    def __init__(
        self, table: SinkTable, journal: Journal, on_known: Callable[[], object], forget: Callable[[int], None]
    ) -> None:
        self.stored: Cursor | None = None
        """None: not read yet."""
        self._table = table
        self._journal = journal
        self._on_known = on_known
        self._forget = forget
        self._end = journal.last_sequence  # where a new sink begins that wants only later messages

    def cursor(self) -> Cursor:
        """Return the stored cursor. Make the one of a new sink."""
        if self.stored is not None:
            return self.stored
        cursor = self._read()
        if cursor is None:
            cursor = Cursor(self._journal.first_sequence() - 1 if self._table.begin == "start" else self._end)
            self._store(cursor)
        if cursor.sequence > (last := self._journal.last_sequence):
            name = self._table.cursor
            log.warning("sink.cursor_ahead", name=name, sequence=cursor.sequence, action="it goes on at the end")
            cursor = msgspec.structs.replace(cursor, sequence=last, rewinds=cursor.rewinds + 1)
            self._store(cursor)
        self.stored = cursor
        self._on_known()
        return cursor

    def change(self, **fields: Any) -> None:
        """Store the cursor with these *fields* replaced."""
        self._store(msgspec.structs.replace(self.cursor(), **fields))

    def keep_safe(self, safe: int) -> None:
        """Store that the destination has everything up to *safe*, if that is later than the cursor."""
        if self.stored is not None and safe > self.stored.sequence:
            with contextlib.suppress(OSError):  # they are delivered again
                self.change(sequence=safe)

    def go_to(self, to: int | None, since: int | None) -> int:
        """
        Go to the sequence *to*, or to what was received at *since* or later; None for both: to the oldest message.
        Return the sequence of the next message.
        """
        first, last = self._journal.first_sequence(), self._journal.last_sequence
        if since is not None:
            to = self._first_since(since, last)
        after = min(max(first - 1, 0 if to is None else to - 1), last)
        self.change(sequence=after, rewinds=self.cursor().rewinds + 1)
        return after + 1

    def _read(self) -> Cursor | None:
        try:
            return self._journal.cursors.read(self._table.cursor)
        except CursorDamaged:
            action = "everything that the journal holds is delivered again"
            log.error("sink.cursor_damaged", name=self._table.cursor, action=action)
            return Cursor(self._journal.first_sequence() - 1)

    def _store(self, cursor: Cursor) -> None:
        if cursor == self.stored:
            return
        self._journal.cursors.write(self._table.cursor, cursor)
        self.stored = cursor
        self._forget(cursor.sequence)
        self._on_known()

    def _first_since(self, since: int, last: int) -> int:
        """Return the first sequence that was received at *since* or later."""
        reader = self._journal.read(since=since)
        try:
            return next((found.sequence for found in reader.read(follow=True) if found.received >= since), last + 1)
        finally:
            reader.close()
