"""
The datagrams of one user, from a socket that all users share, until they are accepted.

The datagrams of all users are in one queue of the kernel's, so a source that waited until one user had room would hold
up all others. Each user has a lane instead: its datagrams wait there, at the expense of the user, and a task takes them
as fast as the user's turn and the inbox allow.

Always true:
- the order of a user's datagrams is kept;
- a lane holds as much as the user may hold. The source waits for room while the lane makes progress, or while the disk
  accepts nothing from any user; otherwise at most `WAIT_S` in each `WINDOW_S`. After that, datagrams that do not fit
  are losses;
- losses are reported within the user's allowance, and hold up nobody else.

Not here: the socket (hub.sources.datagram).
"""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from hub.budget import FREE_BYTES, ITEM_BYTES, PIECE_BYTES, Budget
from hub.checksum import crc32
from hub.entries import join
from hub.errors import HubClosed
from hub.holding import Holding
from hub.intake import Data, Intake
from hub.log import get_logger
from hub.message import Batch, Loss, Peer
from hub.users import User
from hub.waiting import until_set
from hub.wire import journald, sysloglines
from hub.wire.batcher import Batcher
from hub.wire.payload import Unopened

WAIT_S, WINDOW_S = 1.0, 10.0
LOOK_S = 0.1
"""How often it is checked, while the source waits, whether the lane makes progress."""
LANE_BYTES_MAX = 4 << 20
"""Bytes that a lane may hold, if the user's share allows it: a commit of the journal."""
STEP_MAX, STEP_BYTES = 256, 256 << 10
"""Datagrams, and bytes, that one step decodes: a millisecond."""
FILES_MAX = 16
"""Maximum descriptors of one user that wait."""
NO_ROOM = "datagrams for which there was no room"
log = get_logger("mpsr.sources")


class Arrived(NamedTuple):
    """One datagram, or the file that an empty one brought, and the intake of its writer."""

    intake: Intake
    data: bytes
    file: io.FileIO | None


