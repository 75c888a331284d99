"""
Joins lines that belong together: tracebacks and stacks and, if requested, indented lines. Finds their levels.

    Traceback (most recent call last):      HEAD ─▶ BODY
      File "x.py", line 1, in <module>      BODY ─▶ BODY
    ZeroDivisionError: division by zero     BODY ─▶ END ─▶ one message with the level "error"

`_RULES` lists for each state which lines continue it, and in which state they leave it. A line that continues nothing
ends the held message. A line is returned at once unless it may be continued. Held lines are returned when a line comes
that does not continue them, or by `flush` when no line has come for a while.

Some states are tentative: their lines belong to the message only if a line of another state follows. Otherwise they
come out as if they had been read alone.

A prefix `<0>` to `<7>` (sd-daemon(3)) is removed from a line, and is the level of the message that begins with it.

Always true: every line comes out once, in order, unchanged except for the prefix; the held lines are bounded, and
returned above the limit; a message has the moment of its first line.

Not here: cutting lines, time (producers.spawn.lines).
Source: traceback.py of CPython 3.11 to 3.14, including exception groups (PEP 654); the messages of pydantic, jsonschema
and SQLAlchemy; the stacks of V8 and Node, the JVM, Go and Rust.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

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


class _State(enum.Enum):
    """The kind of the last held line."""

    NOTHING = "nothing"
    TEXT = "a line that indented lines may follow"
    # Python
    ANNOUNCED = "a line that announces a traceback"
    BODY = "the inside of a traceback"
    END = "the exception, and further lines of its text"
    ITEMS = "the inside of an exception that lists several errors"
    ITEM = "the name of one of them"
    SQL = "a statement of several lines in the text of an exception"
    GROUP = "an exception group"
    GAP = "a blank line after a traceback"
    LINK = "the sentence between two tracebacks"
    REMOTE = "the head of a traceback from another process"
    QUOTED = "its inside"
    FILE = "the place of a syntax error"
    FAULT = "a report of faulthandler"
    FAULT_GAP = "a blank line in it"
    # Node, Java
    ERROR = "a line that may be followed by its stack"
    ERROR_TEXT = "a further line of its text"
    ERROR_REST = "one more"
    STACK = "a stack"
    STACK_GAP = "a blank line after a stack"
    PLACE = "a file and a line number"
    SOURCE = "the source there"
    MARK = "the mark below it"
    # Go, Rust
    GO = "a panic and its goroutines"
    GO_CALL = "a function in it"
    GO_GAP = "a blank line between goroutines"
    RUST = "a panic whose text follows"
    RUST_TEXT = "a panic, and its text"
    RUST_TRACE = "its backtrace"


_TENTATIVE = {
    _State.ANNOUNCED, _State.ITEM, _State.GAP, _State.REMOTE, _State.FILE, _State.FAULT_GAP, _State.ERROR,
    _State.ERROR_TEXT, _State.ERROR_REST, _State.STACK_GAP, _State.PLACE, _State.SOURCE, _State.GO_CALL, _State.GO_GAP,
}  # fmt: skip

_INCOMPLETE = {_State.BODY, _State.QUOTED, _State.SQL, _State.LINK, _State.MARK, _State.RUST, _State.RUST_TRACE}

_INDENTED = rb"[ \t]+\S"
_BLANK = rb"\s*$"
_OTHER = rb"\S"
_ANY = rb""
_HEAD = rb"(?!\s).*Traceback \(most recent call last\):$"
_GROUP_HEAD = rb"  \+ Exception Group Traceback \(most recent call last\):$"
_LINK = (
    rb"(?:During handling of the above exception, another exception occurred"
    rb"|The above exception was the direct cause of the following exception):$"
)
_DETAIL = (
    rb"\[SQL: .*\]$|\[parameters: |\[generated in |\(Background on this error at: |LINE \d+: "
    rb"|(?:DETAIL|HINT|CONTEXT|QUERY|STATEMENT|WHERE|LOCATION|POSITION): |Failed validating .*:$"
    rb"|On (?:schema|instance).*:$|Message: |Arguments: |[\])}]+,?$"
)
_SQL = rb"\[SQL: "
_CAUSE = rb"Caused by:|Suppressed:|Stack backtrace:$|Location:$"
_AT = rb"[ \t]+at |[ \t]+\.\.\. \d+ |" + _CAUSE
_ERROR = rb"(?!\s).*(?:Error|Exception|Throwable)\b"
_NO_ERROR = rb"(?!%b)" % _ERROR
_THREAD = rb"(?:Current t|T)hread 0x.*:$|Python runtime state: |Extension modules: |Stack \(most recent call first\):$"
_GO = (
    rb"\s+\S|\[signal |goroutine \d+|created by |runtime stack:$|exit status \d+$|\.\.\.|panic: |fatal error: "
    rb"|[a-z]\w+ +0x[0-9a-f]+$"
)

# For each state the lines that continue it, in the order in which they are tried.
_RULES: dict[_State, list[tuple[bytes, _State]]] = {
    _State.TEXT: [(_INDENTED, _State.TEXT)],
    _State.ANNOUNCED: [
        (_HEAD, _State.BODY),
        (rb"[ \t]+at ", _State.STACK),
        (rb"(?:future|task|handle|source_traceback): ", _State.ANNOUNCED),
    ],
    _State.BODY: [
        (_INDENTED, _State.BODY),
        (rb".*Traceback \(most recent call last\):$", _State.NOTHING),
        (rb".* validation errors? for ", _State.ITEMS),
        (_OTHER, _State.END),
    ],
    _State.END: [
        (_INDENTED, _State.END),
        (_BLANK, _State.GAP),
        (_DETAIL, _State.END),
        (_SQL, _State.SQL),
        (rb"Call stack:$", _State.BODY),
    ],
    _State.ITEMS: [
        (_INDENTED, _State.ITEMS),
        (_BLANK, _State.GAP),
        (_HEAD, _State.NOTHING),
        (_OTHER, _State.ITEM),
    ],
    _State.ITEM: [(_INDENTED, _State.ITEMS)],
    _State.SQL: [(rb".*\]$", _State.END), (_ANY, _State.SQL)],
    _State.GROUP: [(_INDENTED, _State.GROUP), (_BLANK, _State.GAP)],
    _State.GAP: [(_BLANK, _State.GAP), (_LINK, _State.LINK), (_DETAIL, _State.END), (_SQL, _State.SQL)],
    _State.LINK: [(_BLANK, _State.LINK), (_HEAD, _State.BODY), (_GROUP_HEAD, _State.GROUP)],
    _State.REMOTE: [(rb'"""$', _State.QUOTED)],
    _State.QUOTED: [(rb'"""$', _State.END), (_ANY, _State.QUOTED)],
    _State.FILE: [(_INDENTED, _State.FILE), (rb"(?:Sorry: )?\w*Error: ", _State.END)],
    _State.FAULT: [(_BLANK, _State.FAULT_GAP), (_INDENTED, _State.FAULT), (_THREAD, _State.FAULT)],
    _State.FAULT_GAP: [(_BLANK, _State.FAULT_GAP), (_THREAD, _State.FAULT)],
    _State.ERROR: [
        (_AT, _State.STACK),
        (_INDENTED, _State.ERROR),
        (_HEAD, _State.BODY),
        (_NO_ERROR, _State.ERROR_TEXT),
    ],
    _State.ERROR_TEXT: [(_AT, _State.STACK), (_HEAD, _State.NOTHING), (_NO_ERROR, _State.ERROR_REST)],
    _State.ERROR_REST: [(_AT, _State.STACK)],
    _State.STACK: [
        (_INDENTED, _State.STACK),
        (_CAUSE + rb"|[}\]]$|\(Use `node ", _State.STACK),
        (_BLANK, _State.STACK_GAP),
    ],
    _State.STACK_GAP: [(_CAUSE + rb"|Node\.js v\d", _State.STACK)],
    _State.PLACE: [(rb"(?=.*\S)", _State.SOURCE)],
    _State.SOURCE: [(rb"\s*\^+\s*$", _State.MARK)],
    _State.MARK: [(_BLANK, _State.MARK), (_ANY, _State.STACK)],
    _State.GO: [(_GO, _State.GO), (rb"\S+\(.*\)$", _State.GO_CALL), (_BLANK, _State.GO_GAP)],
    _State.GO_CALL: [(rb"\t", _State.GO)],
    _State.GO_GAP: [(_BLANK, _State.GO_GAP), (rb"(?!\s)(?:%b)" % _GO, _State.GO)],
    _State.RUST: [(_ANY, _State.RUST_TEXT)],
    _State.RUST_TEXT: [
        (_INDENTED, _State.RUST_TEXT),
        (rb"stack backtrace:$", _State.RUST_TRACE),
        (rb"note: ", _State.RUST_TEXT),
    ],
    _State.RUST_TRACE: [(_INDENTED, _State.RUST_TRACE), (rb"note: ", _State.RUST_TEXT)],
}

