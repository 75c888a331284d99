"""
Does a test fail if one token of the code is wrong? `make mutants` changes one at a time, runs the tests that mirror the
file, and prints each change that no test noticed: a survivor. Some survivors are equivalent to the code; each of the
others is a missing test.

    make mutants                                        about ten minutes of random mutants
    make mutants ARGS="--seed 7 --minutes 60"           others, for longer
    make mutants ARGS="--number 50 hub/journal/direct.py"
    make mutants ARGS="--wide hub/journal/segment.py"   survivors are tried with all tests of the folder too

Each process works on a copy of the project in a temporary folder; the checkout is not changed. Tests that fail without
a change are reported, and their files left out.

Why not mutmut or cosmic-ray: mutmut has no mutants outside functions and runs tests in forks of one process, which our
tests of forks, threads and exits do not survive; cosmic-ray runs one command for all files, and the whole suite takes
minutes. Here the mirrored tree names the few tests of a file, so a mutant takes seconds.
"""

from __future__ import annotations

import argparse
import ast
import itertools
import os
import queue
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.test_mirror import ROOT, UNMIRRORED

PATHS = ("hub/wire", "hub/journal", "producers")
COPIED = ("hub", "producers", "tests", "docs", "pyproject.toml", "README.md")
PYTEST = ("-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:randomly")
SLOWER = 3
"""A mutant whose tests take this many times as long, and `PATIENCE_S` more, hangs: the tests noticed it."""
PATIENCE_S = 20
_LARGE = 64
"""From here on a constant is doubled: one more makes no difference to a size or a duration."""

_SWAPS: dict[type, str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in", ast.And: "or", ast.Or: "and",
    ast.Add: "-", ast.Sub: "+", ast.Mult: "//", ast.FloorDiv: "*", ast.Mod: "+", ast.LShift: ">>", ast.RShift: "<<",
    ast.BitAnd: "|", ast.BitOr: "&", ast.BitXor: "|",
}  # fmt: skip


class Mutant(NamedTuple):
    """One change: the bytes from *start* to *end* of the file become *text*."""

    path: str
    line: int
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]

    def describe(self, source: bytes) -> str:
        was = " ".join(source[self.start : self.end].decode().split())
        return f"{self.path}:{self.line}: {was[:90]}  ->  {self.text or 'nothing'}"


# Mutants.


def mutants_of(path: str, source: bytes) -> list[Mutant]:
    """Return every mutant of a file, in order. All of them can be compiled."""
    finder = _Finder(path, source)
    finder.visit(ast.parse(source))
    return sorted(set(finder.found), key=lambda mutant: (mutant.start, mutant.end, mutant.text))


