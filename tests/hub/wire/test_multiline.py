"""Lines that belong together: real tracebacks, and text that only resembles them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hub.wire.multiline import HEAD, TENTATIVE_MAX, Join, Joined, Joiner, Moment

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
    "pool": "from multiprocessing import Pool\nif __name__ == '__main__':\n"
    "  with Pool(1) as pool:\n    pool.apply(int, 'x')",
    "futures": "from concurrent.futures import ProcessPoolExecutor\nif __name__ == '__main__':\n"
    "  with ProcessPoolExecutor(1) as pool:\n    pool.submit(int, 'x').result()",
    "thread": "import threading\nthreading.Thread(target=int, args='x').start()",
    "ignored": "class A:\n  def __del__(self): 1 / 0\nA()",
    "never retrieved": "import asyncio\nasync def f(): 1 / 0\nasync def main():\n"
    "  asyncio.ensure_future(f()); await asyncio.sleep(0)\nasyncio.run(main())",
    "logging of its own": "import logging\nlogging.warning('%d', 'x')",
    "notes": "e = ValueError(1); e.add_note('  indented'); raise e",
}
WITHOUT_HEAD = {
    "syntax of the program": "def f(:\n  pass",
    "indentation of the program": "  def f():\npass",
    "fault": "import faulthandler, os, signal\nfaulthandler.enable()\nos.kill(os.getpid(), signal.SIGSEGV)",
}


def feed(lines: list[bytes], step: int, join: Join = Join.AUTO, bytes_max: int = 1 << 20) -> list[Joined]:
    joiner = Joiner(join, bytes_max=bytes_max)
    done: list[Joined] = []
    for begin in range(0, len(lines), step):
        part = lines[begin : begin + step]
        done += joiner.add(part, Moment(begin, begin), b"\n".join(part))
    done += joiner.flush()
    assert joiner.held_since is None
    return done


def joined(lines: list[bytes], step: int, *, indent: bool = False, bytes_max: int = 1 << 20) -> list[bytes]:
    done = feed(lines, step, Join.INDENT if indent else Join.AUTO, bytes_max)
    return [message for one in done for message in one.messages]


def assert_one(text: bytes, join: Join = Join.AUTO) -> None:
    """*text* is one message with the level error, among other lines, however its lines arrive."""
    block = text.split(b"\n")
    lines = [b"before", *block, b"after", b"", b"last"]
    expected = [(b"before", None), (text, "error"), (b"after", None), (b"", None), (b"last", None)]
    for step in (1, 2, 3, len(lines)):
        done = feed(lines, step, join)
        assert [(message, one.level) for one in done for message in one.messages] == expected, step
        around = [b"line %d" % number for number in range(1000)]
        found = [message for one in feed([*around, *block, *around], 5000, join) for message in one.messages]
        assert found == [*around, text, *around], "in a large block"
        began = next(one.moment.number for one in done if text in one.messages)
        assert began == (1 // step) * step, "its moment is that of its first line"


@pytest.mark.parametrize("join", [Join.AUTO, Join.TRACEBACK])
@pytest.mark.parametrize("name", [*SCRIPTS, *WITHOUT_HEAD])
def test_a_traceback_of_python_is_one_message(name: str, join: Join, tmp_path: Path) -> None:
    """A traceback of this interpreter becomes one message among others, however its lines arrive."""
    program = tmp_path / "program.py"
    program.write_text(SCRIPTS.get(name) or WITHOUT_HEAD[name])
    run = subprocess.run([sys.executable, str(program)], capture_output=True, check=False)
    traceback = run.stderr.strip(b"\n")
    assert (HEAD in traceback) == (name in SCRIPTS), traceback
    assert_one(traceback, join)


def lines_of(*lines: str) -> bytes:
    return "\n".join(lines).encode()


FRAMES = (HEAD.decode(), '  File "x.py", line 1, in <module>', "    f()")
RECORDED = {
    "pydantic": lines_of(
        *FRAMES, "pydantic_core._pydantic_core.ValidationError: 2 validation errors for Model", "a",
        "  Input should be a valid integer [type=int_parsing, input_value='x', input_type=str]",
        "    For further information visit https://errors.pydantic.dev/2.9/v/int_parsing", "b.0.c",
        "  Field required [type=missing, input_value={}, input_type=dict]",
        "    For further information visit https://errors.pydantic.dev/2.9/v/missing",
    ),
    "jsonschema": lines_of(
        *FRAMES, "jsonschema.exceptions.ValidationError: 'x' is not of type 'integer'", "",
        "Failed validating 'type' in schema['properties']['a']:", "    {'type': 'integer'}", "",
        "On instance['a']:", "    'x'",
    ),
    "sqlite": lines_of(
        *FRAMES, "sqlite3.IntegrityError: UNIQUE constraint failed: t.a", "",
        "The above exception was the direct cause of the following exception:", "", *FRAMES,
        "sqlalchemy.exc.IntegrityError: (sqlite3.IntegrityError) UNIQUE constraint failed: t.a",
        "[SQL: INSERT INTO t (a) VALUES (?)]", "[parameters: (1,)]",
        "(Background on this error at: https://sqlalche.me/e/20/gkpj)",
    ),
    "postgres": lines_of(
        *FRAMES, 'sqlalchemy.exc.ProgrammingError: (psycopg2.errors.UndefinedTable) relation "x" does not exist',
        "LINE 1: select * from x", "                      ^", "", "[SQL: ", "select *", "", "from x]",
        "[parameters: {}]", "(Background on this error at: https://sqlalche.me/e/20/f405)",
    ),
    "unique key": lines_of(
        *FRAMES, 'psycopg2.errors.UniqueViolation: duplicate key value violates unique constraint "t_pkey"',
        "DETAIL:  Key (a)=(1) already exists.",
    ),
    "logger's error line": lines_of("ERROR:root:Exception in a job", *FRAMES, "ValueError: 1"),
    "go": lines_of(
        "panic: boom", "", "goroutine 1 [running]:", "main.(*T).f(0x0, {0x1, 0x2})", "\t/tmp/x.go:5 +0x18",
        "main.main()", "\t/tmp/x.go:9 +0x1c", "exit status 2",
    ),
    "go, a nil pointer and two goroutines": lines_of(
        "panic: runtime error: invalid memory address or nil pointer dereference",
        "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x45d8c4]", "", "goroutine 6 [running]:",
        "main.main.func1()", "\t/tmp/x.go:7 +0x4", "created by main.main in goroutine 1", "\t/tmp/x.go:6 +0x25", "",
        "goroutine 1 [chan receive]:", "main.main()", "\t/tmp/x.go:9 +0x3c",
    ),
    "go's deadlock": lines_of(
        "fatal error: all goroutines are asleep - deadlock!", "", "goroutine 1 [chan receive]:", "main.main()",
        "\t/tmp/x.go:4 +0x25", "exit status 2",
    ),
    "go's server": lines_of(
        "2024/05/01 10:00:00 http: panic serving 127.0.0.1:5000: boom", "goroutine 18 [running]:",
        "net/http.(*conn).serve.func1()", "\t/usr/lib/go/src/net/http/server.go:1898 +0xbe",
        "panic({0x6a1da0?, 0x7c5e50?})", "\t/usr/lib/go/src/runtime/panic.go:770 +0x132",
    ),
    "rust, old": lines_of(
        "thread 'main' panicked at 'boom', src/main.rs:2:5",
        "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
    ),
    "anyhow": lines_of(
        "Error: cannot read the settings", "", "Caused by:", "    0: cannot open x.toml",
        "    1: No such file or directory (os error 2)",
    ),
    "java": lines_of(
        'Exception in thread "main" java.lang.RuntimeException: out', "\tat A.main(A.java:1)",
        "\tSuppressed: java.io.IOException: close", "\t\tat A.close(A.java:2)",
        "Caused by: java.lang.IllegalStateException: in", "\t... 8 more",
    ),
    "java, a text of several lines": lines_of(
        "com.mysql.cj.jdbc.exceptions.CommunicationsException: Communications link failure", "",
        "The last packet sent successfully to the server was 0 milliseconds ago.", "\tat A.main(A.java:1)",
    ),
    "a java logger's line": lines_of(
        "10:00:00.123 [main] ERROR shop.Cart - java.lang.IllegalStateException: empty",
        "\tat shop.Cart.pay(Cart.java:7)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDED)
def test_a_recorded_stack_is_one_message(name: str) -> None:
    """Errors of libraries with many lines, and the stacks of Go, Rust and Java, are one message each."""
    assert_one(RECORDED[name])


JS = {
    "thrown": "throw new Error('boom')",
    "rejected": "Promise.reject(new TypeError('x'))",
    "rejected with a number": "Promise.reject(5)",
    "with a cause": "console.error(new Error('a', {cause: new Error('b')}))",
    "with fields": "console.error(Object.assign(new Error('a'), {code: 'E', list: [1]}))",
    "of two lines": "console.error(new Error('a\\nb'))",
    "a text is thrown": "throw 'x'",
}


@pytest.mark.skipif(shutil.which("node") is None, reason="no Node.js here")
@pytest.mark.parametrize("name", JS)
def test_a_stack_of_node_is_one_message(name: str, tmp_path: Path) -> None:
    """Uncaught and printed errors of the Node.js of this machine are one message each."""
    program = tmp_path / "program.js"
    program.write_text(JS[name])
    run = subprocess.run(["node", str(program)], capture_output=True, check=False)
    assert_one(run.stderr.strip(b"\n"))


RUST = 'fn main() { let v: Vec<i32> = Vec::new(); assert_eq!(v.len(), 1, "cmp"); }'


@pytest.mark.skipif(shutil.which("rustc") is None, reason="no Rust here")
def test_a_panic_of_rust_is_one_message(tmp_path: Path) -> None:
    """A failed assertion of the Rust of this machine, with and without a backtrace, is one message."""
    program = tmp_path / "program.rs"
    program.write_text(RUST)
    subprocess.run(["rustc", "-o", str(tmp_path / "program"), str(program)], check=True, capture_output=True)
    for backtrace in "01":
        run = subprocess.run(
            [str(tmp_path / "program")], capture_output=True, check=False, env={"RUST_BACKTRACE": backtrace}
        )
        assert_one(run.stderr.strip(b"\n"))


def test_what_only_resembles_a_stack_is_lines() -> None:
    """Lines that begin like a stack, without its continuation, are messages of their own and have no level."""
    lines = [
        b"Error: one", b"Error: two", b"and more", b"x.js:1", b"source", b"  indented", b"Process a-1:", b"b",
        b'  File "x", line 1', b"c", b"an Exception", b"", b"", b"", b"f(x)", b"Exception in thread a", b"d",
    ]  # fmt: skip
    for step in (1, 2, len(lines)):
        done = feed(lines, step)
        assert [message for one in done for message in one.messages] == lines
        assert {one.level for one in done} == {None}


def test_an_error_before_a_stack_is_its_own() -> None:
    """Of two lines with errors only the second belongs to the stack."""
    assert joined([b"Error: a", b"Error: b", b"    at x (y.js:1:2)"], 1) == [
        b"Error: a",
        b"Error: b\n    at x (y.js:1:2)",
    ]


def test_modes_differ() -> None:
    """`traceback` leaves the stacks of other languages alone, `none` everything."""
    lines = [b"Error: b", b"    at x (y.js:1:2)", HEAD, b"  File", b"E: 1"]
    stack, traceback = b"\n".join(lines[:2]), b"\n".join(lines[2:])
    for join, expected in [
        (Join.AUTO, [stack, traceback]),
        (Join.TRACEBACK, [*lines[:2], traceback]),
        (Join.INDENT, [stack, traceback]),
        (Join.NONE, lines),
    ]:
        assert [message for one in feed(lines, 5, join) for message in one.messages] == expected


def test_what_lacks_its_end_is_incomplete() -> None:
    """A traceback is incomplete up to its exception, a panic of Rust from `stack backtrace:` to its note."""
    for lines, expected in [
        ([HEAD, b"  File", b"E: 1", b"  more"], [True, True, False, False]),
        ([b"x.RemoteTraceback: ", b'"""', b"a", b'"""'], [False, True, True, False]),
        (
            [b"thread 'main' panicked at x.rs:1:2:", b"text", b"stack backtrace:", b"   0: f", b"note: Some"],
            [True, False, True, True, False],
        ),
        ([b"Error: a", b"    at b"], [False, False]),
    ]:
        joiner = Joiner(Join.AUTO, bytes_max=1 << 20)
        found = []
        for line in lines:
            assert joiner.add([line], Moment(1, 1), line) == []
            found.append(joiner.is_incomplete)
        assert found == expected
        joiner.flush()
        assert not joiner.is_incomplete


def test_tentative_lines_are_bounded() -> None:
    """Any number of lines that each may begin a message costs their number, and all come out."""
    for line in (b'  File "x", line 1', b"Error"):
        lines = [line] * 5000
        joiner = Joiner(Join.AUTO, bytes_max=1 << 20)
        done: list[bytes] = []
        for one in lines:
            done += [message for part in joiner.add([one], Moment(1, 1), one) for message in part.messages]
            assert len(joiner._held) <= TENTATIVE_MAX
        done += [message for part in joiner.flush() for message in part.messages]
        assert done == lines


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


def test_what_is_held() -> None:
    """The last lines are held until they are complete; a level in front of a line is that of the message."""
    joiner = Joiner(Join.AUTO, bytes_max=1 << 20)
    lines = [b"<3>the disk is full", HEAD, b'  File "x", line 1']
    (done,) = joiner.add(lines, Moment(1, 1), b"\n".join(lines))
    assert (done.messages, done.level, joiner.held_lines) == ([b"the disk is full"], "error", 2)
    (rest,) = joiner.flush()
    assert (rest.messages, joiner.held_lines) == ([b"\n".join(lines[1:])], 0)
