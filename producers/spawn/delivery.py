"""
Delivers the children's messages to the hub, through one producer, and to the console.

All children share one producer, so that the journal holds their messages in the order in which they were read.

Always true:
- messages leave in the order in which they arrived;
- for each destination, all waits until there is room again take at most `PATIENCE_S` together; after that messages are
  dropped and counted;
- dropped messages are reported by a loss message before the next message that is sent. Sending resumes when half of the
  pending messages have left, so that an outage makes one gap instead of dropping every second line.

Not here: sending and keeping (producers.blocking), output (producers.spawn.console).
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
    """
    Messages of one child that were read together: *messages* is their number, *entries* their msgpack entries, *shown*
    their lines on the console.
    """

    tag: str
    entries: bytes
    messages: int
    shown: list[bytes]
    shown_as: str


class _Patience:
    """The time that may still be spent waiting for one destination; it is restored at the next success."""

    def __init__(self, seconds: float) -> None:
        self._full_s = self.left_s = seconds

    def restore(self) -> None:
        self.left_s = self._full_s

    def spend(self, since: float) -> None:
        self.left_s = max(self.left_s - (time.monotonic() - since), 0.0)


class Delivery:
    """Delivers parcels to *producer* and *console*. Either may be None."""

    def __init__(self, producer: Producer | None, console: Console | None, *, patience_s: float = PATIENCE_S) -> None:
        self._producer = producer
        self._console = console
        self._with_hub = _Patience(patience_s)
        self._with_console = _Patience(patience_s)
        self._is_half_done = False  # the hub has this parcel, the console does not
        self._losses: dict[str, list[int]] = {}  # by tag: messages and bytes, not reported yet
        self._pending_max = 0  # pending messages at the first drop; sending resumes at half
        self.dropped = 0
        """Messages for which there was no room."""
        self.dropped_bytes = 0

    def offer(self, parcel: Parcel) -> bool:
        """Deliver without waiting. False if there is no room now: pass the same parcel to `insist`."""
        return self._give(parcel, is_patient=False)

    def insist(self, parcel: Parcel) -> None:
        """Deliver as soon as there is room, or drop the parcel when patience runs out. Blocks."""
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
        """Return whether the parcel is settled: sent, or dropped."""
        assert self._producer is not None
        begin = time.monotonic()
        try:
            if self._losses:
                if 2 * self._producer.pending > self._pending_max:
                    self._drop(parcel)
                    return True
                self._report_losses()
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

    def _report_losses(self) -> None:
        """Report the losses. Raises BacklogFull; the losses that are not reported yet stay recorded."""
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
