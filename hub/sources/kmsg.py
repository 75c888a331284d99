"""
The kernel's log, read from /dev/kmsg: each record once, from where the last hub has stopped.

The kernel numbers its records from 0 at each start of the machine, and keeps as many as fit into its buffer. A gap in
the numbers is records that were overwritten before they were read: exactly that many are lost. If nothing was read
since the machine was started, reading begins with the oldest record in the buffer. Records that were overwritten before
that are a loss only if a hub has read the kernel's log earlier, and so would have read them.

Always true:
- a batch carries the number of its last record, and is committed together with it;
- the time is that of the kernel's clock plus the time at which the machine was started, by the clock of the host when
  the record is read: that clock stands still while the machine sleeps;
- the peer is not verified: with the right facility, root's programs write to the kernel's log, too.

Not here: the form of a record (hub.wire.kmsg).
Source: Documentation/ABI/testing/dev-kmsg of the kernel; syslog(2) about dmesg_restrict.
"""

from __future__ import annotations

import asyncio
import errno
import os
import time
from collections.abc import Callable

from hub.endpoint import Endpoint
from hub.entries import join
from hub.errors import SourceError
from hub.intake import Data
from hub.log import get_logger
from hub.message import Batch, Loss, Position
from hub.sources.configured import WAKE_S
from hub.sources.kinds import KMSG, Kmsg
from hub.sources.kmsgdevice import boot_id, open_device
from hub.sources.positioned import REFRESH_S, PositionedSource
from hub.sources.shown import Shown
from hub.sources.source import Lag
from hub.wire.kmsg import RECORD_BYTES_MAX, Record, parse

PREFIX = b"kmsg:"
TAG = b"kmsg"
RECORDS_MAX = 256
"""Records of one step and of one batch: 3 ms."""
OVERWRITTEN = "overwritten in the kernel's buffer before they were read"
log = get_logger("mpsr.kmsg")


class KmsgSource(PositionedSource):
    """Reads the kernel's log. *shown* has the hub's journal, which knows the position. *read* reads one record."""

    def __init__(
        self, table: Kmsg, endpoint: Endpoint, shown: Shown, *, read: Callable[[int, int], bytes] = os.read
    ) -> None:
        super().__init__(table, endpoint, shown, comm="kmsg", tag=TAG)
        self._read = read
        self._next: int | None = None  # the number that comes next; None: any
        self._is_drained = False
        self._check_rules()
        self._name = PREFIX + boot_id()
        self._fd = open_device()

    @property
    def lag(self) -> Lag:
        """No messages, once the buffer is read to its end."""
        return Lag(messages=0) if self._is_drained else Lag()

    async def run(self) -> None:
        """Read until `stop` is called; return when what was taken is stored. Raises SourceError or OSError."""
        loop = asyncio.get_running_loop()
        loop.add_reader(self._fd, self._woken.set)
        try:
            self._begin()
            while not self._is_stopping:
                if not await self._read_some():
                    self._is_drained = True
                    await self._wait_for_more()
            await self._intake.all_settled()
        finally:
            loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
            self._ended.set()

    def _begin(self) -> None:
        position = self._journal.position(self._name)
        if position is not None:
            self._next = position.number + 1
        elif self._journal.positions(PREFIX):  # of former starts of the machine; these rows expire
            self._next = 0

    async def _read_some(self) -> bool:
        """Read and take some records; False if there is none."""
        intake = self._intake
        await intake.ready()
        intake.user.turn.spend(WAKE_S)
        with intake.user.turn:
            records, is_drained = self._records()
            items = self._items(records)
        await self._take(items)
        return not is_drained

    def _records(self) -> tuple[list[Record], bool]:
        """Read up to `RECORDS_MAX` records; return them, and whether there are no more."""
        records: list[Record] = []
        for _ in range(RECORDS_MAX):
            try:
                data = self._read(self._fd, RECORD_BYTES_MAX)
            except BlockingIOError:
                return records, True
            except OSError as error:
                if error.errno == errno.EPIPE:  # overwritten: the number of the next record shows how many
                    continue
                raise
            if not data:
                raise SourceError(KMSG, "the device has ended")
            record = parse(data)
            if record is None:
                log.warning("kmsg.unreadable", sample=data[:64].hex())
            else:
                records.append(record)
        return records, False

    def _items(self, records: list[Record]) -> list[Data]:
        """Return what is to be stored of *records*: batches, and a loss before each record that follows a gap."""
        items: list[Data] = []
        packed: list[bytes] = []
        offset_ns = time.time_ns() - time.monotonic_ns()
        for record in records:
            if self._next is None:
                self._next = record.sequence
            if record.sequence < self._next:  # it was read before the hub was started
                continue
            if missing := record.sequence - self._next:
                self._flush(items, packed)
                loss = Loss(OVERWRITTEN, missing, tag=self._tag, positions=(self._position(record.sequence - 1),))
                items.append(loss)
            self._next = record.sequence + 1
            if (entry := record.packed(offset_ns)) is not None:
                packed.append(entry)
        self._flush(items, packed)
        return items

    def _flush(self, items: list[Data], packed: list[bytes]) -> None:
        if packed and self._next is not None:
            positions = (self._position(self._next - 1),)
            items.append(self._batch(packed, self._tag, positions))
            packed.clear()

    def _batch(self, packed: list[bytes], tag: bytes, positions: tuple[Position, ...]) -> Batch:
        count, intake = len(packed), self._intake
        return Batch(tag, join(packed, count), count, peer=intake.peer, origin=intake, positions=positions)

    def _position(self, number: int) -> Position:
        return Position(self._name, number)

    async def _wait_for_more(self) -> None:
        """Return when there may be something to read. Store the position that was stored long ago."""
        loop = asyncio.get_running_loop()
        if self._next and loop.time() - self._stored_at >= REFRESH_S:
            await self._take([self._batch([], b"", (self._position(self._next - 1),))])
        await self._wait(REFRESH_S)
