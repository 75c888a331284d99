"""hub.journal.writer, hub.journal.journal: indexes count in the size of the journal, and expire with their segments."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hub.journal.files import DiskFiles
from hub.journal.indexfile import Identity, identify, index_name, list_indexes, write_index
from hub.journal.journal import Journal
from hub.journal.retention import RETAIN_BYTES_MIN
from hub.journal.segment import list_segments, segment_name
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import Life, batch


def index(files: ForgettingFiles | DiskFiles, number: int) -> int:
    """Write an index of a sealed segment; return its size."""
    identity = identify(files, *list_segments(files)[number : number + 2])
    assert isinstance(identity, Identity)
    return write_index(files, identity, [b"x" * 500] * 3)


def test_size_and_expiry() -> None:
    """An index counts from the next look on, and after a restart; it is deleted after its segment."""
    disk = ForgettingFiles()
    life = Life(disk)
    for number in range(30):
        life.append(batch(str(number), 3, size=100))
    first, second, third = list_segments(disk)[:3]
    before, sealed = life.writer.size_bytes, life.writer.sealed(0)
    assert sealed == list_segments(disk)[:-1]
    assert life.writer.sealed(1 << 20) == []
    size = index(disk, 0) + index(disk, 1)
    assert life.writer.size_bytes == before
    life.writer.look_for_indexes()
    assert life.writer.size_bytes == before + size
    assert life.writer.sealed(0, is_indexed=True) == [first, second]
    assert life.writer.sealed(0, is_indexed=False) == sealed[2:]
    assert Life(disk.after_kill()).writer.sealed(0, is_indexed=True) == [first, second]
    disk.remove(index_name(second))  # somebody has deleted it
    steps: list[tuple[str, list[str]]] = []
    disk.watch = lambda step: steps.append((step, disk.list()))
    life.writer.retain(life.writer.size_bytes // 2, None)
    life.writer.expire()
    left = list_segments(disk)
    assert left[0] > third
    assert list_indexes(disk.list()) == []
    removed = [names for step, names in steps if step == "remove"]
    assert segment_name(first) in removed[0]
    assert [(segment_name(first) in names, index_name(first) in names) for names in removed[:3]] == [
        (True, True),
        (False, True),
        (False, False),
    ]


def test_an_index_that_exceeds_the_limit(tmp_path: Path) -> None:
    """Where it makes the journal too large, the oldest segment is deleted at once."""

    async def run() -> None:
        journal = await Journal.open(str(tmp_path), retain_bytes=RETAIN_BYTES_MIN)
        for _ in range(30):
            await journal.append([batch("x", 300, size=900)])
        files = DiskFiles(str(tmp_path))
        firsts = list_segments(files)
        assert journal.sealed(0, is_indexed=True) == []
        identity = identify(files, *firsts[1:3])
        assert identity is not None
        write_index(files, identity, [bytes(RETAIN_BYTES_MIN // 4)] * 3)
        journal.look_for_indexes()
        await journal.check_lock()  # on the same thread
        assert list_segments(files)[0] > firsts[0]
        assert journal.size_bytes <= RETAIN_BYTES_MIN
        (tmp_path / "lock").unlink()
        journal.look_for_indexes()  # of a journal that is lost: nothing happens
        await journal.close()

    asyncio.run(run())
