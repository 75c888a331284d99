"""
The producer for programs with threads, or with none.

`send` puts a message into the backlog and returns; one thread of our own connects, sends, takes acknowledgements and
sends again. Nothing here needs the hub to be there.

Always true:
- whatever `send` accepted is sent until it is acknowledged, in order; where there is a spool, also after our death;
- `flush` tells the truth: it returns when all is on the hub's disk, or raises with the numbers of what is not yet, and
  of what was dropped and never will be;
- after a fork the child has a session, a backlog and a thread of its own; what the parent had is the parent's;
- a thread that interrupts itself inside, in a signal handler or a finalizer, does not hang.

Not here: the thread (producers.sender), what to send when (producers.link), the bytes (producers.backlog), room
(producers.outgoing), forks and the end (producers.lifetime).
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
from producers.link import State
from producers.outgoing import Options, Outgoing
from producers.record import Record, encode_record, encode_tag, pack_entry
from producers.sender import Sender


class Producer:
    """
    Send messages to the hub at *path* (default: see `hub.paths.default_socket`) from any thread; also from a signal
    handler or a finalizer, also after a fork.

    The options are those of `producers.outgoing.Options`.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Unpack[Options]) -> None:
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
        sender = self._sender
        guard = sender.guard
        if guard.is_inside():  # we have interrupted ourselves
            guard.aside.append((tag_bytes, entry))
            sender.wake()
            return
        try:
            with guard.lock:
                if self._is_closed or sender.is_stopped:
                    raise ProducerClosed
                if sender.thread is None:
                    sender.start()
                if guard.aside:  # it came before this one
                    sender.send_aside()
                if not self._out.put(tag_bytes, entry):
                    self._wait_for_room(tag_bytes, entry, timeout)
                if self._out.backlog.open_count == 1:  # a chunk was begun, so perhaps one was cut
                    sender.look()
        except ProducerError:
            raise
        except BaseException:  # a signal handler's: perhaps before we looked
            sender.wake()
            raise
        if guard.aside:
            sender.send_aside()

    def send_entries(self, entries: bytes, count: int, *, tag: str | None = None, timeout: float | None = None) -> None:
        """Hand over *count* entries (`pack_entry`) in one piece, which stays one; not from a signal handler."""
        tag_bytes = self._out.tag if tag is None else encode_tag(tag)
        lifetime.note_fork()
        with self._sender.guard.alone():
            if self._is_closed or self._sender.is_stopped:
                raise ProducerClosed
            if self._sender.thread is None:
                self._sender.start()
            self._sender.send_aside()
            if not self._out.put(tag_bytes, entries, count):
                self._wait_for_room(tag_bytes, entries, timeout, count)
            self._sender.look()

    def drop(self) -> None:
        """Count a message that its sender gives up, for want of room: the hub is told, as of every other."""
        with self._sender.guard.alone():
            self._out.drop()

    def connect(self, timeout: float | None = None) -> None:
        """
        Wait until a hub answers; `send` does not need it.

        Raises NotConnected after *timeout* seconds, NotTrusted as soon as that is found, or ProducerClosed.
        """
        lifetime.note_fork()
        link = self._out.link
        with self._sender.guard.alone():
            link.want()
            self._sender.look()
            is_over = self._wait_for(lambda: link.state is State.UP or link.is_refused, timeout)
            if link.is_refused:
                raise NotTrusted(self.path, link.last_error)
            if not is_over:
                raise NotConnected(self.path, link.last_error or "no answer in time")

    @property
    def pending(self) -> int:
        """How many messages are not acknowledged yet."""
        return self._out.backlog.pending

    def stats(self) -> dict[str, Any]:
        """
        Return how many messages were appended, acknowledged, dropped, left to the hub in files by a session of another
        user, are pending; where they wait; the link.
        """
        return self._out.stats()

    def flush(self, timeout: float | None = None) -> None:
        """
        Return when everything sent so far is on the hub's disk.

        Raises NotAcknowledged after *timeout* seconds, or if messages were dropped that no flush has reported.
        """
        count = self.settle(timeout)
        with self._sender.guard.lock:  # also inside it
            late = self._out.account(count)
        if late is not None:
            raise late

    def close(self, timeout: float | None = CLOSE_TIMEOUT_S) -> None:
        """
        Flush, and stop. What the hub has not acknowledged after *timeout* seconds, or cannot because it is not there,
        is left to it in the spool; where that is not possible it is dropped, and NotAcknowledged raised. What
        *when_full* dropped before is reported to the hub, not raised.
        """
        lifetime.note_fork()
        if self._sender.guard.is_inside():  # in a signal handler that met us at work: the end of the process does it
            return
        with self._sender.guard.lock:
            if self._is_closed:
                return
            self._is_closed = True
            self._sender.changed.notify_all()  # whoever waits for room: it would come behind what is flushed here
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            self.settle(timeout, self._is_nobody_there)
            rest = None if deadline is None else max(deadline - time.monotonic(), 0.0)
            count = self.settle(rest, self._is_nobody_there)  # meanwhile the hub was told of what was dropped
            late = self._out.last_account(count)
        finally:
            self._sender.stop()
            self._out.end()
        if late is not None:
            raise late

    def settle(self, timeout: float | None, is_enough: Callable[[], bool] = lambda: False) -> int:
        """Wait until everything sent so far is acknowledged or dropped; return how many messages are neither."""
        lifetime.note_fork()
        backlog = self._out.backlog
        is_inside = self._sender.guard.is_inside()
        if not is_inside:
            self._sender.send_aside()
        target = backlog.appended
        with self._sender.guard.lock:
            if not is_inside:  # a signal handler or finalizer that met us at work cannot wait for itself
                self._out.link.hurry()
                self._sender.look()
                self._sender.changed.wait_for(
                    lambda: backlog.settled >= target or self._sender.is_stopped or is_enough(), timeout
                )
            return backlog.pending_until(target)

    def renew(self) -> None:
        """In a forked child: everything of the parent's is left to the parent."""
        self._sender.leave()
        self._out.forget()
        self._out.begin()
        self._sender = Sender(self._out, self)

    # The caller's side, under the lock.

    def _wait_for_room(self, tag: bytes, entry: bytes, timeout: float | None, count: int = 1) -> None:
        out = self._out
        self._sender.look()
        wait_s = 0.0 if out.when_full == "raise" else out.block_s if timeout is None else timeout
        if not self._wait_for(lambda: out.put(tag, entry, count), wait_s):
            raise BacklogFull(out.backlog.held_bytes, self._out.link.last_error)

    def _is_nobody_there(self) -> bool:
        """Whether there is no reason to wait for an acknowledgement."""
        return self._sender.thread is None or self._out.is_left_to_the_hub

    def _wait_for(self, condition: Callable[[], bool], timeout: float | None) -> bool:
        """Return whether *condition* came true within *timeout* seconds. Raises ProducerClosed."""
        came_true = self._sender.changed.wait_for(
            lambda: self._is_closed or self._sender.is_stopped or condition(), timeout
        )
        if self._is_closed or self._sender.is_stopped:
            raise ProducerClosed
        return came_true
