"""
Wakes a thread that waits for descriptors, for a time, or for both.

Always true: a wake before the wait ends the wait; any thread may call `wake`, also after `close`.

Not here: why it was woken, which the thread looks up by itself.
"""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Sequence


class Waker:
    """One thread waits; others wake it."""

    def __init__(self) -> None:
        self._heard, self._sent = socket.socketpair()
        self._heard.setblocking(False)
        self._sent.setblocking(False)

    def wake(self) -> None:
        """End the present `wait`, or the next one."""
        with contextlib.suppress(OSError):  # full: it is woken already; closed: no thread waits
            self._sent.send(b"\0")

    def wait(
        self, timeout: float | None = None, *, readable: Sequence[int] = (), writable: Sequence[int] = ()
    ) -> set[int]:
        """
        Return when woken, after *timeout* seconds, or when a descriptor is ready. Return those that are ready, or have
        failed.
        """
        poll = select.poll()
        poll.register(self._heard, select.POLLIN)
        for fd in readable:
            poll.register(fd, select.POLLIN)
        for fd in writable:
            poll.register(fd, select.POLLOUT)
        ready = {fd for fd, _ in poll.poll(None if timeout is None else max(timeout, 0.0) * 1000)}
        if self._heard.fileno() in ready:
            ready.discard(self._heard.fileno())
            with contextlib.suppress(BlockingIOError):
                while self._heard.recv(4096):
                    pass
        return ready

    def close(self) -> None:
        """Close both ends. Called by the thread that waits."""
        self._heard.close()
        self._sent.close()
