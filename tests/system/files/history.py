"""
A life after the other of a hub that collects a `World`: killed at any step, or stopped, while the files change.

The source, intake, inbox, receiver and journal are real; the journal is on a disk in memory (tests.hub.journal.
forgetting), so that it can be looked at as the next process finds it. Time passes only here.

Not here: real processes and the real `logrotate` (tests.system.test_files_rotation).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import re
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgpack
import pytest
from inotify_simple import INotify

from hub import turn
from hub.journal.reader import Gap, Reader
from hub.message import LOSS_TAG
from hub.sources import filecheck, fileidentity, tail, watching
from hub.sources.kinds import Files
from hub.sources.values import GlobPath, Multiline
from tests.hub.journal.forgetting import ForgettingFiles
from tests.system.files.life import Inline, Life
from tests.system.files.model import PART_BYTES_MIN, Contents, Inode, Line, World, expected
from tests.system.files.virtualloop import Clock, Died, VirtualLoop

HERE = Path("/proc/self/cwd")
"""The folder of a history: positions have the path, and it is the same wherever a history runs."""
SETTLED_S = 75.0
"""After that time without a change, a collector has read everything: twice its slowest look."""
RESTS = (0.0, 0.0, 0.001, 0.02, 0.3, 1.5, 3, 7, 40)
"""How long nothing happens between two actions, in seconds."""
STEPS = ("create", "page", "sync", "sync_all", "sync_folder", "rename", "remove")
LOOKED_AT = ("open", "stat", "fstat", "pread", "preadv", "scandir", "listdir", "close")
"""
System calls of the collector before and after which the files may change. How often it calls `lstat` depends on where
the test runs.
"""


class Stored:
    """One message as it was stored."""

    def __init__(self, tag: str, record: dict[bytes, Any]) -> None:
        self.tag = tag
        self.record = record

    @property
    def text(self) -> bytes:
        text: bytes = self.record[b"message"]
        return text


class Queue:
    """The kernel's queue of events, which all lives use one after the other: it takes 10 ms to close one."""

    def __init__(self) -> None:
        self._real = INotify()
        self._watches: set[int] = set()
        self.fileno = self._real.fileno
        self.read = self._real.read
        self.end = self._real.close

    def __call__(self) -> Queue:
        """Begin anew."""
        self.close()
        return self

    def add_watch(self, path: str, mask: int) -> int:
        watch: int = self._real.add_watch(path, mask)
        self._watches.add(watch)
        return watch

    def rm_watch(self, watch: int) -> None:
        self._real.rm_watch(watch)

    def close(self) -> None:
        for watch in self._watches:
            with contextlib.suppress(OSError):
                self._real.rm_watch(watch)
        self._watches.clear()
        while self._real.read(timeout=0):
            pass


class Described:
    """What a file is, as the history has it: nobody can choose its inode, and when it was changed."""

    def __init__(self, real: os.stat_result, number: int) -> None:
        self._real = real
        self.st_ino = number
        self.st_dev = 1

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, "st_mtime_ns" if name == "st_ctime_ns" else name)


