"""
The part of a producer that does no waiting: backlog, link, spool, and the policy for a full backlog.

Always true:
- a message is kept, or dropped and counted, or refused; a refused message leaves no trace;
- each drop is reported to the caller by one flush, and to the hub as soon as there is room, or at the end through the
  spool if there is one (tag ``mpsr.loss``, stored as ``mpsr.loss.client``);
- a session belongs to one user; a process that has become another user begins a new session when it connects next;
- after the end, files remain only for messages that are not acknowledged.

Not here: sockets after connecting, threads, tasks, waiting (producers.sender, producers.handover,
producers.asynchronous); locks: the caller admits one thread at a time.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import Any, Literal, TypedDict

import msgspec

from hub.configfile import socket_path
from hub.message import LOSS_TAG
from hub.paths import is_abstract
from hub.trust import Untrusted
from hub.wire.spoolfile import folder_beside
from producers import clock, lifetime, native
from producers.backlog import BYTES_MAX, CHUNK_BYTES_MAX, Backlog, new_session
from producers.connecting import connected_socket, describe
from producers.errors import NotAcknowledged
from producers.link import LINGER_S, Link, LinkState
from producers.owner import Owner
from producers.record import encode_tag, pack_entry
from producers.spool import Spool, anonymous

WhenFull = Literal["block", "drop_new", "drop_old", "raise"]
WHEN_FULL: tuple[WhenFull, ...] = ("block", "drop_new", "drop_old", "raise")
BLOCK_S = 30.0
LOSS_BYTES = 64 << 10
"""An upper bound for the size of a loss message."""
_has_warned = False


class ProducerOptions(TypedDict, total=False):
    """
    The options of both producers.

    - tag: the default tag.
    - when_full: what to do while *backlog_bytes_max* bytes wait for the hub. ``block`` (the default) waits up to
      *block_s* seconds and then raises BacklogFull. ``raise`` raises it at once. ``drop_new`` and ``drop_old`` drop
      messages and report the number to the hub.
    - linger_s: how long a message waits for others to share its chunk.
    - chunk_bytes_max: the size at which a chunk is cut.
    - spool: whether waiting messages are kept in files beside the hub's socket, where they survive this process.
    """

    tag: str
    when_full: WhenFull
    block_s: float | None
    backlog_bytes_max: int
    chunk_bytes_max: int
    linger_s: float
    spool: bool


class Outgoing:
    """All messages on their way to the hub at *path*."""

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        tag: str = "python",
        when_full: WhenFull = "block",
        block_s: float | None = BLOCK_S,
        backlog_bytes_max: int = BYTES_MAX,
        chunk_bytes_max: int = CHUNK_BYTES_MAX,
        linger_s: float = LINGER_S,
        spool: bool = True,
    ) -> None:
        if when_full not in WHEN_FULL:
            raise ValueError(f"when_full is one of {', '.join(WHEN_FULL)}, not {when_full!r}")
        self.path = os.fspath(path or socket_path())
        self.tag = encode_tag(tag)
        self.when_full = when_full
        self.block_s = block_s
        self._backlog_bytes_max = backlog_bytes_max
        self._chunk_bytes_max = chunk_bytes_max
        self._linger_s = linger_s
        self._wants_spool = spool
        self.begin()

    def begin(self) -> None:
        """Start fresh, with a new session."""
        session = self._begin_session()
        self.backlog = Backlog(
            session=session,
            bytes_max=self._backlog_bytes_max,
            chunk_bytes_max=self._chunk_bytes_max,
            allocate=self._allocate,
            is_locked=lambda: self.spool is not None and self.spool.is_in_use,
        )
        self.link = Link(self.backlog, linger_s=self._linger_s)
        self.dropped = 0
        """Messages dropped for lack of room."""
        self._unreported_to_hub = 0  # dropped messages not reported to the hub yet
        self._unreported_to_caller = 0  # dropped messages not reported to the caller yet
        self._unchosen = 0  # of these, dropped by no policy of the caller
        self._left_reported = 0  # messages left in files for the hub, as reported to the caller
        self._judged: tuple[str, LinkState] | None = None  # the last state that needed no warning

    def put(self, tag: bytes, entry: bytes, count: int = 1) -> bool:
        """
        Accept one message, or *count* in one piece. False if there is no room and the policy makes none: wait, or
        refuse it.
        """
        backlog = self.backlog
        if backlog.append(tag, entry, count):
            if backlog.open_count == count:
                self.link.appended(clock.now(), count)
            return True
        self.link.hurry()
        if self.when_full == "drop_old":
            if self.link.state is LinkState.DISCONNECTED:
                backlog.rewind()  # no chunk is in flight
            while dropped := self.backlog.drop_oldest():
                self._count(dropped)
                if self.backlog.append(tag, entry, count):
                    self.link.appended(clock.now(), count)
                    return True
        if self.when_full in ("drop_new", "drop_old"):
            self.drop(count)
            return True
        return False

    def drop(self, count: int = 1, *, is_chosen: bool = True) -> None:
        """Count messages as dropped. *is_chosen*: by a policy of the caller, not because there was no other way."""
        self._count(count)
        if not is_chosen:
            self._unchosen += count

    def wait_s(self, timeout: float | None) -> float | None:
        """Return for how many seconds a call may wait for room that was given *timeout*."""
        if self.when_full == "raise":
            return 0.0
        return self.block_s if timeout is None else timeout

    def connect(self) -> socket.socket:
        """
        Return a connection made as the user of the session; a new session is begun if that user changed. Raises
        OSError.
        """
        self.link.connecting()
        if not self._owner.claim():
            self._change_session()
        sock = connected_socket(self.path)
        if not self._owner.claim():
            sock.close()
            raise OSError(0, "this process now runs as another user")
        return sock

    def failed(self, error: Exception) -> None:
        """Note that connecting failed, or that the connection was lost."""
        is_refused = isinstance(error, Untrusted)
        self.link.failed(clock.now(), describe(error, self.path), is_refused=is_refused)

    def connected(self) -> None:
        """Note a new connection: everything that is not acknowledged is sent again."""
        self.link.connected()

    def received(self, data: bytes) -> None:
        """Process acknowledgements, and use the room that they make. Raises ValueError."""
        self.link.received(data)
        if self._unreported_to_hub:
            self._report_drops()
        if self.spool is not None and self.spool.fault and self.backlog.is_empty:
            self.backlog.give_back()  # the folder may exist now

    @property
    def is_left_to_the_hub(self) -> bool:
        """Whether there is nothing to wait for: the hub is away, and all messages for it are in files."""
        return self.link.state is LinkState.DISCONNECTED and bool(self.link.last_error) and self.is_in_files

    @property
    def is_hub_absent(self) -> bool:
        """Whether connecting has failed, and there is not even a socket file: perhaps no hub ever ran here."""
        return (
            self.link.state is LinkState.DISCONNECTED and bool(self.link.last_error) and not os.path.lexists(self.path)
        )

    @property
    def is_in_files(self) -> bool:
        """Whether all unacknowledged messages are in files."""
        return self.spool is not None and self.spool.is_in_use and self.backlog.is_all_in_files

    def account(self, count: int) -> NotAcknowledged | None:
        """Return the error for a flush that leaves *count* messages pending, or None. Each drop is reported once."""
        count += self.backlog.left - self._left_reported
        self._left_reported = self.backlog.left
        dropped, self._unreported_to_caller, self._unchosen = self._unreported_to_caller, 0, 0
        return NotAcknowledged(count, self.link.last_error, dropped) if count or dropped else None

    def last_account(self, count: int) -> NotAcknowledged | None:
        """
        Return the error for a close, or None. Messages in files are not lost, and drops by policy alone are not an
        error.
        """
        late = 0 if self.is_in_files else count
        return (
            NotAcknowledged(late, self.link.last_error, self._unreported_to_caller) if late or self._unchosen else None
        )

    def end(self) -> None:
        """Release all resources. Unacknowledged messages stay in their files for the hub."""
        if self._unreported_to_hub:
            self.backlog.bytes_max += LOSS_BYTES  # the loss message always fits
            self._report_drops()
        is_done = self.backlog.is_empty
        self.backlog.close(keep=not is_done)
        if self.spool is not None:
            self.spool.close(keep=not is_done)

    def after_fork(self) -> None:
        """In a forked child: close the copies of what belongs to the parent. `begin` follows."""
        if self.spool is not None:
            self.spool.after_fork()

    def warn(self) -> None:
        """
        Log one warning per process if messages are kept in memory only although *spool* is set.

        Call it without the lock: a handler of `logging` may use this producer and wait for the lock.
        """
        global _has_warned  # noqa: PLW0603  once per process
        if self.spool is None or not self.spool.fault or _has_warned:
            return
        judged = self.spool.fault, self.link.state
        if judged == self._judged:
            return
        is_connected = self.link.state is LinkState.CONNECTED
        if is_connected and not os.path.isdir(self.spool.folder):  # a library `Hub` has no folder
            self._judged = judged
            return
        _has_warned = True  # at once: other threads warn, too
        if native.is_patched():  # the locks of `logging` are greenlets' there, and this is a thread
            lifetime.write(f"messages wait for the hub in memory only ({self.spool.fault})")
            return
        try:
            import logging  # loaded only if there is something to log
        except OSError:  # no free descriptor
            _has_warned = False
            return
        with contextlib.suppress(Exception):  # raised by a handler of the application
            logging.getLogger("mpsr.producers").warning(
                "messages wait for the hub in memory only, and are lost if this process is killed (%s)",
                self.spool.fault,
            )

    def stats(self) -> dict[str, Any]:
        """Return the counters and the current state."""
        backlog, spool = self.backlog, self.spool
        return {
            "appended": backlog.appended,
            "acknowledged": backlog.acknowledged,
            "pending": backlog.pending,
            "left": backlog.left,
            "dropped": self.dropped,
            "held_bytes": backlog.held_bytes,
            "state": self.link.state.value,
            "last_error": self.link.last_error,
            "spool": spool.folder if spool is not None and spool.is_in_use and not spool.fault else None,
            "spool_fault": "" if spool is None else spool.fault,
        }

    def _count(self, messages: int) -> None:
        self.dropped += messages
        self._unreported_to_hub += messages
        self._unreported_to_caller += messages

    def _begin_session(self) -> str:
        """Begin a session without an owner, and its spool. Return its name."""
        session = new_session()
        self._owner = Owner()
        self.spool: Spool | None = None
        if self._wants_spool and not is_abstract(self.path):  # which has no folder beside it
            self.spool = Spool(folder_beside(self.path), session, socket=self.path, owner=self._owner)
        self._allocate = anonymous if self.spool is None else self.spool.allocate
        return session

    def _change_session(self) -> None:
        """
        Begin a session for the user that this process has become.

        Messages in files stay there, as if the process had ended: the hub adopts them for the former user, and
        recognises those that it has. Messages in memory move into the new session. If one of these was sent before and
        its acknowledgement was lost, the hub cannot recognise it and stores it twice.
        """
        old = self.spool
        is_in_use = old is not None and old.is_in_use
        self.backlog.cut()  # with the old spool
        session = self._begin_session()
        self._owner.claim()
        self.backlog.change_session(session, self._allocate, leaves_files=is_in_use)
        if old is not None:
            old.close(keep=True)

    def _report_drops(self) -> None:
        reason = f"dropped by the producer: no room for what waits for the hub (when_full={self.when_full})"
        record = {"reason": reason, "count": self._unreported_to_hub, "tag": self.tag.decode(), "pid": os.getpid()}
        if self.backlog.append(LOSS_TAG, pack_entry(msgspec.msgpack.encode(record), None)):
            self._unreported_to_hub = 0
            self.link.appended(clock.now())
