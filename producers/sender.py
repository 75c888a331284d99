"""
The thread of a producer: it connects, sends, receives acknowledgements and resends.

The threads of the program put messages into `out` and call `look`, both with the `guard` held.

Always true:
- sending and receiving are done without the lock, so a caller never waits for a system call on an open connection;
- however the thread ends, no caller is left waiting for it.

Not here: what to send and when (producers.link), the limit of the backlog (producers.outgoing), the public interface
(producers.blocking).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import sys
import threading
import time
from collections import deque

from producers import lifetime
from producers.guard import Guard
from producers.outgoing import Outgoing

_READ_BYTES = 64 << 10
_FRAMES_MAX = 64
"""Maximum frames sent with one system call."""
_ONE = (1).to_bytes(8, sys.byteorder)


class Sender:
    """
    Sends the contents of *out*. The owner may use the attributes without an underscore, with the lock held.

    The thread keeps *owner* alive, so that it can be closed at the end of the process.
    """

    def __init__(self, out: Outgoing, owner: object) -> None:
        self._owner = owner
        self._out = out
        self._link = out.link
        self.guard: Guard[tuple[bytes, bytes]] = Guard()
        self.changed = threading.Condition(self.guard.lock)
        """Notified at each change that may end a wait."""
        self.thread: threading.Thread | None = None
        self.is_stopped = False
        self._sock: socket.socket | None = None
        self._unsent: deque[memoryview] = deque()  # frames being sent; the first may be a remainder
        self._wake_read, self._wake_write = -1, -1
        self._sleeps_until: float | None = 0.0  # when the thread wakes by itself; None: never

    def look(self) -> None:
        """
        Wake the thread if the link needs it earlier than the thread would wake by itself. Start it if there is none.
        """
        due = self._due(now := time.monotonic())
        if due is None:
            return
        if self.thread is None:
            if not self.is_stopped:
                self.start()
        elif self._sleeps_until is None or now + due < self._sleeps_until:
            self._sleeps_until = now + due
            self.wake()

    def wake(self) -> None:
        """Wake the thread now. The lock is not needed."""
        if self._wake_write != -1:
            with contextlib.suppress(OSError):
                os.write(self._wake_write, _ONE)

    def _due(self, now: float) -> float | None:
        return 0.0 if self.is_stopped else self._link.due(now)

    def start(self) -> None:
        """
        Start the thread. If no thread can be started, the messages wait in the spool; raises RuntimeError without a
        spool.
        """
        if hasattr(os, "eventfd"):
            self._wake_read = self._wake_write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._wake_read, self._wake_write = os.pipe()
            os.set_blocking(self._wake_read, False)
            os.set_blocking(self._wake_write, False)
        self.thread = threading.Thread(target=self._run, name="mpsr-producer", daemon=True)
        try:
            self.thread.start()
        except BaseException as error:  # or raised by a signal handler; a thread that runs anyway ends at once
            self.thread = None
            self._close_wakers()
            if not isinstance(error, RuntimeError) or not self._out.backlog.reserve():
                raise
            return  # thread limit, or interpreter shutdown: the hub reads the spool
        lifetime.close_in_worker()

    def send_deferred(self) -> None:
        """Put the deferred messages into the backlog, without waiting for room."""
        deferred = self.guard.deferred
        while deferred:
            with self.guard.lock:
                if deferred:
                    if self.is_stopped or not self._out.put(*deferred[0]):
                        self._out.drop(is_chosen=False)
                    del deferred[0]
                self.look()

    def stop(self) -> None:
        """End the thread, after it has handled the deferred messages."""
        with self.guard.lock:
            self.send_deferred()
            self.is_stopped = True
            self.changed.notify_all()
            self.look()
        if self.thread is not None:
            self.thread.join()

    def after_fork(self) -> None:
        """In a forked child: close the copies of the parent's descriptors. The thread does not exist here."""
        self._close_wakers()
        if self._sock is not None:
            self._sock.close()

    def _close_wakers(self) -> None:
        """Close the descriptors once: after a fork the same numbers may belong to other files."""
        descriptors = {self._wake_read, self._wake_write} - {-1}
        self._wake_read, self._wake_write = -1, -1
        self._sleeps_until = 0.0  # no thread sleeps, so `look` wakes none
        for descriptor in descriptors:
            os.close(descriptor)

    # In the thread.

    def _run(self) -> None:
        poll = select.poll()
        with self.guard.lock:
            if self.thread is not threading.current_thread():
                return
            poll.register(self._wake_read, select.POLLIN)
        try:
            while True:
                with self.guard.lock:
                    if self.is_stopped:
                        return
                    if self._link.may_connect(time.monotonic()):
                        self._connect(poll)
                self.send_deferred()
                self._out.warn()
                self._send(poll)
                with self.guard.lock:
                    now = time.monotonic()
                    # A chunk is partly sent: there is nothing to do before the kernel takes the rest.
                    due = self._due(now) if not self._unsent or self.is_stopped else None
                    self._sleeps_until = None if due is None else now + due
                for descriptor, events in poll.poll(None if due is None else due * 1000):
                    if descriptor == self._wake_read:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_read, 8)
                    elif events & ~select.POLLOUT:
                        self._receive(poll)
        finally:
            self._hang_up(poll)
            with self.guard.lock:  # also after an unexpected exception, so that no caller waits for ever
                self.is_stopped = True
                self.changed.notify_all()
                self._close_wakers()

    def _connect(self, poll: select.poll) -> None:
        """Connect, with the lock held."""
        try:
            self._sock = self._out.connect()
        except OSError as error:
            self._out.failed(error)
            self.changed.notify_all()
            return
        poll.register(self._sock, select.POLLIN)
        self._out.connected()
        self.changed.notify_all()

    def _send(self, poll: select.poll) -> None:
        """Send what the kernel accepts. The system calls are made without the lock."""
        sock = self._sock
        if sock is None:
            return
        unsent = self._unsent
        while True:
            with self.guard.lock:
                now = time.monotonic()
                while len(unsent) < _FRAMES_MAX and (chunk := self._link.outgoing(now)) is not None:
                    unsent.append(chunk.frame)
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
                self._lost(poll, error)
                return

    def _receive(self, poll: select.poll) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the hub closed the connection")
            with self.guard.lock:
                self._out.received(data)
                self.changed.notify_all()
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._lost(poll, error)

    def _lost(self, poll: select.poll, error: Exception) -> None:
        self._hang_up(poll)
        with self.guard.lock:
            self._out.failed(error)
            self.changed.notify_all()

    def _hang_up(self, poll: select.poll) -> None:
        if self._sock is not None:
            poll.unregister(self._sock)
            self._sock.close()
            self._sock = None
            self._unsent.clear()