class Entry:
    """A name in a folder."""

    def __init__(self, real: os.DirEntry[str], number: int) -> None:
        self._real = real
        self._number = number

    def inode(self) -> int:
        return self._number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class History:
    """One history, generated from one seed, in *folder*."""

    def __init__(self, seed: int, folder: Path, patch: pytest.MonkeyPatch, queue: Queue) -> None:
        self.queue = queue
        self.rng = random.Random(seed)
        self.folder = folder
        self.segment_bytes = self.rng.choice([8 << 10, 64 << 10])
        self.disk = ForgettingFiles()
        self.from_end = self.rng.random() < 0.2
        self.multiline = self.rng.choice([None, None, "auto"])
        self.has_inotify = self.rng.random() < 0.7
        self.clock = Clock()
        self.orders = random.Random(seed)
        self.scan = os.scandir
        (folder / "logs").mkdir()
        (folder / "away").mkdir()
        logs, away = HERE / "logs", HERE / "away"
        self.world = World(logs, away, self.rng, ("app.log", "web.log")[: self.rng.choice([1, 1, 2])], self.clock)
        globs = [logs / "*.log"]
        if self.world.old != logs:
            (folder / "logs" / "old").mkdir()
            globs.append(self.world.old / "*")
        self.world.between = self.meddle  # type: ignore[method-assign]
        self.meddling = 0.0
        """How likely something happens at each system call of the collector."""
        self.is_acting = False
        self.is_running = False
        self.worked_s = 0.0
        self.table = Files(
            paths=tuple(map(GlobPath, globs)),
            begin="end" if self.from_end else "start",
            multiline=None if self.multiline is None else Multiline(self.multiline),
        )
        self.patch = patch

    def run(self) -> None:
        """Run the whole history. Raises AssertionError."""
        self.patch.setattr(time, "monotonic", lambda: self.clock.now)
        self.patch.setattr(time, "time_ns", lambda: self.clock.wall_ns)
        self.patch.setattr(time, "time", lambda: self.clock.wall_ns / 1e9)
        self.patch.setattr(time, "clock_gettime_ns", lambda clock: self.clock.wall_ns)
        self.patch.setattr(time, "thread_time", self.thread_time)
        self.patch.setattr(tail, "ThreadPoolExecutor", Inline)
        self.patch.setattr(watching, "_library", lambda: self.queue if self.has_inotify else None)
        self.patch.setattr(fileidentity, "_born_ns", self.born_ns)
        self.patch.setattr(fileidentity, "_handle", self.handle)
        self.patch.chdir(self.folder)
        self.patch.setattr(turn, "_UNNOTICED_S", 1e9)  # a slow machine changes nothing
        self.patch.setattr(turn, "TURN_S", 1e9)
        self.patch.setattr(filecheck, "BEGIN_BYTES", PART_BYTES_MIN + 1)  # a file may begin with the rest of a line
        for name in LOOKED_AT:
            self.patch.setattr(os, name, self.watched(name, getattr(os, name)))
        gc.disable()
        try:
            if self.from_end:
                with self.acting():
                    self.write_before()
                self.live(0, "stop", settles=True)
            for _ in range(self.rng.choice([1, 2, 3, 5])):
                ending = self.rng.choice(["kill", "kill", "kill", "power cut", "stop"])
                self.live(self.rng.randrange(12), ending, settles=self.rng.random() < 0.3)
                with self.acting():
                    for _ in range(self.rng.choice([0, 0, 1, 3, 6])):
                        self.world.act()
            with self.acting():
                self.world.finish()
            self.mend_disk()  # a fault that is left would keep the hub from its start
            self.live(0, "stop", settles=True)
            self.check()
        finally:
            self.patch.undo()
            self.world.close()
            gc.enable()

    def thread_time(self) -> float:
        """Return how long the collector has worked: some of its steps are long."""
        if self.is_running:  # a dead process still ends its tasks, in any order
            self.worked_s += self.rng.choice((0, 0, 0, 0.005))
        return self.worked_s

    def born_ns(self, name: bytes, fd: int, flags: int) -> int:
        """Return when a file was made, by the clock of the history."""
        inode = self.inode(name, fd)
        return 0 if inode is None else inode.born_ns

    def handle(self, name: bytes, fd: int, flags: int) -> bytes:
        """Return what tells a file from all others."""
        inode = self.inode(name, fd)
        return b"0" if inode is None else b"1.%x.%x" % (inode.number, inode.generation)

    def inode(self, name: bytes, fd: int) -> Inode | None:
        """Return which file it is."""
        with self.acting():
            described = os.stat(name, dir_fd=fd, follow_symlinks=False) if name else os.fstat(fd)
        return self.world.inodes.get(described.st_ino)

    def number(self, real: int) -> int:
        """Return what the collector sees instead of the number of an inode."""
        inode = self.world.inodes.get(real)
        return 0 if inode is None else inode.number

    @contextlib.contextmanager
    def entries(self, folder: Any) -> Iterator[list[Entry]]:
        """What is in a folder, in an order that the history decides."""
        with self.scan(folder) as real:
            found = sorted(real, key=lambda entry: entry.name)
            place = os.readlink(f"/proc/self/fd/{folder}") if isinstance(folder, int) else os.fspath(folder)
        self.world.note_listed(os.path.basename(place), {entry.name for entry in found})
        self.orders.shuffle(found)
        yield [Entry(entry, self.number(entry.inode())) for entry in found]

    def write_before(self) -> None:
        """What is in the logs before the hub runs for the first time is not its."""
        for log in self.world.logs:
            self.world.write(log)
        for line in self.world.lines:
            line.least = line.most = 0

    # Lives.

    def live(self, actions: int, ending: str, *, settles: bool) -> None:
        """One life, with *actions*."""
        loop = VirtualLoop(self.clock)
        asyncio.set_event_loop(loop)
        life = Life(str(self.folder), self.disk, self.table, loop.time)
        self.say(f"the hub starts, {actions} actions to its {ending}")
        self.meddling = self.rng.choice([0, 0, 0.01, 0.05])
        if ending != "stop":
            loop.dies_at = self.rng.choice([20, 100, 100, 400, 2000]) + self.rng.randrange(400)
            if self.rng.random() < 0.2:
                self.die_in_commit(loop)
        try:
            loop.run_until_complete(self.play(life, actions, settles=settles))
            loop.dies_at = None
            if ending == "stop":
                loop.run_until_complete(life.stop())
        except Died:
            self.say("killed in between")
        finally:
            self.is_running = False
            loop.dies_at = None
            self.disk.watch = lambda step: None
            if ending == "power cut" and not self.disk.is_lying:
                self.disk = self.disk.after_power_cut(self.rng.randrange, tear_at=self.rng.randrange(512))
            else:
                self.disk = self.disk.after_kill()
            try:
                loop.run_until_complete(life.clear())
            except RuntimeError:  # the end of `play` was under way, and has stopped the loop
                loop.run_until_complete(life.clear())
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
            del life, loop
            gc.collect()  # what a dead process has open is closed at its end, and not at some time
            self.clock.now += self.rng.choice([0.1, 5, 100])
            asyncio.set_event_loop(None)
        self.say(f"the hub is down ({ending})")

    async def play(self, life: Life, actions: int, *, settles: bool) -> None:
        """Act, and let the hub work."""
        try:
            await life.start(self.segment_bytes)
        except OSError as error:  # it dies before it has begun
            raise Died from error
        self.is_running = True
        for _ in range(actions):
            with self.acting():
                self.world.act()
            if self.rng.random() < 0.05:
                step = self.rng.choice(STEPS)
                self.disk.fail(step, after=self.rng.randrange(3), times=self.rng.choice([1, 1, 2]))
            await life.rest(self.rng.choice(RESTS))
        if settles:
            self.mend_disk()
            self.meddling = 0.0
            await life.rest(SETTLED_S)
            self.world.settle()
            self.check_settled()

    def mend_disk(self) -> None:
        """Let no call of the disk fail any more."""
        for step in STEPS:
            self.disk.fail(step, times=0)

    def die_in_commit(self, loop: VirtualLoop) -> None:
        """Let the process die at some step of the disk."""
        steps = self.rng.randrange(40)

        def watch(step: str) -> None:
            nonlocal steps
            steps -= 1
            if steps == 0:
                loop.dies_at = 0
                raise OSError(5, "the process dies here")

        self.disk.watch = watch

    def meddle(self) -> None:
        """Something else happens in the middle of an action: the hub sees what is half done."""
        # The loop is the hub's, and cannot run inside of an action: the collector's calls are interrupted instead.

    @contextlib.contextmanager
    def acting(self) -> Iterator[None]:
        """What is called now is called by programs, not by the hub."""
        before, self.is_acting = self.is_acting, True
        try:
            yield
        finally:
            self.is_acting = before

    def watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return *call*, before and after which files may change."""

        def watch(*args: Any, **kwargs: Any) -> Any:
            if self.is_acting or not self.is_running:
                return call(*args, **kwargs)
            if name == "open" and self.is_closed(args[0], **kwargs):
                raise PermissionError(13, "Permission denied", args[0])
            self.may_act(f"(before {name})")
            result = self.entries(*args) if name == "scandir" else call(*args, **kwargs)
            number = self.number(result.st_ino) if isinstance(result, os.stat_result) else 0
            self.may_act(f"(after {name})")
            return Described(result, number) if isinstance(result, os.stat_result) else result

        return watch

    def may_act(self, when: str) -> None:
        """Let a program do something, perhaps."""
        if self.meddling and self.rng.random() < self.meddling:
            self.say(when)
            with self.acting():
                self.world.act()

    def is_closed(self, path: object, dir_fd: int | None = None) -> bool:
        """Whether the collector may not read *path*; root may read everything, so it is done here."""
        if not isinstance(path, (str, bytes, os.PathLike)):
            return False
        contents = self.world.names.get(self.world.path / os.fsdecode(path))
        return contents is not None and contents.is_closed

    # What must hold.

    def stored(self) -> list[Stored]:
        """Return what is in the journal, in its order."""
        reader = Reader(self.disk.after_kill(), after=0)
        found = []
        try:
            for item in reader.read():
                assert not isinstance(item, Gap), "a gap"
                entries = msgpack.unpackb(bytes(item.entries), raw=True, strict_map_key=False)
                found += [Stored(item.tag.decode(), record) for _, record in entries]
        finally:
            reader.close()
        return found

    def check_settled(self) -> None:
        """Everything that is in files which the collector may read is stored by now."""
        with self.acting():
            counts = Counter(line for message in self.texts() for line in message.split(b"\n"))
            for path, contents in self.world.names.items():
                if not self.is_reachable(contents):
                    continue
                for line in contents.lines:
                    if line.text and line.least and not line.cut:
                        assert counts[line.text], f"{line} of {path.name} is not stored after {SETTLED_S} s"

    def is_reachable(self, contents: Contents) -> bool:
        original = contents.original
        is_waiting = original is not None and original in self.world.names.values() and original.is_closed
        is_away = all(path.parent == self.world.away for path in self.world.names_of(contents))
        return not contents.is_closed and not is_away and not is_waiting

    def texts(self) -> list[bytes]:
        return [message.text for message in self.stored() if message.tag != LOSS_TAG.decode()]

    def check(self) -> None:
        """Every line once, in order; losses for what is missing; nothing else."""
        stored = self.stored()
        texts = [line for message in stored if message.tag != LOSS_TAG.decode() for line in message.text.split(b"\n")]
        losses = [message.record for message in stored if message.tag == LOSS_TAG.decode()]
        counts = Counter(texts)
        due = expected(self.world.lines)
        for line in self.world.lines:
            self.allow_parts(line, counts, due)
        for text in counts:
            assert text in due, f"stored, but never written: {text[:60]!r}"
        for text, (least, most) in due.items():
            assert least <= counts[text] <= most, f"{text[:60]!r} is stored {counts[text]} times, due {least}..{most}"
        self.check_order(texts)
        if self.multiline:
            self.check_events([message.text for message in stored if message.tag != LOSS_TAG.decode()])
        self.check_losses(losses)

    def allow_parts(self, line: Line, counts: Counter[bytes], due: dict[bytes, tuple[int, int]]) -> None:
        """A line that was torn may be stored as two."""
        least, most = due[line.text]
        if not line.cut or counts[line.text] >= most:
            return
        first, second = line.text[: line.cut], line.text[line.cut :]
        if counts[first]:
            due[line.text] = (0, most)
            due[first] = (0, 1)
            due.setdefault(second, (max(least - counts[line.text], 0), most))  # a copy may have the whole line

    def check_order(self, texts: list[bytes]) -> None:
        """The lines of each file are stored in their order; those of a program, too, if no file had an odd fate."""
        places = {text: place for place, text in enumerate(texts)}
        orders = list(self.world.histories)
        if self.world.is_orderly:
            orders += [[line for line in log.lines if line.least] for log in self.world.logs]
        for lines in orders:
            once = [line for line in lines if line.text in places and line.text and not line.is_copied]
            for (one, line), (two, following) in pairwise((places[line.text], line) for line in once):
                assert one < two, f"{following} is stored before {line}"

    def check_events(self, messages: list[bytes]) -> None:
        """Lines that belong together, and were written at once, are one message."""
        of_line = {line: message for message in messages for line in message.split(b"\n")}
        for event in self.world.events:
            if all(line.least == 1 for line in event):
                assert len({of_line[line.text] for line in event}) == 1, f"torn: {event}"

    def check_losses(self, losses: list[dict[bytes, Any]]) -> None:
        """Each long line is one loss; of a truncation there is one at most; there are no others."""
        reasons = Counter(re.sub(rb"[0-9]+", b"N", loss[b"reason"]) for loss in losses)
        long = sum(count for reason, count in reasons.items() if b"over the limit" in reason)
        others = sum(reasons.values()) - long
        files = 1 + next(self.world.copies)
        assert long <= files * sum(line.is_long for line in self.world.lines), reasons
        assert others <= 2 * (self.world.truncations + self.world.departures), reasons

    def say(self, what: str) -> None:
        self.world.say(f"-- {what} (t={self.clock.now:.3f})")


def clean(folder: Path) -> None:
    """Remove what a history has made."""
    shutil.rmtree(folder, ignore_errors=True)
