"""
Random histories of log files and of a hub that collects them: each line is stored once, in its order.

Programs write lines of all kinds, finished or not; files are renamed, several times at once, copied and truncated,
compressed, deleted, moved away and back, linked, made unreadable, and replaced by files with their inodes, also between
two system calls of the source; the hub is killed at any step, or loses power, while its disk fails.

A history depends on its number alone. Environment: MPSR_FILES_HISTORIES is the number of histories (500),
MPSR_FILES_HISTORY the number of the first one (0).
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system.files.history import History, Queue, clean

pytestmark = pytest.mark.durability

FIRST = int(os.environ.get("MPSR_FILES_HISTORY", "0"))
COUNT = int(os.environ.get("MPSR_FILES_HISTORIES", "500"))
GROUPS = 10


@pytest.fixture(scope="module")
def queue() -> Iterator[Queue]:
    """The kernel's events. What was made before is no garbage: it is not looked through again and again."""
    gc.collect()
    gc.freeze()
    queue = Queue()
    yield queue
    queue.end()
    gc.unfreeze()


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder in memory, where there is one: on a disk, histories take a seventh more of the processor's time."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="mpsr-", dir=place) as folder:
        yield Path(folder)


@pytest.mark.timeout(36_000, method="signal")
@pytest.mark.parametrize("group", range(GROUPS))
def test_histories(group: int, memory: Path, queue: Queue) -> None:
    """In any history, each line is stored once, and there is a loss for what a truncation has destroyed unread."""
    for seed in range(FIRST + group, FIRST + COUNT, GROUPS):
        folder = memory / str(seed)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            history = History(seed, folder, patch, queue)
            try:
                history.run()
            except BaseException as error:
                error.add_note(f"history {seed}: again with MPSR_FILES_HISTORY={seed} MPSR_FILES_HISTORIES=1")
                for line in history.world.story:
                    error.add_note(line)
                raise
        clean(folder)
