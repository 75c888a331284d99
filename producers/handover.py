"""
Where the threads of a program meet the thread of its producer: the only place that takes the lock.

    threads of the program ── put, connect, flush, close ──▶ Handover ◀── dial, fill, received, lost, rest ── Sender

Always true:
- `Outgoing` and `Link` are used by one thread at a time;
- an interruption does not wait for the thread that it has interrupted inside: a message is deferred, a flush counts
  without waiting, a close is left to the end of the process, and everything else raises Reentered;
- deferred messages are sent before later ones of the same thread;
- the thread is started by the first message or `connect`, and is woken only if it is needed earlier than it would wake
  by itself;
- at the end of the interpreter, when threads cannot run, a message is left in the spool or sent by the caller;
- however the thread ends, no caller is left waiting for it.

Not here: the lock itself (producers.guard), the thread's sockets (producers.sender), what to send and when
(producers.link), the policy for a full backlog (producers.outgoing).
"""

from __future__ import annotations

import contextlib
import math
import socket
import threading
from collections import deque
from collections.abc import Callable

from producers import clock, lifetime, native
from producers.errors import BacklogFull, NotAcknowledged, NotConnected, NotTrusted, ProducerClosed, ProducerError
from producers.guard import Guard
from producers.link import LinkState
from producers.outgoing import Outgoing
from producers.waker import Waker

LAST_WORDS_S = 1.0
"""How long a message may take that is sent by its caller at the end of the interpreter."""


