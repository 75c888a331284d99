"""
Recognises resent chunks, so that they are acknowledged again and stored once.

Every row belongs to the user id that the kernel reports for the sender (for a spool file: its owner). So a chunk of one
user is never mistaken for a resend of another user's chunk.

- Chunk ids of our own producers are a session and a rising counter. One row per session, its highest counter,
  recognises a resend after any delay.
- Ids of other clients may be content hashes, or counters that restart with the program. A chunk is a resend only if its
  user, tag, id and content (length and CRC-32 of the entries) equal those of a chunk first received at most `window_s`
  before.

Always true:
- deciding (`unseen`) changes no row; `remember` is called after the chunks are committed;
- a chunk without messages takes no row: it contains nothing that could be stored twice;
- each table has a limit in rows for all users together. Above it, the user with the most rows loses its oldest row, so
  no user can push out the rows of a user with fewer.

Not here: storing the tables (hub.journal writes a snapshot into each segment).
"""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

import msgspec

from hub.checksum import crc32
from hub.entries import ARRAY_HEADER_BYTES, NS, join
from hub.message import Batch
from hub.wire.chunkid import counter_of, unpack_own

ROWS_MAX = 65_536
"""Per table. If one user starts more than 65,536 producers, its least recent session is forgotten."""
ROW_BYTES = 56
"""Size of one row of each table in a snapshot, both together: 22 bytes of session, 16 of key, counter, headers."""
WINDOW_S = 600.0

Row = TypeVar("Row")
_CONTENT = struct.Struct("<II")
_decode = msgspec.msgpack.Decoder(
    tuple[list[tuple[int, list[tuple[bytes, int]]]], list[tuple[int, list[bytes]]]]
).decode


class Dedupe:
    """Remembers chunks. Times are nanoseconds of a steady clock: setting the date must not move the window."""

    def __init__(self, *, window_s: float = WINDOW_S, rows_max: int = ROWS_MAX) -> None:
        self._window_ns = int(window_s * NS)
        self._sessions: _Table[int] = _Table(rows_max)  # session -> highest counter; the least recently used first
        self._foreign: _Table[int] = _Table(rows_max)  # key -> first seen; the oldest first
        self._unpacked: dict[bytes, tuple[bytes, int]] = {}  # our own chunk ids of the commit that is being decided

    def bound(self, rows_max: int) -> None:
        """Limit each table to *rows_max* rows from now on."""
        self._sessions.bound(rows_max)
        self._foreign.bound(rows_max)

    def unseen(self, batches: Sequence[Batch], now: int) -> list[Batch]:
        """
        Return the batches that were not received before. Of batches that repeat each other, return the first; of one
        with several chunks, the chunks that are new.
        """
        self._unpacked.clear()
        highest: dict[tuple[int, bytes], int] = {}
        seen: set[tuple[int, bytes]] = set()
        unseen = []
        for batch in batches:
            if batch.chunk_id is None or not batch.count:
                unseen.append(batch)
                continue
            user = batch.peer.uid
            if (own := self._unpack(batch.chunk_id)) is not None:
                session, counter = own
                known = highest.get((user, session))
                if known is None:
                    known = self._sessions.get(user, session)
                if known is None or counter > known:
                    highest[user, session] = counter
                    unseen.append(batch if known is None or not batch.chunks else _after(batch, known))
            else:
                key = user, _key(batch)
                if key not in seen and not self._is_recent(*key, now):
                    seen.add(key)
                    unseen.append(batch)
        return unseen

    def remember(self, batches: Iterable[Batch], now: int) -> None:
        """Record committed batches."""
        for batch in batches:
            if batch.chunk_id is None or not batch.count:
                continue
            user = batch.peer.uid
            own = self._unpacked.get(batch.chunk_id) or unpack_own(batch.chunk_id)
            if own is None:
                self._foreign.drop_oldest_while(user, lambda first: now - first > self._window_ns)
                self._foreign.put(user, _key(batch), now)
            else:
                session, counter = own
                known = self._sessions.get(user, session)
                self._sessions.put(user, session, counter if known is None else max(counter, known))
        self._unpacked.clear()

    def snapshot(self, now: int) -> bytes:
        """
        Return both tables in msgpack: ``[[[user, [[session, counter], …]], …], [[user, [key, …]], …]]``.

        The sessions of a user are ordered by last use, the least recent first; the keys by age, the oldest first.
        """
        sessions = [(user, list(rows.items())) for user, rows in self._sessions.users()]
        foreign = [
            (user, [key for key, first in rows.items() if now - first <= self._window_ns])
            for user, rows in self._foreign.users()
        ]
        return msgspec.msgpack.encode((sessions, [row for row in foreign if row[1]]))

    def restore(self, snapshot: bytes, now: int) -> None:
        """
        Replace both tables by the contents of a snapshot. Raises ValueError if *snapshot* is not one.

        The window of every key starts again, because the clock may have been set while the hub was stopped.
        """
        try:
            sessions, foreign = _decode(snapshot)
        except msgspec.DecodeError as error:
            raise ValueError(f"not a snapshot: {error}") from error
        self._sessions.clear()
        self._foreign.clear()
        for user, rows in sessions:
            for session, counter in rows:
                self._sessions.put(user, session, counter)
        for user, keys in foreign:
            for key in keys:
                self._foreign.put(user, key, now)

    def _unpack(self, chunk_id: bytes) -> tuple[bytes, int] | None:
        """Return session and counter if it is one of our own chunk ids, and keep them for `remember`."""
        own = unpack_own(chunk_id)
        if own is not None:
            self._unpacked[chunk_id] = own
        return own

    def _is_recent(self, user: int, key: bytes, now: int) -> bool:
        first = self._foreign.get(user, key)
        return first is not None and now - first <= self._window_ns


