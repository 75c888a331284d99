"""
Log files: follows the files that globs match, and stores each of their lines once.

    folders ─▶ look ─▶ one queue of files for each owner ─▶ step ─▶ intake of that owner
    one thread: everything that blocks          one task for each owner

How far each file was read is a position in the journal, which is committed with its lines: a hub that is killed at any
moment goes on where the journal ends.

Always true:
- the files of one user do not wait for those of another one;
- a look takes half of the time of its thread, so that others get the interpreter; meanwhile, what is written to files
  that are known is read;
- no two sources read one file;
- it begins when everything is stored that an earlier source has given (hub.sources.sources).

Not here: finding and reading files (hub.sources.following), rotation (hub.sources.generations).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar
from weakref import WeakKeyDictionary

import msgspec

from hub.access import Gate
from hub.budget import PIECE_BYTES
from hub.endpoint import Endpoint
from hub.errors import HubClosed, SourceError
from hub.intake import Intake, Tally
from hub.log import get_logger
from hub.message import Peer, position_batches
from hub.sources.fileglob import Exclusion, Glob
from hub.sources.fileidentity import PREFIX
from hub.sources.fileowner import Owner
from hub.sources.fileparse import FileParser
from hub.sources.filereading import STEP_BYTES, STEP_S, Item
from hub.sources.fileset import FileSet
from hub.sources.followed import READ_BYTES
from hub.sources.following import Following
from hub.sources.kinds import Files
from hub.sources.looking import LOOK_PAUSE_MAX_S, LOOK_PAUSE_RATIO
from hub.sources.shown import Shown
from hub.sources.source import Lag
from hub.sources.watching import Watching
from hub.waiting import until_set

LOOK_S = 30.0
"""How often everything is looked at, although events have reported nothing."""
THROTTLE_S = 0.01
"""How long events are gathered: one for each write costs ten times as much."""
TICK_S = 1.0
POLL_S, POLL_MAX_S = 0.25, 2.0
"""Shortest and longest pause between two looks at files of which nothing is reported."""
POLL_FOLDERS_S = 2.0
POLL_RATIO = 50
"""Between these limits, a pause lasts this many times as long as the last look."""
REFUSED_S = 1.0
"""How often it is asked whether a user may send now who may not."""
T = TypeVar("T")
log = get_logger("mpsr.files")


_claims: WeakKeyDictionary[Endpoint, dict[bytes, FileSet]] = WeakKeyDictionary()
"""Which of the sources of a hub has a file."""


class FilesSource:
    """Follows the files of *table*."""

    def __init__(
        self, table: Files, endpoint: Endpoint, shown: Shown, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.tally: Tally = Tally()
        self._table = table
        self._endpoint = endpoint
        self._clock = clock
        self._following = Following(
            [Glob(path) for path in table.paths],
            Exclusion(table.excluded),
            FileParser(table.parse, table.multiline),
            tag_of=table.tag_of,
            positions=shown.journal.positions(PREFIX),
            from_start=table.begin == "start",
            line_bytes_max=lambda: endpoint.frame_bytes_max,
            claims=_claims.setdefault(endpoint, {}),
            clock=clock,
        )
        self._watching = Watching()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="mpsr-files")
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._intakes: dict[int, Intake] = {}
        self._woken, self._ended = asyncio.Event(), asyncio.Event()
        self._is_stopping = False
        self._has_events = self._is_looking = False
        self._is_incomplete = False  # more has happened than was reported
        self._failure: BaseException | None = None
        self._lag = Lag(0)
        self._look_at = self._look_again_at = self._poll_at = self._poll_folders_at = self._tick_at = 0.0
        self.has_looked = asyncio.Event()
        """Set when everything was looked at once."""

    @property
    def where(self) -> str:
        """The globs."""
        return self._table.where

    @property
    def lag(self) -> Lag:
        """What is not read yet, as far as is known."""
        return self._lag

    def permit(self, mode: int, group: str | None) -> None:
        """Do nothing: it has no file of its own."""

    async def run(self) -> None:
        """Follow until `stop` is called or the inbox is closed."""
        try:
            try:
                await self._follow()
            except HubClosed:
                log.info("files.cut_off", path=self.where)
            await self._settle()
        finally:
            for task in self._tasks.values():
                task.cancel()
            self._following.release()
            self._executor.submit(self._close)
            self._executor.shutdown(wait=False)
            self._ended.set()
        if self._failure is not None:
            raise self._failure

    async def stop(self, timeout: float) -> None:
        """Read no more, and return when what was read is stored, at most *timeout* seconds later."""
        self._is_stopping = True
        self._woken.set()
        for intake in self._intakes.values():
            intake.lift_limits()
            intake.budget.end(intake.holding)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._ended.wait()

    # The main task: looks.

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        following, watching = self._following, self._watching
        await self._look_at_everything()
        self.has_looked.set()
        if watching.fd != -1:
            loop.add_reader(watching.fd, self._hear)
        try:
            while not self._is_stopping and self._failure is None:
                self._start_owners()
                await self._wait(self._pause())
                await self._take_events()
                await self._look_again()
                if (following.has_timed_work or self._tasks) and self._clock() >= self._tick_at:
                    self._tick_at = self._clock() + TICK_S
                    await self._on_thread(self._tick)
                await self._store_control()
        finally:
            if watching.fd != -1:
                loop.remove_reader(watching.fd)

    def _hear(self) -> None:
        """The kernel has events: they are read a little later, all at once."""
        asyncio.get_running_loop().remove_reader(self._watching.fd)
        self._has_events = True
        self._woken.set()

    async def _take_events(self) -> None:
        if not self._has_events:
            return
        await asyncio.sleep(THROTTLE_S)
        self._has_events = False
        if await self._on_thread(self._note_events):
            self._is_incomplete = True
        asyncio.get_running_loop().add_reader(self._watching.fd, self._hear)

    def _note_events(self) -> bool:
        """Pass on what has happened; return whether everything must be looked at."""
        following = self._following
        is_certain = not following.take_restarted() and not self._is_looking and not self._is_incomplete
        heard = self._watching.read(is_certain=is_certain)
        for folder, name in heard.written:
            following.note_modified(folder, name)
        for folder, changed in heard.changed:
            following.note_changed(folder, changed)
        for names in heard.gone:
            following.note_unseen(names)
        return heard.is_incomplete

    def _pause(self) -> float:
        """Return how long to wait for events."""
        now = self._clock()
        until = [self._everything_at - now]
        if (folder_in := self._following.next_look_in) is not None:
            until.append(folder_in)
        if self._following.has_timed_work or self._tasks:
            until.append(self._tick_at - now)
        if self._watching.polled:
            until += [self._poll_at - now, self._poll_folders_at - now]
        return max(min(until), 0.0)

    @property
    def _everything_at(self) -> float:
        return min(self._look_at, self._look_again_at) if self._is_incomplete else self._look_at

    async def _look(self, *, everything: bool) -> None:
        """Look; what happens meanwhile, or before new folders are watched, is read before what happens then."""
        self._is_looking = True
        try:
            await self._in_steps(self._following.look(everything=everything))
            if self._following.take_new_folder() and not everything:
                await self._on_thread(self._watch)
            if self._watching.fd != -1 and await self._on_thread(self._note_events):
                self._is_incomplete = True
        finally:
            self._is_looking = False

    async def _look_again(self) -> None:
        now = self._clock()
        if now >= self._everything_at:
            await self._look_at_everything()
        elif self._following.next_look_in == 0.0:
            await self._look(everything=False)
        if self._watching.polled and now >= self._poll_folders_at:
            for folder in self._watching.polled:
                self._following.note_changed(folder, None)
            self._poll_folders_at = now + POLL_FOLDERS_S
        if self._watching.polled and now >= self._poll_at:
            await self._in_steps(self._following.look_at_sizes(self._watching.polled))
            took_s = self._clock() - now
            self._poll_at = self._clock() + min(max(POLL_S, POLL_RATIO * took_s), POLL_MAX_S)

    async def _look_at_everything(self) -> None:
        began = self._clock()
        self._is_incomplete = False
        await self._look(everything=True)
        await self._store_control()
        await self._on_thread(self._watch)
        # What happened between the look and the watch.
        await self._look(everything=False)
        await self._store_control()
        now = self._clock()
        self._look_at = now + LOOK_S
        self._look_again_at = now + min(LOOK_PAUSE_RATIO * (now - began), LOOK_PAUSE_MAX_S)

    def _watch(self) -> None:
        self._following.take_new_folder()
        known = self._watching.watches
        self._watching.watch(self._following.folders, self._following.walked)
        for path, watch in self._watching.watches.items():
            if known.get(path) != watch:
                self._following.note_changed(path, None)

    def _tick(self) -> None:
        self._following.tick()
        unread_bytes, since = self._following.lag
        self._lag = Lag(unread_bytes, None, None if since is None else max(time.time() - since, 0.0))

    async def _store_control(self) -> None:
        """Store what belongs to no owner's files, before anything else is looked at."""
        positions, losses = self._following.take_unowned()
        if not positions and not losses:
            return
        intake = self._intake(self._hub_peer())
        await self._take(intake, [*losses, *position_batches(positions, peer=intake.peer)])
        await intake.all_settled()

    @staticmethod
    def _hub_peer() -> Peer:
        return Peer(comm="files", verified=False)

    # The tasks of owners: steps.

    def _start_owners(self) -> None:
        for owner in list(self._following.owners.values()):
            if owner.has_work and owner.uid not in self._tasks and not self._is_stopping:
                task = asyncio.create_task(self._read(owner), name=f"mpsr-files-{owner.uid}")
                self._tasks[owner.uid] = task
                task.add_done_callback(self._note_end)

    def _note_end(self, task: asyncio.Task[None]) -> None:
        self._tasks = {uid: each for uid, each in self._tasks.items() if each is not task}
        if task.cancelled():
            return
        if (error := task.exception()) is not None:
            self._failure = error
            self._woken.set()
        elif self._failure is None:
            self._start_owners()

    async def _read(self, owner: Owner) -> None:
        """Read the files of one owner, as long as there is something to read."""
        intake = self._intake(owner.peer)
        room_bytes = 0
        is_refused = False
        while owner.has_work and not self._is_stopping and self._failure is None:
            if not intake.gate.may("send"):
                if not is_refused:
                    intake.refuse("send", 1)
                is_refused = True
                await self._wait_refused()
                continue
            is_refused = False
            await intake.ready()
            if room_bytes:
                await intake.budget.room_to_open(intake.holding)
            else:
                await intake.budget.room_to_read(intake.holding)
            readable = intake.budget.readable_bytes(intake.holding) or PIECE_BYTES
            bytes_max = max(readable if readable < READ_BYTES else STEP_BYTES, room_bytes)
            step = await self._on_thread(self._following.step, owner, bytes_max)
            room_bytes = step.room_bytes
            intake.budget.arrived(intake.holding, step.read_bytes)
            try:
                await self._take(intake, step.items)
            finally:
                intake.budget.keep(intake.holding, 0)
            if step.released:
                await intake.all_settled()
                await self._take(intake, step.barrier)
                await intake.all_settled()
                await self._on_thread(self._following.released, step.released)
            self._start_owners()

    async def _take(self, intake: Intake, items: Sequence[Item]) -> None:
        """Accept *items*. Raises HubClosed, and SourceError if the rules have just changed: they must be read again."""
        if items and not await intake.take(items):
            raise SourceError(self.where, "the access rules have changed")

    async def _wait_refused(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REFUSED_S):
                await self._ended.wait()

    def _intake(self, peer: Peer) -> Intake:
        intake = self._intakes.get(peer.uid)
        if intake is None:
            # The owner of a file is certain, so the rules by user apply; who wrote is not.
            gate = Gate(self._endpoint.access, msgspec.structs.replace(peer, verified=True), lambda: None)
            intake = self._intakes[peer.uid] = self._endpoint.intake(peer, gate, self.tally)
            if self._is_stopping:
                intake.lift_limits()
        return intake

    # The end, and the thread.

    async def _settle(self) -> None:
        """Return when the owners' tasks have ended, and what they gave is stored."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())
        for intake in self._intakes.values():
            await intake.all_settled()

    def _close(self) -> None:
        self._following.close()
        self._watching.close()

    async def _wait(self, timeout: float) -> None:
        await until_set(self._woken, timeout)
        if not self._is_stopping:
            self._woken.clear()

    async def _in_steps(self, steps: Iterator[None]) -> None:
        while (took_s := await self._on_thread(_advance, steps)) is not None:
            if self.has_looked.is_set():  # else nothing is read yet
                await self._take_events()
                self._start_owners()
            await asyncio.sleep(took_s)

    async def _on_thread(self, work: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)


def _advance(steps: Iterator[None]) -> float | None:
    """Do some steps of a look; return how many seconds they took, or None if it is finished."""
    began = time.thread_time()
    while time.thread_time() < began + STEP_S:
        if next(steps, steps) is steps:
            return None
    return time.thread_time() - began