_PYTHON: list[tuple[bytes, _State]] = [
    (_HEAD, _State.BODY),
    (_GROUP_HEAD, _State.GROUP),
    (rb"\S*RemoteTraceback:\s*$", _State.REMOTE),
    (rb'  File ".+", line \d+$', _State.FILE),
    (rb"Fatal Python error: ", _State.FAULT),
    (
        rb"Exception (?:in|ignored) |Process \S+:$|--- Logging error ---$|Unhandled exception in "
        rb"|(?:Task|Future) exception was never retrieved$",
        _State.ANNOUNCED,
    ),
]
_STACKS: list[tuple[bytes, _State]] = [
    (rb"thread '.*' (?:\(\d+\) )?panicked at .*:\d+:\d+:$", _State.RUST),
    (rb"thread '.*' (?:\(\d+\) )?panicked at ", _State.RUST_TEXT),
    (rb"panic: |fatal error: |goroutine \d+ .*\[.*\]:$|runtime: goroutine stack exceeds ", _State.GO),
    (rb"(?:.* )?http: panic serving ", _State.GO),
    (rb"(?:file://|node:)\S+:\d+$|\S+\.[cm]?[jt]sx?:\d+$|\[eval\]:\d+$", _State.PLACE),
    (_ERROR, _State.ERROR),
]
_FIRST = {
    Join.AUTO: [*_PYTHON, *_STACKS],
    Join.TRACEBACK: _PYTHON,
    Join.INDENT: [*_PYTHON, *_STACKS, (_ANY, _State.TEXT)],
    Join.NONE: [],
}
_PREFIX = re.compile(rb"<([0-7])>")
# A large block without any of these has no message of several lines, and a line without any of the others begins none.
_BLOCK_SIGNS = (b"raceback", b"rror", b"xception", b"panic", b"goroutine ", b"^")
_LINE_SIGNS = (
    b"raceback", b"rror", b"xception", b"panic", b"goroutine ", b'  File "', b"js:", b"jsx:", b"ts:", b"tsx:", b"node:",
    b"[eval]:", b"Process ",
)  # fmt: skip