class _Finder(ast.NodeVisitor):
    """Annotations, docstrings, assertions and what only a type checker runs are left alone."""

    def __init__(self, path: str, source: bytes) -> None:
        self._path = path
        self._source = source
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self.found: list[Mutant] = []

    def _at(self, line: int, column: int) -> int:
        return self._starts[line - 1] + column

    def _start(self, node: ast.expr | ast.stmt) -> int:
        return self._at(node.lineno, node.col_offset)

    def _end(self, node: ast.expr | ast.stmt) -> int:
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return self._at(node.end_lineno, node.end_col_offset)

    def _add(self, start: int, end: int, text: str) -> None:
        mutant = Mutant(self._path, self._source.count(b"\n", 0, start) + 1, start, end, text)
        try:
            compile(mutant.apply(self._source), self._path, "exec")
        except (SyntaxError, ValueError):
            return
        self.found.append(mutant)

    def _swap(self, operator: ast.AST, left: ast.expr, right: ast.expr) -> None:
        """Change the operator between two operands. Parentheses may stand around it."""
        start, end = self._end(left), self._start(right)
        between = self._source[start:end]
        text = _SWAPS.get(type(operator))
        was = between.strip(b"() \n\t\\")
        if text is not None and was in _TOKENS[type(operator)]:
            at = start + between.index(was)
            self._add(at, at + len(was), text)

    def visit_Compare(self, node: ast.Compare) -> None:
        for operator, left, right in zip(node.ops, [node.left, *node.comparators], node.comparators, strict=False):
            self._swap(operator, left, right)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._swap(node.op, left, right)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        self._swap(node.op, node.left, node.right)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add(self._start(node), self._start(node.operand), "")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if node.value is True or node.value is False:
            self._add(self._start(node), self._end(node), str(not node.value))
        elif type(node.value) is int:
            other = node.value + 1 if node.value < _LARGE else node.value * 2
            self._add(self._start(node), self._end(node), str(other))

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):  # a docstring, or the body of a protocol's method
            return
        self._delete(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        for target, following in itertools.pairwise([*node.targets, node.value]):
            if len(node.targets) > 1:
                self._add(self._start(target), self._start(following), "")
        if all(isinstance(target, (ast.Attribute, ast.Subscript)) for target in node.targets):
            self._delete(node)
        else:
            self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._delete(node)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._delete(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(self._start(node), self._end(node), "break")

    def visit_Break(self, node: ast.Break) -> None:
        self._add(self._start(node), self._end(node), "continue")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_Assert(self, node: ast.Assert) -> None:
        """An assertion is for our mistakes; no test makes them."""

    def visit_arguments(self, node: ast.arguments) -> None:
        for default in (*node.defaults, *node.kw_defaults):
            if default is not None:
                self.visit(default)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.visit(node.args)
        for statement in node.body:
            self.visit(statement)

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815  the names of ast.NodeVisitor

    def _delete(self, node: ast.stmt) -> None:
        """Leave a statement out, and also change what is in it."""
        self._add(self._start(node), self._end(node), "pass")
        self.generic_visit(node)


_TOKENS: dict[type, tuple[bytes, ...]] = {
    ast.Lt: (b"<",), ast.LtE: (b"<=",), ast.Gt: (b">",), ast.GtE: (b">=",), ast.Eq: (b"==",), ast.NotEq: (b"!=",),
    ast.Is: (b"is",), ast.IsNot: (b"is not",), ast.In: (b"in",), ast.NotIn: (b"not in",),
    ast.And: (b"and",), ast.Or: (b"or",), ast.Add: (b"+",), ast.Sub: (b"-",), ast.Mult: (b"*",),
    ast.FloorDiv: (b"//",), ast.Mod: (b"%",), ast.LShift: (b"<<",), ast.RShift: (b">>",),
    ast.BitAnd: (b"&",), ast.BitOr: (b"|",), ast.BitXor: (b"^",),
}  # fmt: skip


# Tests.


def tests_of(path: str) -> list[str]:
    """Return the tests of a module: those of its name, and the one that a row of UNMIRRORED names."""
    module = path.removesuffix(".py")
    folder, _, name = module.rpartition("/")
    found = [ROOT / "tests" / folder / f"test_{name}.py", *(ROOT / "tests" / folder).glob(f"test_{name}_*.py")]
    rows = (UNMIRRORED.get(module), UNMIRRORED.get(f"{folder}/*"))
    tests = [str(test.relative_to(ROOT)) for test in found if test.exists()] or [row for row in rows if row][:1]
    return sorted(tests)


def modules_in(paths: Sequence[str]) -> Iterator[str]:
    """Yield the modules in these files and folders."""
    for path in paths:
        files = [ROOT / path] if path.endswith(".py") else sorted((ROOT / path).rglob("*.py"))
        for file in files:
            name = str(file.relative_to(ROOT))
            if not file.name.startswith("__") and "/examples/" not in name:
                yield name


class Copy:
    """A copy of the project, for one thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, folder / name)
        (folder / "tmp").mkdir()
        # A run of its own: as a worker of another one, it would import tests that it does not run.
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")}
        self._env = {**ours, "PYTHONPATH": str(folder), "PYTHONSAFEPATH": ""}

    def passes(self, tests: Sequence[str], timeout_s: float, *, keeps_compiled: bool = True) -> bool:
        """Return whether the tests pass, within the time. What is compiled is kept for later runs, or not."""
        command = [sys.executable, *PYTEST, f"--basetemp={self.folder}/tmp/run", *tests]
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self._env, "PYTHONDONTWRITEBYTECODE": "" if keeps_compiled else "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return process.wait(timeout_s) == 0
        except subprocess.TimeoutExpired:
            return False
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)  # with everything that the tests started
            except ProcessLookupError:
                pass
            process.wait()

    def survives(self, mutant: Mutant, tests: Sequence[str], timeout_s: float) -> bool:
        """Return whether the tests pass with the mutant."""
        file = self.folder / mutant.path
        source, found = file.read_bytes(), file.stat()
        file.write_bytes(mutant.apply(source))
        os.utime(file, (0, 0))  # no other time of this file: what is compiled of the source is not taken for it
        try:
            return self.passes(tests, timeout_s, keeps_compiled=False)
        finally:
            file.write_bytes(source)
            os.utime(file, ns=(found.st_atime_ns, found.st_mtime_ns))


# The run.


class Run:
    """Many mutants, on several threads, until the time or the number is used up."""

    def __init__(self, mutants: Sequence[Mutant], *, ends_at: float, wide: bool, say: Callable[[str], None]) -> None:
        self._work: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
        for mutant in mutants:
            self._work.put(mutant)
        self._ends_at = ends_at
        self._wide = wide
        self._say = say
        self._lock = threading.Lock()
        self._times: dict[tuple[str, ...], float | None] = {}  # of tests without a change; None: they fail
        self.survivors: list[Mutant] = []
        self.killed = 0

    def work(self, copy: Copy) -> None:
        """Take mutants until there are none, or no time."""
        while time.monotonic() < self._ends_at:
            try:
                mutant = self._work.get_nowait()
            except queue.Empty:
                return
            survives = self._survives(copy, mutant, tuple(tests_of(mutant.path)))
            if survives and self._wide:
                survives = self._survives(copy, mutant, (f"tests/{mutant.path.rpartition('/')[0]}",))
            with self._lock:
                if survives:
                    self.survivors.append(mutant)
                    self._say(mutant.describe((copy.folder / mutant.path).read_bytes()))
                elif survives is not None:
                    self.killed += 1

    def _survives(self, copy: Copy, mutant: Mutant, tests: tuple[str, ...]) -> bool | None:
        """Return None if the tests fail without the mutant too, or if there are none."""
        usual_s = self._time_of(copy, tests)
        return None if usual_s is None else copy.survives(mutant, tests, SLOWER * usual_s + PATIENCE_S)

    def _time_of(self, copy: Copy, tests: tuple[str, ...]) -> float | None:
        """Return the seconds that the tests take without a change. Two threads may both measure."""
        if tests not in self._times:
            begun = time.monotonic()
            passed = bool(tests) and copy.passes(tests, 600)
            if not passed and tests not in self._times:
                self._say(f"left out, because they fail without a change: {' '.join(tests) or 'no tests'}")
            self._times[tests] = time.monotonic() - begun if passed else None
        return self._times[tests]


def run(paths: Sequence[str], *, seed: int, minutes: float, number: int | None, jobs: int, wide: bool) -> Run:
    """Try a random sample of the mutants of *paths*, and print the survivors."""
    mutants = [mutant for path in modules_in(paths) for mutant in mutants_of(path, (ROOT / path).read_bytes())]
    random.Random(seed).shuffle(mutants)
    total = len(mutants)
    state = Run(
        mutants[:number],
        ends_at=time.monotonic() + 60 * minutes,
        wide=wide,
        say=lambda text: print(text, flush=True),
    )
    with tempfile.TemporaryDirectory(prefix="mpsr-mutants-") as folder:
        copies = [Copy(Path(folder) / str(job)) for job in range(jobs)]
        threads = [threading.Thread(target=state.work, args=(copy,)) for copy in copies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    tried = state.killed + len(state.survivors)
    print(
        f"{state.killed} of {tried} mutants were noticed, {len(state.survivors)} survived; seed {seed}, {total} in all"
    )
    return state


def main() -> None:
    parser = argparse.ArgumentParser(prog="make mutants", description="Change one token at a time and run its tests.")
    parser.add_argument("paths", nargs="*", default=PATHS, help="files and folders (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 100_000, help="of the sample (default: the time)")
    parser.add_argument("--minutes", type=float, default=10, help="begin no mutant after this time (%(default)s)")
    parser.add_argument("--number", type=int, help="try at most this many")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="at a time (%(default)s)")
    parser.add_argument("--wide", action="store_true", help="try survivors with all tests of their folder too")
    options = parser.parse_args()
    run(
        options.paths,
        seed=options.seed,
        minutes=options.minutes,
        number=options.number,
        jobs=options.jobs,
        wide=options.wide,
    )


if __name__ == "__main__":
    main()
