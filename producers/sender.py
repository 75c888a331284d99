"""
The thread of a producer: it connects, sends, receives acknowledgements and resends.

Always true:
- no system call on an open connection is made with the lock, so a caller never waits for one;
- the thread does not keep the `Producer` alive. If the program drops it without `close`, the thread closes it: it waits
  as long as `close` does, and then ends. Lost messages are counted in the report at process exit;
- a descriptor that the application has closed is replaced, and is not used if its number is another file's now
  (hub.descriptor). Without a free descriptor the thread tries again, and messages wait.

Not here: the lock, and when the thread starts, sleeps and ends (producers.handover); what to send and when
(producers.link).
"""

from __future__ import annotations

import errno
import select
import socket
from collections import deque

from hub import descriptor
from producers import clock, lifetime, native
from producers.connecting import hang_up
from producers.errors import NotAcknowledged
from producers.handover import Handover
from producers.outgoing import Outgoing

_READ_BYTES = 64 << 10
_FRAMES_MAX = 64
"""Maximum frames sent with one system call."""
_BLIND_S = 0.05
"""How long a thread sleeps that cannot be woken: there was no free descriptor."""


class Sender:
    """Sends the contents of *out*, which callers put there through `handover`."""

    def __init__(self, out: Outgoing) -> None:
        self._out = out
        self.handover = Handover(out, self._run, self._run_here)
        self._sock: socket.socket | None = None
        self._identity: descriptor.Identity | None = None
        self._unsent: deque[memoryview] = deque()  # frames being sent; the first may be a remainder

    def close(self, timeout: float | None, *, expects_hub: bool = True) -> None:
        """
        Flush and stop. Without *expects_hub* it does not wait if there is no hub and not even a socket file. Raises
        NotAcknowledged.
        """
        if not self.handover.close():
            return
        deadline = None if timeout is None else clock.now() + timeout
        try:
            self.handover.settle(timeout, is_closing=True, expects_hub=expects_hub)
            rest = None if deadline is None else max(deadline - clock.now(), 0.0)
            # The first wait may have appended a loss message.
            self.handover.settle(rest, is_closing=True, expects_hub=expects_hub)
        finally:
            late: NotAcknowledged | None = self.handover.stop()
            self._out.end()
        if late is not None:
            raise late

    def after_fork(self) -> None:
        """In a forked child, which has no thread: start fresh and leave everything of the parent to the parent."""
        self._out.after_fork()
        self._out.begin()
        if self._sock is not None:
            hang_up(self._sock, self._identity)
        self._sock, self._unsent = None, deque()
        self.handover.after_fork()

    def _run(self, thread: object) -> None:
        if not self.handover.enter(thread):
            return
        try:
            while not self.handover.is_stopped:
                self._turn()
                self._out.warn()
                self._wait(self.handover.rest(is_blocked=bool(self._unsent)))
        finally:
            self._hang_up()
            is_abandoned = self.handover.ended()
        if is_abandoned:
            late = self._out.last_account(self._out.backlog.pending)
            self._out.end()
            if late is not None:
                lifetime.note_lost(late)

    def _run_here(self, timeout: float) -> None:
        """Send in the calling thread, for up to *timeout* seconds or until an attempt has failed."""
        deadline = clock.now() + timeout
        while not self._out.backlog.is_empty and (rest_s := deadline - clock.now()) > 0:
            self._turn()
            if self._sock is None:
                return
            due_s = self.handover.rest(is_blocked=bool(self._unsent))
            self._wait(rest_s if due_s is None else min(rest_s, due_s))

    def _turn(self) -> None:
        self._connect()
        self.handover.take_deferred()
        self._send()

    def _wait(self, rest_s: float | None) -> None:
        """Wait until the kernel accepts or has more data, the thread is woken, or *rest_s* seconds are over."""
        poll = native.poll()
        wake_fd = self.handover.wake_fd()
        if wake_fd != -1:
            poll.register(wake_fd, select.POLLIN)
        else:
            rest_s = _BLIND_S if rest_s is None else min(rest_s, _BLIND_S)
        if self._sock is not None and self._is_ours(self._sock):
            poll.register(self._sock, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        for fd, events in poll.poll(None if rest_s is None else rest_s * 1000):
            if fd == wake_fd:
                self.handover.awake()
            elif events & ~select.POLLOUT:
                self._receive()

    def _connect(self) -> None:
        self.handover.dial(self._use)

    def _use(self, sock: socket.socket) -> None:
        self._sock, self._identity = sock, None  # at once: a fork has to find it
        self._identity = descriptor.identity(sock.fileno())

    def _is_ours(self, sock: socket.socket) -> bool:
        """Return whether *sock* still has its descriptor; if not, note that the connection is lost."""
        if descriptor.is_same(sock.fileno(), self._identity):
            return True
        self._lose(OSError(errno.EBADF, "the program has closed the descriptor of the connection"))
        return False

    def _send(self) -> None:
        """Send what the kernel accepts."""
        sock = self._sock
        unsent = self._unsent
        while sock is not None:
            self.handover.fill(unsent, _FRAMES_MAX)
            if not unsent or not self._is_ours(sock):
                return
            try:
                sent = sock.sendmsg(unsent)
                while unsent and sent >= len(unsent[0]):
                    sent -= len(unsent.popleft())
                if sent:
                    unsent[0] = unsent[0][sent:]
            except BlockingIOError:
                return
            except OSError as error:
                self._lose(error)
                return

    def _receive(self) -> None:
        sock = self._sock
        if sock is None or not self._is_ours(sock):
            return
        try:
            data = sock.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the hub closed the connection")
            self.handover.received(data)
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._lose(error)

    def _lose(self, error: Exception) -> None:
        self._hang_up()
        self.handover.lost(error)

    def _hang_up(self) -> None:
        if self._sock is not None:
            hang_up(self._sock, self._identity)
            self._sock = None
            self._unsent.clear()
