"""
Descriptors that the application may have closed: `os.closerange`, as daemons call it, closes those of libraries too.

The number may then belong to a file of the application. So a descriptor that is kept for long is kept with the identity
of its file, and is compared before it is used or closed.

Always true: a file that is not ours is neither written to nor closed here, unless another thread exchanges it between
the comparison and the use.
Source: close(2), fstat(2). Sockets, pipes and files have an inode of their own; eventfd, epoll and timerfd share one.
"""

from __future__ import annotations

import os

Identity = tuple[int, int]


def identity(fd: int) -> Identity:
    """Return the device and the inode of an open file. Raises OSError."""
    there = os.fstat(fd)
    return there.st_dev, there.st_ino


def is_same(fd: int, known: Identity | None) -> bool:
    """Return whether *fd* is open and is the file *known*."""
    try:
        return fd != -1 and identity(fd) == known
    except OSError:
        return False


def close(fd: int, known: Identity | None) -> None:
    """Close *fd* if it is the file *known*."""
    if is_same(fd, known):
        os.close(fd)
