"""
Adopts the spools of dead producers: reads them like a connection, stores their messages, and removes the files.

A producer is dead when no process holds the lock of its spool. The folder is scanned when the hub starts, soon after
a connection has ended, and every `LOOK_S`, because a forked child that inherits the socket hides the end of its parent.

One scan (a *look*) finds what each user keeps. One task per user reads the dead spools, for all users concurrently.
Reading is done in steps on one thread, where the steps of all users take turns.

Always true:
- an adopted file is removed only after everything in it is committed; messages that were stored before are not stored
  again;
- a file has no more effect than the same bytes on a connection: the same intake accepts them;
- no user waits for another user's files, memory, losses or refusals;
- after a step the thread sleeps as long as the step took, so that the event loop gets the interpreter;
- log lines caused by one user's files are rationed.

Not here: the folder (hub.sources.spoolfolder), limits per user (hub.sources.userfiles), reading
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
from hub.endpoint import Endpoint
from hub.errors import HubClosed
from hub.intake import Intake
from hub.log import get_logger
from hub.message import Loss, Peer
from hub.metrics import Metrics
from hub.sources.deadspool import Stretch
from hub.sources.spoolfolder import SpoolFolder
from hub.sources.spoolreader import SpoolReader
from hub.sources.userfiles import BYTES_SHARE, FILES_MAX, Known, Look, Patience, UserFiles
from hub.users import Users
from hub.waiting import until_set
from hub.wire.spoolfile import folder_beside

LOOK_S = 5.0
FIRST_LOOK_S = 5.0
"""Longest wait before connections are accepted: messages of dead producers are stored before their successors'."""
PAUSE_S, PAUSE_MAX_S = 0.1, 0.5
"""Shortest and longest pause between two looks, however many connections end and however long a look takes."""
PAUSE_RATIO = 10
"""Between these limits, a pause lasts this many times as long as the last look."""
_LOOK_STEP_S = 0.003
_TOO_MUCH = f"removed: more than {FILES_MAX} spool files of a user, or 1/{BYTES_SHARE} of a nearly full file system"
T = TypeVar("T")
log = get_logger("mpsr.spools")


