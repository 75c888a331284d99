"""
The lines of tracebacks and stacks: which line may begin one, and which line continues it.

    Traceback (most recent call last):      HEAD ─▶ BODY
      File "x.py", line 1, in <module>      BODY ─▶ BODY
    ZeroDivisionError: division by zero     BODY ─▶ END ─▶ one message with the level "error"

`_RULES` lists for each state which lines continue it, and in which state they leave it. A line that continues nothing
ends the message.

Always true: here are only patterns and tables; each expression is compiled once.

Not here: joining (hub.wire.multiline).
Source: traceback.py of CPython 3.11 to 3.14, including exception groups (PEP 654); the messages of pydantic, jsonschema
and SQLAlchemy; the stacks of V8 and Node, the JVM, Go and Rust.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple


class State(enum.Enum):
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


TENTATIVE = {
    State.ANNOUNCED, State.ITEM, State.GAP, State.REMOTE, State.FILE, State.FAULT_GAP, State.ERROR,
    State.ERROR_TEXT, State.ERROR_REST, State.STACK_GAP, State.PLACE, State.SOURCE, State.GO_CALL, State.GO_GAP,
}  # fmt: skip
"""States whose lines belong to the message only if a line of another state follows."""
INCOMPLETE = {State.BODY, State.QUOTED, State.SQL, State.LINK, State.MARK, State.RUST, State.RUST_TRACE}
"""States that are followed by more lines, for certain."""

_INDENTED = rb"[ \t]+\S"
_BLANK = rb"\s*$"
_OTHER = rb"\S"
ANY = rb""
"""Matches every line."""
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
_RULES: dict[State, list[tuple[bytes, State]]] = {
    State.TEXT: [(_INDENTED, State.TEXT)],
    State.ANNOUNCED: [
        (_HEAD, State.BODY),
        (rb"[ \t]+at ", State.STACK),
        (rb"(?:future|task|handle|source_traceback): ", State.ANNOUNCED),
    ],
    State.BODY: [
        (_INDENTED, State.BODY),
        (rb".*Traceback \(most recent call last\):$", State.NOTHING),
        (rb".* validation errors? for ", State.ITEMS),
        (_OTHER, State.END),
    ],
    State.END: [
        (_INDENTED, State.END),
        (_BLANK, State.GAP),
        (_DETAIL, State.END),
        (_SQL, State.SQL),
        (rb"Call stack:$", State.BODY),
    ],
    State.ITEMS: [
        (_INDENTED, State.ITEMS),
        (_BLANK, State.GAP),
        (_HEAD, State.NOTHING),
        (_OTHER, State.ITEM),
    ],
    State.ITEM: [(_INDENTED, State.ITEMS)],
    State.SQL: [(rb".*\]$", State.END), (ANY, State.SQL)],
    State.GROUP: [(_INDENTED, State.GROUP), (_BLANK, State.GAP)],
    State.GAP: [(_BLANK, State.GAP), (_LINK, State.LINK), (_DETAIL, State.END), (_SQL, State.SQL)],
    State.LINK: [(_BLANK, State.LINK), (_HEAD, State.BODY), (_GROUP_HEAD, State.GROUP)],
    State.REMOTE: [(rb'"""$', State.QUOTED)],
    State.QUOTED: [(rb'"""$', State.END), (ANY, State.QUOTED)],
    State.FILE: [(_INDENTED, State.FILE), (rb"(?:Sorry: )?\w*Error: ", State.END)],
    State.FAULT: [(_BLANK, State.FAULT_GAP), (_INDENTED, State.FAULT), (_THREAD, State.FAULT)],
    State.FAULT_GAP: [(_BLANK, State.FAULT_GAP), (_THREAD, State.FAULT)],
    State.ERROR: [
        (_AT, State.STACK),
        (_INDENTED, State.ERROR),
        (_HEAD, State.BODY),
        (_NO_ERROR, State.ERROR_TEXT),
    ],
    State.ERROR_TEXT: [(_AT, State.STACK), (_HEAD, State.NOTHING), (_NO_ERROR, State.ERROR_REST)],
    State.ERROR_REST: [(_AT, State.STACK)],
    State.STACK: [
        (_INDENTED, State.STACK),
        (_CAUSE + rb"|[}\]]$|\(Use `node ", State.STACK),
        (_BLANK, State.STACK_GAP),
    ],
    State.STACK_GAP: [(_CAUSE + rb"|Node\.js v\d", State.STACK)],
    State.PLACE: [(rb"(?=.*\S)", State.SOURCE)],
    State.SOURCE: [(rb"\s*\^+\s*$", State.MARK)],
    State.MARK: [(_BLANK, State.MARK), (ANY, State.STACK)],
    State.GO: [(_GO, State.GO), (rb"\S+\(.*\)$", State.GO_CALL), (_BLANK, State.GO_GAP)],
    State.GO_CALL: [(rb"\t", State.GO)],
    State.GO_GAP: [(_BLANK, State.GO_GAP), (rb"(?!\s)(?:%b)" % _GO, State.GO)],
    State.RUST: [(ANY, State.RUST_TEXT)],
    State.RUST_TEXT: [
        (_INDENTED, State.RUST_TEXT),
        (rb"stack backtrace:$", State.RUST_TRACE),
        (rb"note: ", State.RUST_TEXT),
    ],
    State.RUST_TRACE: [(_INDENTED, State.RUST_TRACE), (rb"note: ", State.RUST_TEXT)],
}

