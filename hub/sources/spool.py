"""
What dead producers have left: read from their spools as from a connection, stored, and removed.

A producer is dead when no process holds the lock of its session. The folder is looked at when the hub starts, soon
after a connection has ended, and every `LOOK_S`, because a socket that a forked child inherited hides the end.

One look finds what each user keeps; a task for each user reads what its dead sessions left, all users at the same
time. Reading is done in steps on one thread, and the users' steps take turns there.

Always true:
- a file is removed when everything in it is on the hub's disk, and not before; what was stored already is not again;
- what is in a file can do no more than what comes over a connection: the same intake accepts it;
- no user waits for another: neither for the mass of its files, nor for its memory, its losses or its refusals;
- after a step the thread rests as long as the step took, so that the event loop has the interpreter;
- what one user's files cause in the log is rationed.

Not here: the folder (hub.sources.spoolfolder), what users may keep (hub.sources.holdings), reading
(hub.sources.spoolreader), writing (producers.spool).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import msgspec

from hub.access import Access, Gate, Groups
from hub.budget import READ_BYTES
from hub.errors import HubClosed
from hub.intake import Intake
from hub.log import get_logger
from hub.message import Loss, Peer
from hub.metrics import Metrics
from hub.sources.deadspool import Part
from hub.sources.holdings import BYTES_SHARE, FILES_MAX, Holding, Look, Patience
from hub.sources.spoolfolder import SpoolFolder
from hub.sources.spoolreader import SpoolReader
from hub.users import Users

LOOK_S = 5.0
PAUSE_S, PAUSE_MAX_S = 0.1, 0.5
"""Between two looks, however many connections end, and however long a look took: no mass of files delays others."""
PAUSE_RATIO = 10
"""Between these two, a pause lasts as many times as long as the last look took."""
_LOOK_STEP_S = 0.003
_TOO_MUCH = f"removed: more than {FILES_MAX} spool files of a user, or 1/{BYTES_SHARE} of a nearly full file system"
T = TypeVar("T")
log = get_logger("mpsr.adoption")


class Adoption:
    """
    Adopts what is left in *folder*. `run` is its task.

    *accept* makes the intake of a peer with the rights of a gate.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        accept: Callable[[Peer, Gate], Intake],
        *,
        users: Users,
        access: Access,
        metrics: Metrics,
        frame_bytes_max: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.has_looked = asyncio.Event()
        """Whether what was left at the start is adopted: what its producers send now comes after it."""
        self._folder = folder
        self._accept = accept
        self._users = users
        self._access = access
        self._metrics = metrics
        self._frame_bytes_max = frame_bytes_max
        self._clock = clock
        self._ended = asyncio.Event()
        self._is_closed = False
        self._left_alone: dict[str, int] = {}  # the thread's
        self._patience = Patience()
        self._readers: dict[int, SpoolReader] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mpsr-adopt")
        self._rests_until = 0.0

    def connection_ended(self) -> None:
        """Look soon: it may have been a process that died."""
        self._ended.set()

    async def follow_socket(self) -> None:
        """Have the folder as open as the socket is now."""
        if not self._is_closed:
            await self._on_thread(self._folder.prepare)

    async def run(self) -> None:
        """Adopt until the inbox is closed; cancelled by its owner."""
        try:
            while not self._is_closed:
                self._ended.clear()
                began = self._clock()
                await self.look()
                self._wait_for_first()
                await asyncio.sleep(min(max(PAUSE_S, PAUSE_RATIO * (self._clock() - began)), PAUSE_MAX_S))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._ended.wait()
        finally:
            self.close()

    async def sweep(self) -> None:
        """Look once, and adopt all that is found."""
        await self.look()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """End all work; the thread lets go of the folder when it is done with its step. A second time does nothing."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(RuntimeError):  # it was shut down before
            self._executor.submit(self._folder.close)
        self._executor.shutdown(wait=False)

    async def look(self) -> None:
        """Look through the folder, and let each user's task go on with what is found."""
        if not await self._on_thread(self._folder.prepare):
            return
        look = Look(self._folder, self._left_alone, self._patience, now=self._clock(), today=time.time())
        try:
            steps = look.steps()
            while not await self._on_thread(_advance, steps):
                pass
        except OSError as error:
            log.warning("spool.unreadable", folder=self._folder.path, error=error.strerror)
            return
        for holding in look.holdings.values():
            self._offer(holding)

    def _offer(self, holding: Holding) -> None:
        self._report_names(holding)
        reader = self._readers.get(holding.uid)
        if reader is None:
            if not holding.sessions and not holding.removed_files:
                return
            reader = self._readers[holding.uid] = self._reader(holding.uid)
            task = asyncio.create_task(self._adopt(reader), name=f"mpsr-adopt-{holding.uid}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif reader.offered is not None:  # not reported yet
            holding.removed_files += reader.offered.removed_files
            holding.removed_bytes += reader.offered.removed_bytes
        reader.offered = holding

    def _wait_for_first(self) -> None:
        """After the first look: note when all that it found is adopted."""
        if self.has_looked.is_set():
            return
        found = set(self._tasks)

        def ended(task: asyncio.Task[None]) -> None:
            found.discard(task)
            if not found:
                self.has_looked.set()

        for task in self._tasks:
            task.add_done_callback(ended)
        if not found:
            self.has_looked.set()

    def _reader(self, uid: int) -> SpoolReader:
        reader: SpoolReader

        def accept(peer: Peer) -> Intake:
            # The file's owner is known for certain, and the rules that name users, groups and commands apply to it.
            return self._accept(peer, Gate(self._access, msgspec.structs.replace(peer, verified=True), groups))

        def groups() -> Groups:
            return reader.groups

        reader = SpoolReader(
            self._folder,
            self._users.of(uid),
            accept=accept,
            left_alone=self._left_alone,
            frame_bytes_max=self._frame_bytes_max,
        )
        return reader

    # One user's task.

    async def _adopt(self, reader: SpoolReader) -> None:
        """Adopt what one user left, as far as it is dead."""
        try:
            while not reader.is_done:
                await self._adopt_some(reader)
        except HubClosed:
            self._is_closed = True
            self._ended.set()
        except Exception:  # noqa: BLE001  a fault of ours with one user's files costs no other user anything
            reader.user.lines.log(log.exception, "spool.failed", uid=reader.user.uid)
        finally:
            del self._readers[reader.user.uid]

    async def _adopt_some(self, reader: SpoolReader) -> None:
        """Read on for one step, and accept what comes out. Raises HubClosed."""
        intake = reader.intake
        if (holding := reader.take_offer()) is not None and holding.removed_files:
            await intake.lose(Loss(_TOO_MUCH, holding.removed_files, holding.removed_bytes))
        await intake.ready()
        if reader.held_bytes:
            await intake.budget.room_to_read(intake.holding)
        step = await self._on_thread(reader.step, READ_BYTES)
        for event, fields in step.notes:
            reader.user.lines.log(log.warning, event, uid=reader.user.uid, **fields)
        for source, part in step.parts:
            await self._accept_part(source, part)
        for spool in step.ended:
            if spool.intake is not None:
                await self._settle(spool.intake)
        reader.stored = step.ended
        if reader.wants_groups:
            reader.learn_groups(await asyncio.to_thread(_groups_of, reader.user.uid))

    async def _accept_part(self, intake: Intake, part: Part) -> None:
        """Accept what came out of a file, as of a connection. Raises HubClosed."""
        before = intake.messages
        intake.budget.arrived(intake.holding, part.read_bytes)
        intake.budget.decoded(intake.holding, len(part.items))
        try:
            if part.is_refused:
                intake.refuse("open the socket", 1)
            elif intake.gate.may("send"):
                await intake.take(part.items)
            else:
                for item in part.items:  # all of it is removed, so all of it is counted
                    intake.refuse("send", getattr(item, "count", 1))
        finally:
            intake.budget.keep(intake.holding, part.held_bytes)
            self._metrics.adopted += intake.messages - before

    async def _settle(self, intake: Intake) -> None:
        await intake.all_settled()
        if intake.messages:
            peer = intake.peer
            fields = {"messages": intake.messages, "peer_pid": peer.pid, "comm": peer.comm}
            intake.user.lines.log(log.info, "spool.adopted", uid=peer.uid, **fields)

    def _report_names(self, holding: Holding) -> None:
        """Log what was found that is no spool file."""
        lines = self._users.of(holding.uid).lines
        if holding.foreign_files:
            fields = {"files": holding.foreign_files, "name": holding.foreign_name, "action": "removed"}
            lines.log(log.warning, "spool.foreign_files", uid=holding.uid, **fields)
        if holding.stuck_files:
            fields = {"files": holding.stuck_files, "name": holding.stuck_name, "action": "left alone"}
            lines.log(log.warning, "spool.not_removed", uid=holding.uid, **fields)

    # The thread.

    async def _on_thread(self, work: Callable[..., T], *args: object) -> T:
        """Return what *work* returns. It takes its turn with the steps of all users."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._paced, work, *args)

    def _paced(self, work: Callable[..., T], *args: object) -> T:
        if (wait_s := self._rests_until - time.monotonic()) > 0:
            time.sleep(wait_s)
        began = time.thread_time()
        try:
            return work(*args)
        finally:
            self._rests_until = time.monotonic() + time.thread_time() - began


def _advance(steps: Iterator[None]) -> bool:
    """Do some steps of a look; return whether it is done."""
    ends_at = time.thread_time() + _LOOK_STEP_S
    while time.thread_time() < ends_at:
        if next(steps, steps) is steps:
            return True
    return False


def _groups_of(uid: int) -> Groups:
    """Return the groups of a user, by the user database; None for one that it does not know."""
    try:
        user = pwd.getpwuid(uid)
        return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
    except (KeyError, OSError):
        return None
