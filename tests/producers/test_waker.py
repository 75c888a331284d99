"""Waker: a thread that polls is woken once for any number of wake-ups."""

from __future__ import annotations

import os
import select

import pytest

from producers.waker import Waker

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def is_awake(waker: Waker) -> bool:
    return bool(select.select([waker.fd], [], [], 0)[0])


def test_woken() -> None:
    """It is readable from a wake-up until it is cleared; clearing it twice does not block."""
    waker = Waker()
    waker.wake()  # closed: without effect
    waker.open()
    assert not is_awake(waker)
    waker.wake()
    assert is_awake(waker)
    waker.clear()
    waker.clear()
    assert not is_awake(waker)
    waker.close()


def test_a_full_pipe_does_not_block() -> None:
    """More wake-ups than a pipe holds are no error: the thread is woken anyway."""
    waker = Waker()
    waker.open()
    for _ in range(10_000):
        waker.wake()
    assert is_awake(waker)
    waker.close()


def test_closed_once() -> None:
    """After it is closed, neither a wake-up nor another close touches a file that has got its number."""
    waker = Waker()
    waker.open()
    number = waker.fd
    waker.close()
    files = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    assert number in files
    waker.wake()
    waker.close()
    for file in files:
        os.close(file)  # raises if it was closed
    assert waker.fd == -1


def test_opened_again() -> None:
    """If it is opened while it is open, as after an interrupted start, the first pipe is closed."""
    waker = Waker()
    waker.open()
    fds = waker.fd, waker._write_fd
    with open(os.devnull, "rb") as file:  # holds a number, so that the second pipe cannot have both
        waker.open()
        assert is_awake(waker) is False
        before = [fd for fd in fds if fd not in (waker.fd, waker._write_fd, file.fileno())]
        assert not any(os.path.exists(f"/proc/self/fd/{fd}") for fd in before)
    waker.close()


def test_closed_by_the_program() -> None:
    """If the program closes the pipe and reuses its numbers, a waiting thread wakes, and the files are left alone."""
    waker = Waker()
    waker.open()
    assert waker.is_open
    fds = waker.fd, waker._write_fd
    with open(os.devnull, "rb") as kept, os.fdopen(os.dup(waker.fd), "rb", closefd=True) as waiting:
        assert not select.select([waiting], [], [], 0)[0]
        for fd in fds:
            os.dup2(kept.fileno(), fd)
        assert select.select([waiting], [], [], 0)[0]
    assert not waker.is_open
    waker.wake()
    waker.clear()
    waker.close()
    for fd in fds:
        os.close(fd)  # raises if it was closed