class SpoolSource:
    """
    Adopts the spools in *folder*. `run` is its task.

    *accept* makes the intake for a peer, with the rights of a gate. *connection_ended* is set by others when the
    process of a connection may have died: the folder is looked through soon.
    """

    def __init__(
        self,
        folder: SpoolFolder,
        accept: Callable[[Peer, Gate], Intake],
        *,
        users: Users,
        access: Access,
        metrics: Metrics,
        frame_bytes_max: Callable[[], int],
        connection_ended: asyncio.Event,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.has_looked = asyncio.Event()
        """Set when the spools found at the start are adopted. Everything sent from then on comes after them."""
        self._folder = folder
        self._accept = accept
        self._users = users
        self._access = access
        self._metrics = metrics
        self._frame_bytes_max = frame_bytes_max
        self._clock = clock
        self._connection_ended = connection_ended
        self._is_closed = False
        self._left_alone: dict[str, Known] = {}  # used on the thread only
        self._patience = Patience()
        self._readers: dict[int, SpoolReader] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mpsr-adopt")
        self._rests_until = 0.0

    @classmethod
    def beside(cls, endpoint: Endpoint) -> SpoolSource:
        """Return the source for the spools of the producers that connect to *endpoint*."""
        return cls(
            SpoolFolder(folder_beside(endpoint.path), endpoint.path),
            endpoint.intake,
            users=endpoint.users,
            access=endpoint.access,
            metrics=endpoint.metrics,
            frame_bytes_max=lambda: endpoint.frame_bytes_max,
            connection_ended=endpoint.connection_ended,
        )

    async def first_look(self) -> None:
        """Return when the spools found at the start are adopted, or after `FIRST_LOOK_S`."""
        await until_set(self.has_looked, FIRST_LOOK_S)

    async def follow_socket(self) -> None:
        """Adapt the folder to the current permissions of the socket."""
        if not self._is_closed:
            await self._on_thread(self._folder.prepare)

    async def run(self) -> None:
        """Adopt until the inbox is closed or the owner cancels this task."""
        try:
            while not self._is_closed:
                self._connection_ended.clear()
                began = self._clock()
                await self.look()
                self._wait_for_first()
                await asyncio.sleep(min(max(PAUSE_S, PAUSE_RATIO * (self._clock() - began)), PAUSE_MAX_S))
                await until_set(self._connection_ended, LOOK_S)
        finally:
            self.close()

    async def sweep(self) -> None:
        """Look once, and adopt everything that is found."""
        await self.look()
        while self._tasks:
            await asyncio.wait(self._tasks)

    def close(self) -> None:
        """Cancel all tasks. The thread closes the folder after its current step. A second call does nothing."""
        self._is_closed = True
        for task in self._tasks:
            task.cancel()
        with contextlib.suppress(RuntimeError):  # it is shut down already
            self._executor.submit(self._folder.close)
        self._executor.shutdown(wait=False)

    async def look(self) -> None:
        """Look through the folder, and give each user's task what was found."""
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
        for kept in look.by_user.values():
            if not look.is_complete:
                kept.spools.clear()
            self._offer(kept)

    def _offer(self, kept: UserFiles) -> None:
        self._report_names(kept)
        reader = self._readers.get(kept.uid)
        if reader is None:
            if not kept.spools and not kept.removed_files:
                return
            reader = self._readers[kept.uid] = self._reader(kept.uid)
            task = asyncio.create_task(self._adopt(reader), name=f"mpsr-adopt-{kept.uid}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif reader.offered is not None:  # the last look is not reported yet
            kept.removed_files += reader.offered.removed_files
            kept.removed_bytes += reader.offered.removed_bytes
        reader.offered = kept

    def _wait_for_first(self) -> None:
        """After the first look, set `has_looked` when everything that it found is adopted."""
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
            # The owner of the file is certain, so rules by user, group and command apply to it.
            return self._accept(peer, Gate(self._access, msgspec.structs.replace(peer, verified=True), groups))

        def groups() -> Groups:
            return reader.groups

        reader = SpoolReader(
            self._folder,
            self._users.of(uid),
            accept=accept,
            left_alone=self._left_alone,
            frame_bytes_max=self._frame_bytes_max(),
        )
        return reader

    # One user's task.

    async def _adopt(self, reader: SpoolReader) -> None:
        """Adopt the dead spools of one user."""
        try:
            while not reader.is_done:
                await self._adopt_some(reader)
        except HubClosed:
            self._is_closed = True
            self._connection_ended.set()
        except Exception:  # noqa: BLE001  an error of ours with one user's files must not affect other users
            reader.user.lines.log(log.exception, "spool.failed", uid=reader.user.uid)
        finally:
            del self._readers[reader.user.uid]

    async def _adopt_some(self, reader: SpoolReader) -> None:
        """Read for one step, and accept the result. Raises HubClosed."""
        intake = reader.intake
        if (kept := reader.take_offer()) is not None and kept.removed_files:
            await intake.lose(Loss(_TOO_MUCH, kept.removed_files, kept.removed_bytes))
        await intake.ready()
        if reader.held_bytes:
            await intake.budget.room_to_read(intake.holding)
        step = await self._on_thread(reader.step, READ_BYTES)
        for event, fields in step.notes:
            reader.user.lines.log(log.warning, event, uid=reader.user.uid, **fields)
        for source, stretch in step.stretches:
            await self._accept_stretch(source, stretch)
        for spool in step.ended:
            if spool.intake is not None:
                await self._settle(spool.intake)
        reader.stored = step.ended
        if reader.wants_groups:
            reader.learn_groups(await asyncio.to_thread(_groups_of, reader.user.uid))

    async def _accept_stretch(self, intake: Intake, stretch: Stretch) -> None:
        """Accept a stretch of a file as if it came from a connection. Raises HubClosed."""
        before = intake.messages
        intake.budget.arrived(intake.holding, stretch.read_bytes)
        intake.budget.decoded(intake.holding, len(stretch.items))
        try:
            if stretch.is_refused:
                intake.refuse("open the socket", 1)
            elif intake.gate.may("send"):
                await intake.take(stretch.items)
            else:
                for item in stretch.items:  # the whole file is removed, so every item is counted
                    intake.refuse("send", getattr(item, "count", 1))
        finally:
            intake.budget.keep(intake.holding, stretch.held_bytes)
            self._metrics.adopted += intake.messages - before

    async def _settle(self, intake: Intake) -> None:
        await intake.all_settled()
        if intake.messages:
            peer = intake.peer
            fields = {"messages": intake.messages, "peer_pid": peer.pid, "comm": peer.comm}
            intake.user.lines.log(log.info, "spool.adopted", uid=peer.uid, **fields)

    def _report_names(self, kept: UserFiles) -> None:
        """Log the files that are not spool files, and those that could not be removed."""
        lines = self._users.of(kept.uid).lines
        if kept.foreign_files:
            fields = {"files": kept.foreign_files, "name": kept.foreign_name, "action": "removed"}
            lines.log(log.warning, "spool.foreign_files", uid=kept.uid, **fields)
        if kept.stuck_files:
            fields = {"files": kept.stuck_files, "name": kept.stuck_name, "action": "left alone"}
            lines.log(log.warning, "spool.not_removed", uid=kept.uid, **fields)

    # The thread.

    async def _on_thread(self, work: Callable[..., T], *args: object) -> T:
        """Return the result of *work*, which takes its turn with the steps of all users."""
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
    """Do some steps of a look; return whether it is finished."""
    ends_at = time.thread_time() + _LOOK_STEP_S
    while time.thread_time() < ends_at:
        if next(steps, steps) is steps:
            return True
    return False


def _groups_of(uid: int) -> Groups:
    """Return a user's groups from the user database; None if the database does not know the user."""
    try:
        user = pwd.getpwuid(uid)
        return frozenset(os.getgrouplist(user.pw_name, user.pw_gid))
    except (KeyError, OSError):
        return None
