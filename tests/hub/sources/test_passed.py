"""hub.sources.passed: a sealed memfd is read, and other descriptors are closed by a thread."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import threading
from collections.abc import Iterator

import pytest

from hub.sources import passed
from hub.sources.passed import Passed, is_sealed
from tests.hub.clients import is_open
from tests.support import eventually

ALL = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


def memfd(data: bytes = b"MESSAGE=x\n", seals: int = ALL) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.fixture
def sorting() -> Iterator[Passed]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sorting = Passed(sock)
        yield sorting
        sorting.close()
        if sorting._closer is not None:
            sorting._closer.join(30)


def packed(*fds: int) -> bytes:
    return array.array("i", fds).tobytes()


def test_a_sealed_memfd(sorting: Passed) -> None:
    """It is returned, and belongs to the caller; a torn number at the end is left out."""
    fd = memfd()
    file, count = sorting.take(packed(fd) + b"\1\2")
    assert file is not None
    with file:
        file.seek(0)
        assert (file.read(), count, file.fileno()) == (b"MESSAGE=x\n", 1, fd)


@pytest.mark.parametrize("kind", ["several", "unsealed", "half sealed", "pipe", "file"])
def test_others_are_closed(kind: str, sorting: Passed) -> None:
    """Anything but exactly one sealed memfd is closed, and counted."""
    fds = {
        "several": lambda: [memfd(), memfd()],
        "unsealed": lambda: [memfd(seals=0)],
        "half sealed": lambda: [memfd(seals=fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)],
        "pipe": lambda: [*os.pipe()],
        "file": lambda: [os.open("/dev/null", os.O_RDONLY)],
    }[kind]()
    assert sorting.take(packed(*fds)) == (None, len(fds))
    eventually(lambda: not any(is_open(fd) for fd in fds), "the thread")


def test_nothing_passed(sorting: Passed) -> None:
    """No descriptor needs no thread."""
    assert sorting.take(b"") == (None, 0)
    assert sorting._closer is None


def test_a_close_that_does_not_return(sorting: Passed, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller does not wait for it; when too many wait, the kernel is asked to refuse more."""
    going_on, closed, close = threading.Event(), threading.Event(), os.close

    def slow(fd: int) -> None:
        assert going_on.wait(60)
        close(fd)
        closed.set()

    monkeypatch.setattr("hub.sources.passed.os.close", slow)
    asked: list[object] = []

    def refuse(sock: object) -> bool:
        asked.append(sock)
        return True

    monkeypatch.setattr(passed, "refuse_descriptors", refuse)
    sorting._clock = lambda: 1000.0
    for _ in range(passed.STUCK_MAX + 3):
        sorting.take(packed(os.dup(0)))
    eventually(lambda: sorting._closing_at, "the thread")
    assert asked == [], "it has only begun"
    sorting._clock = lambda: 1000.0 + passed.STUCK_S + 1
    for _ in range(3):
        sorting.take(packed(os.dup(0)))
    assert len(asked) == 1
    assert sorting.refuses
    going_on.set()
    assert closed.wait(60)


def test_what_is_sealed() -> None:
    """A descriptor that is not open has no seals."""
    fd = memfd()
    assert is_sealed(fd)
    os.close(fd)
    assert not is_sealed(fd)
