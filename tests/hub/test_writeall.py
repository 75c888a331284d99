"""hub.writeall: every byte is written, to a pipe that does not block, and across stops of the process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading

import pytest

from hub.writeall import write_all
from tests.support import eventually

DATA = random.Random(1).randbytes(3 << 20)
STOPS = 30


def read_slowly(fd: int) -> bytes:
    pieces = []
    while piece := os.read(fd, 9999):
        pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("blocks", [True, False])
def test_a_full_pipe(blocks: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocks)
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(read_slowly(reading)))
    reader.start()
    write_all(writing, DATA)
    os.close(writing)
    reader.join(60)
    os.close(reading)
    assert got == [DATA]


def test_nobody_reads() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError):
        write_all(writing, b"x")
    os.close(writing)


@pytest.mark.parametrize("options", [[], ["-u"]])
def test_a_process_that_is_stopped_in_mid_write(options: list[str]) -> None:
    """A write to a pipe that SIGCONT interrupts is a partial one."""
    program = "import random; from hub.writeall import write_all; write_all(1, random.Random(1).randbytes(3 << 20))"
    with subprocess.Popen([sys.executable, *options, "-c", program], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        fd, got = writer.stdout.fileno(), bytearray()
        stat = f"/proc/{writer.pid}/stat"

        def state() -> str:
            with open(stat) as file:
                return file.read().rpartition(")")[2].split()[0]

        for _ in range(STOPS):
            got += os.read(fd, 70_000)
            eventually(lambda: state() in "SZ", "it waits for room")
            writer.send_signal(signal.SIGSTOP)
            eventually(lambda: state() in "TZ")
            got += os.read(fd, 30_000)
            writer.send_signal(signal.SIGCONT)
        got += read_slowly(fd)
    assert bytes(got) == DATA
