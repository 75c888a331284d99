"""
What a decoder returns from one call, in order.

Always true: losses without a chunk id that say the same of the same tag are one loss, with the sum of their counts and
bytes and the first one's sample. A loss with a chunk id is never merged: each is acknowledged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from hub.message import Batch, Loss

_T = TypeVar("_T")


class Items(Generic[_T]):
    """Collects batches, losses, and whatever else a decoder returns."""

    def __init__(self) -> None:
        self._items: list[_T | Batch | Loss] = []
        self._losses: dict[tuple[str, bytes], tuple[int, int, int]] = {}  # place, count, bytes

    def add(self, item: _T | Batch) -> None:
        """Put *item* behind the others."""
        self._items.append(item)

    def add_loss(self, loss: Loss) -> None:
        """Put *loss* behind the others, or into the one that says the same."""
        if loss.chunk is not None or loss.fatal:
            self._items.append(loss)
            return
        key = loss.reason, loss.tag
        if key not in self._losses:
            self._losses[key] = len(self._items), loss.count, loss.lost_bytes
            self._items.append(loss)
        else:
            place, count, lost_bytes = self._losses[key]
            self._losses[key] = place, count + loss.count, lost_bytes + loss.lost_bytes

    def take(self) -> Sequence[_T | Batch | Loss]:
        """Return everything since the last time."""
        for place, count, lost_bytes in self._losses.values():
            loss = self._items[place]
            assert isinstance(loss, Loss)
            if loss.count != count or loss.lost_bytes != lost_bytes:
                self._items[place] = msgspec.structs.replace(loss, count=count, lost_bytes=lost_bytes)
        items, self._items = self._items, []
        self._losses = {}
        return items
