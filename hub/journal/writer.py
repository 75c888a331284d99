"""
The only writer of a journal: commits, segments, expiry. Everything here blocks and runs on one thread.

Always true:
- with durability ``fsync``, `append` returns when its batches are on stable storage. After JournalUnavailable none of
  them is kept, and the same batches can be appended again;
- deduplication and the positions of sources are updated after the commit, never before it;
- a failed write or sync is never retried in the same file;
- without the lock nothing is cut, deleted, renamed or acknowledged. The lock is checked before each of these, and
  between a sync and its acknowledgement. Another hub can only have begun after that check, so it finds everything that
  was acknowledged;
- nothing is written more than `LOOK_NS` after the lock and the active segment were seen in place.

Not here: the thread, and the event loop's side of it (hub.journal.journal).
Source: FORMAT.md, "Commit".
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from hub.dedupe import Dedupe
from hub.entries import NS
from hub.errors import JournalLost, JournalUnavailable
from hub.journal.block import VERSION, SegmentHeader, pack_block, pack_segment_header, pack_snapshot, seed_of
from hub.journal.clock import Clock, Moment
from hub.journal.files import BytesLike, Files
from hub.journal.indexfile import identify, index_name, index_size, size_of
from hub.journal.positions import Positions
from hub.journal.recovery import Kept, Recovered
from hub.journal.retention import (
    AGE_STEPS,
    NOTHING_NEEDED,
    commit_bytes_max_for,
    plan_expiry,
    rows_max_for,
    segment_bytes_for,
    uncounted_bytes_for,
)
from hub.journal.rewriting import first_of, replaces, unfinished_bytes
from hub.journal.seal import Seal, read_seal, write_seal
from hub.journal.segment import segment_name
from hub.message import Batch

Durability = Literal["fsync", "relaxed"]
RELAXED_SYNC_S = 1.0
COMMIT_BYTES_MAX = 4 << 20
"""Above 2 MiB, throughput is flat and latency grows."""
LOOK_NS = 10_000_000
"""
How long, in nanoseconds, one look at the lock and the active segment allows commits. A look before each commit would
cost a tenth of the throughput: the writer's thread has to wait for the interpreter after each system call.
"""
_NEW = "new.tmp"
_JOIN_BYTES = 4096  # smaller entries are copied after their block's front: fewer parts for one system call


class Commit(NamedTuple):
    """The result of one `append`."""

    last_sequence: int
    stored: int  # messages
    stored_bytes: int
    duplicates: int  # chunks, and batches without a chunk id
    received: int
    clock_ahead: int  # nanoseconds: the machine's clock minus `received`
    forgotten: int = 0  # positions dropped since the last commit, because all together were too many bytes
    uncounted_bytes: int = 0  # of the positions in each segment: above `retain_bytes`


class _Active(NamedTuple):
    """The segment that is being written."""

    fd: int
    first_sequence: int
    size: int
    created: int
    positions_bytes: int


class Writer:
    """
    Writes a recovered journal.

    *clock* creates the clock of this run from the time of the newest message. *is_ours* returns whether the lock on the
    folder is in place.
    """

    def __init__(  # noqa: PLR0913  all except the first three are keyword-only
        self,
        files: Files,
        recovered: Recovered,
        dedupe: Dedupe,
        *,
        path: str = "",
        retain_bytes: int,
        retain_s: float | None = None,
        seal_s: float | None = None,
        durability: Durability = "fsync",
        clock: Callable[[int], Clock] = Clock,
        is_ours: Callable[[], bool] = lambda: True,
        needed_from: int = NOTHING_NEEDED,
    ) -> None:
        self._files = files
        self._path = path
        self._hub_id = recovered.hub_id
        self._seed = seed_of(recovered.hub_id)
        self._dedupe = dedupe
        self.positions: Positions = recovered.positions
        self._forgotten = 0
        self.retain(retain_bytes, retain_s, seal_s)
        self.durability: Durability = durability
        self._clock = clock(recovered.last_received)
        self._is_ours = is_ours
        self._is_lost = False
        self._looked_at = -LOOK_NS  # the clock's `steady`
        self._next_sequence = recovered.next_sequence
        self._sealed = list(recovered.segments)
        self._active: _Active | None = None
        self._position = 0  # the end of the last committed block of the active segment
        self._synced = 0  # the end of the last block known to be on stable storage
        self._expired = 0  # segments deleted
        self.is_unsynced: bool = False
        self.needed_from = needed_from
        """The lowest sequence that a reader still needs."""

    def retain(self, retain_bytes: int, retain_s: float | None, seal_s: float | None = None) -> None:
        """
        Change the limits. They apply to the next `expire`, or when the next segment is begun. *seal_s*: the age at
        which a segment is sealed in any case.
        """
        self._retain_bytes = retain_bytes
        self._dedupe.bound(rows_max_for(retain_bytes))
        self._retain_ns = None if retain_s is None else int(retain_s * NS)
        ages = [each for each in (seal_s, retain_s and retain_s / AGE_STEPS) if each is not None]
        self._seal_ns = int(min(ages) * NS) if ages else None
        self._segment_bytes = segment_bytes_for(retain_bytes)
        self.commit_bytes_max: int = min(COMMIT_BYTES_MAX, commit_bytes_max_for(retain_bytes))
        """Larger commits would make segments larger than planned."""

    @property
    def last_sequence(self) -> int:
        return self._next_sequence - 1

    @property
    def size_bytes(self) -> int:
        """Size of all segments in bytes, preallocated space included. Thread-safe."""
        active = self._active
        return sum(segment.size_bytes for segment in self._sealed) + (active.size if active else 0)

    def bytes_beyond(self, sequence: int) -> int:
        """Return about how many bytes of segments hold what follows *sequence*: messages count alike. Thread-safe."""
        active = self._active
        sizes = [(segment.first_sequence, segment.size_bytes) for segment in list(self._sealed)]
        if active is not None:
            sizes.append((active.first_sequence, self._position))
        ends = [*(first for first, _ in sizes[1:]), self._next_sequence]
        return sum(
            size * max(end - max(first, sequence + 1), 0) // max(end - first, 1)
            for (first, size), end in zip(sizes, ends, strict=True)
        )

    def append(self, batches: Sequence[Batch]) -> Commit:
        """
        Commit *batches* in this order. Resends are left out, and batches with neither messages nor positions.

        Raises JournalUnavailable, or JournalLost; after JournalLost every further call raises it too.
        """
        now = self._clock.read()
        unseen = self.positions.unseen(self._dedupe.unseen(batches, now.steady))
        kept = [batch for batch in unseen if batch.count or batch.positions]
        if not kept:
            self.check_ours()
        else:
            try:
                self._commit(kept, now)
            except OSError:
                self._give_up()
                try:
                    self._commit(kept, now)
                except OSError as error:
                    self._give_up()
                    raise JournalUnavailable(self._path, f"cannot be written: {error.strerror or error}") from error
            self._dedupe.remember(kept, now.steady)
            for batch in kept:
                if batch.positions:
                    self.positions.put(batch.positions, now.received)
        stored = sum(batch.count for batch in kept)
        stored_bytes = sum(len(batch.entries) for batch in kept)
        self._next_sequence += stored
        duplicates = sum(batch.chunk_count for batch in batches) - sum(batch.chunk_count for batch in unseen)
        forgotten, self._forgotten = self._forgotten, 0
        return Commit(
            self.last_sequence, stored, stored_bytes, duplicates, now.received, now.ahead, forgotten, self._uncounted
        )

    @property
    def _uncounted(self) -> int:
        """How many bytes of the active segment's snapshot do not count."""
        return uncounted_bytes_for(self._retain_bytes, self._active.positions_bytes) if self._active else 0

    def begin(self) -> None:
        """
        Begin the first segment, so that a journal that cannot be written is found at once. Raises OSError.

        A seal is there from the first life on: it knows the hub id if the header of the only segment is damaged.
        """
        if self._active is None:
            now = self._clock.read()
            self.positions.keep_until(now.expiry)
            self._begin_segment(0, now)
            seal = read_seal(self._files)
            if seal is None or seal.hub_id != self._hub_id:
                write_seal(self._files, Seal(self._hub_id, self._next_sequence, 0, self._next_sequence))

    def check_ours(self) -> None:
        """Raise JournalLost if the lock is not in place, or was found missing before."""
        if not self._has_lock():
            raise JournalLost(self._path)

    def _has_lock(self) -> bool:
        """Return whether the lock is in place. Once it was found missing, it stays lost."""
        self._is_lost = self._is_lost or not self._is_ours()
        return not self._is_lost

    def sync(self) -> None:
        """
        Durability ``relaxed``: sync everything written since the last sync.

        Raises OSError; then the segment is given up, and what was written to it since the last sync may be lost. Raises
        JournalLost.
        """
        self.check_ours()
        try:
            self._sync()
            self._synced = self._position
        except OSError:
            self._give_up()
            raise

    def expire(self) -> int:
        """
        Delete the oldest segments beyond the limits of size and age. Return the number of segments deleted.

        First, the active segment is sealed if it is older than an eighth of `journal_age`, or made for a larger
        journal. Raises OSError or JournalLost.
        """
        self.check_ours()
        now = self._clock.read()
        active, before = self._active, self._expired
        if active is not None and active.created > now.real:  # created while the clock was ahead
            self._active = active = active._replace(created=now.real)
        if active is not None and self._is_due(active, now) and self._next_sequence > active.first_sequence:
            self.sync()
            self._retire()
            self._begin_segment(0, now)
        self._expire(now)
        return self._expired - before

    def sealed(self, size_min: int, *, is_indexed: bool | None = None) -> list[int]:
        """
        Return the first sequences of the sealed segments of at least *size_min* bytes. *is_indexed*: only of those that
        have an index, or have none. Thread-safe.
        """
        segments = [each for each in [*self._sealed] if each.size_bytes >= size_min]
        return [each.first_sequence for each in segments if is_indexed in (None, each.index_bytes > 0)]

    def expiry(self) -> tuple[int, int]:
        """
        Return the time by which things expire, in nanoseconds, and the sequence from which on all are needed. Raises
        JournalLost.
        """
        self.check_ours()
        return self._clock.read().expiry, self.needed_from

    def look_for_indexes(self) -> None:
        """Look which segments have got an index; delete what is beyond the limit now. Raises OSError or JournalLost."""
        for number, segment in enumerate(self._sealed):
            if not segment.index_bytes and (size := index_size(self._files, segment.first_sequence)):
                self._sealed[number] = segment._replace(size_bytes=segment.size_bytes + size, index_bytes=size)
        self.check_ours()
        self._expire(self._clock.read())

    def make_room(self, size: int) -> None:
        """Delete what is beyond the limit with *size* more bytes on the disk. Raises OSError or JournalLost."""
        self.check_ours()
        self._expire(self._clock.read(), room=size)

    def adopt(self, name: str) -> bool:
        """
        Put the new form of a segment, the file *name*, in the place of the old one, or remove it if it is of no use
        now. Return which. Raises OSError or JournalLost.
        """
        self.check_ours()
        firsts = [segment.first_sequence for segment in self._sealed]
        first = first_of(name)
        if first is None:
            return False
        number = firsts.index(first) if first in firsts else -1
        firsts += [self._active.first_sequence] if self._active is not None else []
        if not 0 <= number < len(firsts) - 1 or not self._replaces(name, firsts[number + 1]):
            with contextlib.suppress(FileNotFoundError):
                self._files.remove(name)
            return False
        self.check_ours()
        size = size_of(self._files, name)
        self._files.rename(name, segment_name(first))
        there = identify(self._files, first, firsts[number + 1])
        self._sealed[number] = _resized(self._sealed[number], size, 0 if there is None else there.expired)
        self._files.sync_folder()
        return True

    def _replaces(self, name: str, following: int) -> bool:
        try:
            return replaces(self._files, name, following, needed_from=self.needed_from)
        except FileNotFoundError:
            return False

    def _is_due(self, active: _Active, now: Moment) -> bool:
        """Return whether a segment has had its share of the time that is kept, or was made for a larger journal."""
        is_old = self._seal_ns is not None and now.expiry - active.created > self._seal_ns
        return is_old or active.size - active.positions_bytes > 2 * self._segment_bytes

    def _expire(self, now: Moment, *, new: Kept | None = None, room: int = 0) -> None:
        """Delete what exceeds the limits, with room for the segment *new*, and for *room* more bytes."""
        segments = [*self._sealed]
        if self._active is not None:
            segments.append(_kept(self._active, self._active.size))
        elif new is not None:
            segments.append(new)
        count = plan_expiry(
            segments,
            retain_bytes=self._retain_bytes,
            needed_from=self.needed_from,
            older_than=0 if self._retain_ns is None else now.expiry - self._retain_ns,
            other_bytes=unfinished_bytes(self._files) + room,
        )
        # Without an active segment, only the newest sealed one records the next sequence.
        count = max(min(count, len(self._sealed) - (self._active is None)), 0)
        for segment in self._sealed[:count]:
            self.check_ours()
            with contextlib.suppress(FileNotFoundError):
                self._files.remove(segment_name(segment.first_sequence))
                self._files.sync_folder()  # one by one: no power cut removes a segment but keeps an older one
            with contextlib.suppress(FileNotFoundError):  # last: one that is made meanwhile looks for its segment
                self._files.remove(index_name(segment.first_sequence))
        del self._sealed[:count]
        self._expired += count

    def close(self) -> None:
        """Seal the active segment, then the journal. Raises OSError if the last sync fails."""
        if not self._has_lock():
            if self._active is not None:
                self._retire()
            return
        self.sync()
        if self._active is None:
            return
        active = self._active
        self._retire()
        # The next hub replaces a segment without messages, so the seal must claim none of its bytes.
        end = self._position if self._next_sequence > active.first_sequence else 0
        with contextlib.suppress(OSError):  # a full disk: the next hub recovers as after a kill
            write_seal(self._files, Seal(self._hub_id, active.first_sequence, end, self._next_sequence))

    def _sync(self) -> None:
        if self._active is not None and self.is_unsynced:
            self._files.sync(self._active.fd)
            self.is_unsynced = False

    def _commit(self, batches: Sequence[Batch], now: Moment) -> None:
        if self._is_lost or now.steady - self._looked_at >= LOOK_NS:
            self._look(now)
        parts, size = self._pack(batches, now.received)
        if self._active is None or self._position + size > self._active.size:
            if self._active is not None:
                self._sync()
                self._retire()
            self._begin_segment(size, now)
            parts, size = self._pack(batches, now.received)
        assert self._active is not None
        # With ``fsync``, everything before the position is synced, so syncing this range is enough.
        is_synced = self.durability == "fsync"
        self._files.write(self._active.fd, self._position, parts, is_synced=is_synced)
        self.is_unsynced = not is_synced
        self.check_ours()
        self._position += size
        if not self.is_unsynced:
            self._synced = self._position

    def _look(self, now: Moment) -> None:
        """Raise JournalLost without the lock, and OSError if the active segment was deleted."""
        self.check_ours()
        if self._active is not None and not self._files.is_linked(self._active.fd):
            raise FileNotFoundError(errno.ENOENT, "the segment was deleted", segment_name(self._active.first_sequence))
        self._looked_at = now.steady

    def _pack(self, batches: Sequence[Batch], received: int) -> tuple[list[BytesLike], int]:
        parts: list[BytesLike] = []
        total, sequence = 0, self._next_sequence
        for batch in batches:
            # A power cut may keep any part of what is not synced. So nothing after a hole in it may count.
            front, size = pack_block(
                batch, sequence=sequence, received=received, commit_offset=self._synced, seed=self._seed
            )
            if len(batch.entries) < _JOIN_BYTES:
                parts.append(front + batch.entries)
            else:
                parts += (front, batch.entries)
            total += size
            sequence += batch.count
        return parts, total

    def _begin_segment(self, commit_bytes: int, now: Moment) -> None:
        self.check_ours()
        self._forgotten += self.positions.drop(now.expiry)
        positions = self.positions.snapshot()
        snapshot = pack_snapshot(self._dedupe.snapshot(now.steady), positions)
        header = SegmentHeader(VERSION, self._hub_id, self._next_sequence, now.received, now.real, snapshot)
        # A large snapshot must not fill the segment; otherwise each commit would begin a new one.
        is_excess = uncounted_bytes_for(self._retain_bytes, len(positions)) > 0  # then segments should be few
        payload_bytes = self._segment_bytes if is_excess else self._segment_bytes // 2
        size = max(self._segment_bytes, header.size_bytes + max(commit_bytes, payload_bytes))
        self._expire(now, new=Kept(self._next_sequence, size, now.real, len(positions)))
        with contextlib.suppress(FileNotFoundError):
            self._files.remove(_NEW)
        fd = self._files.create(_NEW, size)
        try:
            self._files.write(fd, 0, (pack_segment_header(header),))
            self._files.sync_all(fd)
            self.check_ours()  # again: the disk may have been slow, and the rename replaces what has the name
            self._files.rename(_NEW, segment_name(self._next_sequence))
            self._files.sync_folder()
        except BaseException:
            self._files.close(fd)
            raise
        self._active = _Active(fd, self._next_sequence, size, now.real, len(positions))
        self._position = self._synced = header.size_bytes

    def _retire(self) -> None:
        """Seal the active segment. One without messages is left: its successor has the same name and replaces it."""
        active, self._active = self._active, None
        assert active is not None
        self._files.close(active.fd)
        if not self._has_lock():
            return
        # Committed blocks are safe without this, and recovery would do it too. It frees space, and hides failed writes
        # from readers.
        with contextlib.suppress(OSError):
            self._files.truncate(segment_name(active.first_sequence), self._position)
        if self._next_sequence > active.first_sequence:
            self._sealed.append(_kept(active, self._position))

    def _give_up(self) -> None:
        self.is_unsynced = False
        if self._active is not None:
            self._retire()


def _resized(kept: Kept, size: int, expired: int) -> Kept:
    """
    Return what a segment takes whose file has *size* bytes now, and lacks *expired* messages. Whether it has an index
    is not known then.
    """
    before = max(kept.size_bytes - kept.index_bytes, 1)
    positions_bytes = kept.positions_bytes * size // before
    return kept._replace(size_bytes=size, positions_bytes=positions_bytes, index_bytes=0, expired=expired)


def _kept(active: _Active, size_bytes: int) -> Kept:
    return Kept(active.first_sequence, size_bytes, active.created, active.positions_bytes)
