"""
Makes batches of the journal's entries, each with the place after itself.

Always true: the order is kept; a batch has at most `BATCH_BYTES`, or one entry; an entry that is too large is a loss.

Not here: the entries (hub.wire.journalexport), the place (hub.sources.journalplace).
"""

from __future__ import annotations

import msgspec

from hub.entries import join
from hub.message import Batch, Loss, Origin, Peer
from hub.sources.journalplace import Place
from hub.wire.journalexport import Entry

BATCH_BYTES = 256 << 10


class JournalBatches:
    """Gathers entries under *tag*, in the name of *peer*, for *origin*. *name* is that of the position."""

    def __init__(self, tag: bytes, peer: Peer, origin: Origin | None, *, name: bytes, entry_bytes_max: int) -> None:
        self._tag = tag
        self._peer = peer
        self._origin = origin
        self._name = name
        self._entry_bytes_max = entry_bytes_max
        self._items: list[tuple[Batch | Loss, Place]] = []
        self._packed: list[bytes] = []
        self._size = 0
        self._place = Place()  # of the last entry in `_packed`

    def add(self, entry: Entry, place: Place) -> None:
        """Add an entry, with the place after it."""
        packed = None if entry.is_cut else entry.packed()
        if packed is None or len(packed) > self._entry_bytes_max:
            self._flush()
            reason = f"an entry of the journal over the limit of {self._entry_bytes_max} bytes"
            self._items.append((Loss(reason, 1, entry.size, tag=self._tag), place))
            return
        if self._size + len(packed) > BATCH_BYTES:
            self._flush()
        self._packed.append(packed)
        self._size += len(packed)
        self._place = place

    def take(self, last: Place) -> list[Batch | Loss]:
        """
        Return all that was added. *last* is the place of the last entry that was read: gaps are reported up to there.
        """
        self._flush()
        items = [self._placed(item, place, last) for item, place in self._items]
        self._items = []
        return items

    def _placed(self, item: Batch | Loss, place: Place, last: Place) -> Batch | Loss:
        counted = last.counted if place.line == last.line else place.counted
        positions = (place._replace(counted=counted).position(self._name),)
        return msgspec.structs.replace(item, positions=positions)

    def _flush(self) -> None:
        if self._packed:
            count = len(self._packed)
            batch = Batch(self._tag, join(self._packed, count), count, peer=self._peer, origin=self._origin)
            self._items.append((batch, self._place))
            self._packed, self._size = [], 0
