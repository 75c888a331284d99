"""A reader that is slow, stands still or is gone: what it is shown, and what the end waits for."""

from __future__ import annotations

import contextlib
import errno
import os
import pty
import threading
import tty
from collections.abc import Iterator

import pytest

from producers.spawn.console import HELD_BYTES_MAX, Console
from tests.support import PATIENCE_S, eventually

LINES = 20_005


@pytest.fixture(params=["pipe", "terminal"])
def ends(request: pytest.FixtureRequest) -> Iterator[tuple[int, int]]:
    """A read end and a non-blocking write end. Its number is free again when the threads that write have ended."""
    if request.param == "pipe":
        read_end, write_end = os.pipe()
    else:
        read_end, write_end = pty.openpty()
        tty.setraw(write_end)
    os.set_blocking(write_end, False)
    yield read_end, write_end
    os.close(read_end)
    for thread in threading.enumerate():
        if thread.name == "mpsr-console":
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
    os.close(write_end)


def test_a_slow_reader_is_shown_every_line(ends: tuple[int, int]) -> None:
    """A non-blocking descriptor is waited for, and the end waits while its reader goes on reading."""
    read_end, write_end = ends
    console = Console(write_end, ["w.1"], is_coloured=False)
    for begin in range(0, LINES, 5):
        assert console.show("w.1", [b"%d" % number for number in range(begin, begin + 5)], timeout=PATIENCE_S)
    with contextlib.suppress(BlockingIOError):  # until the descriptor is full; nothing is read yet
        while True:
            os.write(write_end, b"\0")
    found: list[bytes] = []

    def read() -> None:
        data = b""
        while data.count(b"\n") < LINES:
            data += os.read(read_end, 1000)
        found.extend(line.rpartition(b"| ")[2] for line in data.replace(b"\0", b"").splitlines())

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    console.close(PATIENCE_S)
    reader.join(PATIENCE_S)
    assert (console.hidden, found) == (0, [b"%d" % number for number in range(LINES)])


def test_progress_restores_the_time(ends: tuple[int, int]) -> None:
    """A `show` without room returns True when the reader goes on, and False when nothing was read for its timeout."""
    read_end, write_end = ends
    console = Console(write_end, ["w.1"], is_coloured=False)
    assert console.show("w.1", [b"x" * HELD_BYTES_MAX])
    assert not console.show("w.1", [b"late"], timeout=0.05)
    done: list[bool] = []
    waiting = threading.Thread(target=lambda: done.append(console.show("w.1", [b"late"], timeout=PATIENCE_S)))
    waiting.start()
    data = b""
    while not data.endswith(b"late\n"):
        data = data[-10:] + os.read(read_end, 1 << 16)
    waiting.join(PATIENCE_S)
    assert done == [True]
    console.close(PATIENCE_S)
    assert console.hidden == 0


def test_the_end_does_not_wait_for_a_reader_that_stands_still(ends: tuple[int, int]) -> None:
    """The lines that were not shown are counted."""
    _, write_end = ends
    console = Console(write_end, ["w.1"], is_coloured=False)
    for _ in range(3):
        assert console.show("w.1", [b"x" * 300_000, b"y"])
    console.close(0.05)
    assert console.hidden == 6


def test_the_wait_at_the_end_can_be_given_up(ends: tuple[int, int]) -> None:
    """`give_up` ends `close` at once."""
    _, write_end = ends
    console = Console(write_end, ["w.1"], is_coloured=False)
    assert console.show("w.1", [b"x" * 300_000])
    closing = threading.Thread(target=console.close, args=(10 * PATIENCE_S,))
    closing.start()
    console.give_up()
    closing.join(PATIENCE_S)
    assert not closing.is_alive()
    assert console.hidden == 1


def test_a_descriptor_that_is_full_after_all_is_tried_again(
    ends: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another writer was faster than a write, the write is repeated, and nothing is lost."""
    read_end, write_end = ends
    write, refusals = os.write, iter([True, True])

    def refuse_twice(fd: int, data: bytes) -> int:
        if fd == write_end and next(refusals, False):
            raise BlockingIOError
        return write(fd, data)

    monkeypatch.setattr(os, "write", refuse_twice)
    console = Console(write_end, ["w.1"], is_coloured=False)
    assert console.show("w.1", [b"line"])
    console.close(PATIENCE_S)
    assert os.read(read_end, 1000).endswith(b"| line\n")


def test_a_descriptor_that_fails_is_reported_once() -> None:
    """What is shown after a fault is discarded, and the end does not wait."""
    full = os.open("/dev/full", os.O_WRONLY)
    faults: list[int | None] = []
    console = Console(full, ["w.1"], is_coloured=False, on_fault=lambda error: faults.append(error.errno))
    for number in range(3):
        assert console.show("w.1", [b"%d" % number], timeout=PATIENCE_S)
        eventually(lambda: console._held_bytes == 0, "it is written, or discarded")
    console.close(PATIENCE_S)
    os.close(full)
    assert (faults, console.hidden) == ([errno.ENOSPC], 0)
