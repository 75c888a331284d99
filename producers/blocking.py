"""
The producer for programs with threads, or with none.

`send` puts a message into the backlog and returns; one thread of our own connects, sends, takes acknowledgements and
sends again. Nothing here needs the hub to be there.

Always true:
- whatever `send` accepted is sent until it is acknowledged, in order, as long as the process lives;
- `flush` and `close` tell the truth: they return when all is on the hub's disk, or raise with the number that is not;
- after a fork the child has a session, a backlog and a thread of its own; what the parent had is the parent's.

Not here: what to send when (producers.link), the bytes (producers.backlog), connecting (producers.dialling).
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import select
import socket
import sys
import threading
import time
import weakref
from collections.abc import Callable
from types import TracebackType

from hub.config import default_socket
from producers.backlog import BYTES_MAX, CHUNK_BYTES_MAX, Backlog
from producers.dialling import connected_socket, describe
from producers.errors import BacklogFull, NotAcknowledged, NotConnected, ProducerClosed
from producers.link import LINGER_S, Link, State
from producers.record import Record, encode_record, encode_tag, pack_entry

CLOSE_TIMEOUT_S = 5.0
_READ_BYTES = 64 << 10


class Producer:
    """
    Send messages to the hub at *path* (default: see `hub.config.default_socket`) from any thread.

    *tag* is the default tag. *backlog_bytes_max* bounds what waits for the hub; when it is full `send` blocks. A
    message waits up to *linger_s* for others to share its chunk, which is cut at *chunk_bytes_max*.
    """

    def __init__(
        self,
        path: str | None = None,
        *,
        tag: str = "python",
        backlog_bytes_max: int = BYTES_MAX,
        chunk_bytes_max: int = CHUNK_BYTES_MAX,
        linger_s: float = LINGER_S,
    ) -> None:
        self.path = os.fspath(path or default_socket())
        self._tag = encode_tag(tag)
        self._make_link: Callable[[], Link] = lambda: Link(
            Backlog(bytes_max=backlog_bytes_max, chunk_bytes_max=chunk_bytes_max), linger_s=linger_s
        )
        self._is_closed = False
        self._begin()
        _producers.add(self)

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

        *time_ns* is its time (now), *timeout* how many seconds to wait for room (for ever). Raises BadRecord,
        BacklogFull or ProducerClosed, and then nothing of it is kept.
        """
        self.send_packed(encode_record(record), tag=tag, time_ns=time_ns, timeout=timeout)

    def send_packed(
        self, record: bytes, *, tag: str | None = None, time_ns: int | None = None, timeout: float | None = None
    ) -> None:
        """Hand over one message whose *record* is a msgpack map already; it is not looked at. Otherwise as `send`."""
        entry = pack_entry(record, time_ns)
        tag_bytes = self._tag if tag is None else encode_tag(tag)
        with self._lock:
            if self._is_closed or self._is_stopped:
                raise ProducerClosed
            if self._thread is None:
                self._start()
            if not self._link.backlog.append(tag_bytes, entry):
                self._wait_for_room(tag_bytes, entry, timeout)
            self._link.appended(time.monotonic())
            self._look()

    def connect(self, timeout: float | None = None) -> None:
        """
        Wait until a hub answers; `send` does not need it.

        Raises NotConnected after *timeout* seconds, or ProducerClosed.
        """
        with self._lock:
            self._link.want()
            self._look()
            if not self._wait_for(lambda: self._link.state is State.UP, timeout):
                raise NotConnected(self.path, self._link.last_error or "no answer in time")

    @property
    def pending(self) -> int:
        """How many messages are not acknowledged yet."""
        with self._lock:
            return self._link.backlog.appended - self._link.backlog.acknowledged

    def flush(self, timeout: float | None = None) -> None:
        """Return when everything sent so far is on the hub's disk. Raises NotAcknowledged after *timeout* seconds."""
        with self._lock:
            backlog = self._link.backlog
            target = backlog.appended
            self._link.hurry()
            self._look()
            self._changed.wait_for(lambda: backlog.acknowledged >= target or self._is_stopped, timeout)
            if backlog.acknowledged < target:
                raise NotAcknowledged(target - backlog.acknowledged, self._link.last_error)

    def close(self, timeout: float | None = CLOSE_TIMEOUT_S) -> None:
        """Flush, and stop. Raises NotAcknowledged if not all is acknowledged after *timeout* seconds; it is dropped."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._changed.notify_all()  # whoever waits for room: it would come behind what is flushed here
        try:
            self.flush(timeout)
        finally:
            self._stop()

    def _begin(self) -> None:
        """Be as new: no thread, no connection, an empty backlog."""
        self._link = self._make_link()
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._sock: socket.socket | None = None
        self._unsent: memoryview | None = None
        self._wake_read, self._wake_write = -1, -1
        self._sleeps_until: float | None = 0.0  # the thread's: None is for ever
        self._is_stopped = False

    # The caller's side, under the lock.

    def _wait_for_room(self, tag: bytes, entry: bytes, timeout: float | None) -> None:
        self._link.hurry()
        self._look()
        backlog = self._link.backlog
        if not self._wait_for(lambda: backlog.append(tag, entry), timeout):
            raise BacklogFull(backlog.held_bytes, self._link.last_error)

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
        thread = threading.Thread(target=self._run, name="mpsr-producer", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is at its end
            self._close_wakers()
            raise
        self._thread = thread
        _close_in_worker()

    def _stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            self._changed.notify_all()
            self._look()
        if self._thread is not None:
            self._thread.join()

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
        poll.register(self._wake_read, select.POLLIN)
        try:
            while True:
                with self._lock:
                    if self._is_stopped:
                        return
                    if self._link.may_dial(time.monotonic()):
                        self._dial(poll)
                self._send(poll)
                with self._lock:
                    now = time.monotonic()
                    # With half a chunk in hand there is nothing to do before the kernel takes the other half.
                    due = self._due(now) if self._unsent is None or self._is_stopped else None
                    self._sleeps_until = None if due is None else now + due
                for descriptor, events in poll.poll(None if due is None else due * 1000):
                    if descriptor == self._wake_read:
                        with contextlib.suppress(BlockingIOError):
                            os.read(self._wake_read, 8)
                    elif events & ~select.POLLOUT:
                        self._receive(poll)
        finally:
            self._hang_up(poll)
            with self._lock:  # if it was a fault of ours that brought us here, nobody is to wait for us
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
            return
        poll.register(self._sock, select.POLLIN)
        self._link.connected()
        self._changed.notify_all()

    def _send(self, poll: select.poll) -> None:
        """Send as much as the kernel takes; the system calls are made without the lock."""
        sock = self._sock
        if sock is None:
            return
        while True:
            if self._unsent is None:
                with self._lock:
                    chunk = self._link.outgoing(time.monotonic())
                if chunk is None:
                    poll.modify(sock, select.POLLIN)
                    return
                self._unsent = chunk.frame
            try:
                self._unsent = self._unsent[sock.send(self._unsent) :] or None
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
            with self._lock:
                self._link.received(data)
                self._changed.notify_all()
        except BlockingIOError:
            return
        except (OSError, ValueError) as error:
            self._lost(poll, describe(error, self.path))

    def _lost(self, poll: select.poll, reason: str) -> None:
        self._hang_up(poll)
        with self._lock:
            self._link.failed(time.monotonic(), reason)

    def _hang_up(self, poll: select.poll) -> None:
        if self._sock is not None:
            poll.unregister(self._sock)
            self._sock.close()
            self._sock, self._unsent = None, None

    def _after_fork(self) -> None:
        """In the child: everything of the parent's is left to the parent."""
        self._close_wakers()
        if self._sock is not None:
            self._sock.close()
        self._begin()


_ONE = (1).to_bytes(8, sys.byteorder)
_producers: weakref.WeakSet[Producer] = weakref.WeakSet()


def _close_all() -> None:
    """At exit: what was sent without a close still gets its time, all producers together."""
    deadline = time.monotonic() + CLOSE_TIMEOUT_S
    for producer in list(_producers):
        try:
            producer.close(max(deadline - time.monotonic(), 0.0))
        except NotAcknowledged as late:
            sys.stderr.write(f"mpsr: {late}\n")


def _close_in_worker() -> None:
    """Have the same done in a child of multiprocessing, which before Python 3.13 ends without atexit."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        sys.modules["multiprocessing.util"].Finalize(None, _close_all, exitpriority=0)


def _renew_all() -> None:
    for producer in list(_producers):
        producer._after_fork()


atexit.register(_close_all)
os.register_at_fork(after_in_child=_renew_all)
