"""
How far the systemd journal has been read, and what is missing between two entries.

journald numbers its entries without gaps, so a gap means entries that can no longer be read: a vacuum has deleted their
file, before the source read it or while journalctl had it open. The second kind is silent: journalctl continues with
the next file.

Numbers are compared within one line of numbers (`Entry.line`). journald before systemd 254 gave each user's file a line
of its own and counted all of them together: an entry of another line counts as one of the numbers between two.

A `Place` is what the hub's journal keeps: the cursor of the last entry, its number, and up to which number gaps are
reported. The report of a gap is stored before the entries that follow it, with the place before them; if the hub is
killed between the two, the gap is not reported a second time.

Always true: an entry is new, or the one at the place; what is missing is counted once.
Not here: the format (hub.wire.journalexport), reading (hub.sources.journald).
Source: journalctl(1), --cursor= is inclusive; "sequence numbers" in the release notes of systemd 254.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from hub.message import Position
from hub.wire.journalexport import Entry

CURSOR_BYTES_MAX = 768
"""A cursor has 130 bytes; the rest of a position's detail is ours."""
LINES_MAX = 64
"""Lines of numbers that are remembered: one, or one for each user."""
_NONE = b"-"


class Place(NamedTuple):
    """The last entry that was read; all empty: the journal had none. Gaps of *line* are reported up to *counted*."""

    cursor: bytes = b""
    line: bytes = b""
    number: int = 0
    counted: int = 0

    @classmethod
    def of(cls, position: Position) -> Place:
        """Return the place in *position*; the place before all entries if it holds none."""
        parts = position.detail.split(b" ", 2)
        if len(parts) < 3 or not parts[1].isdigit():
            return cls()
        line = b"" if parts[0] == _NONE else parts[0]
        return cls(parts[2], line, position.number, int(parts[1]))

    def position(self, name: bytes) -> Position:
        """Return the position to be committed."""
        return Position(name, self.number, b"%s %d %s" % (self.line or _NONE, self.counted, self.cursor))


class JournalPlace:
    """
    Follows the entries that are read. `begins` is to be called before the first one of each journalctl.

    *is_complete*: all files can be read, so that a gap means that entries are missing.
    """

    def __init__(self, place: Place, *, is_complete: bool = True) -> None:
        self.place = place
        self.is_complete = is_complete
        self._is_first = False
        self._last: OrderedDict[bytes, tuple[int, int]] = OrderedDict()  # by line: number, and entries read until then
        self._entries = 0
        if place.line:
            self._last[place.line] = place.number, 0

    def begins(self) -> None:
        """Note that the next entry is the one at the place, if that still exists."""
        self._is_first = bool(self.place.cursor)

    def is_ours(self, entry: Entry) -> bool:
        """Return whether *entry* is the first one, and was read before."""
        place = self.place
        if not self._is_first:
            return False
        is_ours = entry.cursor == place.cursor or (
            entry.line != b"" and (entry.line, entry.number) == (place.line, place.number)
        )
        if is_ours:
            self._is_first = False
        return is_ours

    def take(self, entry: Entry) -> int | None:
        """Return how many entries are missing before *entry*, a new one; None if some are, an unknown number."""
        place, was_first, self._is_first = self.place, self._is_first, False
        line, number = entry.line, entry.number
        self._entries += 1
        last = self._last.get(line)
        missing: int | None = 0
        if was_first and (last is None or not self.is_complete):
            missing = None
            self._last.clear()
        elif last is not None and self.is_complete:
            missing = self._gap(last, entry)
        if line:
            self._last[line] = number, self._entries
            self._last.move_to_end(line)
            if len(self._last) > LINES_MAX:
                self._last.popitem(last=False)
        counted = number if missing != 0 else place.counted if line == place.line else 0
        self.place = Place(entry.cursor, line, number, counted)
        return missing

    def _gap(self, last: tuple[int, int], entry: Entry) -> int:
        """Return how many numbers are between the last entry of a line and *entry*, and were not read or reported."""
        number, entries = last
        if entry.line == self.place.line:
            number = max(number, min(self.place.counted, entry.number - 1))
        return max(entry.number - number - 1 - (self._entries - entries - 1), 0)
