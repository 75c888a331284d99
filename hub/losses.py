"""
The recent losses, for the command `losses`: one row for each user, reason, tag and command name.

Every loss is also a message under ``mpsr.loss``, which the journal keeps. This is a summary in memory, since the start.

Always true:
- no user's losses push out another's: each has at most `ROWS_MAX` rows, of which the one with the oldest loss is merged
  into a row without tag and command name, with the reason `OTHERS`;
- at most `USERS_MAX` users are kept, those with the latest losses.

Not here: the number of all losses (hub.metrics), the messages (hub.intake).
"""

from __future__ import annotations

import dataclasses
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator

from hub.message import Loss, Peer

ROWS_MAX = 32
USERS_MAX = 128
REASON_CHARS_SHOWN, TAG_BYTES_SHOWN = 128, 64
"""The rest of a longer reason or tag is cut off."""
OTHERS = "(others)"
_Key = tuple[str, bytes, str]  # reason, tag, command name


@dataclasses.dataclass(slots=True)
class LossRow:
    """The losses of one kind: how many messages and bytes, in how many reports; the times are ns since the epoch."""

    uid: int
    comm: str
    reason: str
    tag: bytes
    pid: int = 0
    """The process of the last loss."""
    count: int = 0
    bytes: int = 0
    reports: int = 0
    first: int = 0
    last: int = 0

    def add(self, other: LossRow) -> None:
        """Add the counts of *other*."""
        self.pid = other.pid if other.last >= self.last else self.pid
        self.first = min(self.first, other.first) if self.reports else other.first
        self.last = max(self.last, other.last)
        self.count += other.count
        self.bytes += other.bytes
        self.reports += other.reports


class Losses:
    """
    The summary. *clock* returns nanoseconds since the epoch. *on_loss* is called with each loss, as a row of its own,
    when it is counted.
    """

    def __init__(
        self, clock: Callable[[], int] = time.time_ns, *, on_loss: Callable[[LossRow], None] | None = None
    ) -> None:
        self._clock = clock
        self._on_loss = on_loss
        self._users: OrderedDict[int, OrderedDict[_Key, LossRow]] = OrderedDict()

    def note(self, loss: Loss, peer: Peer) -> None:
        """Count *loss*, of *peer*."""
        now = self._clock()
        reason, tag = loss.reason[:REASON_CHARS_SHOWN], loss.tag[:TAG_BYTES_SHOWN]
        row = LossRow(peer.uid, peer.comm, reason, tag, peer.pid, loss.count, loss.lost_bytes, 1, now, now)
        alone = dataclasses.replace(row)
        rows = self._users.setdefault(peer.uid, OrderedDict())
        self._users.move_to_end(peer.uid)
        if len(self._users) > USERS_MAX:
            self._users.popitem(last=False)
        _add(rows, row)
        if len(rows) > ROWS_MAX:
            oldest = next(key for key in rows if key[0] != OTHERS)
            old = rows.pop(oldest)
            _add(rows, dataclasses.replace(old, comm="", reason=OTHERS, tag=b""))
        if self._on_loss is not None:
            self._on_loss(alone)

    def rows(self) -> Iterator[LossRow]:
        """Yield all rows, in no order."""
        for rows in self._users.values():
            yield from rows.values()


def _add(rows: OrderedDict[_Key, LossRow], row: LossRow) -> None:
    key = row.reason, row.tag, row.comm
    if key in rows:
        rows[key].add(row)
        rows.move_to_end(key)
    else:
        rows[key] = row