PYTHON: list[tuple[bytes, State]] = [
    (_HEAD, State.BODY),
    (_GROUP_HEAD, State.GROUP),
    (rb"\S*RemoteTraceback:\s*$", State.REMOTE),
    (rb'  File ".+", line \d+$', State.FILE),
    (rb"Fatal Python error: ", State.FAULT),
    (
        rb"Exception (?:in|ignored) |Process \S+:$|--- Logging error ---$|Unhandled exception in "
        rb"|(?:Task|Future) exception was never retrieved$",
        State.ANNOUNCED,
    ),
]
STACKS: list[tuple[bytes, State]] = [
    (rb"thread '.*' (?:\(\d+\) )?panicked at .*:\d+:\d+:$", State.RUST),
    (rb"thread '.*' (?:\(\d+\) )?panicked at ", State.RUST_TEXT),
    (rb"panic: |fatal error: |goroutine \d+ .*\[.*\]:$|runtime: goroutine stack exceeds ", State.GO),
    (rb"(?:.* )?http: panic serving ", State.GO),
    (rb"(?:file://|node:)\S+:\d+$|\S+\.[cm]?[jt]sx?:\d+$|\[eval\]:\d+$", State.PLACE),
    (_ERROR, State.ERROR),
]
"""The first lines of what Python writes, and of the stacks of other languages."""
# A large block without any of these has no message of several lines, and a line without any of the others begins none.
BLOCK_SIGNS = (b"raceback", b"rror", b"xception", b"panic", b"goroutine ", b"^")
LINE_SIGNS = (
    b"raceback", b"rror", b"xception", b"panic", b"goroutine ", b'  File "', b"js:", b"jsx:", b"ts:", b"tsx:", b"node:",
    b"[eval]:", b"Process ",
)  # fmt: skip


class Rules(NamedTuple):
    """One regular expression for all rules of a state: the number of the group that matches is that of the rule."""

    expression: re.Pattern[bytes]
    states: list[State]

    def next(self, line: bytes) -> State:
        """Return the state after *line*; NOTHING if no rule matches."""
        match = self.expression.match(line)
        return State.NOTHING if match is None or match.lastindex is None else self.states[match.lastindex - 1]


def compiled(rules: list[tuple[bytes, State]]) -> Rules:
    """Return *rules* as one expression."""
    expression = b"|".join(b"(%b)" % pattern for pattern, _ in rules) if rules else rb"(?!)"
    return Rules(re.compile(expression, re.DOTALL), [state for _, state in rules])


NEXT = {state: compiled(rules) for state, rules in _RULES.items()}
"""The rules by state."""
