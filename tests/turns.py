"""
Whose turn it is among the workers of one run: some tests, or parts of tests, run while no other test does.

Always true: while one waits to be alone, no other test begins; a process without other workers never waits.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from io import TextIOWrapper
from pathlib import Path

_turns: list[Turn] = []
"""That of the test that runs in this process, if it has other workers."""


class Turn:
    """The turn of one test. Two files in a folder of all workers have the locks."""

    def __init__(self, gate: TextIOWrapper, run: TextIOWrapper) -> None:
        self._gate = gate  # held while a test begins, and by one that is alone or waits for it
        self._run = run  # shared by all that run

    def begin(self, *, alone: bool) -> None:
        """Wait until the test may run. One that runs beside others already lets others be alone before it is."""
        fcntl.flock(self._run, fcntl.LOCK_UN)
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        fcntl.flock(self._run, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        if not alone:
            fcntl.flock(self._gate, fcntl.LOCK_UN)

    def end(self) -> None:
        """Let others run."""
        fcntl.flock(self._run, fcntl.LOCK_UN)  # not only closed: a process that the test has forked may have it open
        fcntl.flock(self._gate, fcntl.LOCK_UN)


@contextlib.contextmanager
def turn(folder: Path, *, alone: bool) -> Iterator[None]:
    """Run a test when it is its turn."""
    with (folder / "gate.lock").open("w") as gate, (folder / "run.lock").open("w") as run:
        mine = Turn(gate, run)
        mine.begin(alone=alone)
        _turns.append(mine)
        try:
            yield
        finally:
            _turns.remove(mine)
            mine.end()


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Run a part of a test while no other test runs. Its limit of time has to allow for the wait."""
    if not _turns:
        yield
        return
    mine = _turns[-1]
    mine.begin(alone=True)
    try:
        yield
    finally:
        mine.end()
        mine.begin(alone=False)
