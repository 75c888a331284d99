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
- a producer that is dropped without `close` is closed by its thread, in the background;
- a thread that is interrupted inside a call, by a signal handler or a finalizer that uses the producer, does not
  deadlock.

Not here: locks, waiting and signal handlers (producers.handover), the thread (producers.sender), what to send and when
(producers.link), the bytes (producers.backlog), the limit of the backlog (producers.outgoing), forks and the end of the
process (producers.lifetime).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Any, Unpack

from producers import lifetime
from producers.errors import NotAcknowledged
from producers.lifetime import CLOSE_TIMEOUT_S
from producers.outgoing import Outgoing, ProducerOptions
from producers.record import Record, encode_record, encode_tag, pack_entry
from producers.sender import Sender


class Producer:
    """
    Send messages to the hub at *path* (default: see `hub.configfile.socket_path`).

    Any thread may use it, as may a signal handler, a finalizer and a forked child. The options are those of
    `producers.outgoing.ProducerOptions`.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None, **options: Unpack[ProducerOptions]) -> None:
        self._out = Outgoing(path, **options)
        self.path: str = self._out.path
        self._sender = Sender(self._out)
        self._handover = self._sender.handover
        # For the emitter of the log handlers: without a call in between.
        self.put: Callable[[bytes, bytes, float | None], None] = self._handover.put
        lifetime.enter_closable(self._sender)

    def __del__(self) -> None:
        if hasattr(self, "_handover"):  # not if the options were refused
            self._handover.abandon()

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
        entry = pack_entry(encode_record(record), time_ns)
        tag_bytes = self._out.tag if tag is None else encode_tag(tag)
        self._handover.put(tag_bytes, entry, timeout)

    def send_entry(self, entry: bytes, *, tag: str | None = None, timeout: float | None = None) -> None:
        """Accept one message that is an *entry* already (`pack_entry`); it is not checked. Otherwise like `send`."""
        tag_bytes = self._out.tag if tag is None else encode_tag(tag)
        self._handover.put(tag_bytes, entry, timeout)

    def tag_bytes(self, tag: str | None) -> bytes:
        """Return *tag*, or the default tag, for `put`. Raises BadRecord."""
        return self._out.tag if tag is None else encode_tag(tag)

    def send_entries(self, entries: bytes, count: int, *, tag: str | None = None, timeout: float | None = None) -> None:
        """
        Accept *count* entries (`pack_entry`) that stay together in one chunk. Raises Reentered in a signal handler that
        interrupted this producer.
        """
        tag_bytes = self._out.tag if tag is None else encode_tag(tag)
        lifetime.note_fork()
        self._handover.put_together(tag_bytes, entries, count, timeout)

    def drop(self) -> None:
        """
        Count one message that the caller gives up for lack of room; it is reported to the hub like every other drop.
        """
        self._handover.drop()

    def connect(self, timeout: float | None = None) -> None:
        """
        Wait until a hub accepts the connection. `send` does not need it.

        Raises NotConnected after *timeout* seconds, NotTrusted as soon as the hub is found to be untrusted, or
        ProducerClosed.
        """
        lifetime.note_fork()
        self._handover.connect(timeout)

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
        lifetime.note_fork()
        late = self._handover.flush(timeout)
        if late is not None:
            raise late

    def close(self, timeout: float | None = CLOSE_TIMEOUT_S, *, expects_hub: bool = True) -> None:
        """
        Flush and stop.

        Messages that the hub has not acknowledged after *timeout* seconds stay in the spool for the hub. If the hub is
        away and all of them are in the spool, `close` does not wait. Without a spool they are dropped, and
        NotAcknowledged is raised. Messages that *when_full* dropped earlier are reported to the hub; they alone do not
        raise. Without *expects_hub*, `close` does not wait for a hub that has not even a socket file,
        as at process exit.

        In a signal handler that interrupted this producer it does nothing; the producer is closed at process exit.
        """
        lifetime.note_fork()
        self._sender.close(timeout, expects_hub=expects_hub)

    def settle(self, timeout: float | None) -> int:
        """
        Wait until everything sent so far is acknowledged or dropped. Return the number of messages that are neither.
        """
        lifetime.note_fork()
        return self._handover.settle(timeout)
