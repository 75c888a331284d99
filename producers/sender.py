"""
The thread of a producer: it connects, sends, receives acknowledgements and resends.

Always true: no system call on an open connection is made with the lock, so a caller never waits for one.
Not here: the lock, and when the thread starts, sleeps and ends (producers.handover); what to send and when
(producers.link).
"""

from __future__ import annotations

import errno
import select
import socket
from collections import deque

from producers.handover import Handover
from producers.outgoing import Outgoing

_READ_BYTES = 64 << 10
_FRAMES_MAX = 64
"""Maximum frames sent with one system call."""


class Sender:
    """
    Sends the contents of *out*, which callers put there through `handover`.

    The thread keeps *owner* alive, so that it can be closed at the end of the process.
    """

    def __init__(self, out: Outgoing, owner: object) -> None:
        self._owner = owner
        self._out = out
        self.handover = Handover(out, self._run)
        self._sock: socket.socket | None = None
        self._unsent: deque[memoryview] = deque()  # frames being sent; the first may be a remainder

    def after_fork(self) -> None:
        """In a forked child, after `Outgoing.begin`: close the copy of the connection. The thread does not exist."""
        if self._sock is not None:
            self._sock.close()
        self._sock, self._unsent = None, deque()
        self.handover.after_fork()

    def _run(self) -> None:
        wake_fd = self.handover.enter()
        if wake_fd == -1:
            return
        poll = select.poll()
        poll.register(wake_fd, select.POLLIN)
        try:
            while not self.handover.is_stopped:
                self._connect(poll)
                self.handover.take_deferred()
                self._out.warn()
                self._send(poll)
                rest_s = self.handover.rest(is_blocked=bool(self._unsent))
                for fd, events in poll.poll(None if rest_s is None else rest_s * 1000):
                    if fd == wake_fd:
                        self.handover.awake()
                    elif events & ~select.POLLOUT:
                        self._receive(poll)
        finally:
            self._hang_up(poll)
            self.handover.ended()

    def _connect(self, poll: select.poll) -> None:
        sock = self.handover.dial()
        if sock is not None:
            self._sock = sock
            poll.register(sock, select.POLLIN)

    def _send(self, poll: select.poll) -> None:
        """Send what the kernel accepts."""
        sock = self._sock
        if sock is None:
            return
        unsent = self._unsent
        while True:
            self.handover.fill(unsent, _FRAMES_MAX)
            if not unsent:
                poll.modify(sock, select.POLLIN)
                return
            try:
                sent = sock.sendmsg(unsent)
                while unsent and sent >= len(unsent[0]):
                    sent -= len(unsent.popleft())
                if sent:
                    unsent[0] = unsent[0][sent:]
            except BlockingIOError:
                poll.modify(sock, select.POLLIN | select.POLLOUT)
                return
            except OSError as error:
                self._lose(poll, error)
                return

    def _receive(self, poll: select.poll) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the hub closed the connection")
            self.handover.received(data)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._lose(poll, error)

    def _lose(self, poll: select.poll, error: Exception) -> None:
        self._hang_up(poll)
        self.handover.lost(error)

    def _hang_up(self, poll: select.poll) -> None:
        if self._sock is not None:
            poll.unregister(self._sock)
            self._sock.close()
            self._sock = None
            self._unsent.clear()
