"""
The items that a decoder returns from one call, in order.

Always true: losses without a chunk id that have the same reason and tag are merged into the first one: their counts and
bytes are added. A loss with a chunk id is never merged, because each is acknowledged. A fatal loss is never merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import msgspec

from hub.message import Batch, Loss

_T = TypeVar("_T")


class Items(Generic[_T]):
    """Collects batches, losses, and the other items of a decoder."""

    def __init__(self) -> None:
        self._items: list[_T | Batch | Loss] = []
        self._losses: dict[tuple[str, bytes], tuple[int, int, int]] = {}  # place, count, bytes

    def add(self, item: _T | Batch) -> None:
        """Append *item*."""
        self._items.append(item)

    def add_loss(self, loss: Loss) -> None:
        """Append *loss*, or merge it into an equal one."""
        if loss.chunk_id is not None or loss.fatal:
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
        """Return everything added since the last call."""
        for place, count, lost_bytes in self._losses.values():
            loss = self._items[place]
            assert isinstance(loss, Loss)
            if loss.count != count or loss.lost_bytes != lost_bytes:
                self._items[place] = msgspec.structs.replace(loss, count=count, lost_bytes=lost_bytes)
        items, self._items = self._items, []
        self._losses = {}
        return items
