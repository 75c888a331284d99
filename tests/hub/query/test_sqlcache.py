"""hub.query.sqlcache: the same messages with a cache as without, across expiry, kills, damage and other processes."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub.journal.files import DiskFiles
from hub.journal.rewriting import rewrite
from hub.journal.segment import list_segments, segment_name
from hub.message import Batch
from hub.query.sql import Database
from hub.query.sqlcache import Cache
from hub.query.sqlrows import Stretch
from tests.hub.query.test_sql import a_journal, reference

QUERY = "SELECT sequence, record FROM messages ORDER BY 1"


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    folder = tmp_path / "journal"
    folder.mkdir()
    a_journal(folder, random.Random(4), batches=40)
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def rows(journal: Path, cache: Path | None = None) -> list[tuple[int, str]]:
    """Return the rows of all messages, with a cache if there is one."""
    with contextlib.ExitStack() as stack:
        if cache is None:
            database = stack.enter_context(Database(str(journal)))
        else:
            files = stack.enter_context(contextlib.closing(Cache(str(cache), str(journal))))
            database = stack.enter_context(
                Database(str(journal), cached=lambda: files.bring_up(database.write_parquet))
            )
        return [(sequence, record) for sequence, record in database.rows(database.execute(QUERY))]


def test_what_is_cached_is_not_read_again(journal: Path, cache: Path) -> None:
    """All sealed segments have a file, the damaged one an empty one; only the rest is read from the journal."""
    expected = [(row["sequence"], row["record"]) for row in reference(journal)]
    assert rows(journal, cache) == expected
    segments = sorted(journal.glob("*.seg"))
    names = {path.name.partition("-")[0] for path in cache.glob("*.parquet") if path.stat().st_size}
    assert names == {path.stem for path in segments[:-1]} - {segments[1].stem}
    for path in (*segments[:1], *segments[2:-1]):  # what is in the cache is not looked at, except for the header
        data = bytearray(path.read_bytes())
        data[200:] = bytes(len(data) - 200)
        path.write_bytes(data)
    assert rows(journal, cache) == expected


def test_expiry(journal: Path, cache: Path) -> None:
    """The file of a segment that is gone is removed, and its messages are not found any more."""
    rows(journal, cache)
    first, second = sorted(journal.glob("*.seg"))[:2]
    for path in (first, second):
        path.unlink()
    assert rows(journal, cache) == [(row["sequence"], row["record"]) for row in reference(journal)]
    assert not [path for path in cache.iterdir() if path.name.startswith((first.stem, second.stem))]


def test_a_kill_while_a_file_is_written(journal: Path, cache: Path) -> None:
    """Half a file is never read; the next query removes it and writes it in whole."""
    child = os.fork()
    if not child:

        def killed(_stretch: Stretch, path: str) -> bool:
            Path(path).write_bytes(b"PAR1 half a file")
            os.kill(os.getpid(), signal.SIGKILL)
            return True

        Cache(str(cache), str(journal)).bring_up(killed)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGKILL
    assert len([*cache.glob("*.tmp")]) == 1
    assert rows(journal, cache) == rows(journal)
    assert not [*cache.glob("*.tmp")]
    assert [*cache.glob("*.parquet")]


def test_while_another_process_writes(journal: Path, cache: Path) -> None:
    """All is read from the journal; while another one reads, what is there is used, and nothing is removed."""
    expected = rows(journal)
    with contextlib.closing(Cache(str(cache), str(journal))) as other:

        def writing(stretch: Stretch, path: str) -> bool:
            assert rows(journal, cache) == expected
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            other.bring_up(writing)
    assert rows(journal, cache) == expected
    with contextlib.closing(Cache(str(cache), str(journal))) as other:
        found = other.bring_up(lambda *_: pytest.fail("nothing is missing"))
        sorted(journal.glob("*.seg"))[0].unlink()
        before = {*cache.iterdir()}
        assert rows(journal, cache) == [(row["sequence"], row["record"]) for row in reference(journal)]
        assert {*cache.iterdir()} == before
        assert all(os.path.exists(path) for path in found.files)


def test_messages_that_expire_by_rule(journal: Path, cache: Path) -> None:
    """They are not found any more, whatever was cached, and no file has them; packing alone keeps the file."""
    before, files = rows(journal, cache), DiskFiles(str(journal))
    first, following = list_segments(files)[:2]
    named = [{each.name for each in cache.glob(f"{first:020d}-*")}]
    steps: list[Callable[[Batch], bool] | None] = [None, lambda batch: bool(batch.sequence % 2), lambda _: True]
    for has_expired in steps:
        name = rewrite(files, first, following, has_expired=has_expired)
        assert name is not None
        files.rename(name, segment_name(first))
        assert rows(journal, cache) == rows(journal)
        named.append({each.name for each in cache.glob(f"{first:020d}-*")})
    assert rows(journal, cache) == [row for row in before if row[0] >= following]
    assert [len(names) for names in named] == [1] * 4
    assert named[0] == named[1]
    assert len(set().union(*named)) == 3


def test_a_rewritten_segment_gets_another_file(journal: Path, cache: Path) -> None:
    """The name has the size of the segment, which compaction changes."""
    rows(journal, cache)
    path = sorted(journal.glob("*.seg"))[0]
    path.write_bytes(path.read_bytes() + bytes(512))
    before = {each.name for each in cache.glob(f"{path.stem}-*")}
    assert rows(journal, cache) == rows(journal)
    after = {each.name for each in cache.glob(f"{path.stem}-*")}
    assert (len(before), len(after), before & after) == (1, 1, set())


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    """Leave no child behind."""
    yield
    with contextlib.suppress(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
