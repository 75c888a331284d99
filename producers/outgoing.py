"""
A producer but for its socket, its thread or task, and its waiting: backlog, link, spool, and what to do without room.

Always true:
- a message is taken once: kept, or dropped and counted, or refused and then nothing of it is kept;
- what was dropped is told to the hub, under ``mpsr.loss``, when it is there and there is room, or left in the spool;
  and to the caller, by one flush;
- one session is one user's: a process that has become another user begins a new one when it connects next;
- at the end files are left behind only for what is not acknowledged.

Not here: locks. One thread at a time.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Any, Literal, TypedDict

import msgspec

from hub.message import LOSS_TAG
from hub.paths import default_socket
from hub.trust import Untrusted
from hub.wire.spoolfile import folder_beside
from producers.backlog import BYTES_MAX, CHUNK_BYTES_MAX, Backlog, new_session
from producers.connecting import connected_socket, describe
from producers.errors import NotAcknowledged
from producers.link import LINGER_S, Link, State
from producers.owner import Owner
from producers.record import encode_tag, pack_entry
from producers.spool import Spool, anonymous

WhenFull = Literal["block", "drop_new", "drop_old", "raise"]
WHEN_FULL: tuple[WhenFull, ...] = ("block", "drop_new", "drop_old", "raise")
BLOCK_S = 30.0
LOSS_BYTES = 64 << 10
"""More than a message about a loss takes."""
_has_warned = False


class Options(TypedDict, total=False):
    """
    What both producers can be told.

    tag: the default tag. when_full: what to do while *backlog_bytes_max* wait for the hub: ``block`` for *block_s*
    seconds and raise BacklogFull then (the default), ``raise`` at once, ``drop_new`` or ``drop_old`` messages and tell
    the hub how many. A message waits up to *linger_s* for others to share its chunk, which is cut at *chunk_bytes_max*.
    spool: whether what waits lies in files beside the hub's socket, and survives this process.
    """

    tag: str
    when_full: WhenFull
    block_s: float | None
    backlog_bytes_max: int
    chunk_bytes_max: int
    linger_s: float
    spool: bool


class Outgoing:
    """Everything that is on its way to the hub at *path*."""

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
        self.path = os.fspath(path or default_socket())
        self.tag = encode_tag(tag)
        self.when_full = when_full
        self.block_s = block_s
        self._backlog_bytes_max = backlog_bytes_max
        self._chunk_bytes_max = chunk_bytes_max
        self._linger_s = linger_s
        self._wants_spool = spool
        self.begin()

    def begin(self) -> None:
        """Be as new, with a session of its own."""
        session = self._begin_session()
        self.backlog = Backlog(
            session=session,
            bytes_max=self._backlog_bytes_max,
            chunk_bytes_max=self._chunk_bytes_max,
            allocate=self._allocate,
        )
        self.link = Link(self.backlog, linger_s=self._linger_s)
        self.dropped = 0
        """Messages dropped for want of room."""
        self._untold = 0  # of those, what the hub has not been told
        self._unreported = 0  # and the caller
        self._unchosen = 0  # and of those, what no policy of the caller's dropped
        self._left_reported = 0  # messages left to the hub in files that were reported to the caller
        self._judged: tuple[str, State] | None = None  # what was found to be worth no warning

    def put(self, tag: bytes, entry: bytes, count: int = 1) -> bool:
        """Take one message, or *count* in one piece; False if there is no room, and none is made: wait or refuse it."""
        backlog = self.backlog
        if backlog.append(tag, entry, count):
            if backlog.open_count == count:
                self.link.appended(time.monotonic(), count)
            return True
        self.link.hurry()
        if self.when_full == "drop_old":
            if self.link.state is State.AWAY:
                backlog.rewind()  # nothing is under way
            while dropped := self.backlog.drop_oldest():
                self._count(dropped)
                if self.backlog.append(tag, entry, count):
                    self.link.appended(time.monotonic(), count)
                    return True
        if self.when_full in ("drop_new", "drop_old"):
            self.drop(count)
            return True
        return False

    def drop(self, count: int = 1, *, is_chosen: bool = True) -> None:
        """Count messages as dropped: by a policy that the caller has chosen, or for want of any other way."""
        self._count(count)
        if not is_chosen:
            self._unchosen += count

    def dial(self) -> socket.socket:
        """Return a connection, made as the user of the session: of a new one, if need be. Raises OSError."""
        self.link.dialling()
        if not self._owner.claim():
            self._change_session()
        sock = connected_socket(self.path)
        if not self._owner.claim():
            sock.close()
            raise OSError(0, "this process has become another user meanwhile")
        return sock

    def failed(self, error: Exception) -> None:
        """There is no connection, or none any longer."""
        is_refused = isinstance(error, Untrusted)
        self.link.failed(time.monotonic(), describe(error, self.path), is_refused=is_refused)

    def connected(self) -> None:
        """There is a connection: everything that is not acknowledged goes out again."""
        self.link.connected()

    def received(self, data: bytes) -> None:
        """Take in acknowledgements; use the room that they make. Raises ValueError."""
        self.link.received(data)
        if self._untold:
            self._tell()
        if self.spool is not None and self.spool.fault and self.backlog.is_empty:
            self.backlog.give_back()  # perhaps there is a folder now

    @property
    def is_left_to_the_hub(self) -> bool:
        """Whether there is no hub now, and everything for it is in files: there is nothing to wait for."""
        return self.link.state is State.AWAY and bool(self.link.last_error) and self.is_in_files

    @property
    def is_in_files(self) -> bool:
        """Whether everything that is not acknowledged lies in files."""
        return self.spool is not None and self.spool.is_in_use and self.backlog.is_all_in_files

    def account(self, count: int) -> NotAcknowledged | None:
        """Return what a flush raises that leaves *count* messages pending; each that was dropped is reported once."""
        count += self.backlog.left - self._left_reported
        self._left_reported = self.backlog.left
        dropped, self._unreported, self._unchosen = self._unreported, 0, 0
        return NotAcknowledged(count, self.link.last_error, dropped) if count or dropped else None

    def last_account(self, count: int) -> NotAcknowledged | None:
        """Return what a close raises: what is in files is not lost, and drops that the caller chose are no surprise."""
        late = 0 if self.is_in_files else count
        return NotAcknowledged(late, self.link.last_error, self._unreported) if late or self._unchosen else None

    def end(self) -> None:
        """Let go of everything; what is not acknowledged stays in its files for the hub."""
        if self._untold:
            self.backlog.bytes_max += LOSS_BYTES  # for this one there is room
            self._tell()
        is_done = self.backlog.is_empty
        self.backlog.close(keep=not is_done)
        if self.spool is not None:
            self.spool.close(keep=not is_done)

    def forget(self) -> None:
        """After a fork: everything is the parent's. `begin` follows."""
        if self.spool is not None:
            self.spool.forget()

    def warn(self) -> None:
        """
        Say once that messages are in this process's memory alone, if somebody wanted them in files.

        Hold no lock: a handler of `logging` may be one of ours, and may be waiting for it.
        """
        global _has_warned  # noqa: PLW0603  once a process
        if self.spool is None or not self.spool.fault or _has_warned:
            return
        judged = self.spool.fault, self.link.state
        if judged == self._judged:
            return
        self._judged = judged
        if self.link.state is State.UP and not os.path.isdir(self.spool.folder):  # a hub of a program's own has none
            return
        _has_warned = True
        import logging  # a program without warnings need not load it

        logging.getLogger("mpsr.producers").warning(
            "messages wait for the hub in memory only, and are lost if this process is killed (%s)", self.spool.fault
        )

    def stats(self) -> dict[str, Any]:
        """Return counters, and how things are."""
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
        self._untold += messages
        self._unreported += messages

    def _begin_session(self) -> str:
        """Begin a session without an owner, its files included; return its name."""
        session = new_session()
        self._owner = Owner()
        self.spool: Spool | None = None
        if self._wants_spool:
            self.spool = Spool(folder_beside(self.path), session, socket=self.path, owner=self._owner)
        self._allocate = anonymous if self.spool is None else self.spool.allocate
        return session

    def _change_session(self) -> None:
        """
        Begin a session of the user that we have become.

        What is in files stays there, as if we had ended: the hub adopts it as the former user's, and knows what of it
        it has. What is in memory only moves into the new session; if it was sent before and the acknowledgement was
        lost, the hub cannot know that, and stores it a second time.
        """
        old = self.spool
        is_in_use = old is not None and old.is_in_use
        session = self._begin_session()
        self._owner.claim()
        self.backlog.renew(session, self._allocate, leaves_files=is_in_use)
        if old is not None:
            old.close(keep=True)

    def _tell(self) -> None:
        reason = f"dropped by the producer: no room for what waits for the hub (when_full={self.when_full})"
        record = {"reason": reason, "count": self._untold, "tag": self.tag.decode(), "pid": os.getpid()}
        if self.backlog.append(LOSS_TAG, pack_entry(msgspec.msgpack.encode(record), None)):
            self._untold = 0
            self.link.appended(time.monotonic())
