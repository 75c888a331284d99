"""
Joins lines that belong together: tracebacks and stacks and, if requested, indented lines. Finds their levels.

A line is returned at once unless it may be continued. Held lines are returned when a line comes that does not continue
them, or by `flush` when no line has come for a while.

The lines of tentative states belong to the message only if a line of another state follows. Otherwise they come out as
if they had been read alone.

A prefix `<0>` to `<7>` (sd-daemon(3)) is removed from a line, and is the level of the message that begins with it.

Always true: every line comes out once, in order, unchanged except for the prefix; the held lines are bounded, and
returned above the limit; a message has the moment of its first line.

Not here: which line continues which (hub.wire.stacks), cutting lines, time (producers.spawn.lines).
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from hub.wire.stacks import (
    ANY,
    BLOCK_SIGNS,
    INCOMPLETE,
    LINE_SIGNS,
    NEXT,
    PYTHON,
    STACKS,
    TENTATIVE,
    State,
    compiled,
)

HEAD = b"Traceback (most recent call last):"
ERROR = "error"
LEVELS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
"""The names of sd-daemon's levels 0 to 7."""
SHORT_BYTES = 4096
"""Longest line that may begin a message of several lines, and longest block whose lines are all looked at."""
TENTATIVE_MAX = 64
"""Maximum tentative lines: each of them is read again if no other follows."""


class Join(enum.Enum):
    """Which lines become one message."""

    AUTO = "auto"  # tracebacks of Python, and stacks of Node, Java, Go and Rust
    TRACEBACK = "traceback"  # those of Python
    INDENT = "indent"  # as auto, and indented lines
    NONE = "none"


class Moment(NamedTuple):
    """When bytes were read: *number* counts the reads of all streams."""

    number: int
    time_ns: int


class Joined(NamedTuple):
    """Consecutive messages that began with the same read, with their level if they show one."""

    messages: list[bytes]
    moment: Moment
    level: str | None = None


_FIRST = {
    Join.AUTO: [*PYTHON, *STACKS],
    Join.TRACEBACK: PYTHON,
    Join.INDENT: [*PYTHON, *STACKS, (ANY, State.TEXT)],
    Join.NONE: [],
}
_PREFIX = re.compile(rb"<([0-7])>")


class Joiner:
    """Joins the lines that *join* selects, up to *bytes_max* bytes."""

    def __init__(self, join: Join, *, bytes_max: int) -> None:
        self._join = join
        self._first = compiled(_FIRST[join])
        self._bytes_max = bytes_max
        self._state = State.NOTHING
        self._is_text = False  # the held lines are no traceback
        self._held: list[tuple[bytes, Moment, str | None]] = []
        self._held_bytes = 0
        self._firm = 0  # how many of the held lines belong together

    @property
    def held_since(self) -> Moment | None:
        """The moment of the first held line; None if no line is held."""
        return self._held[0][1] if self._held else None

    @property
    def held_lines(self) -> int:
        """How many of the last lines are held."""
        return len(self._held)

    @property
    def is_incomplete(self) -> bool:
        """Whether the held message lacks its end. A backtrace may take a while to be written."""
        return bool(self._held) and self._state in INCOMPLETE

    def add(self, lines: list[bytes], moment: Moment, block: bytes) -> list[Joined]:
        """Return the messages that are complete now. *block* has all bytes of *lines*."""
        has_prefix = b"<" in block and (block.startswith(b"<") or b"\n<" in block)
        if not self._held and not has_prefix and not self._may_begin(block):
            return [Joined(lines, moment)] if lines else []
        signs = self._signs(block, has_prefix=has_prefix)
        done: list[Joined] = []
        plain: list[bytes] = []  # lines that were skipped
        for line in lines:
            if not self._held and signs is not None and not any(sign in line for sign in signs):
                plain.append(line)
                continue
            if plain:
                done.append(Joined(plain, moment))
                plain = []
            prefix = _PREFIX.match(line) if has_prefix else None
            if prefix is None:
                self._add(line, moment, None, done)
            else:
                self._add(line[prefix.end() :], moment, LEVELS[int(prefix[1])], done)
        if plain:
            done.append(Joined(plain, moment))
        return _merged(done)

    def flush(self) -> list[Joined]:
        """Return the held lines."""
        done: list[Joined] = []
        while self._held:
            self._release(done)
        return _merged(done)

    def _signs(self, block: bytes, *, has_prefix: bool) -> list[bytes] | None:
        """Return what each line of *block* has that may begin a message of several lines; None: look at all lines."""
        if has_prefix or self._join is Join.INDENT or len(block) <= SHORT_BYTES:
            return None
        return [sign for sign in LINE_SIGNS if sign in block]

    def _may_begin(self, block: bytes) -> bool:
        if self._join is Join.NONE:
            return False
        return self._join is Join.INDENT or len(block) <= SHORT_BYTES or any(sign in block for sign in BLOCK_SIGNS)

    def _add(self, line: bytes, moment: Moment, level: str | None, done: list[Joined]) -> None:
        while self._held:
            state = NEXT[self._state].next(line)
            if state is not State.NOTHING and self._has_room(line):
                self._hold(line, moment, level, state)
                return
            self._release(done)
        state = self._first.next(line) if len(line) <= SHORT_BYTES else State.NOTHING
        if state is State.NOTHING:
            done.append(Joined([line], moment, level))
            return
        self._is_text = state is State.TEXT
        self._hold(line, moment, level, state)

    def _has_room(self, line: bytes) -> bool:
        is_short = self._held_bytes + len(line) <= self._bytes_max
        return is_short and len(self._held) - self._firm < TENTATIVE_MAX

    def _hold(self, line: bytes, moment: Moment, level: str | None, state: State) -> None:
        self._held.append((line, moment, level))
        self._held_bytes += len(line) + 1
        self._state = state
        if state not in TENTATIVE:
            self._firm = len(self._held)

    def _release(self, done: list[Joined]) -> None:
        """Return the lines that belong together, or the first line; read the others again."""
        firm = max(self._firm, 1)
        held, rest = self._held[:firm], self._held[firm:]
        _, moment, level = held[0]
        if level is None and self._firm and not self._is_text:
            level = ERROR
        done.append(Joined([b"\n".join(line for line, _, _ in held)], moment, level))
        self._state, self._held, self._held_bytes, self._firm = State.NOTHING, [], 0, 0
        for line, began, own_level in rest:
            self._add(line, began, own_level, done)


def _merged(done: list[Joined]) -> list[Joined]:
    """Return *done* with neighbours of one moment and level in one."""
    merged: list[Joined] = []
    for one in done:
        if merged and merged[-1][1:] == one[1:]:
            merged[-1].messages.extend(one.messages)
        else:
            merged.append(one)
    return merged
