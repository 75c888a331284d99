"""hub.cli.changes: a follower wakes when the hub writes, and looks from time to time where it cannot know."""

from __future__ import annotations

import select
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from hub.cli import changes
from hub.cli.changes import POLL_S, REPORTED_S, Changes

CLOSED_OUTPUT = """
import os, sys
from hub.cli.changes import Changes
reading, writing = os.pipe()
sys.stdout = os.fdopen(writing, "w")
os.close(reading)
try:
    Changes(sys.argv[1]).wait()
except BrokenPipeError:
    os._exit(7)
"""


def wait_for_readable(seconds: float, fd: int | None = None) -> None:
    assert seconds == REPORTED_S
    assert fd is not None
    assert select.select([fd], [], [], 60)[0], "it would have slept"


@pytest.mark.parametrize("act", ["write", "create"])
def test_a_write_ends_the_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str) -> None:
    """What was written before the wait ends it at once, and then it is over; so does a new segment."""
    monkeypatch.setattr(changes, "rest", wait_for_readable)
    (tmp_path / "1.seg").write_bytes(b"")
    with closing(Changes(str(tmp_path))) as noticed:
        if act == "write":
            with (tmp_path / "1.seg").open("ab") as file:
                file.write(b"block")
        else:
            (tmp_path / "1.seg").rename(tmp_path / "2.seg")
        noticed.wait()
        assert not select.select([noticed._queue.fileno()], [], [], 0)[0]


@pytest.mark.parametrize("is_library_there", [True, False])
def test_without_reports_it_looks_again_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_library_there: bool
) -> None:
    """Without the library, or the folder, the wait is short."""
    if not is_library_there:
        monkeypatch.setitem(sys.modules, "inotify_simple", None)
    waited: list[float] = []
    monkeypatch.setattr(changes, "rest", waited.append)
    Changes(str(tmp_path / "missing" if is_library_there else tmp_path)).wait()
    assert waited == [POLL_S]


def test_the_end_of_the_reader_ends_the_wait(tmp_path: Path) -> None:
    """A follower whose output nobody reads any longer does not wait for the next message."""
    done = subprocess.run([sys.executable, "-c", CLOSED_OUTPUT, str(tmp_path)], timeout=60, check=False)
    assert done.returncode == 7
