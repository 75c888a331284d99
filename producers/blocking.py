"""
The producer for programs with threads, or with none.

`send` puts a message into the backlog and returns; one thread of our own connects, sends, takes acknowledgements and
sends again. Nothing here needs the hub to be there.

Always true:
- whatever `send` accepted is sent until it is acknowledged, in order; where there is a spool, also after our death;
- `flush` tells the truth: it returns when all is on the hub's disk, or raises with the number that is not;
- after a fork the child has a session, a backlog and a thread of its own; what the parent had is the parent's;
- a thread that interrupts itself inside, in a signal handler or a finalizer, does not hang.

Not here: what to send when (producers.link), the bytes (producers.backlog), room (producers.outgoing), connecting
(producers.dialling), forks and the end (producers.lifetime).
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
from collections.abc import Callable
from types import TracebackType
from typing import Any, Unpack

from producers import lifetime
from producers.dialling import connected_socket, describe
from producers.errors import BacklogFull, NotAcknowledged, NotConnected, ProducerClosed, ProducerError
from producers.guard import Guard
from producers.lifetime import CLOSE_TIMEOUT_S
from producers.link import State
from producers.outgoing import Options, Outgoing
from producers.record import Record, encode_record, encode_tag, pack_entry

_READ_BYTES = 64 << 10
_FRAMES_MAX = 64
"""So many go out with one system call."""


class Producer:
    """
    Send messages to the hub at *path* (default: see `hub.config.default_socket`) from any thread; also from a signal
    handler or a finalizer, also after a fork.

    The options are those of `producers.outgoing.Options`.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Unpack[Options]) -> None:
        self._out = Outgoing(path, **options)
        self.path = self._out.path
        self._is_closed = False
        self._begin()
        lifetime.enter_closable(self)

    def __enter__(self) -> Producer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except NotAcknowledged as late:
            if error is None:
                raise
            error.add_note(str(late))  # the block's own error matters more

    def send(
        self, record: Record, *, tag: str | None = None, time_ns: int | None = None, timeout: float | None = None
    ) -> None:
        """
        Hand over one message; it will be sent until it is acknowledged.

        *time_ns* is its time (now), *timeout* how many seconds to wait for room (*block_s*) where it waits at all.
        Raises BadRecord, BacklogFull or ProducerClosed, and then nothing of it is kept.
        """
        self.send_packed(encode_record(record), tag=tag, time_ns=time_ns, timeout=timeout)

    def send_packed(
        self, record: bytes, *, tag: str | None = None, time_ns: int | None = None, timeout: float | None = None
    ) -> None:
        """Hand over one message whose *record* is a msgpack map already; it is not looked at. Otherwise as `send`."""
        entry = pack_entry(record, time_ns)
        tag_bytes = self._out.tag if tag is None else encode_tag(tag)
        lifetime.note_fork()
        guard = self._guard
        if guard.is_inside():  # we have interrupted ourselves
            guard.aside.append((tag_bytes, entry))
            self._wake()
            return
        try:
            with guard.lock:
                if self._is_closed or self._is_stopped:
                    raise ProducerClosed
                if self._thread is None:
                    self._start()
                if guard.aside:  # it came before this one
                    self._send_aside()
                if not self._out.put(tag_bytes, entry):
                    self._wait_for_room(tag_bytes, entry, timeout)
                if self._out.backlog.open_count == 1:  # a chunk was begun, so perhaps one was cut
                    self._look()
        except ProducerError:
            raise
        except BaseException:  # a signal handler's: perhaps before we looked
            self._wake()
            raise
        if guard.aside:
            self._send_aside()

    def send_entries(self, entries: bytes, count: int, *, tag: str | None = None, timeout: float | None = None) -> None:
        """Hand over *count* entries (`pack_entry`) in one piece, which stays one; not from a signal handler."""
        tag_bytes = self._out.tag if tag is None else encode_tag(tag)
        lifetime.note_fork()
        with self._guard.alone():
            if self._is_closed or self._is_stopped:
                raise ProducerClosed
            if self._thread is None:
                self._start()
            self._send_aside()
            if not self._out.put(tag_bytes, entries, count):
                self._wait_for_room(tag_bytes, entries, timeout, count)
            self._look()

    def drop(self) -> None:
        """Count a message that its sender gives up, for want of room: the hub is told, as of every other."""
        with self._guard.alone():
            self._out.drop()

    def connect(self, timeout: float | None = None) -> None:
        """
        Wait until a hub answers; `send` does not need it.

        Raises NotConnected after *timeout* seconds, or ProducerClosed.
        """
        lifetime.note_fork()
        with self._guard.alone():
            self._link.want()
            self._look()
            if not self._wait_for(lambda: self._link.state is State.UP, timeout):
                raise NotConnected(self.path, self._link.last_error or "no answer in time")

    @property
    def pending(self) -> int:
        """How many messages are not acknowledged yet."""
        backlog = self._out.backlog
        return backlog.appended - backlog.acknowledged

    def stats(self) -> dict[str, Any]:
        """Return how many messages were appended, acknowledged, dropped, are pending; where they wait; the link."""
        return self._out.stats()

    def flush(self, timeout: float | None = None) -> None:
        """Return when everything sent so far is on the hub's disk. Raises NotAcknowledged after *timeout* seconds."""
        lifetime.note_fork()
        self._flush(timeout, lambda: False)

    def close(self, timeout: float | None = CLOSE_TIMEOUT_S) -> None:
        """
        Flush, and stop. What the hub has not acknowledged after *timeout* seconds, or cannot because it is not there,
        is left to it in the spool; where that is not possible it is dropped, and NotAcknowledged raised.
        """
        lifetime.note_fork()
        if self._guard.is_inside():  # in a signal handler that met us at work: the end of the process does it
            return
        with self._guard.lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()  # whoever waits for room: it would come behind what is flushed here
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self._flush(timeout, self._is_nobody_there)
            rest = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            self._flush(rest, self._is_nobody_there)  # meanwhile the hub was told of what was dropped
        except NotAcknowledged:
            if not self._out.is_in_files:
                raise
        finally:
            self._stop()

    def renew(self) -> None:
        """In a forked child: everything of the parent's is left to the parent."""
        self._close_wakers()
        if self._sock is not None:
            self._sock.close()
        self._out.forget()
        self._out.begin()
        self._begin()

    def _begin(self) -> None:
        """Be as new: no thread, no connection."""
        self._link = self._out.link
        self._guard: Guard[tuple[bytes, bytes]] = Guard()
        self._changed = threading.Condition(self._guard.lock)
        self._thread: threading.Thread | None = None
        self._sock: socket.socket | None = None
        self._unsent: deque[memoryview] = deque()  # frames, or the rest of one, under way
        self._wake_read, self._wake_write = -1, -1
        self._sleeps_until: float | None = 0.0  # the thread's: None is for ever
        self._is_stopped = False

    # The caller's side, under the lock.

    def _wait_for_room(self, tag: bytes, entry: bytes, timeout: float | None, count: int = 1) -> None:
        out = self._out
        self._look()
        wait_s = 0.0 if out.when_full == "raise" else out.block_s if timeout is None else timeout
        if not self._wait_for(lambda: out.put(tag, entry, count), wait_s):
            raise BacklogFull(out.backlog.held_bytes, self._link.last_error)

    def _send_aside(self) -> None:
        """Send what interrupted somebody inside; there is no waiting for room."""
        aside = self._guard.aside
        while aside:
            with self._guard.lock:
                if aside:
                    if self._is_stopped or not self._out.put(*aside[0]):
                        self._out.drop()
                    del aside[0]
                self._look()

    def _flush(self, timeout: float | None, is_enough: Callable[[], bool]) -> None:
        backlog = self._out.backlog
        is_inside = self._guard.is_inside()
        if not is_inside:
            self._send_aside()
        target = backlog.appended
        if not is_inside:  # in a signal handler or finalizer that met us at work: there is no waiting for oneself
            with self._guard.lock:
                self._link.hurry()
                self._look()
                self._changed.wait_for(
                    lambda: backlog.acknowledged >= target or self._is_stopped or is_enough(), timeout
                )
        if backlog.acknowledged < target:
            raise NotAcknowledged(target - backlog.acknowledged, self._link.last_error)

    def _is_nobody_there(self) -> bool:
        """Whether there is no reason to wait for an acknowledgement."""
        return self._thread is None or self._out.is_left_to_the_hub

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Return whether *condition* came true within *timeout* seconds. Raises ProducerClosed."""
        came_true = self._changed.wait_for(lambda: self._is_closed or self._is_stopped or condition(), timeout)
        if self._is_closed or self._is_stopped:
            raise ProducerClosed
        return came_true

    def _look(self) -> None:
        """Have the thread look at the link, if it would not look soon enough by itself."""
        due = self._due(now := time.monotonic())
        if due is None:
            return
        if self._thread is None:
            if not self._is_stopped:
                self._start()
        elif self._sleeps_until is None or now + due < self._sleeps_until:
            self._sleeps_until = now + due
            self._wake()

    def _wake(self) -> None:
        if self._wake_write != -1:
            with contextlib.suppress(OSError):
                os.write(self._wake_write, _ONE)

    def _due(self, now: float) -> float | None:
        return 0.0 if self._is_stopped else self._link.due(now)

    def _start(self) -> None:
        if hasattr(os, "eventfd"):
            self._wake_read = self._wake_write = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self._wake_read, self._wake_write = os.pipe()
            os.set_blocking(self._wake_read, False)
            os.set_blocking(self._wake_write, False)
        self._thread = threading.Thread(target=self._run, name="mpsr-producer", daemon=True)
        try:
            self._thread.start()
        except BaseException as error:  # a signal handler's: if it runs all the same, it is not ours, and ends at once
            self._thread = None
            self._close_wakers()
            if not isinstance(error, RuntimeError) or not self._out.backlog.reserve():
                raise
            return  # no more threads, or the interpreter is at its end: the hub will find it
        lifetime.close_in_worker()

    def _stop(self) -> None:
        with self._guard.lock:
            self._send_aside()
            self._is_stopped = True
            self._changed.notify_all()
            self._look()
        if self._thread is not None:
            self._thread.join()
        self._out.end()

    def _close_wakers(self) -> None:
        """Close them once: after a fork the same numbers may be somebody else's."""
        descriptors = {self._wake_read, self._wake_write} - {-1}
        self._wake_read, self._wake_write = -1, -1
        self._sleeps_until = 0.0  # nobody sleeps, so nobody is woken
        for descriptor in descriptors:
            os.close(descriptor)

    # The thread's side.

    def _run(self) -> None:
        poll = select.poll()
        with self._guard.lock:
            if self._thread is not threading.current_thread():
                return
            poll.register(self._wake_read, select.POLLIN)
        try:
            while True:
                with self._guard.lock:
                    if self._is_stopped:
                        return
                    if self._link.may_dial(time.monotonic()):
                        self._dial(poll)
                self._send_aside()
                self._out.warn()
                self._send(poll)
                with self._guard.lock:
                    now = time.monotonic()
                    # With half a chunk in hand there is nothing to do before the kernel takes the other half.
                    due = self._due(now) if not self._unsent or self._is_stopped else None
                    self._sleeps_until = None if due is None else now + due
                for descriptor, events in poll.poll(None if due is None else due * 1000):
                    if descriptor == self._wake_read:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_read, 8)
                    elif events & ~select.POLLOUT:
                        self._receive(poll)
        finally:
            self._hang_up(poll)
            with self._guard.lock:  # if it was a fault of ours that brought us here, nobody is to wait for us
                self._is_stopped = True
                self._changed.notify_all()
                self._close_wakers()

    def _dial(self, poll: select.poll) -> None:
        """Connect. Under the lock."""
        self._link.dialling()
        try:
            self._sock = connected_socket(self.path)
        except OSError as error:
            self._link.failed(time.monotonic(), describe(error, self.path))
            self._changed.notify_all()
            return
        poll.register(self._sock, select.POLLIN)
        self._out.connected()
        self._changed.notify_all()

    def _send(self, poll: select.poll) -> None:
        """Send as much as the kernel takes; the system calls are made without the lock."""
        sock = self._sock
        if sock is None:
            return
        unsent = self._unsent
        while True:
            with self._guard.lock:
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
                self._lost(poll, describe(error, self.path))
                return

    def _receive(self, poll: select.poll) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(_READ_BYTES)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, "the hub closed the connection")
            with self._guard.lock:
                self._out.received(data)
                self._changed.notify_all()
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._lost(poll, describe(error, self.path))

    def _lost(self, poll: select.poll, reason: str) -> None:
        self._hang_up(poll)
        with self._guard.lock:
            self._link.failed(time.monotonic(), reason)
            self._changed.notify_all()

    def _hang_up(self, poll: select.poll) -> None:
        if self._sock is not None:
            poll.unregister(self._sock)
            self._sock.close()
            self._sock = None
            self._unsent.clear()


_ONE = (1).to_bytes(8, sys.byteorder)
