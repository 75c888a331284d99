"""hub.sources.deadspool: one spool of one dead process, read in bounded stretches, from its own files only."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hub.message import Batch, Loss, Peer
from hub.sources.deadspool import DeadSpool, Stretch
from hub.sources.spoolfolder import SpoolFolder
from hub.sources.userfiles import File
from hub.wire.frame import FRAME_BYTES_MAX
from hub.wire.spoolfile import FIRST, HEADER_BYTES, OPEN, STATE, lock_name, pack_header, segment_name
from producers.backlog import new_session
from tests.hub.clients import without_collection
from tests.hub.sources.spools import (
    beside_a_socket,
    entry,
    folder_at,
    frame,
    leave,
    leave_segment,
    numbered_frames,
    segment,
    write,
)
from tests.speed import holds

STEP_MAX_S = 0.02
SESSION = "s" * 22


@pytest.fixture
def path() -> Iterator[Path]:
    with beside_a_socket() as place:
        yield place


@pytest.fixture
def folder(path: Path) -> SpoolFolder:
    folder = folder_at(path)
    assert folder.prepare()
    return folder


def spool_of(
    folder: SpoolFolder, name: str, *, uid: int | None = None, admits: Callable[[int], bool] = lambda _: True
) -> DeadSpool:
    found = [File(file, there.st_ino, there.st_size) for file, there in folder.entries() if file.startswith(name)]
    accept: Any = lambda peer: SimpleNamespace(peer=peer)  # noqa: E731  accepting is tested with the source
    uid = os.geteuid() if uid is None else uid
    return DeadSpool(folder, uid, name, found, accept=accept, admits=admits, frame_bytes_max=FRAME_BYTES_MAX)


def timed(stretches: Iterator[Stretch], taken: list[float]) -> Iterator[Stretch]:
    """Yield the stretches, and append the CPU time of each to *taken*, that of their end too."""
    while True:
        began = time.thread_time()
        stretch = next(stretches, None)
        taken.append(time.thread_time() - began)
        if stretch is None:
            return
        yield stretch


def read(spool: DeadSpool, taken: list[float] | None = None) -> tuple[list[Any], list[str]]:
    """Return the numbers of the messages and the reasons of the losses."""
    numbers: list[Any] = []
    reasons: list[str] = []
    for stretch in timed(spool.stretches(), [] if taken is None else taken):
        for item in stretch.items:
            if isinstance(item, Batch):
                numbers += [message.record.get("n") for message in item.messages()]
            else:
                assert isinstance(item, Loss)
                reasons.append(item.reason)
    return numbers, reasons


def test_what_is_left_is_read(path: Path, folder: SpoolFolder) -> None:
    """Segments are read in the order of their chunks, as the claimed peer with the owner from the kernel."""
    name = leave(path, 80_000, chunk_bytes_max=5000)
    paths = sorted(path.glob("*.seg"))
    assert len(paths) > 1
    for number, each in enumerate(reversed(paths)):
        each.rename(path / f"{name}.{90_000_000 + number}.seg")
    spool = spool_of(folder, name)
    assert read(spool) == (list(range(80_000)), [])
    assert spool.intake is not None
    comm = Path("/proc/self/comm").read_text().strip()
    assert spool.intake.peer == Peer(os.getpid(), os.geteuid(), path.stat().st_gid, comm, verified=False)


def test_what_others_wrote_says_nothing(path: Path, folder: SpoolFolder) -> None:
    """Files of another user, replaced, or with another session's header do not affect the rest."""
    session = new_session()
    name = leave(path, 10, session=session)
    spool = spool_of(folder, name, uid=os.geteuid() + 1)
    assert (read(spool), spool.intake) == (([], []), None)
    leave_segment(path, segment(new_session(), [], acknowledged=1 << 63), name, number=2)
    assert read(spool_of(folder, name)) == (list(range(10)), ["a spool with damage: no header"])
    spool = spool_of(folder, name)
    write(path / "new", segment(session, [], acknowledged=1 << 63)).rename(path / segment_name(name, 2))
    assert read(spool) == (list(range(10)), [])


@pytest.mark.parametrize("is_reversed", [False, True])
def test_two_sessions_of_one_name(path: Path, folder: SpoolFolder, is_reversed: bool) -> None:
    """The segment with the lowest number gives the session, in whatever order files are found; another is one loss."""
    first, second = (
        segment(session, [frame(session, 1, entry(n), 1)]) for n, session in enumerate(("1" * 22, "2" * 22))
    )
    for number, data in enumerate((b"garbage", first, second), 1):
        leave_segment(path, data, SESSION, number=number)
    spool = spool_of(folder, SESSION)
    spool.files = sorted(spool.files, reverse=is_reversed)
    assert read(spool) == ([0], ["a spool with damage: no header"] * 2)


