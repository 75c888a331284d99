"""
Writes all bytes to a descriptor, whatever it is: a pipe that is nearly full, or one that another program has made not
block.

`sys.stdout` does not serve: with PYTHONUNBUFFERED, what one `write` leaves over is lost (of a process that was stopped
and goes on, or of a full pipe that does not block). And its lock stays held while nobody reads.

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
