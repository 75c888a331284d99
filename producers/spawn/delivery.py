"""
Where a child's messages go: to the hub, through one producer, and to the console.

One producer for all children, so that the journal has their messages in the order in which they were read.

Always true:
- messages leave in the order in which they came;
- nobody waits longer than `PATIENCE_S`, all in all, until there is room again: then it is dropped, and counted;
- what was dropped is a message of its own, under the tag of losses, in front of what comes through next: that is when
  half of what waited for the hub has left, so that an outage costs one gap, and not every second line.

Not here: sending and keeping (producers.blocking), showing (producers.spawn.console).
"""

from __future__ import annotations

import time
from typing import NamedTuple

from hub.message import LOSS_TAG
from producers.blocking import Producer
from producers.errors import BacklogFull
from producers.record import encode_record, pack_entry
from producers.spawn.console import Console

PATIENCE_S = 1.0


class Parcel(NamedTuple):
    """So many *messages* of one child that were read together: their entries, and what the console shows of them."""

    tag: str
    entries: bytes
    messages: int
    shown: list[bytes]
    shown_as: str


class _Patience:
    """How long one may still be waited for, until it moves again."""

    def __init__(self, seconds: float) -> None:
        self._full_s = self.left_s = seconds

    def restore(self) -> None:
        self.left_s = self._full_s

    def spend(self, since: float) -> None:
        self.left_s = max(self.left_s - (time.monotonic() - since), 0.0)


class Delivery:
    """Give parcels to *producer* and *console*, either of which may be missing."""

    def __init__(self, producer: Producer | None, console: Console | None, *, patience_s: float = PATIENCE_S) -> None:
        self._producer = producer
        self._console = console
        self._with_hub = _Patience(patience_s)
        self._with_console = _Patience(patience_s)
        self._is_half_done = False  # the hub has this parcel, the console has not
        self._losses: dict[str, list[int]] = {}  # by tag: messages and bytes, not told yet
        self._pending_max = 0  # when the first of them was dropped; at half of that it goes on
        self.dropped = 0
        """Messages that found no room."""
        self.dropped_bytes = 0

    def offer(self, parcel: Parcel) -> bool:
        """Give at once; False if there is no room now: then the same parcel is to be given to `insist`."""
        return self._give(parcel, is_patient=False)

    def insist(self, parcel: Parcel) -> None:
        """Give it as soon as there is room, waiting no longer than patience lasts. Blocks."""
        self._give(parcel, is_patient=True)

    def _give(self, parcel: Parcel, *, is_patient: bool) -> bool:
        if self._producer is not None and not self._is_half_done and not self._send(parcel, is_patient=is_patient):
            return False
        self._is_half_done = True
        if self._console is not None and parcel.shown and not self._show(parcel, is_patient=is_patient):
            return False
        self._is_half_done = False
        return True

    def _send(self, parcel: Parcel, *, is_patient: bool) -> bool:
        """Return whether that is settled: sent, or dropped."""
        assert self._producer is not None
        begin = time.monotonic()
        try:
            if self._losses:
                if 2 * self._producer.pending > self._pending_max:
                    self._drop(parcel)
                    return True
                self._tell_losses()
            self._pass_on(parcel.entries, parcel.messages, parcel.tag, self._with_hub.left_s if is_patient else 0.0)
        except BacklogFull:
            if not is_patient and self._with_hub.left_s:
                return False
            self._with_hub.spend(begin)
            self._drop(parcel)
            return True
        self._with_hub.restore()
        return True

    def _pass_on(self, entries: bytes, count: int, tag: str, timeout: float) -> None:
        assert self._producer is not None
        self._producer.send_entries(entries, count, tag=tag, timeout=timeout)

    def _drop(self, parcel: Parcel) -> None:
        assert self._producer is not None
        if not self._losses:
            self._pending_max = self._producer.pending
        loss = self._losses.setdefault(parcel.tag, [0, 0])
        loss[0] += parcel.messages
        loss[1] += len(parcel.entries)
        self.dropped += parcel.messages
        self.dropped_bytes += len(parcel.entries)

    def _tell_losses(self) -> None:
        """Raises BacklogFull, and what is not told yet stays to be told."""
        for tag, (count, lost_bytes) in list(self._losses.items()):
            reason = "the hub was away, and there was no more room for the output of this process"
            record = {"reason": reason, "count": count, "bytes": lost_bytes, "tag": tag}
            self._pass_on(pack_entry(encode_record(record), None), 1, LOSS_TAG.decode(), 0.0)
            del self._losses[tag]

    def _show(self, parcel: Parcel, *, is_patient: bool) -> bool:
        assert self._console is not None
        begin = time.monotonic()
        timeout = self._with_console.left_s if is_patient else 0.0
        if self._console.show(parcel.shown_as, parcel.shown, timeout=timeout):
            self._with_console.restore()
            return True
        if not is_patient and self._with_console.left_s:
            return False
        self._with_console.spend(begin)
        self._console.hide(len(parcel.shown))
        return True
