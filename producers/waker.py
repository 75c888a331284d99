"""
Wakes a thread that waits in `poll`: an eventfd, or a pipe where there is none.

Always true: `wake` needs no lock and never blocks; each descriptor is closed once, because its number may then belong
to another file.
"""

from __future__ import annotations

import contextlib
import os
import sys

_ONE = (1).to_bytes(8, sys.byteorder)


class Waker:
    """Closed until `open` is called."""

    def __init__(self) -> None:
        self.fd = -1
        """Readable after `wake`, until `clear`; -1 while closed."""
        self._write_fd = -1

    def open(self) -> None:
        """Create the descriptors. Raises OSError."""
        if hasattr(os, "eventfd"):
            self.fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.fd, self._write_fd = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write_fd, False)

    def wake(self) -> None:
        """Wake the thread; without effect while closed."""
        if self._write_fd != -1:
            with contextlib.suppress(OSError):
                os.write(self._write_fd, _ONE)

    def clear(self) -> None:
        """Note that the thread is awake."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.fd, 8)

    def close(self) -> None:
        fds = {self.fd, self._write_fd} - {-1}
        self.fd = self._write_fd = -1
        for fd in fds:
            os.close(fd)
