"""Lines that belong together: real tracebacks, and text that only resembles them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from producers.spawn.multiline import HEAD, Joiner

SCRIPTS = {
    "plain": "def f(): return 1 / 0\nf()",
    "chained": "try:\n  1 / 0\nexcept ZeroDivisionError:\n  {}['k']",
    "caused": "try:\n  1 / 0\nexcept ZeroDivisionError as e:\n  raise ValueError('x') from e",
    "recursion": "def f(): f()\nf()",
    "syntax": "compile('a b', 'file', 'exec')",
    "no text": "raise ValueError",
    "indented text": "raise ValueError('first\\n  second\\n  third')",
    "group": "raise ExceptionGroup('g', [ValueError(1), ExceptionGroup('h', [TypeError(2)])])",
    "chain to a group": "try:\n  1 / 0\nexcept ZeroDivisionError as e:\n"
    "  raise ExceptionGroup('g', [ValueError(1)]) from e",
    "group to a chain": "try:\n  raise ExceptionGroup('g', [ValueError(1)])\nexcept ExceptionGroup:\n  {}['k']",
    "chain in a group": "try:\n  1 / 0\nexcept ZeroDivisionError as e:\n  v = ValueError(1); v.__context__ = e\n"
    "raise ExceptionGroup('g', [v])",
}


def joined(lines: list[bytes], step: int, *, indent: bool = False, bytes_max: int = 1 << 20) -> list[bytes]:
    joiner = Joiner(indent=indent, bytes_max=bytes_max)
    done: list[bytes] = []
    for begin in range(0, len(lines), step):
        done += joiner.add(lines[begin : begin + step])
    return done + joiner.flush()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_traceback_of_python_is_one_message(name: str) -> None:
    """A traceback of this interpreter becomes one message among others, however its lines arrive."""
    run = subprocess.run([sys.executable, "-c", SCRIPTS[name]], capture_output=True, check=False)
    traceback = run.stderr.rstrip(b"\n")
    assert HEAD in traceback
    lines = [b"before", *traceback.split(b"\n"), b"after", b"", b"last"]
    for step in (1, 2, len(lines)):
        assert joined(lines, step) == [b"before", traceback, b"after", b"", b"last"]


TABLE: list[tuple[str, bool, list[str], list[str]]] = [
    ("text alone", False, ["a", " b", "", "c"], ["a", " b", "", "c"]),
    ("two in a row", False, ["T", "  x", "E: 1", "T", "  y", "E: 2"], ["T\n  x\nE: 1", "T\n  y\nE: 2"]),
    ("a head behind a logger's prefix", False, ["ERROR T", "  x", "E: 1", "a"], ["ERROR T\n  x\nE: 1", "a"]),
    ("a blank line is its own", False, ["T", "  x", "E: 1", "", "a"], ["T\n  x\nE: 1", "", "a"]),
    ("and so are several at the end", False, ["T", "  x", "E: 1", ""], ["T\n  x\nE: 1", ""]),
    ("a link to nothing", False, ["T", "  x", "E: 1", "", "L", "", "a"], ["T\n  x\nE: 1\n\nL\n", "a"]),
    ("a head at the very end", False, ["a", "T"], ["a", "T"]),
    ("indented", True, ["a", " b", "\tc", "d", " e", "", "f"], ["a\n b\n\tc", "d\n e", "", "f"]),
    ("indented at first", True, [" a", " b"], [" a\n b"]),
    ("a traceback, indented", True, ["a", "T", "  x", "E: 1", "b"], ["a", "T\n  x\nE: 1", "b"]),
]


@pytest.mark.parametrize(("name", "indent", "lines", "messages"), TABLE, ids=[row[0] for row in TABLE])
def test_the_table(name: str, indent: bool, lines: list[str], messages: list[str]) -> None:
    """These lines make these messages, in steps of any size (T: a head, L: the sentence between two tracebacks)."""

    def full(text: str) -> bytes:
        link = "During handling of the above exception, another exception occurred:"
        return text.encode().replace(b"T", HEAD).replace(b"L", link.encode())

    for step in (1, 2, 3, len(lines)):
        assert joined(list(map(full, lines)), step, indent=indent) == list(map(full, messages))


def test_what_is_held_is_bounded() -> None:
    """A traceback over the limit comes out in pieces, and no line is lost."""
    lines = [HEAD, *(b"  line %d" % n for n in range(100)), b"E"]
    done = joined(lines, 1, bytes_max=200)
    assert b"\n".join(done) == b"\n".join(lines)
    assert max(map(len, done)) <= 200 + len(HEAD)
