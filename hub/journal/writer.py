"""
The one writer of a journal: commits, segments, expiry. Everything here blocks and runs on one thread.

Always true:
- `append` returns when its batches are on stable storage (durability ``fsync``), or raises and has kept nothing: then
  the same batches can be given again;
- what deduplication remembers changes with the commit, never before it;
- a failed write or sync is never tried again in the same file.

Not here: the thread and the event loop's side of it (hub.journal.journal).
Source: FORMAT.md, "Commit".
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from hub.dedupe import Dedupe
from hub.entries import NS
from hub.errors import JournalUnavailable
from hub.journal.block import VERSION, SegmentHeader, pack_block, pack_segment_header, seed_of
from hub.journal.files import Files, Part
from hub.journal.recovery import Kept, Recovered
from hub.journal.retention import AGE_STEPS, NOTHING_NEEDED, plan_expiry, segment_bytes_for
from hub.journal.segment import segment_name
from hub.message import Batch

Durability = Literal["fsync", "relaxed"]
RELAXED_SYNC_S = 1.0
_NEW = "new.tmp"
_JOIN_BYTES = 4096  # smaller entries are copied behind their block's front: fewer parts for one system call


class Commit(NamedTuple):
    """What one `append` did."""

    last_sequence: int
    stored: int  # messages
    stored_bytes: int
    duplicates: int  # batches
    received: int


class _Active(NamedTuple):
    """The segment being written."""

    handle: int
    first_sequence: int
    size: int
    created: int


class Writer:
    """Writes a recovered journal. *clock* gives nanoseconds since the epoch."""

    def __init__(
        self,
        files: Files,
        recovered: Recovered,
        dedupe: Dedupe,
        *,
        path: str = "",
        keep_bytes: int,
        keep_s: float | None = None,
        durability: Durability = "fsync",
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._files = files
        self._path = path
        self._hub_id = recovered.hub_id
        self._seed = seed_of(recovered.hub_id)
        self._dedupe = dedupe
        self.keep(keep_bytes, keep_s)
        self._durability = durability
        self._clock = clock
        self._next_sequence = recovered.next_sequence
        self._last_received = recovered.last_received
        self._sealed = list(recovered.segments)
        self._active: _Active | None = None
        self._position = 0  # behind the last committed block of the active segment
        self._synced = 0  # behind the last one that is surely on stable storage
        self._expired = 0  # segments deleted
        self.is_unsynced = False
        self.needed_from = NOTHING_NEEDED
        """The lowest sequence that a reader still needs."""

    def keep(self, keep_bytes: int, keep_s: float | None) -> None:
        """Bound what is kept: at the next `expire`, or when a segment is begun."""
        self._keep_bytes = keep_bytes
        self._keep_ns = None if keep_s is None else int(keep_s * NS)
        self._segment_bytes = segment_bytes_for(keep_bytes)

    @property
    def last_sequence(self) -> int:
        return self._next_sequence - 1

    @property
    def bytes(self) -> int:
        """Bytes of all segments, preallocated ones included. Any thread may ask."""
        active = self._active
        return sum(segment.bytes for segment in self._sealed) + (active.size if active else 0)

    def append(self, batches: Sequence[Batch]) -> Commit:
        """Keep *batches* in this order, without those that were received before. Raises JournalUnavailable."""
        now = max(self._clock(), self._last_received)
        fresh = self._dedupe.fresh(batches, now)
        if fresh:
            try:
                self._commit(fresh, now)
            except OSError:
                self._give_up()
                try:
                    self._commit(fresh, now)
                except OSError as error:
                    self._give_up()
                    raise JournalUnavailable(self._path, f"cannot be written: {error.strerror or error}") from error
            self._dedupe.remember(fresh, now)
        self._last_received = now
        stored = sum(batch.count for batch in fresh)
        stored_bytes = sum(len(batch.entries) for batch in fresh)
        self._next_sequence += stored
        return Commit(self.last_sequence, stored, stored_bytes, len(batches) - len(fresh), now)

    def begin(self) -> None:
        """Begin the first segment, so that a journal that cannot be written is found at once. Raises OSError."""
        if self._active is None:
            self._begin_segment(0, max(self._clock(), self._last_received))

    def sync(self) -> None:
        """
        Durability ``relaxed``: put on stable storage what was written since the last time.

        Raises OSError, and has given the segment up: what was written to it may be lost.
        """
        try:
            self._sync()
            self._synced = self._position
        except OSError:
            self._give_up()
            raise

    def expire(self) -> int:
        """
        Delete the oldest segments beyond the limits of size and age; return how many.

        With a limit on age, a segment that was begun an eighth of it ago is sealed first. Raises OSError.
        """
        now = max(self._clock(), self._last_received)
        active, before = self._active, self._expired
        if active is not None and self._next_sequence > active.first_sequence and self._is_old(active.created, now):
            self.sync()
            self._retire()
            self._begin_segment(0, now)
        self._expire(now)
        return self._expired - before

    def _is_old(self, created: int, now: int) -> bool:
        """Return whether a segment begun then has had its share of the time that is kept."""
        return self._keep_ns is not None and now - created > self._keep_ns // AGE_STEPS

    def _expire(self, now: int, *, new_bytes: int = 0) -> None:
        """Delete what is beyond the limits, with room for a new segment of *new_bytes*."""
        segments = [*self._sealed]
        if self._active is not None:
            segments.append(Kept(self._active.first_sequence, self._active.size, self._active.created))
        elif new_bytes:
            segments.append(Kept(self._next_sequence, new_bytes, now))
        count = plan_expiry(
            segments,
            keep_bytes=self._keep_bytes,
            needed_from=self.needed_from,
            older_than=0 if self._keep_ns is None else now - self._keep_ns,
        )
        # Until there is a new segment, the newest sealed one is all that knows where sequences go on.
        count = max(min(count, len(self._sealed) - (self._active is None)), 0)
        for segment in self._sealed[:count]:
            with contextlib.suppress(FileNotFoundError):
                self._files.remove(segment_name(segment.first_sequence))
                self._files.sync_folder()  # one by one: after a power cut a later one is not missing before an earlier
        del self._sealed[:count]
        self._expired += count

    def close(self) -> None:
        """Seal the active segment."""
        self.sync()
        if self._active is not None:
            self._retire()

    def _sync(self) -> None:
        if self._active is not None and self.is_unsynced:
            self._files.sync(self._active.handle)
            self.is_unsynced = False

    def _commit(self, batches: Sequence[Batch], now: int) -> None:
        parts, size = self._pack(batches, now)
        if self._active is None or self._position + size > self._active.size:
            if self._active is not None:
                self._sync()
                self._retire()
            self._begin_segment(size, now)
            parts, size = self._pack(batches, now)
        assert self._active is not None
        self.is_unsynced = True
        self._files.write(self._active.handle, self._position, parts)
        if self._durability == "fsync":
            self._sync()
        self._position += size
        if not self.is_unsynced:
            self._synced = self._position

    def _pack(self, batches: Sequence[Batch], now: int) -> tuple[list[Part], int]:
        parts: list[Part] = []
        total, sequence = 0, self._next_sequence
        for batch in batches:
            # Of what was not synced a power cut may leave any part: nothing behind a hole in it may count.
            front, size = pack_block(
                batch, sequence=sequence, received=now, commit_offset=self._synced, seed=self._seed
            )
            if len(batch.entries) < _JOIN_BYTES:
                parts.append(front + batch.entries)
            else:
                parts += (front, batch.entries)
            total += size
            sequence += batch.count
        return parts, total

    def _begin_segment(self, commit_bytes: int, now: int) -> None:
        header = SegmentHeader(VERSION, self._hub_id, self._next_sequence, now, self._dedupe.snapshot())
        # A large snapshot must not fill the segment, or there would be a new one for each commit.
        size = max(self._segment_bytes, header.bytes + max(commit_bytes, self._segment_bytes // 2))
        self._expire(now, new_bytes=size)
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(_NEW)
        handle = self._files.create(_NEW, size)
        try:
            self._files.write(handle, 0, (pack_segment_header(header),))
            self._files.sync_all(handle)
            self._files.rename(_NEW, segment_name(self._next_sequence))
            self._files.sync_folder()
        except BaseException:
            self._files.close(handle)
            raise
        self._active = _Active(handle, self._next_sequence, size, now)
        self._position = self._synced = header.bytes

    def _retire(self) -> None:
        """Seal the active segment; one without messages is left for its successor, which has its name, to replace."""
        active, self._active = self._active, None
        assert active is not None
        self._files.close(active.handle)
        # What is committed is safe without it, and recovery would do it too; but it gives space back, and takes what
        # failed from the eyes of readers.
        with contextlib.suppress(OSError):
            self._files.truncate(segment_name(active.first_sequence), self._position)
        if self._next_sequence > active.first_sequence:
            self._sealed.append(Kept(active.first_sequence, self._position, active.created))

    def _give_up(self) -> None:
        self.is_unsynced = False
        if self._active is not None:
            self._retire()
