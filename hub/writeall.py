"""
Writes all bytes to a descriptor, whatever it is.

It may be a pipe that is nearly full, or one that another program has made non-blocking.

`sys.stdout` does not serve: with PYTHONUNBUFFERED, the rest of a partial `write` is lost (in a process that was stopped
and goes on, or at a full non-blocking pipe). And its lock stays held while the pipe is not read.

Source: write(2), "partial write"; signal(7), "Interruption of system calls" (SIGCONT).
"""

from __future__ import annotations

import os
import select


def write_all(fd: int, data: bytes) -> None:
    """Write *data*, and return when all of it is written. Raises OSError, but not BlockingIOError: then it waits."""
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
