"""hub.journal.rewriting: what packing saves of realistic logs, and what it costs those who read them."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from hub.journal.files import DiskFiles
from hub.journal.reader import Reader
from hub.journal.rewriting import rewrite
from hub.journal.segment import list_segments, segment_name
from hub.query.query import Query
from tests.corpus import batches
from tests.hub.journal.world import Life

SHARE_MAX = 0.25
SPEED_MIN = 0.7
ROOT = Path(__file__).parents[3]
ROUNDS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A journal with one sealed segment of realistic logs."""
    folder = tmp_path_factory.mktemp("corpus")
    life = Life(DiskFiles(str(folder)), segment_bytes=3 << 20)
    for each in batches(1, 17_000):
        life.append(each)
    life.writer.close()
    assert len(list_segments(life.files)) == 2
    return folder


def seconds(folder: Path, following: int) -> float:
    """Return the processor time for reading the first segment: all messages, rendered as `mpsr logs` reads them."""
    began, count = time.thread_time(), 0
    reader = Reader(DiskFiles(str(folder)))
    for message in Query().messages(reader.read()):
        if message.sequence >= following:
            break
        count += 1
    reader.close()
    assert count == following - 1
    return time.thread_time() - began


def test_ordinary_logs_take_a_quarter_of_the_disk_and_are_read_as_fast(folder: Path) -> None:
    """At most a quarter of the bytes, at least 70 % of the speed, measured in turn."""
    files = DiskFiles(str(folder))
    first, following = list_segments(files)
    path, plain = folder / segment_name(first), folder / "plain"
    size = path.stat().st_size
    name = rewrite(files, first, following)
    assert name is not None
    packed_size = (folder / name).stat().st_size
    assert packed_size <= SHARE_MAX * size
    page = (ROOT / "docs/operating.md").read_text(encoding="utf-8")
    for form, each in (("packed", packed_size), ("plain", size)):
        described = re.search(rf"^\| {form} \| (\d+) bytes", page, re.MULTILINE)
        assert described is not None
        assert each / (following - first) == pytest.approx(int(described[1]), rel=0.1)
    ratios = []
    for _ in range(ROUNDS):
        before = seconds(folder, following)
        os.rename(path, plain)
        os.rename(folder / name, path)
        ratios.append(before / seconds(folder, following))
        os.rename(path, folder / name)
        os.rename(plain, path)
    assert max(ratios) >= SPEED_MIN, ratios
