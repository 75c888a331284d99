"""
One file that is followed: where it is, how far it was read, and the next lines of it.

Always true:
- the place reached is at the end of a line and of an event, and the mark describes the bytes before it as they were
  read;
- it is read only if it is the file that it was, and has what was read of it;
- half a last line is taken only of a file that was renamed or deleted, and is marked with ``partial``.

Used on one thread. Not here: which files there are (hub.sources.following), what follows when one was truncated
(hub.sources.rotations).
"""

from __future__ import annotations

import dataclasses
import errno
import os
import stat
import sys
import time
from typing import NamedTuple

from hub.entries import join
from hub.message import Loss, Position
from hub.sources.filecheck import HEAD_BYTES, TAIL_BYTES, Mark, Truncated, has_mark, mark_at, tail_of
from hub.sources.fileidentity import Identity, identify_open
from hub.sources.fileparse import SAMPLE_BYTES, FileParser, Run, oversize, text_entry
from hub.sources.filerow import FileRow, State, row_path
from hub.sources.generations import Reached
from hub.sources.linecutter import Kind, LineCutter, some_lines

READ_BYTES = 256 << 10
REST_S = 5.0
"""How long half a last line of a renamed file waits for its end."""
JOIN_S = 2.0
"""How long lines wait for others that belong to them."""
ROOM_BYTES_MAX = 4 << 20
"""The largest read for lines that belong together: more than may be joined."""
HOLE_BYTES_MAX = 16 << 20
"""How many zeros are skipped at the start of a file that was truncated."""
_CLOCK_REALTIME_COARSE = 5  # <linux/time.h>
LOOK_BACK_BYTES = 1 << 20
"""How far the beginning of the last line is searched for in a file that is read from its end."""


class Moved(Exception):
    """The name leads to another file now, or to none."""


class Taken(NamedTuple):
    """
    What a read has given: messages and losses, each with the place after it, whether there is more, and the room that
    it needs for that.
    """

    runs: list[tuple[Run, Position]]
    has_more: bool = False
    room_bytes: int = 0


NOTHING = Taken([])


def file_clock_ns() -> int:
    """Return the time by the clock that stamps files."""
    return time.clock_gettime_ns(_CLOCK_REALTIME_COARSE) if sys.platform == "linux" else time.time_ns()


def placed(folder: str, name: str) -> str:
    """Return the path of *name* in *folder*, an absolute path, faster than `os.path.join` does."""
    return f"{folder}/{name}" if folder != "/" else f"/{name}"