class _Table(Generic[Row]):
    """
    Rows of many users. Each user's rows are in the order of their last `put`. One limit applies to all users together.
    """

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self.clear()

    def clear(self) -> None:
        self._rows: dict[int, OrderedDict[bytes, Row]] = {}
        self._count = 0
        self._holders: dict[int, dict[int, None]] = {}  # number of rows -> the users that have exactly this number
        self._most = 0  # upper bound of the largest number of rows of a user

    def bound(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self._shrink()

    def get(self, user: int, key: bytes) -> Row | None:
        rows = self._rows.get(user)
        return None if rows is None else rows.get(key)

    def put(self, user: int, key: bytes, row: Row) -> None:
        """Add or replace *row*, as the user's newest."""
        rows = self._rows.get(user)
        if rows is None:
            rows = self._rows[user] = OrderedDict()
        is_known = key in rows
        rows[key] = row
        rows.move_to_end(key)
        if not is_known:
            self._resized(user, len(rows) - 1, len(rows))
            self._shrink()

    def drop_oldest_while(self, user: int, condition: Callable[[Row], bool]) -> None:
        """Drop a user's oldest rows while *condition* holds for them."""
        while (rows := self._rows.get(user)) and condition(next(iter(rows.values()))):
            self._drop_oldest(user)

    def users(self) -> Iterator[tuple[int, OrderedDict[bytes, Row]]]:
        """Yield each user and its rows."""
        yield from self._rows.items()

    def _shrink(self) -> None:
        while self._count > self._rows_max:
            while not self._holders.get(self._most):
                self._most -= 1
            self._drop_oldest(next(iter(self._holders[self._most])))

    def _drop_oldest(self, user: int) -> None:
        rows = self._rows[user]
        rows.popitem(last=False)
        if not rows:
            del self._rows[user]
        self._resized(user, len(rows) + 1, len(rows))

    def _resized(self, user: int, before: int, after: int) -> None:
        """Update the counts, so that the largest holder is found without scanning all users."""
        self._count += after - before
        if before:
            holders = self._holders[before]
            del holders[user]
            if not holders:
                del self._holders[before]
        if after:
            self._holders.setdefault(after, {})[user] = None
            self._most = max(self._most, after)


def _after(batch: Batch, known: int) -> Batch:
    """Return *batch* without the chunks up to the one with the counter *known*. The last one is later."""
    first = next(number for number, chunk in enumerate(batch.chunks) if counter_of(chunk.chunk_id) > known)
    if not first:
        return batch
    start, chunks = batch.chunks[first - 1].end, batch.chunks[first:]
    count = sum(chunk.messages for chunk in chunks)
    before = start - ARRAY_HEADER_BYTES
    return msgspec.structs.replace(
        batch,
        entries=join((memoryview(batch.entries)[start:],), count),
        count=count,
        crc=None,
        chunks=tuple(chunk._replace(end=chunk.end - before) for chunk in chunks),
    )


def _key(batch: Batch) -> bytes:
    """Return the digest that identifies tag, chunk id and content."""
    assert batch.chunk_id is not None
    crc = crc32(batch.entries) if batch.crc is None else batch.crc
    digest = hashlib.blake2b(_CONTENT.pack(len(batch.entries), crc), digest_size=16)
    digest.update(len(batch.tag).to_bytes(4, "little"))
    digest.update(batch.tag)
    digest.update(batch.chunk_id)
    return digest.digest()