class _Rules(NamedTuple):
    """One regular expression for all rules of a state: the number of the group that matches is that of the rule."""

    expression: re.Pattern[bytes]
    states: list[_State]

    def next(self, line: bytes) -> _State:
        match = self.expression.match(line)
        return _State.NOTHING if match is None or match.lastindex is None else self.states[match.lastindex - 1]


def _compiled(rules: list[tuple[bytes, _State]]) -> _Rules:
    expression = b"|".join(b"(%b)" % pattern for pattern, _ in rules) if rules else rb"(?!)"
    return _Rules(re.compile(expression, re.DOTALL), [state for _, state in rules])


_NEXT = {state: _compiled(rules) for state, rules in _RULES.items()}


class Joiner:
    """Joins the lines that *join* selects, up to *bytes_max* bytes."""

    def __init__(self, join: Join, *, bytes_max: int) -> None:
        self._join = join
        self._first = _compiled(_FIRST[join])
        self._bytes_max = bytes_max
        self._state = _State.NOTHING
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
        return bool(self._held) and self._state in _INCOMPLETE

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
        return [sign for sign in _LINE_SIGNS if sign in block]

    def _may_begin(self, block: bytes) -> bool:
        if self._join is Join.NONE:
            return False
        return self._join is Join.INDENT or len(block) <= SHORT_BYTES or any(sign in block for sign in _BLOCK_SIGNS)

    def _add(self, line: bytes, moment: Moment, level: str | None, done: list[Joined]) -> None:
        while self._held:
            state = _NEXT[self._state].next(line)
            if state is not _State.NOTHING and self._has_room(line):
                self._hold(line, moment, level, state)
                return
            self._release(done)
        state = self._first.next(line) if len(line) <= SHORT_BYTES else _State.NOTHING
        if state is _State.NOTHING:
            done.append(Joined([line], moment, level))
            return
        self._is_text = state is _State.TEXT
        self._hold(line, moment, level, state)

    def _has_room(self, line: bytes) -> bool:
        is_short = self._held_bytes + len(line) <= self._bytes_max
        return is_short and len(self._held) - self._firm < TENTATIVE_MAX

    def _hold(self, line: bytes, moment: Moment, level: str | None, state: _State) -> None:
        self._held.append((line, moment, level))
        self._held_bytes += len(line) + 1
        self._state = state
        if state not in _TENTATIVE:
            self._firm = len(self._held)

    def _release(self, done: list[Joined]) -> None:
        """Return the lines that belong together, or the first line; read the others again."""
        firm = max(self._firm, 1)
        held, rest = self._held[:firm], self._held[firm:]
        _, moment, level = held[0]
        if level is None and self._firm and not self._is_text:
            level = ERROR
        done.append(Joined([b"\n".join(line for line, _, _ in held)], moment, level))
        self._state, self._held, self._held_bytes, self._firm = _State.NOTHING, [], 0, 0
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