def test_not_admitted(path: Path, folder: SpoolFolder) -> None:
    """A file whose owner may not open the socket is not read, whatever the other files are."""
    name = leave(path, 10)
    stretches = list(spool_of(folder, name, admits=lambda _: False).stretches())
    assert [stretch for stretch in stretches if stretch != Stretch()] == [Stretch(is_refused=True)]


def test_a_newer_version(path: Path, folder: SpoolFolder) -> None:
    """A spool is not read if a newer version wrote one of its segments."""
    name = leave(path, 10)
    data = bytearray(pack_header(SESSION, 1, "x"))
    data[40] = 2
    leave_segment(path, bytes(data), name, number=2)
    spool = spool_of(folder, name)
    assert (read(spool), spool.newer_version, spool.intake) == (([], []), 2, None)


# Bounded stretches.


def tiny(count: int) -> list[bytes]:
    return numbered_frames(SESSION, count, b"\x92\xc0\x80", 1, tag=b"")


def damaged() -> bytes:
    data = bytearray(segment(SESSION, [], acknowledged=0)) + bytes(range(256)) * (66 << 12)
    memoryview(data)[:HEADER_BYTES].cast("Q")[STATE] = len(data)
    return bytes(data)


def damaged_at_its_end() -> bytes:
    data = bytearray(segment(SESSION, tiny(50_000)))
    data[-1000:] = bytes(1000)
    return bytes(data)


def a_terabyte() -> bytes:
    data = bytearray(pack_header(SESSION, 1, "x"))
    memoryview(data)[:HEADER_BYTES].cast("Q")[STATE] = (1 << 40) - 1
    return bytes(data)


def an_open_one() -> bytes:
    head = b"\x93\xa0\xc6\0\0\0\0"
    data = bytearray(pack_header(SESSION, 1, "x") + head + entry(7) * 3000)
    words = memoryview(data)[:HEADER_BYTES].cast("Q")
    words[STATE], words[FIRST], words[OPEN] = 3000 << 40 | len(data), 1, HEADER_BYTES
    words.release()
    return bytes(data)


DAMAGE = "a spool with damage: "
HOSTILE: dict[str, tuple[Callable[[], bytes], int, list[str]]] = {
    "66 MiB that count as acknowledged": (lambda: segment(SESSION, tiny(760_000), acknowledged=1 << 63), 0, []),
    "tiny frames": (lambda: segment(SESSION, tiny(100_000)), 100_000, []),
    "one large damage": (damaged, 0, [DAMAGE + "no PackedForward frame"]),
    "damage behind much": (damaged_at_its_end, 49_986, [DAMAGE + "a frame that is not the next one"]),
    "a terabyte of zeros": (a_terabyte, 0, [DAMAGE + "no PackedForward frame"]),
    "a large open frame": (an_open_one, 3000, []),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_part_is_short(path: Path, folder: SpoolFolder, name: str) -> None:
    """Each stretch takes less than 20 ms of CPU time for any contents, and data before damage is read."""
    make, count, reasons = HOSTILE[name]
    left = leave_segment(path, make(), SESSION)
    if name == "a terabyte of zeros":
        os.truncate(left, 1 << 38)

    def longest() -> float:
        taken: list[float] = []
        with without_collection():
            numbers, found = read(spool_of(folder, SESSION), taken)
        assert (len(numbers), found) == (count, reasons)
        return max(taken)

    holds(STEP_MAX_S, longest)


def test_garbage_is_one_loss(path: Path, folder: SpoolFolder) -> None:
    """A segment without a header is one loss; one that was never written to is nothing."""
    for number, (content, lost) in enumerate({
        b"": 0,
        bytes(5000): 0,
        bytes(range(256)) * 20: 1,
        pack_header("s" * 22, 1, "x")[:50]: 1,
        pack_header("o" * 21 + "/", 1, "x") + bytes(100): 1,
    }.items()):  # fmt: skip
        name = f"{number:022}"
        leave_segment(path, content, name)
        assert read(spool_of(folder, name)) == ([], ["a spool with damage: no header"] * lost)
        assert (path / lock_name(name)).exists()


def test_a_file_that_changes_while_it_is_read(path: Path, folder: SpoolFolder) -> None:
    """A file removed or overwritten while it is read loses only its rest, and the reader does not wait."""
    for change in (Path.unlink, lambda left: left.write_bytes(b"\xc1" * 100)):
        left = leave_segment(path, segment(SESSION, tiny(10_000)), SESSION)
        stretches = spool_of(folder, SESSION).stretches()
        some = 0
        while not some:
            some += len(next(stretches).items)
        change(left)
        rest = [item for stretch in stretches for item in stretch.items]
        assert sum(isinstance(item, Batch) for item in rest) == 0
        left.unlink(missing_ok=True)