@dataclasses.dataclass(slots=True, eq=False, repr=False)
class Followed:
    """The file *identity*, found first at *path*, and now as *entry* in *folder* (empty: nowhere)."""

    identity: Identity
    path: str
    home: str
    """Where it is until it is renamed: the path without links."""
    folder: str
    entry: str
    _: dataclasses.KW_ONLY
    tag: bytes
    uid: int
    gid: int
    size: int
    """Its size when it was last looked at."""
    mtime_ns: int
    """When it was written last, when it last had what was read of it."""
    written_ns: int
    """When it was written last, as far as is known."""

    # How far it was read.

    state: State = State.LIVE
    offset: int = 0
    mark: Mark = dataclasses.field(default_factory=Mark)
    tail: bytes | None = None
    """The bytes before the place; None until the file is opened."""
    cutter: LineCutter = dataclasses.field(default_factory=LineCutter)
    fd: int = -1
    checked_size: int = 0
    """Its size when it last was known to have what was read of it."""
    unread: Reached | None = None
    """What there was of it, if nothing of its present contents was read: the place is where they ended."""
    unread_since: float | None = None
    quiet_at: float = 0.0
    """Since when it has had `quiet_size` bytes."""
    quiet_size: int = -1
    held_at: float | None = None
    """Since when lines wait for others."""
    room_bytes: int = 0
    is_unreadable: bool = False
    is_unproved: bool = False
    """Whether it may be a copy of what was read: it could not be opened when it was found."""
    new_owner: tuple[int, int] | None = None
    """The user and group that it belongs to now."""

    # Where it was seen, and when.

    stamp: tuple[int, int] = (0, 0)
    """Size and time of change when the folder was last looked through."""
    seen: int = 0
    """The number of the look that saw it last."""
    seen_home: int = 0
    """The number of the look that saw it at its path last."""
    is_old: bool = False
    """Whether it was known before the present look."""
    checked_ns: int = 0
    """When it was last known to be at its path, or its row was written."""
    home_ns: int = 0
    """When a look that has found it at its path began: a file that was made at that path later is younger."""
    begun_ns: int = 0
    """When its present contents were begun at the earliest, if that is later than it was made."""
    read_ns: int = 0
    """When it was first read at its path, if it has been there ever since."""
    missing_at: float | None = None
    missing_look: int = -1
    """The number of the last look when it had been missing for long enough to be given up after the next one."""
    is_sought: bool = False
    """Whether looks after that have not found it."""
    is_given_up: bool = False
    """Whether it is not open either, so that nobody can find out any more what is in it."""
    deleted: bool = False

    # Its turn among its generations.

    before: Followed | None = None
    """An older generation that is read first."""
    after: Followed | None = None
    is_queued: bool = False
    is_blocked: bool = False
    is_drained: bool = False
    """Whether it was read to where it ended when a younger generation began to wait for it, or at first."""
    drain_to: int = -1
    """Where that is; -1: where it ends when it is read next."""
    aside_bytes: int = 0
    """Its size when copies were left aside that may be of it, of which nothing was read."""
    doubts: int = 0
    """In how many looks its first read was taken back, as older generations were found."""
    doubted_in: int = -1
    """The number of the last one, as its folder counts them."""

    @property
    def name(self) -> bytes:
        """The name of its position."""
        return self.identity.name

    @property
    def place(self) -> str:
        """Where it was seen last."""
        return placed(self.folder, self.entry)

    @property
    def is_rotated(self) -> bool:
        """Whether it is no longer where it was found first."""
        return self.deleted or self.missing_at is not None or self.place != self.home

    @property
    def is_over(self) -> bool:
        """Whether a generation after the next one has begun: no program writes to this one any longer."""
        return self.after is not None and self.after.is_rotated and self.is_rotated

    @property
    def unread_bytes(self) -> int:
        """How many bytes are not read, as far as is known."""
        return max(self.size - self.offset, 0)

    def position(self) -> Position:
        """Return how far it was read."""
        seen_ns = file_clock_ns()
        row = FileRow(row_path(self.path), self.identity.ino, seen_ns, self.state, self.mark, self.home_ns)
        return Position(self.name, self.offset, row.encode())

    def continue_at(self, offset: int, row: FileRow) -> None:
        """Go on where a row says."""
        self.offset, self.mark, self.state = offset, row.mark, State(row.state)
        self.checked_ns, self.home_ns = row.seen_ns, row.home_ns
        self.checked_size = offset
        self.is_old = True

    def open(self) -> None:
        """
        Open the file, if it is not open. Raises Moved if it has another name now, Truncated if it has not what was read
        of it, and OSError.
        """
        self.open_unchecked()
        if self.tail is None:
            self.tail = tail_of(self.fd, self.offset, self.mark)

    def open_unchecked(self) -> None:
        """Open the file, whatever is in it. Raises Moved and OSError."""
        if self.fd != -1:
            return
        try:
            fd = os.open(self.place, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Moved from error
        self.fd, self.tail = fd, None
        described = os.fstat(fd)
        if not stat.S_ISREG(described.st_mode) or identify_open(fd, described).name != self.name:
            self.close()
            raise Moved

    def close(self) -> None:
        """Close the file, if it is open."""
        if self.fd != -1:
            os.close(self.fd)
            self.fd = -1

    def start_at_end(self) -> None:
        """Skip what is there, except half a last line. Raises as `open`."""
        self.open()
        size = os.fstat(self.fd).st_size
        block = os.pread(self.fd, LOOK_BACK_BYTES, max(size - LOOK_BACK_BYTES, 0))
        end = block.rfind(b"\n") + 1
        self.restart(size - len(block) + end if end or size <= LOOK_BACK_BYTES else size)

    def restart(self, offset: int) -> None:
        """Go on at *offset* of the open file, as it is now."""
        self.offset = offset
        self.mark, self.tail = mark_at(self.fd, offset)
        self.cutter = LineCutter()
        described = os.fstat(self.fd)
        self.size = self.checked_size = described.st_size
        self.mtime_ns = described.st_mtime_ns
        self.held_at, self.quiet_size, self.room_bytes = None, -1, 0
        self.read_ns = 0
        self._note_unread()
        self.drain()

    def _note_unread(self) -> None:
        """Take note of what is in the open file if nothing of it was read: there may be nothing but a hole before."""
        assert self.tail is not None
        is_begun = bool(self.tail.strip(b"\0"))
        self.unread = None if is_begun else Reached(self.size, mark_at(self.fd, self.size)[0], file_clock_ns())

    def drain(self) -> None:
        """Let younger generations wait until it was read to its end, as it is now."""
        self.is_drained, self.drain_to = False, -1

    def data_start(self) -> int:
        """Return where the data of the open file begins: a program that does not append leaves a hole before it."""
        size = os.fstat(self.fd).st_size  # not later: what is written in between is data
        try:
            start = os.lseek(self.fd, 0, os.SEEK_DATA)
        except OSError as error:
            tail_bytes = min(size, TAIL_BYTES)  # it may have been truncated and written again since then
            is_hole = os.pread(self.fd, tail_bytes, size - tail_bytes) == bytes(tail_bytes)
            return size if error.errno == errno.ENXIO and is_hole else 0
        stop = start + HOLE_BYTES_MAX
        while start < stop and (block := os.pread(self.fd, READ_BYTES, start)):
            rest = block.lstrip(b"\0")
            start += len(block) - len(rest)
            if rest:
                break
        return start

    def is_due(self, now: float) -> bool:
        """Whether time has made something of it ready."""
        if self.held_at is not None and now - self.held_at >= JOIN_S:
            return True
        has_rest = self.quiet_size > self.offset and self.is_rotated
        return has_rest and self.held_at is None and now - self.quiet_at >= REST_S

    def read(self, parser: FileParser, *, bytes_max: int, line_bytes_max: int, now: float) -> Taken:
        """Read on, at most *bytes_max* bytes. Raises as `open`."""
        taken = self._read(parser, bytes_max, line_bytes_max, now)
        if not taken.runs and self.unread_bytes:
            self._note_unread()
        return taken

    def _read(self, parser: FileParser, bytes_max: int, line_bytes_max: int, now: float) -> Taken:
        cut_off = self._look(now)
        if cut_off:
            loss = Loss("the end of a file was cut off before it was read", lost_bytes=cut_off)
            return Taken([(Run(b"", 0, 0, loss), self.position())], has_more=True)
        if self.drain_to == -1:
            self.drain_to = self.size
        if self.size == self.offset:
            self.checked_size, self.checked_ns = self.size, file_clock_ns()
            return self._drained()
        assert self.tail is not None
        cut = self.cutter.cut(self.fd, self.offset, self.tail, bytes_max=bytes_max, line_bytes_max=line_bytes_max)
        self.checked_size, self.checked_ns = self.size, file_clock_ns()
        if cut.kind is Kind.LINES:
            return self._lines(cut.data, parser, bytes_max, line_bytes_max, now)
        if cut.kind is Kind.REST:
            return self._rest(cut.size, bytes_max, line_bytes_max, now)
        if cut.kind is Kind.OVERSIZE:
            loss = oversize(cut.size - 1, cut.data, line_bytes_max)
            return Taken([self._skip(cut.size, loss)], has_more=True)
        self.room_bytes = cut.size if cut.kind is Kind.LARGE else 0
        return Taken([], has_more=True, room_bytes=self.room_bytes)

    def _look(self, now: float) -> int:
        """Look at the open file. Return how many bytes that were not read yet are gone. Raises as `open`."""
        self.open()
        assert self.tail is not None
        described = os.fstat(self.fd)
        if described.st_size < self.offset:
            raise Truncated
        if self.unread is not None and not has_mark(self.fd, self.unread.offset, self.unread.mark):
            raise Truncated
        self.deleted = described.st_nlink == 0
        self.mtime_ns = self.written_ns = described.st_mtime_ns
        if described.st_size < self.checked_size or described.st_size == self.offset:
            self._check_tail()
        if (cut_off := self.checked_size - described.st_size) > 0:
            self.restart(self.offset)
            return cut_off
        self.size = described.st_size
        if described.st_size != self.quiet_size:
            self.quiet_size, self.quiet_at = described.st_size, now
        return 0

    def advance(self, data: bytes) -> None:
        """Take note that *data*, the next bytes, were read."""
        assert self.tail is not None
        tail = (self.tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]
        self.mark = self.mark.after(data, self.offset, tail)
        self.tail, self.state, self.unread = tail, State.LIVE, None
        self.offset += len(data)

    def _skip(self, size: int, loss: Loss) -> tuple[Run, Position]:
        """Skip *size* bytes of the open file, which are lost."""
        offset, start = self.offset, max(self.offset + size - TAIL_BYTES, 0)
        tail = os.pread(self.fd, self.offset + size - start, start)
        self.mark = self.mark.after(os.pread(self.fd, HEAD_BYTES, offset), offset, tail)
        self.offset, self.tail, self.state, self.unread = offset + size, tail, State.LIVE, None
        return Run(b"", 0, size, loss), self.position()

    def _check_tail(self) -> None:
        """Raise Truncated if the bytes before the place are no longer those that were read."""
        assert self.tail is not None
        if os.pread(self.fd, len(self.tail), self.offset - len(self.tail)) != self.tail:
            raise Truncated

    def _drained(self) -> Taken:
        self.is_drained = True
        self.held_at, self.room_bytes = None, 0
        return NOTHING

    def _lines(self, data: bytes, parser: FileParser, bytes_max: int, line_bytes_max: int, now: float) -> Taken:
        is_full = bytes_max >= ROOM_BYTES_MAX and len(data) > ROOM_BYTES_MAX // 2
        is_at_end = self.is_over and self.offset + len(data) == self.size
        is_last = is_full or is_at_end or (self.held_at is not None and now - self.held_at >= JOIN_S)
        runs: list[tuple[Run, Position]] = []
        read_bytes = len(data)
        lines = None
        if not self.room_bytes:  # else lines that belong together need all that was read
            lines, data = some_lines(data)
        taken, end = 0, self.offset + len(data)
        for run in parser.runs(data, lines, line_bytes_max=line_bytes_max, is_last=is_last):
            self.advance(data if run.size == len(data) else data[taken : taken + run.size])
            taken += run.size
            runs.append((run, self.position()))
        if taken:
            self.held_at, self.room_bytes = None, 0
        if taken < len(data) and self.held_at is None:
            self.held_at = now
        has_more = end < self.size
        if not taken and has_more and read_bytes >= bytes_max // 2:
            self.room_bytes = min(4 * bytes_max, ROOM_BYTES_MAX)
            return Taken([], has_more=True, room_bytes=self.room_bytes)
        self.is_drained = self.is_drained or self.offset >= self.drain_to
        return Taken(runs, has_more=has_more and bool(taken))

    def _rest(self, size: int, bytes_max: int, line_bytes_max: int, now: float) -> Taken:
        """The file ends with half a line of *size* bytes."""
        self.is_drained = True
        if not self.is_rotated or now - self.quiet_at < REST_S:
            return NOTHING
        if size > line_bytes_max:
            loss = oversize(size, os.pread(self.fd, SAMPLE_BYTES, self.offset), line_bytes_max)
            return Taken([self._skip(size, loss)])
        if size > bytes_max:
            self.room_bytes = size
            return Taken([], has_more=True, room_bytes=size)
        data = os.pread(self.fd, size, self.offset)
        entries = join((text_entry(data, {"partial": True}),), 1)
        self.advance(data)
        self.cutter = LineCutter()
        return Taken([(Run(entries, 1, len(data)), self.position())])
