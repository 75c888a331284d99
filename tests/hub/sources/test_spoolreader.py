"""hub.sources.spoolreader: the dead spools of one user, read in steps, removed when stored."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hub.message import Batch
from hub.sources.deadspool import DeadSpool
from hub.sources.spoolfolder import SpoolFolder
from hub.sources.spoolreader import STEP_ITEMS, STEP_S, STEP_SPOOLS, SpoolReader, Step
from hub.sources.userfiles import Known, Look, Patience
from hub.users import User
from hub.wire.frame import FRAME_BYTES_MAX
from hub.wire.spoolfile import lock_name, pack_header, segment_name
from producers.backlog import new_session
from producers.spool import Spool
from tests.hub.clients import without_collection
from tests.hub.sources.spools import (
    beside_a_socket,
    folder_at,
    frame,
    leave,
    leave_segment,
    numbered_frames,
    segment,
)
from tests.speed import holds

READ_BYTES = 256 << 10


@pytest.fixture
def path() -> Iterator[Path]:
    with beside_a_socket() as place:
        assert folder_at(place).prepare()
        yield place


class Rig:
    """A reader of the spools of this process's user, and the results of its steps."""

    def __init__(self, path: Path) -> None:
        self.folder: SpoolFolder = folder_at(path)
        assert self.folder.prepare()
        self.left_alone: dict[str, Known] = {}
        accept: Any = lambda peer: SimpleNamespace(peer=peer)  # noqa: E731
        self.reader = SpoolReader(
            self.folder,
            User(os.geteuid()),
            accept=accept,
            left_alone=self.left_alone,
            frame_bytes_max=FRAME_BYTES_MAX,
        )
        self.steps: list[Step] = []
        self.worst_s = 0.0

    def look(self) -> None:
        """Offer the files that exist now."""
        look = Look(self.folder, self.left_alone, Patience(), now=0, today=time.time())
        assert all(step is None for step in look.steps())
        self.reader.offered = look.by_user.get(os.geteuid())
        self.reader.take_offer()

    def step(self) -> Step:
        began = time.thread_time()
        step = self.reader.step(READ_BYTES)
        self.worst_s = max(self.worst_s, time.thread_time() - began)
        self.steps.append(step)
        if self.reader.wants_groups:
            self.reader.learn_groups(frozenset())
        return step

    def run(self) -> None:
        """Run steps until the reader is done; each result counts as stored at once."""
        while not self.reader.is_done:
            self.reader.stored = self.step().ended

    @property
    def count(self) -> int:
        """The number of messages read."""
        items = (item for step in self.steps for _, stretch in step.stretches for item in stretch.items)
        return sum(item.count for item in items if isinstance(item, Batch))

    @property
    def notes(self) -> list[str]:
        return [event for step in self.steps for event, _ in step.notes]


