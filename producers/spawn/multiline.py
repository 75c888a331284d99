"""
Joins lines that belong together: Python tracebacks and, if requested, indented lines.

    HEAD ─▶ BODY ─(a line at the left margin: the exception)─▶ END ─▶ message
             ▲                                                  │ blank, "During handling of ...", blank, HEAD
             └──────────────────────────── LINK ◀───────────────┘

A line is returned at once unless it may be continued. Held lines are returned when a line comes that does not continue
them, or by `flush` when no line has come for a while.

Always true: every line comes out once, in order, unchanged; the held lines are bounded, and returned above the limit.
Not here: cutting lines, time (producers.spawn.lines).
Source: traceback.py of CPython 3.11 to 3.14, including exception groups (PEP 654).
"""

from __future__ import annotations

import enum

HEAD = b"Traceback (most recent call last):"
_GROUP_HEAD = b"  + Exception Group " + HEAD
_LINKS = (
    b"During handling of the above exception, another exception occurred:",
    b"The above exception was the direct cause of the following exception:",
)


class _Kind(enum.Enum):
    """The kind of a line."""

    HEAD = "head"
    GROUP_HEAD = "group's head"
    INDENTED = "indented"
    BLANK = "blank"
    LINK = "link"
    OTHER = "other"


class _State(enum.Enum):
    """The kind of the held lines."""

    NOTHING = "nothing"
    TEXT = "text"  # a line that indented lines may follow
    BODY = "body"
    GROUP = "group"  # an exception group: no line at the left margin
    END = "end"  # a complete traceback; another may follow
    GAP = "gap"  # the same, followed by blank lines that may belong to it
    LINK = "link"  # the sentence between two tracebacks


# A kind of line that is not listed ends the held message.
_NEXT = {
    (_State.TEXT, _Kind.INDENTED): _State.TEXT,
    (_State.BODY, _Kind.INDENTED): _State.BODY,
    (_State.BODY, _Kind.OTHER): _State.END,
    (_State.GROUP, _Kind.INDENTED): _State.GROUP,
    (_State.GROUP, _Kind.BLANK): _State.GAP,
    (_State.END, _Kind.INDENTED): _State.END,  # an exception's text of several lines
    (_State.END, _Kind.BLANK): _State.GAP,
    (_State.GAP, _Kind.LINK): _State.LINK,
    (_State.LINK, _Kind.BLANK): _State.LINK,
    (_State.LINK, _Kind.HEAD): _State.BODY,
    (_State.LINK, _Kind.GROUP_HEAD): _State.GROUP,
}

_FIRST = {_Kind.HEAD: _State.BODY, _Kind.GROUP_HEAD: _State.GROUP}


class Joiner:
    """Joins tracebacks and, with *indent*, indented lines to the line before them, up to *bytes_max* bytes."""

    def __init__(self, *, indent: bool, bytes_max: int) -> None:
        self._indent = indent
        self._bytes_max = bytes_max
        self._state = _State.NOTHING
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._gap = 0  # blank lines at the end of the held lines

    @property
    def is_holding(self) -> bool:
        return bool(self._held)

    def add(self, lines: list[bytes]) -> list[bytes]:
        """Return the messages that are complete now."""
        if not self._held and not self._indent and not any(HEAD in line for line in lines):
            return lines
        done: list[bytes] = []
        for line in lines:
            kind = _kind_of(line)
            state = _NEXT.get((self._state, kind))
            if state is None or self._held_bytes + len(line) > self._bytes_max:
                done += self.flush()
                state = _FIRST.get(kind, _State.TEXT if self._indent else _State.NOTHING)
            if state is _State.NOTHING:
                done.append(line)
                continue
            self._gap = self._gap + 1 if state is _State.GAP else 0
            self._state = state
            self._held.append(line)
            self._held_bytes += len(line) + 1
        return done

    def flush(self) -> list[bytes]:
        """Return the held lines: one message, then trailing blank lines as messages of their own."""
        if not self._held:
            return []
        whole = len(self._held) - self._gap
        done = [b"\n".join(self._held[:whole]), *self._held[whole:]]
        self._state, self._held, self._held_bytes, self._gap = _State.NOTHING, [], 0, 0
        return done


def _kind_of(line: bytes) -> _Kind:
    if not line or line.isspace():
        return _Kind.BLANK
    if line.endswith(HEAD) and not line[:1].isspace():
        return _Kind.HEAD
    if line == _GROUP_HEAD:
        return _Kind.GROUP_HEAD
    if line in _LINKS:
        return _Kind.LINK
    return _Kind.INDENTED if line[:1] in (b" ", b"\t") else _Kind.OTHER
