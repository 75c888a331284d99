"""
Descriptors that clients pass with a datagram. journald's clients pass one: a memfd, sealed, with a large message in it.

Always true:
- a descriptor that is not a sealed memfd is neither read nor closed on the event loop: closing a file of another user's
  file system, or a socket that lingers, may take as long as its owner wants. A thread closes it;
- if that thread stands still, no more descriptors are taken, where the kernel can refuse them (Linux 6.16).

Not here: what is in a memfd (hub.wire.journald).
Source: unix(7), SCM_RIGHTS; memfd_create(2); fcntl(2), F_GET_SEALS: only files in memory have seals.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import io
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence

from hub.socketfile import refuse_descriptors

DESCRIPTORS_MAX = 253
"""SCM_MAX_FD: what one datagram can carry. With less room, the kernel closes the others on this thread."""
STUCK_MAX = 64
"""While the thread is stuck and this number of descriptors wait for it, no more are taken."""
STUCK_S = 5.0
"""
The thread is stuck if one close takes longer than this. It is long, because a sender takes a refusal for an error of
its own.
"""
_SEALED = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE


class Passed:
    """Sorts the descriptors that are passed to *sock*."""

    def __init__(self, sock: socket.socket, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._sock = sock
        self._foreign: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._closer: threading.Thread | None = None
        self._clock = clock
        self._closing_at = 0.0  # since when one is being closed; 0: none is
        self.refuses = False
        """Whether the kernel was asked to refuse descriptors."""

    def take(self, packed: bytes) -> tuple[io.FileIO | None, int]:
        """Return the memfd, if exactly one was passed and it is sealed, and the number of all descriptors."""
        fds = array.array("i")
        fds.frombytes(packed[: len(packed) - len(packed) % fds.itemsize])
        if len(fds) == 1 and is_sealed(fds[0]):
            return io.FileIO(fds[0]), 1
        self._close(fds)
        return None, len(fds)

    def _close(self, fds: Sequence[int]) -> None:
        for fd in fds:
            self._foreign.put(fd)
        if fds and self._closer is None:
            self._closer = threading.Thread(target=self._close_all, name="mpsr-close", daemon=True)
            self._closer.start()
        is_stuck = self._closing_at and self._clock() > self._closing_at + STUCK_S
        if is_stuck and self._foreign.qsize() > STUCK_MAX and not self.refuses:
            self.refuses = refuse_descriptors(self._sock)

    def _close_all(self) -> None:
        while (fd := self._foreign.get()) >= 0:
            self._closing_at = self._clock()
            with contextlib.suppress(OSError):  # an error of writing back, for example: it is closed all the same
                os.close(fd)
            self._closing_at = 0.0

    def close(self) -> None:
        """End the thread, when it has closed everything."""
        self._foreign.put(-1)


def is_sealed(fd: int) -> bool:
    """Return whether *fd* is a memfd whose content cannot change. It does not ask a file system."""
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALED == _SEALED
    except OSError:
        return False
