"""Descriptor: a number that belongs to another file now is neither ours nor closed."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from hub import descriptor

MAKE: dict[str, Callable[[], int]] = {
    "pipe": lambda: os.pipe()[0],
    "socket": lambda: socket.socket(socket.AF_UNIX).detach(),
    "file": lambda: os.open(os.devnull, os.O_RDONLY),
}


@pytest.mark.parametrize("make", ["pipe", "socket"])
def test_another_of_its_kind(make: str) -> None:
    """A second pipe or socket under the same number is another file, and stays open."""
    first, second = MAKE[make](), MAKE[make]()
    known = descriptor.identity(first)
    assert descriptor.is_same(first, known)
    os.dup2(second, first)
    assert not descriptor.is_same(first, known)
    descriptor.close(first, known)
    os.fstat(first)  # raises if it was closed
    os.close(first)
    os.close(second)


@pytest.mark.parametrize("make", MAKE)
def test_closed(make: str) -> None:
    """Ours is closed; after that, and before it is opened, the number is not ours, and closing it does nothing."""
    fd = MAKE[make]()
    known = descriptor.identity(fd)
    descriptor.close(fd, known)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert not descriptor.is_same(fd, known)
    descriptor.close(fd, known)
    assert not descriptor.is_same(-1, None)
    descriptor.close(-1, None)


def test_the_same_file_again(tmp_path: Path) -> None:
    """A file is the same under each of its descriptors."""
    path = tmp_path / "file"
    path.touch()
    with path.open() as one, path.open() as two:
        assert descriptor.is_same(one.fileno(), descriptor.identity(two.fileno()))