def test_removed_when_stored(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All files stay until reported as stored; then they are removed, the lock last."""
    leave(path, 100)
    before = set(os.listdir(path))
    rig = Rig(path)
    rig.look()
    ended: list[DeadSpool] = []
    while not ended:
        ended = rig.step().ended
    assert (rig.count, set(os.listdir(path))) == (100, before)
    rig.reader.stored = ended
    removed: list[str] = []
    original = rig.folder.remove

    def remove(name: str, inode: int, uid: int) -> bool:
        removed.append(name)
        return original(name, inode, uid)

    monkeypatch.setattr(rig.folder, "remove", remove)
    rig.step()
    assert removed == sorted(before, key=lambda name: name.endswith(".lock"))
    assert (os.listdir(path), rig.reader.is_done) == ([], True)


def test_the_living_are_left_alone(path: Path) -> None:
    """A session whose lock is held is not read; a look after its death finds it."""
    session = new_session()
    spool = Spool(str(path), session)
    memory = spool.allocate(1 << 20)
    data = segment(session, [frame(session, 1, b"\x92\xc0\x80", 1)])
    memory.map[: len(data)] = data
    rig = Rig(path)
    rig.look()
    rig.run()
    assert (rig.count, len(os.listdir(path))) == (0, 2)
    spool.close(keep=True)
    rig.look()
    rig.run()
    assert (rig.count, os.listdir(path)) == (1, [])


def test_a_mass_of_small_ones(path: Path) -> None:
    """Many sessions end in one step, and no step is long or yields many items."""

    def longest() -> float:
        for number in range(1000):
            session = f"{number:022}"
            leave_segment(path, segment(session, [frame(session, 1, b"\x92\xc0\x80", 1)]), session)
        rig = Rig(path)
        rig.look()
        with without_collection():
            rig.run()
        assert (rig.count, os.listdir(path)) == (1000, [])
        assert max(len(step.ended) for step in rig.steps) <= STEP_SPOOLS
        assert len(rig.steps) < 1000 // 4, "sessions share steps"
        return rig.worst_s

    holds(0.02, longest)


def test_tiny_frames(path: Path) -> None:
    """A step yields a bounded number of items, whatever the frames are."""
    session = new_session()
    frames = numbered_frames(session, 20_000, b"\x92\xc0\x80", 1, tag=b"")

    def longest() -> float:
        leave_segment(path, segment(session, frames), session)
        rig = Rig(path)
        rig.look()
        with without_collection():
            rig.run()
        assert rig.count == 20_000
        assert max(sum(len(stretch.items) for _, stretch in step.stretches) for step in rig.steps) < STEP_ITEMS + 500
        return rig.worst_s

    holds(0.02, longest)


def test_a_step_ends_by_the_clock(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step ends soon after its time is over, whether it examines, reads or removes files."""
    session = new_session()
    leave_segment(path, segment(session, [frame(session, 1, bytes(20 << 20), 1)], acknowledged=1), session)
    for number in range(100):
        session = f"{number:022}"
        frames = numbered_frames(session, 2000, b"", 0)
        leave_segment(path, segment(session, frames, acknowledged=1 << 63), session)
    for number in range(50):
        leave_segment(path, segment("s" * 22, []), "s" * 22, number=number)
    rig, ticks, done = Rig(path), 0, 0

    def thread_time() -> float:
        nonlocal ticks
        ticks += 1
        return ticks / 1000

    def counted(original: Any) -> Any:
        def call(*args: Any) -> Any:
            nonlocal done
            done += 1
            return original(*args)

        return call

    for name in ("is_dead", "open_file", "remove"):
        monkeypatch.setattr(rig.folder, name, counted(getattr(rig.folder, name)))
    rig.look()
    monkeypatch.setattr("hub.sources.spoolreader.time.thread_time", thread_time)
    while not rig.reader.is_done:
        done = 0
        rig.reader.stored = rig.reader.step(READ_BYTES).ended
        assert done <= 2 * STEP_S * 1000
        rig.reader.learn_groups(frozenset())
    assert os.listdir(path) == []


def test_what_cannot_be_removed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is reported once and not read again, by any reader; a new file of that name is read."""
    name = leave(path, 100)
    rig = Rig(path)
    monkeypatch.setattr(rig.folder, "remove", lambda *_: False)
    for _ in range(3):
        rig.look()
        rig.run()
    assert (rig.count, rig.notes) == (100, ["spool.not_removed"])
    for file in os.listdir(path):
        (path / file).unlink()
    rig.look()
    leave(path, 10, name=name)
    for _ in range(2):
        rig.look()
        rig.run()
    assert (rig.count, rig.notes) == (110, ["spool.not_removed"] * 2)


def test_a_newer_version_stays(path: Path) -> None:
    """It is reported once, and left to a newer hub."""
    session = new_session()
    data = bytearray(pack_header(session, 1, "x"))
    data[40] = 2
    leave_segment(path, bytes(data), session)
    rig = Rig(path)
    for _ in range(3):
        rig.look()
        rig.run()
    assert (rig.count, rig.notes) == (0, ["spool.newer"])
    assert set(os.listdir(path)) == {lock_name(session), segment_name(session, 1)}


def test_left_alone_is_a_file(path: Path) -> None:
    """A spool is skipped only if one of its files has the inode and the owner of the file that was left alone."""
    leave(path, 10)
    rig = Rig(path)
    for uid, count in ((os.geteuid(), 0), (os.geteuid() + 1, 10)):
        rig.look()
        rig.left_alone.update((left.name, (left.stat().st_ino, uid)) for left in path.glob("*.seg"))
        rig.run()
        assert rig.count == count


@pytest.mark.parametrize("is_passing", [True, False])
def test_what_cannot_be_read(path: Path, monkeypatch: pytest.MonkeyPatch, is_passing: bool) -> None:
    """It affects no other spool; it is retried if the error may pass, else left alone."""
    bad, other = "a" * 22, "b" * 22
    for each in (bad, other):
        leave(path, 10, name=each)
    rig = Rig(path)
    original = rig.folder.open_file

    def open_file(name: str) -> Any:
        if name.startswith(bad):
            raise OSError(24 if is_passing else 13, "no")
        return original(name)

    monkeypatch.setattr(rig.folder, "open_file", open_file)
    for _ in range(2):
        rig.look()
        rig.run()
    assert (rig.count, rig.notes) == (10, ["spool.unreadable"] * (2 if is_passing else 1))
    monkeypatch.undo()
    rig.look()
    rig.run()
    assert rig.count == (20 if is_passing else 10)


def test_an_offer_while_a_session_is_read(path: Path) -> None:
    """The new offer is read after the current session, which continues."""
    name = leave(path, 80_000, chunk_bytes_max=5000)
    rig = Rig(path)
    rig.look()
    while not rig.count:
        rig.step()
    assert rig.reader.current is not None
    leave(path, 100)
    rig.look()
    rig.run()
    assert rig.count == 80_100
    assert name not in rig.reader._waiting