class Lane:
    """The datagrams of *user*. With *tag*, all have that tag. *frame_bytes_max* bounds a message."""

    def __init__(self, user: User, budget: Budget, tag: bytes | None, frame_bytes_max: int) -> None:
        self.user = user
        self.frame_bytes_max = frame_bytes_max
        self._budget = budget
        self._tag = tag
        self._holding = Holding(user.account)
        budget.hold_up(self._holding, True)  # nothing more is expected of it: it cannot stall
        self._waiting: deque[Arrived] = deque()
        self._held_bytes = 0
        self._drained = 0  # datagrams that were decoded
        self._got_on = asyncio.Event()
        self._files = 0
        self._losses: dict[str, tuple[Intake, int, int]] = {}  # by reason: intake, number, bytes
        self._waited_s, self._window_at = 0.0, float("-inf")
        self._taking: Intake | None = None
        self.task: asyncio.Task[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits here."""
        return self.task is None or self.task.done()

    async def room(self) -> bool:
        """Return whether there is room for a datagram, after a wait if necessary."""
        budget, loop = self._budget, asyncio.get_running_loop()
        while not self.has_room:
            began, released_at, drained = loop.time(), budget.released_at, self._drained
            if began >= self._window_at + WINDOW_S:
                self._waited_s, self._window_at = 0.0, began
            if self._waited_s >= WAIT_S:
                return False
            await self._look()
            does_disk_stand_still = budget.queued_bytes and budget.released_at == released_at
            if self._drained == drained and not does_disk_stand_still:
                self._waited_s += loop.time() - began
        return True

    @property
    def has_room(self) -> bool:
        """Whether `room` need not be waited for."""
        held = self._held_bytes
        return held < FREE_BYTES or (held < LANE_BYTES_MAX and self._budget.room(self.user.account) >= PIECE_BYTES)

    async def _look(self) -> None:
        """Return when the lane has made progress, after `LOOK_S` at the latest."""
        self._got_on.clear()
        await until_set(self._got_on, LOOK_S)

    def add(self, datagram: Arrived) -> None:
        """Take *datagram*. There is room for it."""
        if datagram.file is not None:
            if self._files >= FILES_MAX:
                datagram.file.close()
                self.lose(datagram.intake, NO_ROOM, 0)
                return
            self._files += 1
        self._waiting.append(datagram)
        self._count(len(datagram.data) + ITEM_BYTES)
        self._start()

    def lose(self, intake: Intake, reason: str, size: int) -> None:
        """Count the loss of a datagram of *size* bytes."""
        _, count, lost_bytes = self._losses.get(reason, (intake, 0, 0))
        self._losses[reason] = intake, count + 1, lost_bytes + size
        self._start()

    def lift_limits(self) -> None:
        """Ignore the rate limits for everything that waits here."""
        for intake in {self._taking, *(datagram.intake for datagram in self._waiting)}:
            if intake is not None:
                intake.lift_limits()

    def close(self) -> None:
        """Discard what is left."""
        if self.task is not None:
            self.task.cancel()
        for datagram in self._waiting:
            if datagram.file is not None:
                datagram.file.close()
        self._waiting.clear()
        self._budget.keep(self._holding, 0)

    def _count(self, size: int) -> None:
        self._held_bytes += size
        self._budget.arrived(self._holding, size)

    def _start(self) -> None:
        if self.is_idle:
            self.task = asyncio.create_task(self._serve(), name=f"mpsr-lane-{self.user.uid}")

    async def _serve(self) -> None:
        """Take everything that waits, and report what was lost."""
        try:
            while self._waiting or self._losses:
                if self._waiting:
                    await self._take_some()
                    continue
                losses, self._losses = self._losses, {}
                for reason, (intake, count, lost_bytes) in losses.items():
                    await intake.lose(Loss(reason, count, lost_bytes))
        except HubClosed:
            pass
        except Exception:  # noqa: BLE001  a fault of ours with one user's datagrams must not affect other users
            self.user.lines.log(log.exception, "datagram.failed", uid=self.user.uid)

    async def _take_some(self) -> None:
        intake = self._taking = self._waiting[0].intake
        await intake.ready()
        files: list[io.FileIO] = []
        with self.user.turn:
            items = self._decode(intake, files)
        self._budget.decoded(self._holding, len(items))
        try:
            await intake.take(items)
        except asyncio.CancelledError:
            files.clear()  # a thread may be reading one
            raise
        finally:
            self._budget.keep(self._holding, self._held_bytes)
            self._got_on.set()
            for file in files:  # those that were refused are not closed yet
                file.close()

    def _decode(self, intake: Intake, files: list[io.FileIO]) -> list[Data]:
        """Decode the next datagrams of one writer. Their files are put into *files*."""
        batcher = Batcher(intake.peer, intake)
        lines: list[bytes] = []  # of syslog, which most datagrams are
        size = 0
        for _ in range(STEP_MAX):
            if not self._waiting or self._waiting[0].intake is not intake or size >= STEP_BYTES:
                break
            datagram = self._waiting.popleft()
            self._drained += 1
            data = datagram.data
            size += len(data)
            self._held_bytes -= len(data) + ITEM_BYTES
            if data[:1] == b"<" and self._tag is None:
                lines.append(sysloglines.datagram_line(data))
                continue
            if lines:
                batcher.add_syslog(lines)
                lines = []
            if datagram.file is not None:
                self._files -= 1
                files.append(datagram.file)
                work = partial(open_file, datagram.file, intake.peer, intake, self._tag, self.frame_bytes_max)
                batcher.add_unopened(Unopened(work, 0))
            else:
                tag, entries = entries_of(data)
                for entry in entries:
                    batcher.add_entry(self._tag or tag, entry)
        if lines:
            batcher.add_syslog(lines)
        return batcher.take()  # type: ignore[return-value]  # there are no requests


def entries_of(data: bytes) -> tuple[bytes, list[bytes]]:
    """Return the tag and the entries of a datagram: journald's protocol by its shape, else a line of syslog."""
    if data[:1] != b"<" and (entries := journald.parse(data)) is not None:
        return journald.TAG, entries
    return sysloglines.TAG, [sysloglines.encode_entry(sysloglines.datagram_line(data))]


def open_file(file: io.FileIO, peer: Peer, intake: Intake, tag: bytes | None, bytes_max: int) -> Sequence[Batch | Loss]:
    """Return the messages in a sealed *file*, and close it. Called on a thread."""
    with file:
        size = file.seek(0, io.SEEK_END)
        if size > bytes_max:
            return [Loss(f"a file over the limit of {bytes_max} bytes", lost_bytes=size)]
        file.seek(0)
        data = file.read(size)
    own, entries = entries_of(data)
    packed = join(entries, len(entries))
    return [Batch(tag or own, packed, len(entries), None, peer, intake, crc=crc32(packed))]
