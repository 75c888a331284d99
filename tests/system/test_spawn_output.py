"""What `mpsr spawn` shows and keeps of its children's output: readers, order, levels, progress bars, tracebacks."""

from __future__ import annotations

import os
import pty
import subprocess
import tty

import pytest

from tests.support import MPSR, PATIENCE_S, HubProcess, eventually

LINES = 20_005


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
def test_a_slow_reader_of_a_non_blocking_output_misses_nothing(hub: HubProcess, kind: str) -> None:
    """Reading begins when the children have ended; all lines are shown, and the exit code is 0."""
    read_end, write_end = os.pipe() if kind == "pipe" else pty.openpty()
    if kind == "terminal":
        tty.setraw(write_end)
    os.set_blocking(write_end, False)
    command = [*MPSR, "spawn", "--socket", hub.socket, "--tag", "w", "--", "seq", str(LINES)]
    environ = {**os.environ, "NO_COLOR": "1"}
    with subprocess.Popen(command, stdout=write_end, stderr=subprocess.PIPE, env=environ) as process:
        eventually(lambda: [one for one in hub.messages("w.1") if one.record.get("event") == "process.exited"])
        data = b""
        while b"w.1 ended" not in data:
            data += os.read(read_end, 1000)
        assert process.wait(PATIENCE_S) == 0
    numbers = [line.rpartition(b"| ")[2] for line in data.splitlines() if b" w.1 " in line and b"| " in line]
    assert [int(number) for number in numbers if number.isdigit()] == list(range(1, LINES + 1))
    os.close(read_end)
    os.close(write_end)
