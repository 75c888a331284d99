"""
How far each repeatable source has been read: one row for each name.

A row is replaced by the newest block that names it; numbers are not compared, because a file that was truncated is read
from 0 again.

Always true:
- a row changes after the commit of the batch that carries it, never before;
- `get` and `starting_with` may be called on another thread than the rest: each row is there at every moment, as it was
  before or after a change;
- rows are dropped only when a segment begins: those that were not written for `AGE_S`, and the oldest of those that
  exceed `BYTES_MAX`;
- rows of imports, which users choose, are dropped above `IMPORTS_MAX`: the oldest ones of the users that have the most,
  so no user can push out the rows of a user with fewer, or those of a source.

Not here: which blocks count (hub.journal.recovery), the bytes of a position in a block (hub.journal.block).
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter
from typing import NamedTuple

import msgspec

from hub.entries import NS
from hub.message import FORGET, Batch, Position

DAY_S = 86_400
AGE_S = 30 * DAY_S
"""A source writes the rows of everything that still exists at least once in 7 days."""
IMPORT_PREFIX, IMPORT_AGE_S = b"import:", 400 * DAY_S
"""An import ends, and its rows are not written again."""
IMPORTS_MAX = 10_000
"""Rows of imports, of all users together."""
GRACE_S = DAY_S
"""How long after a start no row is dropped for its age: its source may have just been started, too."""
BYTES_MAX = 32 << 20
"""All rows together: more than 20,000, each as long as it may be. A snapshot of a segment may have twice that."""
ROW_BYTES = 24
"""Bytes of a row in addition to its name and detail: number, time, lengths."""


class Row(NamedTuple):
    """A position, and when it was written, in nanoseconds since the epoch."""

    position: Position
    written: int

    @property
    def name(self) -> bytes:
        return self.position.name

    @property
    def size_bytes(self) -> int:
        """Maximum bytes that it takes in a snapshot."""
        return ROW_BYTES + len(self.position.name) + len(self.position.detail)

    @property
    def age_max(self) -> int:
        """How old it may become, in nanoseconds."""
        return (IMPORT_AGE_S if _is_import(self.position.name) else AGE_S) * NS


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[bytes, int, bytes, int]]).decode
NO_POSITIONS = _encode([])
"""The snapshot of no rows."""


class Positions:
    """The rows. *bytes_max* limits what all of them take."""

    def __init__(self, *, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._rows: dict[bytes, Row] = {}
        self._imports = 0  # rows of imports
        self.size_bytes: int = 0
        """Maximum bytes that all rows take in a snapshot."""

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, name: bytes) -> Position | None:
        """Return the position of *name*, None if there is none."""
        row = self._rows.get(name)
        return None if row is None else row.position

    def starting_with(self, prefix: bytes) -> list[Position]:
        """Return the positions whose names begin with *prefix*."""
        return [row.position for name, row in self._rows.copy().items() if name.startswith(prefix)]

    def put(self, positions: Sequence[Position], now: int) -> None:
        """Replace the rows of *positions*, which were committed at *now*, or remove them."""
        for position in positions:
            if position.number == FORGET:
                self._remove(position.name)
            else:
                self._replace(Row(position, now))
        if self._imports > IMPORTS_MAX + IMPORTS_MAX // 8:  # seldom: it takes some milliseconds
            self._drop_imports()

    def unseen(self, batches: Sequence[Batch]) -> Sequence[Batch]:
        """Return *batches* without those that do not continue at the position that they name."""
        if not any(batch.continues for batch in batches):
            return batches
        reached: dict[bytes, Position] = {}  # by the batches before, in this commit
        unseen = []
        for batch in batches:
            start = batch.continues
            if start is None or (reached.get(start.name) or self.get(start.name) or Position(start.name, 0)) == start:
                unseen.append(batch)
                reached.update((position.name, position) for position in batch.positions)
        return unseen

    def keep_until(self, now: int) -> None:
        """Let no row be dropped for its age before *now* + `GRACE_S`."""
        for row in self._rows.copy().values():
            written = now + GRACE_S * NS - row.age_max
            if row.written < written:
                self._replace(row._replace(written=written))

    def drop(self, now: int) -> int:
        """
        Drop the rows that are too old at *now*, and the oldest ones above the limit in bytes.

        Return the number of the latter, which may be needed.
        """
        for row in self._rows.copy().values():
            if now - row.written > row.age_max:
                self._remove(row.name)
        self._drop_imports()
        forgotten = 0
        if self.size_bytes > self._bytes_max:
            oldest = iter(sorted(self._rows.values(), key=attrgetter("written")))
            while self.size_bytes > self._bytes_max:
                self._remove(next(oldest).name)
                forgotten += 1
        return forgotten

    def snapshot(self) -> bytes:
        """Return all rows in msgpack: ``[[name, number, detail, written], …]``."""
        rows = self._rows.values()
        return _encode([(each.name, each.number, each.detail, written) for each, written in rows])

    def restore(self, snapshot: bytes) -> None:
        """Replace all rows by those of a snapshot. Raises ValueError if *snapshot* is not one."""
        try:
            rows = [Row(Position(name, number, detail), when) for name, number, detail, when in _decode(snapshot)]
        except (msgspec.DecodeError, ValueError) as error:
            raise ValueError(f"not a snapshot: {error}") from error
        self._rows = {row.name: row for row in rows}
        self.size_bytes = sum(row.size_bytes for row in self._rows.values())
        self._imports = sum(map(_is_import, self._rows))

    def _replace(self, row: Row) -> None:
        """Put *row* in the place of the one with its name, in one step."""
        before = self._rows.get(row.name)
        self._rows[row.name] = row
        self._imports += before is None and _is_import(row.name)
        self.size_bytes += row.size_bytes - (before.size_bytes if before else 0)

    def _remove(self, name: bytes) -> None:
        row = self._rows.pop(name, None)
        if row is not None:
            self.size_bytes -= row.size_bytes
            self._imports -= _is_import(row.name)

    def _drop_imports(self) -> None:
        """Drop rows of imports above `IMPORTS_MAX`. Users share it; what one leaves is there for the others."""
        if self._imports <= IMPORTS_MAX:
            return
        users: dict[bytes, list[Row]] = {}
        for row in sorted(self._rows.values(), key=attrgetter("written"), reverse=True):
            if _is_import(row.name):
                users.setdefault(row.name.split(b":", 2)[1], []).append(row)
        room = IMPORTS_MAX
        for number, rows in enumerate(sorted(users.values(), key=len)):
            kept = min(len(rows), room // (len(users) - number))
            room -= kept
            for row in rows[kept:]:
                self._remove(row.name)


def _is_import(name: bytes) -> bool:
    return name.startswith(IMPORT_PREFIX)
