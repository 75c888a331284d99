"""
The journal's interface to the rest of the hub: append, read, position, wait_beyond, expire.

The writer runs on its own thread. The event loop passes it work through a queue and never touches the disk.

Always true:
- one `Journal` in one process writes to a folder;
- when `append` returns, its batches are committed: with durability ``fsync`` synced, with ``relaxed`` written, and
  synced within `RELAXED_SYNC_S`. When it raises, none of them is;
- `read` returns committed messages only.

Not here: the bytes (hub.journal.block), commits (hub.journal.writer).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from hub.dedupe import Dedupe
from hub.entries import NS
from hub.errors import JournalLocked, JournalLost, JournalUnavailable, JournalUnusable
from hub.journal.clock import steady_ns
from hub.journal.cursors import Cursors
from hub.journal.files import DiskFiles, Files
from hub.journal.reader import Reader, sequence_before
from hub.journal.recovery import Recovered, recover
from hub.journal.retention import RETAIN_BYTES, RETAIN_BYTES_MIN
from hub.journal.segment import list_segments
from hub.journal.sharing import share_blocks
from hub.journal.writer import LOOK_NS, RELAXED_SYNC_S, Commit, Durability, Writer
from hub.lockfile import LockFile, LockTaken
from hub.message import Batch, Position

T = TypeVar("T")


class Journal:
    """
    A durable, ordered store of batches in the folder *path*.

    Create it with `Journal.open` in a running event loop, and `close` it.
    """

    def __init__(self, path: str, files: Files, writer: Writer, recovered: Recovered, lock: LockFile | None) -> None:
        self.path = path
        self.recovered = recovered
        self.cursors: Cursors = Cursors(files, recovered.hub_id)
        """How far readers have delivered. They block on the disk: use them on a thread."""
        self._files = files
        self._writer = writer
        self._lock = lock
        self.is_failing: bool = False
        """Whether the last `append` raised."""
        self._is_closed = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="mpsr-journal", daemon=True)
        self._thread.start()

    @classmethod
    async def open(
        cls,
        path: str,
        *,
        retain_bytes: int = RETAIN_BYTES,
        retain_s: float | None = None,
        seal_s: float | None = None,
        durability: Durability = "fsync",
        needed_by: Sequence[str] = (),
        dedupe: Dedupe | None = None,
        files: Files | None = None,
    ) -> Journal:
        """
        Open the journal in the folder *path*, and create the folder if it is missing.

        *retain_bytes* limits the size of the journal. *retain_s*, if given, limits the age of its messages in seconds.
        *seal_s*, if given, is the age at which a segment is sealed in any case.
        Neither deletes what the readers *needed_by* have not delivered, by their cursors, until `need` is called.
        Raises JournalLocked, JournalUnusable or JournalTooNew; then nothing has been changed.
        """
        if retain_bytes < RETAIN_BYTES_MIN:
            raise JournalUnusable(path, f"{retain_bytes} bytes are too few ({RETAIN_BYTES_MIN} at least)")
        return cls(
            path,
            *await asyncio.to_thread(
                _prepare,
                path,
                dedupe or Dedupe(),
                files,
                needed_by,
                retain_bytes=retain_bytes,
                retain_s=retain_s,
                seal_s=seal_s,
                durability=durability,
            ),
        )

    @property
    def hub_id(self) -> bytes:
        """Identifies this journal: 16 random bytes."""
        return self.recovered.hub_id

    @property
    def durability(self) -> Durability:
        """Whether what is committed is synced, too."""
        return self._writer.durability

    @property
    def last_sequence(self) -> int:
        """Sequence of the last committed message, 0 before the first."""
        return self._writer.last_sequence

    @property
    def size_bytes(self) -> int:
        """Size on disk in bytes, preallocated space included."""
        return self._writer.size_bytes

    @property
    def commit_bytes_max(self) -> int:
        """The largest size in bytes to pass to one `append`. It may be exceeded by one batch."""
        return self._writer.commit_bytes_max

    async def append(self, batches: Sequence[Batch]) -> Commit:
        """
        Commit *batches* in order, all or none. Resends are left out.

        Raises JournalUnavailable: append the same batches again. Raises JournalLost: another hub may own the journal.
        """
        self._check_open()
        try:
            commit = await self._do(lambda: self._writer.append(share_blocks(batches)))
        except JournalUnavailable:
            self.is_failing = True
            raise
        self.is_failing = False
        return commit

    def read(self, *, after: int = 0, since: int | None = None) -> Reader:
        """
        Return a reader of the messages committed after the sequence *after*. Segments with nothing that was received
        since *since*, in nanoseconds, are skipped. It blocks on the disk, and so does this call if *since* is given:
        use it on a thread.
        """
        if since is not None:
            after = max(after, sequence_before(self._files, since))
        return Reader(self._files, after=after, path=self.path, committed=lambda: self._writer.last_sequence)

    def need(self, sequence: int) -> None:
        """Let nothing expire from *sequence* on: a reader still needs it. It replaces the sequence given before."""
        self._writer.needed_from = sequence

    def bytes_beyond(self, sequence: int) -> int:
        """Return about how many bytes the journal holds after *sequence*. No disk is read."""
        return self._writer.bytes_beyond(sequence)

    def first_sequence(self) -> int:
        """Return the first sequence that the journal may hold; the next one if it is empty. It reads the folder."""
        return min([*list_segments(self._files)[:1], self.last_sequence + 1])

    async def wait_beyond(self, sequence: int) -> None:
        """Return when a message after *sequence* is committed."""
        while self.last_sequence <= sequence:
            future: asyncio.Future[None] = self._loop.create_future()
            self._waiting.add(future)
            try:
                await future
            finally:
                self._waiting.discard(future)

    def position(self, name: bytes) -> Position | None:
        """Return the committed position of *name*: where its source goes on. None if there is none."""
        return self._writer.positions.get(name)

    def positions(self, prefix: bytes) -> list[Position]:
        """Return all committed positions whose names begin with *prefix*. A few milliseconds for 20,000."""
        return self._writer.positions.starting_with(prefix)

    def retain(self, retain_bytes: int, retain_s: float | None, seal_s: float | None = None) -> None:
        """
        Change the limits of size (bytes) and age (seconds), and the age at which a segment is sealed in any case. They
        apply from the next `expire` or new segment.
        """
        self._work.put(lambda: self._writer.retain(retain_bytes, retain_s, seal_s))

    async def expiry(self) -> tuple[int, int]:
        """
        Return the time by which things expire, in nanoseconds, and the sequence from which on all are needed. Raises
        JournalLost.
        """
        self._check_open()
        return await self._do(self._writer.expiry)

    def sealed(self, size_min: int, *, is_indexed: bool | None = None) -> list[int]:
        """
        Return the first sequences of the sealed segments of at least *size_min* bytes. *is_indexed*: only of those that
        have an index, or have none.
        """
        return self._writer.sealed(size_min, is_indexed=is_indexed)

    def look_for_indexes(self) -> None:
        """Look which segments have got an index: it counts in the size of the journal, and expires with its segment."""

        def look() -> None:
            with contextlib.suppress(OSError, JournalLost):  # the next commit, or the next look, finds the same
                self._writer.look_for_indexes()

        self._work.put(look)

    async def make_room(self, size: int) -> None:
        """
        Delete the oldest segments beyond the limit that *size* more bytes would exceed.

        Raises JournalUnavailable or JournalLost.
        """
        self._check_open()
        await self._do(lambda: self._writer.make_room(size))

    async def adopt(self, name: str) -> bool:
        """
        Put the new form of a segment, the file *name*, in place, unless it is of no use any more. Return which.

        Raises JournalUnavailable or JournalLost.
        """
        self._check_open()
        return await self._do(lambda: self._writer.adopt(name))

    async def expire(self) -> int:
        """Delete the oldest segments beyond the limits. Return the number of segments deleted."""
        self._check_open()
        return await self._do(self._writer.expire)

    async def check_lock(self) -> None:
        """Raise JournalLost if the lock on the folder is no longer in place."""
        self._check_open()
        await self._do(self._writer.check_ours)

    async def close(self) -> None:
        """Seal the journal, end the thread, release the lock. Raises JournalUnavailable if the last sync failed."""
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._do(self._writer.close)
        finally:
            self._work.put(None)
            await asyncio.to_thread(self._thread.join)
            if self._lock is not None:
                self._lock.release()

    def _check_open(self) -> None:
        if self._is_closed:
            raise JournalUnusable(self.path, "it is closed")

    async def _do(self, work: Callable[[], T]) -> T:
        """Run *work* on the journal's thread. It runs to completion even if the caller is cancelled."""
        future: asyncio.Future[T] = self._loop.create_future()

        def run() -> None:
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001  passed to the caller unchanged
                self._loop.call_soon_threadsafe(self._settle, future, None, error)
            else:
                self._loop.call_soon_threadsafe(self._settle, future, result, None)

        self._work.put(run)
        return await future

    def _settle(self, future: asyncio.Future[Any], result: object, error: BaseException | None) -> None:
        """Pass the result or the error to the caller, and wake all waiters, even if the caller was cancelled."""
        waiting, self._waiting = self._waiting, set()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
        if future.done():
            return
        if isinstance(error, OSError):
            error = JournalUnavailable(self.path, f"{error.strerror or error}")
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)

    def _run(self) -> None:
        """Run the thread: one piece of work at a time. With durability ``relaxed``, sync once a second."""
        sync_at: float | None = None
        while True:
            if not self._writer.is_unsynced:
                sync_at = None
            elif sync_at is None:
                sync_at = time.monotonic() + RELAXED_SYNC_S
            try:
                work = self._work.get(timeout=None if sync_at is None else max(sync_at - time.monotonic(), 0.0))
            except queue.Empty:
                pass
            else:
                if work is None:
                    return
                work()
            if sync_at is not None and time.monotonic() >= sync_at:
                sync_at = None
                # After OSError the segment is given up, and the next commit begins another. JournalLost is raised again
                # by the next commit.
                with contextlib.suppress(OSError, JournalLost):
                    self._writer.sync()


