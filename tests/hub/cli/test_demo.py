"""`mpsr demo` as a user runs it."""

from __future__ import annotations

import pytest

from tests.support import mpsr

pytestmark = pytest.mark.timeout(100, method="signal")  # one that hangs fails, and the run goes on


def test_demo_prints_the_lines_of_the_tokio_example() -> None:
    """`mpsr demo` prints exactly those lines, with messages in any order, and exits with 0."""
    done = mpsr("demo")
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, done.stderr) == (0, b"")
    assert lines[0] == "[Server] Listening..."
    expected = [f"[Producer {n}] Sent." for n in range(5)]
    expected += [f"[Server] Got: Message from producer {n}" for n in range(5)]
    assert sorted(lines[1:]) == sorted(expected)
