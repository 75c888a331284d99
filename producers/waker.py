"""
Wakes a thread that waits in `poll`: a pipe.

Always true: `wake` needs no lock and never blocks; each descriptor is closed once, because its number may then belong
to another file. The same holds if the application has closed the pipe (hub.descriptor): then `is_open` is false, and a
thread that waits is woken, because the kernel reports a pipe without a writer. Not an eventfd: it does neither.
"""

from __future__ import annotations

import contextlib
import os
import posix  # eventlet replaces `os.read` and `os.write` by functions that switch to other greenlets

from hub import descriptor


class Waker:
    """Closed until `open` is called."""

    def __init__(self) -> None:
        self.fd = -1
        """Readable after `wake`, until `clear`; -1 while closed."""
        self._write_fd = -1
        self._identity: descriptor.Identity | None = None  # both ends have the same

    def open(self) -> None:
        """Create the pipe, in the place of one that is open. Raises OSError."""
        self.close()  # a signal handler that raised may have interrupted the opening
        fd, write_fd = os.pipe()
        os.set_blocking(fd, False)
        os.set_blocking(write_fd, False)
        self._identity = descriptor.identity(fd)
        self.fd, self._write_fd = fd, write_fd

    @property
    def is_open(self) -> bool:
        """Whether the pipe is open, both ends."""
        return descriptor.is_same(self.fd, self._identity) and descriptor.is_same(self._write_fd, self._identity)

    def wake(self) -> None:
        """Wake the thread; without effect while closed."""
        fd = self._write_fd
        if descriptor.is_same(fd, self._identity):
            with contextlib.suppress(OSError):
                posix.write(fd, b"\0")

    def clear(self) -> None:
        """Note that the thread is awake."""
        if descriptor.is_same(self.fd, self._identity):
            with contextlib.suppress(BlockingIOError):
                posix.read(self.fd, 65536)

    def close(self) -> None:
        fds = self.fd, self._write_fd
        self.fd = self._write_fd = -1
        for fd in fds:
            descriptor.close(fd, self._identity)
