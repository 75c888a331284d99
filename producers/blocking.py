"""
The producer for programs with or without threads.

`send` puts a message into the backlog and returns. One thread of the producer connects, sends, receives
acknowledgements and resends. None of this needs a running hub.

Always true:
- an accepted message is sent until it is acknowledged, in order; with a spool also after this process has died.
  Messages that are dropped instead (*when_full*, no room for a message from a signal handler, `close` without a spool)
  are counted;
- `flush` returns when everything is on the hub's disk. Otherwise it raises, with the number of messages that are not
  acknowledged and the number that were dropped;
- after a fork the child has its own session, backlog and thread; the state of the parent stays with the parent;
- a thread that is interrupted inside a call, by a signal handler or a finalizer that uses the producer, does not
  deadlock.

Not here: the thread (producers.sender), what to send and when (producers.link), the bytes (producers.backlog), the
limit of the backlog (producers.outgoing), forks and the end of the process (producers.lifetime).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Unpack

from producers import lifetime
from producers.errors import BacklogFull, NotAcknowledged, NotConnected, NotTrusted, ProducerClosed, ProducerError
from producers.lifetime import CLOSE_TIMEOUT_S
from producers.link import LinkState
from producers.outgoing import Outgoing, ProducerOptions
from producers.record import Record, encode_record, encode_tag, pack_entry
from producers.sender import Sender


class Producer:
    """
    Send messages to the hub at *path* (default: see `hub.paths.default_socket`).

    Any thread may use it, as may a signal handler, a finalizer and a forked child. The options are those of
    `producers.outgoing.ProducerOptions`.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Unpack[ProducerOptions]) -> None:
        self._out = Outgoing(path, **options)
        self.path = self._out.path
        self._is_closed = False
        self._sender = Sender(self._out, self)
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
            error.add_note(str(late))  # the error of the block takes precedence

    def send(
        self, record: Record, *, tag: str | None = None, time_ns: int | None = None, timeout: float | None = None
    ) -> None:
        """
        Accept one message; it is sent until the hub acknowledges it.

        *time_ns* is the time of the message (default: now). *timeout* is how many seconds to wait for room in the
        backlog, where *when_full* allows waiting (default: *block_s*). Raises BadRecord, BacklogFull or ProducerClosed;
        the message is then not kept.
        """
        self.send_packed(encode_record(record), tag=tag, time_ns=time_ns, timeout=timeout)

    def send_packed(
        self, record: bytes, *, tag: str | None = None, time_ns: int | None = None, timeout: float | None = None
    ) -> None:
        """
        Accept one message whose *record* is a msgpack map already; its contents are not checked. Otherwise like `send`.
        """
        entry = pack_entry(record, time_ns)
        tag_bytes = self._out.tag if tag is None else encode_tag(tag)
        lifetime.note_fork()
        sender = self._sender
        guard = sender.guard
        if guard.is_inside():  # a signal handler or finalizer interrupted this thread inside
            guard.deferred.append((tag_bytes, entry))
            sender.wake()
            return
        try:
            with guard.lock:
                if self._is_closed or sender.is_stopped:
                    raise ProducerClosed
                if sender.thread is None:
                    sender.start()
                if guard.deferred:  # these are older than this message
                    sender.send_deferred()
                if not self._out.put(tag_bytes, entry):
                    self._wait_for_room(tag_bytes, entry, timeout)
                if self._out.backlog.open_count == 1:  # a chunk was begun, so the one before it may have been cut
                    sender.look()
        except ProducerError:
            raise
        except BaseException:  # raised by a signal handler, perhaps before `look`
            sender.wake()
            raise
        if guard.deferred:
            sender.send_deferred()

    def send_entries(self, entries: bytes, count: int, *, tag: str | None = None, timeout: float | None = None) -> None:
        """
        Accept *count* entries (`pack_entry`) that stay together in one chunk. Raises Reentered in a signal handler that
        interrupted this producer.
        """
        tag_bytes = self._out.tag if tag is None else encode_tag(tag)
        lifetime.note_fork()
        with self._sender.guard.exclusive():
            if self._is_closed or self._sender.is_stopped:
                raise ProducerClosed
            if self._sender.thread is None:
                self._sender.start()
            self._sender.send_deferred()
            if not self._out.put(tag_bytes, entries, count):
                self._wait_for_room(tag_bytes, entries, timeout, count)
            self._sender.look()

    def drop(self) -> None:
        """
        Count one message that the caller gives up for lack of room; it is reported to the hub like every other drop.
        """
        with self._sender.guard.exclusive():
            self._out.drop()

    def connect(self, timeout: float | None = None) -> None:
        """
        Wait until a hub accepts the connection. `send` does not need it.

        Raises NotConnected after *timeout* seconds, NotTrusted as soon as the hub is found to be untrusted, or
        ProducerClosed.
        """
        lifetime.note_fork()
        link = self._out.link
        with self._sender.guard.exclusive():
            link.want()
            self._sender.look()
            is_over = self._wait_for(lambda: link.state is LinkState.CONNECTED or link.is_refused, timeout)
            if link.is_refused:
                raise NotTrusted(self.path, link.last_error)
            if not is_over:
                raise NotConnected(self.path, link.last_error or "no answer in time")

    @property
    def pending(self) -> int:
        """Number of messages that are not acknowledged yet."""
        return self._out.backlog.pending

    def stats(self) -> dict[str, Any]:
        """
        Return the counters of messages (appended, acknowledged, pending, dropped, and left to the hub in the files of a
        former user's session), the held bytes, the state of the link with its last error, and the spool folder or the
        reason why there is none.
        """
        return self._out.stats()

    def flush(self, timeout: float | None = None) -> None:
        """
        Return when everything sent so far is on the hub's disk.

        Raises NotAcknowledged after *timeout* seconds, or if messages were dropped that no flush has reported yet.
        """
        count = self.settle(timeout)
        with self._sender.guard.lock:  # reentrant, so a signal handler may flush
            late = self._out.account(count)
        if late is not None:
            raise late

    def close(self, timeout: float | None = CLOSE_TIMEOUT_S) -> None:
        """
        Flush and stop.

        Messages that the hub has not acknowledged after *timeout* seconds stay in the spool for the hub. If the hub is
        away and all of them are in the spool, `close` does not wait. Without a spool they are dropped, and
        NotAcknowledged is raised. Messages that *when_full* dropped earlier are reported to the hub; they alone do not
        raise.
        """
        lifetime.note_fork()
        if self._sender.guard.is_inside():  # in a signal handler that interrupted this producer: closed at process exit
            return
        with self._sender.guard.lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._sender.changed.notify_all()  # senders that wait for room stop: their messages would miss this flush
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self.settle(timeout, self._is_nobody_there)
            rest = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            count = self.settle(rest, self._is_nobody_there)  # the first wait may have appended a loss message
            late = self._out.last_account(count)
        finally:
            self._sender.stop()
            self._out.end()
        if late is not None:
            raise late

    def settle(self, timeout: float | None, is_enough: Callable[[], bool] = lambda: False) -> int:
        """
        Wait until everything sent so far is acknowledged or dropped. Return the number of messages that are neither.
        """
        lifetime.note_fork()
        backlog = self._out.backlog
        is_inside = self._sender.guard.is_inside()
        if not is_inside:
            self._sender.send_deferred()
        target = backlog.appended
        with self._sender.guard.lock:
            if not is_inside:  # a signal handler or finalizer cannot wait for the thread it interrupted
                self._out.link.hurry()
                self._sender.look()
                self._sender.changed.wait_for(
                    lambda: backlog.settled >= target or self._sender.is_stopped or is_enough(), timeout
                )
            return backlog.pending_until(target)

    def after_fork(self) -> None:
        """In a forked child: start fresh and leave everything of the parent to the parent."""
        self._sender.after_fork()
        self._out.after_fork()
        self._out.begin()
        self._sender = Sender(self._out, self)

    # The caller's side, with the lock held.

    def _wait_for_room(self, tag: bytes, entry: bytes, timeout: float | None, count: int = 1) -> None:
        out = self._out
        self._sender.look()
        wait_s = 0.0 if out.when_full == "raise" else out.block_s if timeout is None else timeout
        if not self._wait_for(lambda: out.put(tag, entry, count), wait_s):
            raise BacklogFull(out.backlog.held_bytes, self._out.link.last_error)

    def _is_nobody_there(self) -> bool:
        """Return whether no acknowledgement will come: there is no thread, or the hub is away and all is in files."""
        return self._sender.thread is None or self._out.is_left_to_the_hub

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Return whether *condition* became true within *timeout* seconds. Raises ProducerClosed."""
        came_true = self._sender.changed.wait_for(
            lambda: self._is_closed or self._sender.is_stopped or condition(), timeout
        )
        if self._is_closed or self._sender.is_stopped:
            raise ProducerClosed
        return came_true