def _prepare(
    path: str,
    dedupe: Dedupe,
    files: Files | None,
    needed_by: Sequence[str],
    *,
    retain_bytes: int,
    retain_s: float | None,
    seal_s: float | None,
    durability: Durability,
) -> tuple[Files, Writer, Recovered, LockFile | None]:
    """Lock the folder *path* unless there are *files* instead, recover the journal, and begin to write. Blocks."""
    lock = _lock(path) if files is None else None
    try:
        folder = files or DiskFiles(path)
        recovered = recover(folder, dedupe, path=path, now=steady_ns())
        writer = Writer(
            folder,
            recovered,
            dedupe,
            path=path,
            retain_bytes=retain_bytes,
            retain_s=retain_s,
            seal_s=seal_s,
            durability=durability,
            is_ours=(lambda: True) if lock is None else partial(lock.is_in_place, believed_s=LOOK_NS / NS),
            needed_from=Cursors(folder, recovered.hub_id).needed_from(needed_by),
        )
        writer.begin()
    except BaseException as error:
        if lock is not None:
            lock.release()
        if isinstance(error, OSError):
            advice = " (free some space, or set journal_size to less)" if error.errno == errno.ENOSPC else ""
            raise JournalUnusable(path, f"cannot be opened: {error.strerror or error}{advice}") from error
        raise
    return folder, writer, recovered, lock


def _lock(path: str) -> LockFile:
    """Return the lock of the folder *path*. Create the folder if it is missing."""
    try:
        _make_folder(path)
        return LockFile(os.path.join(path, "lock"))
    except LockTaken as taken:
        raise JournalLocked(path, taken.pid) from None
    except OSError as error:
        raise JournalUnusable(path, f"cannot be written: {error.strerror}") from error


def _make_folder(path: str) -> None:
    """Create the folder *path* and its parents, durably: a file is only as durable as the name of its folder."""
    if not os.path.isdir(path):
        above = os.path.dirname(os.path.abspath(path))
        if not os.path.exists(above):
            _make_folder(above)
        os.makedirs(path, mode=0o700, exist_ok=True)
        DiskFiles(above).sync_folder()
