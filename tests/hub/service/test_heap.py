"""hub.service.heap: freed memory is kept up to a limit, where the C library can do that."""

from __future__ import annotations

import platform
import resource
import subprocess
import sys

import pytest

from hub.service.heap import KEPT_BYTES, LARGE_BYTES, keep_freed_memory

IS_GLIBC = platform.libc_ver()[0] == "glibc"
COMMIT = """
import resource, sys
from hub.service.heap import keep_freed_memory
if sys.argv[1:] == ["kept"]:
    assert keep_freed_memory()
def commit():
    reads = [bytes(256 << 10) for _ in range(12)]
for _ in range(3):
    commit()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    commit()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_both_limits_are_set() -> None:
    """The two parameters of mallopt(3) that matter."""
    calls: list[tuple[int, int]] = []

    def mallopt(parameter: int, value: int) -> int:
        calls.append((parameter, value))
        return 1

    assert keep_freed_memory(mallopt)
    assert calls == [(-1, KEPT_BYTES), (-3, LARGE_BYTES)]


def test_a_library_that_cannot_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses, or has no such function: nothing is raised."""
    assert not keep_freed_memory(lambda parameter, value: 0)
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()


@pytest.mark.skipif(not IS_GLIBC, reason="the C library is not glibc")
def test_the_pages_of_a_commit_are_not_faulted_in_again() -> None:
    """Memory of the size of a commit that is freed and taken again costs page faults only without it."""

    def faults(*arguments: str) -> int:
        command = [sys.executable, "-c", COMMIT, *arguments]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    pages = 12 * (256 << 10) // resource.getpagesize()
    assert faults("kept") < pages  # of 20 commits
    assert faults() > 5 * pages