class Handover:
    """
    Gives the messages of callers to a thread that runs *run*, through *out*. *run_here* sends waiting messages in the
    thread of the caller, for a number of seconds.
    """

    def __init__(self, out: Outgoing, run: Callable[[object], None], run_here: Callable[[float], None]) -> None:
        self._out = out
        self._run = run
        self._run_here = run_here
        self._is_closed = False  # for callers; also in a forked child
        self._begin()

    def _begin(self) -> None:
        self._link = self._out.link
        self._add = self._out.backlog.add
        self._guard: Guard[tuple[bytes, bytes]] = Guard()
        self._waker = Waker()
        self._sleeps_until: float | None = 0.0  # when the thread wakes by itself; None: never
        self.thread: threading.Thread | native.NativeThread | None = None
        self._is_abandoned = self._ends_itself = False  # no caller is left
        self._ends_at: float | None = None  # if no caller is left
        self._has_reported = False  # that messages of the end are lost
        self.is_stopped = False
        """Whether the thread is to end, or has ended."""

    def after_fork(self) -> None:
        """In a forked child, after `Outgoing.begin`: start fresh. The lock and the thread are the parent's."""
        self._waker.close()
        self._begin()

    # For callers.

    def put(self, tag: bytes, entry: bytes, timeout: float | None) -> None:
        """Accept one message. Raises BacklogFull or ProducerClosed; the message is then not kept."""
        if not lifetime.mark[0]:
            lifetime.note_fork()
        guard = self._guard
        if guard.is_inside():  # a signal handler or finalizer interrupted this thread inside
            guard.deferred.append((tag, entry))
            self._waker.wake()
            return
        try:
            with guard.lock:
                if self._is_closed or self.is_stopped or self.thread is None or guard.deferred:
                    self._prepare()
                elif self._add(tag, entry):
                    return  # as usual. The thread, which was woken, puts in what has been deferred since
                if not self._out.put(tag, entry):
                    self._wait_for_room(tag, entry, timeout)
                if self._out.backlog.open_count == 1:  # a chunk was begun: the one before it may have been cut
                    self._look()
        except ProducerError:
            raise
        except BaseException:  # raised by a signal handler, perhaps before `_look`
            self._waker.wake()
            raise
        if guard.deferred:
            self.take_deferred()
        if self.thread is None:
            self._send_last_words()

    def put_together(self, tag: bytes, entries: bytes, count: int, timeout: float | None) -> None:
        """Accept *count* entries that stay together in one chunk. Raises as `put` does, and Reentered."""
        with self._guard.exclusive():
            self._prepare()
            if not self._out.put(tag, entries, count):
                self._wait_for_room(tag, entries, timeout, count)
            self._look()
        if self.thread is None:
            self._send_last_words()

    def drop(self) -> None:
        """Count one message as dropped. Raises Reentered."""
        with self._guard.exclusive():
            self._out.drop()

    def connect(self, timeout: float | None) -> None:
        """Wait until there is a connection. Raises NotConnected, NotTrusted, ProducerClosed or Reentered."""
        link, path = self._link, self._out.path
        with self._guard.exclusive():
            link.want()
            self._look()
            is_over = self._wait_for(lambda: link.state is LinkState.CONNECTED or link.is_refused, timeout)
            if link.is_refused:
                raise NotTrusted(path, link.last_error)
            if not is_over:
                raise NotConnected(path, link.last_error or "no answer in time")

    def settle(self, timeout: float | None, *, is_closing: bool = False, expects_hub: bool = True) -> int:
        """
        Wait until everything sent so far is acknowledged or dropped. Return the number of messages that are neither.

        With *is_closing*, do not wait for a hub that is away if all messages for it are in files, or if there is no
        thread. Without *expects_hub*, do not wait either if there is no hub and no file of its socket.
        """
        if self._guard.is_inside():
            return self._out.backlog.pending_until(self._out.backlog.appended)
        with self._guard.exclusive():
            self._put_deferred()
            return self._settle(timeout, is_closing=is_closing, expects_hub=expects_hub)

    def flush(self, timeout: float | None) -> NotAcknowledged | None:
        """Settle, and return the error of a flush, or None."""
        count = self.settle(timeout)
        if self._guard.is_inside():
            return self._out.account(count)
        with self._guard.exclusive():
            return self._out.account(count)

    def close(self) -> bool:
        """
        Refuse further messages, also those that wait for room. False if that was done before, or if this thread was
        interrupted inside.
        """
        if self._guard.is_inside():
            return False
        with self._guard.exclusive():
            if self._is_closed:
                return False
            self._is_closed = True
            self._guard.notify()  # senders that wait for room stop: their messages would miss the flush of a close
            return True

    def stop(self) -> NotAcknowledged | None:
        """End the thread. Return the error of a close, or None; messages that were deferred until now are included."""
        with self._guard.exclusive():
            self._put_deferred()
            self.is_stopped = True
            self._guard.notify()
            self._look()
        if self.thread is not None:
            self.thread.join()
        return self._out.last_account(self._out.backlog.pending_until(self._out.backlog.appended))

    def abandon(self) -> None:
        """Note that no caller is left. A finalizer calls it, anywhere: it takes no lock."""
        self._is_abandoned = True
        self._waker.wake()

    # For callers, inside.

    def _prepare(self) -> None:
        """Before a message: start the thread, and put older deferred messages into the backlog."""
        if self._is_closed or self.is_stopped:
            raise ProducerClosed
        if self.thread is None:
            self._start()
        self._put_deferred()

    def _settle(self, timeout: float | None, *, is_closing: bool, expects_hub: bool) -> int:
        backlog = self._out.backlog
        target = backlog.appended
        self._link.hurry()
        self._look()
        self._guard.wait_for(
            lambda: (
                backlog.settled >= target
                or self.is_stopped
                or (is_closing and self._is_left_to_the_hub())
                or (not expects_hub and self._out.is_hub_absent)
                or self._is_alone()
            ),
            timeout,
        )
        return backlog.pending_until(target)

    def _is_alone(self) -> bool:
        """Whether there is no thread, and can be none."""
        return self.thread is None and lifetime.is_ending()

    def _is_left_to_the_hub(self) -> bool:
        return self.thread is None or self._out.is_left_to_the_hub

    def _wait_for_room(self, tag: bytes, entry: bytes, timeout: float | None, count: int = 1) -> None:
        self._look()
        out = self._out
        if not self._wait_for(lambda: out.put(tag, entry, count), out.wait_s(timeout)):
            raise BacklogFull(out.backlog.held_bytes, self._link.last_error)

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Return whether *condition* became true within *timeout* seconds. Raises ProducerClosed."""
        if self._is_alone():
            return condition()
        came_true = self._guard.wait_for(lambda: self._is_closed or self.is_stopped or condition(), timeout)
        if self._is_closed or self.is_stopped:
            raise ProducerClosed
        return came_true

    def _look(self) -> None:
        """
        Wake the thread if the link needs it earlier than the thread would wake by itself. Start it if there is none.
        """
        due = self._due(now := clock.now())
        if due is None:
            return
        if self.thread is None:
            if not self.is_stopped:
                self._start()
        elif self._sleeps_until is None or now + due < self._sleeps_until:
            self._sleeps_until = now + due
            self._waker.wake()

    def _start(self) -> None:
        """
        Start the thread. If no thread can be started, the messages wait in the spool; raises RuntimeError without a
        spool, except at the end of the interpreter.
        """
        if lifetime.is_ending():  # Python 3.11 would wait for the thread for ever
            return
        try:
            self._open_waker()
            self.thread = thread = native.new_thread(lambda: self._run(thread))
            thread.start()
        except BaseException as error:  # or raised by a signal handler; a thread that runs anyway ends at once
            self.thread = None
            self._close_waker()
            if lifetime.is_ending():
                return
            if not isinstance(error, RuntimeError) or not self._out.backlog.reserve():
                raise
            return  # thread limit: the hub reads the spool
        lifetime.close_in_worker()

    def _send_last_words(self) -> None:
        """At the end of the interpreter: send messages that are in no file, or report that they are lost."""
        if not self._is_alone() or self._guard.is_inside() or self._out.is_in_files:
            return
        self._link.hurry()
        self._run_here(LAST_WORDS_S)
        if not self._out.backlog.is_empty and not self._has_reported:
            self._has_reported = True  # how many follow is not known
            lifetime.report(self._out.account(self._out.backlog.pending))

    # For callers and the thread, inside.

    def _due(self, now: float) -> float | None:
        return 0.0 if self.is_stopped else self._link.due(now)

    def _is_finished(self, now: float) -> bool:
        """Return whether a producer without callers can end, as after `close` with its usual timeout."""
        self._link.hurry()
        if self._ends_at is None:
            self._ends_at = now + lifetime.CLOSE_TIMEOUT_S
        if now >= self._ends_at:
            return True
        return not self._guard.deferred and (self._out.backlog.is_empty or self._out.is_left_to_the_hub)

    def _put_deferred(self) -> None:
        """Put the deferred messages into the backlog, without waiting for room."""
        deferred = self._guard.deferred
        while deferred:
            if self.is_stopped or not self._out.put(*deferred[0]):
                self._out.drop(is_chosen=False)
            del deferred[0]
            self._look()

    def _open_waker(self) -> None:
        with contextlib.suppress(OSError):  # no free descriptor: the thread tries again
            self._waker.open()

    def _close_waker(self) -> None:
        self._sleeps_until = 0.0  # no thread sleeps, so `_look` wakes none
        self._waker.close()

    # For callers and the thread.

    def take_deferred(self) -> None:
        """Put the deferred messages into the backlog, without waiting for room."""
        while self._guard.deferred:
            with self._guard.exclusive():
                self._put_deferred()

    # For the thread.

    def enter(self, thread: object) -> bool:
        """Return whether *thread* is the one that sends."""
        with self._guard.exclusive():
            return self.thread is thread

    def wake_fd(self) -> int:
        """
        Return the descriptor that is readable when the thread is needed; -1 if there is no free one. One that the
        application has closed is replaced.
        """
        if self._waker.is_open:
            return self._waker.fd
        with self._guard.exclusive():
            self._waker.close()
            if self.thread is not None:
                self._open_waker()
                self._waker.wake()  # as a caller may have tried to meanwhile
            return self._waker.fd

    def dial(self, use: Callable[[socket.socket], None]) -> None:
        """Make a new connection, if one is wanted now, and pass it to *use*."""
        with self._guard.exclusive():
            if self.is_stopped or not self._link.may_connect(clock.now()):
                return
            try:
                sock = self._out.connect()
            except OSError as error:
                self._out.failed(error)
                self._guard.notify()
                return
            use(sock)  # before a caller learns of it, and perhaps forks
            self._out.connected()
            self._guard.notify()

    def fill(self, frames: deque[memoryview], count_max: int) -> None:
        """Append frames that are to be sent now, until there are *count_max*."""
        with self._guard.exclusive():
            now = clock.now()
            while len(frames) < count_max and (chunk := self._link.outgoing(now)) is not None:
                frames.append(chunk.frame)

    def received(self, data: bytes) -> None:
        """Process acknowledgements. Raises ValueError."""
        with self._guard.exclusive():
            self._out.received(data)
            self._guard.notify()

    def lost(self, error: Exception) -> None:
        """Note that the connection was lost."""
        with self._guard.exclusive():
            self._out.failed(error)
            self._guard.notify()

    def rest(self, *, is_blocked: bool) -> float | None:
        """
        Return for how many seconds the thread may sleep; None: until it is woken. *is_blocked*: a chunk is partly sent,
        and there is nothing to do before the kernel takes the rest.
        """
        with self._guard.exclusive():
            now = clock.now()
            if self._is_abandoned and not self._is_closed and self._is_finished(now):
                self.is_stopped = self._is_closed = self._ends_itself = True
            due = self._due(now) if not is_blocked or self.is_stopped else None
            if self._ends_at is not None:
                due = max(min(self._ends_at - now, math.inf if due is None else due), 0.0)
            self._sleeps_until = None if due is None else now + due
            return due

    def awake(self) -> None:
        """Note that the thread was woken."""
        self._waker.clear()

    def ended(self) -> bool:
        """
        Note the end of the thread, also after an unexpected exception. Return whether it ended because no caller is
        left.
        """
        with self._guard.exclusive():
            self.is_stopped = True
            self._guard.notify()
            self._close_waker()
            return self._ends_itself
