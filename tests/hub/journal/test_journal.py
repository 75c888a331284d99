"""
hub.journal.journal: the event loop's side on a real disk, and the ownership of the folder.
"""

import asyncio
import errno
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hub import entries as codec
from hub.entries import NS
from hub.errors import JournalLocked, JournalLost, JournalTooNew, JournalUnavailable, JournalUnusable
from hub.journal import journal as journal_module
from hub.journal.block import VERSION, SegmentHeader, pack_segment_header
from hub.journal.cursors import Cursor
from hub.journal.files import BytesLike, DiskFiles, Files
from hub.journal.journal import Journal
from hub.journal.retention import RETAIN_BYTES_MIN, SEGMENT_BYTES_MIN
from hub.journal.rewriting import rewrite
from hub.journal.segment import segment_name
from hub.journal.writer import Durability
from hub.message import Batch, Position
from tests.hub.journal.forgetting import ForgettingFiles
from tests.hub.journal.world import Stored, at, batch, expected, foreign, own, read_all, stored

PATIENCE_S = 60.0


def run(main: Coroutine[Any, Any, None]) -> None:
    async def with_patience() -> None:
        async with asyncio.timeout(PATIENCE_S):
            await main

    asyncio.run(with_patience())


@asynccontextmanager
async def opened(
    path: Path | str,
    *,
    files: Files | None = None,
    durability: Durability = "fsync",
    retain_bytes: int = RETAIN_BYTES_MIN,
    needed_by: Sequence[str] = (),
) -> AsyncIterator[Journal]:
    journal = await Journal.open(
        str(path), retain_bytes=retain_bytes, durability=durability, needed_by=needed_by, files=files
    )
    try:
        yield journal
    finally:
        await journal.close()


def read(journal: Journal, *, after: int = 0) -> list[Stored]:
    reader = journal.read(after=after)
    try:
        return [stored(item) for item in reader.read()]
    finally:
        reader.close()


class WatchedFiles(DiskFiles):
    """A real folder. A test can wait for its syncs of data, and make them fail."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        self.synced = threading.Event()
        self.fails = False

    def write(self, fd: int, offset: int, parts: Sequence[BytesLike], *, is_synced: bool = False) -> None:
        if is_synced:
            self._note_sync()
        super().write(fd, offset, parts, is_synced=is_synced)

    def sync(self, fd: int) -> None:
        self._note_sync()
        super().sync(fd)

    def _note_sync(self) -> None:
        self.synced.set()
        if self.fails:
            raise OSError(errno.EIO, os.strerror(errno.EIO))


# Appending and reading.


def test_appended_batches_can_be_read(tmp_path: Path) -> None:
    """
    Sequences count up from 1, `read` returns the committed messages after any of them, and a restart changes nothing.
    """

    async def main() -> None:
        batches = [own("a", 1, 2), foreign("x"), batch("p", 3)]
        async with opened(tmp_path / "new" / "folder") as journal:
            assert (journal.last_sequence, journal.size_bytes) == (0, SEGMENT_BYTES_MIN)
            commit = await journal.append(batches[:2])
            assert (commit.last_sequence, commit.stored, commit.duplicates) == (3, 3, 0)
            assert (await journal.append(batches)).duplicates == 2
            assert journal.last_sequence == 6
            assert read(journal) == expected(batches)
            assert read(journal, after=3) == expected(batches)[2:]
        async with opened(tmp_path / "new" / "folder") as journal:
            assert journal.last_sequence == 6
            assert (journal.recovered.cut_bytes, journal.recovered.missing) == (0, 0)
            assert (await journal.append(batches[:2])).duplicates == 2
            assert read(journal) == expected(batches)

    run(main())


def test_positions_are_asked_for_on_the_loop(tmp_path: Path) -> None:
    """They are those of the last commit, at once and after a restart; a batch without messages wakes nobody."""

    async def main() -> None:
        async with opened(tmp_path) as journal:
            assert journal.position(b"files:1") is None
            waiting = asyncio.create_task(journal.wait_beyond(0))
            await journal.append([at({b"files:1": 1, b"kmsg:1": 7})])
            assert not waiting.done()
            await journal.append([at({b"files:2": 5}, "x"), at({b"files:1": 2}, "y")])
            await waiting
            assert journal.position(b"files:1") == Position(b"files:1", 2, b"detail")
        async with opened(tmp_path) as journal:
            assert journal.position(b"files:1") == Position(b"files:1", 2, b"detail")
            found = journal.positions(b"files:")
            assert {(each.name, each.number) for each in found} == {(b"files:1", 2), (b"files:2", 5)}
            assert len(journal.positions(b"")) == 3

    run(main())


def test_a_position_is_there_at_every_moment(tmp_path: Path) -> None:
    """While the journal's thread replaces it, the loop finds the old or the new one, and no other row is missing."""

    async def main() -> None:
        async with opened(tmp_path) as journal:
            await journal.append([at({b"x:1": 0, b"x:2": 0})])
            appending = asyncio.create_task(_replace_many(journal))
            before = 0
            while not appending.done():
                await asyncio.sleep(0)
                found = journal.position(b"x:1")
                assert found is not None
                assert found.number >= before
                before = found.number
                assert {each.name for each in journal.positions(b"x:")} == {b"x:1", b"x:2"}
            await appending

    run(main())


async def _replace_many(journal: Journal) -> None:
    for number in range(1, 200):
        await journal.append([at({b"x:1": number * 20 + step, b"y:%d" % step: number}) for step in range(20)])


def test_many_append_at_once(tmp_path: Path) -> None:
    """Each of many callers gets its own commit, and a reader on a thread has all batches in order without gaps."""

    async def main() -> None:
        async with opened(tmp_path, retain_bytes=64 << 20) as journal:
            seen: list[Stored] = []
            done = threading.Event()

            def follow() -> None:
                reader = journal.read()
                over = False
                while not over:
                    over = done.is_set()
                    seen.extend(map(stored, reader.read(follow=True)))
                reader.close()

            following = asyncio.create_task(asyncio.to_thread(follow))

            async def send(name: str) -> None:
                for number in range(1, 60):
                    commit = await journal.append([own(name, number, 2, size=20_000)])
                    assert commit.stored == 2

            await asyncio.gather(*(send(name) for name in "abcdefgh"))
            done.set()
            await following
            assert [item.sequence for item in seen] == list(range(1, 2 * 8 * 59, 2))
            assert len({item.chunk_id for item in seen}) == 8 * 59

    run(main())


def test_old_segments_are_skipped(tmp_path: Path) -> None:
    """A reader of what was received since a time begins with the segment that may have it, and not before *after*."""

    async def main() -> None:
        journal = await Journal.open(str(tmp_path), retain_bytes=RETAIN_BYTES_MIN)
        size = journal.commit_bytes_max // 4
        entries = codec.join((codec.UNSTAMPED + msgspec.msgpack.encode({"pad": "." * size}),), 1)
        for _ in range(40):
            await journal.append([Batch(b"t", entries, 1)])
        everything = [batch for batch in journal.read().read() if isinstance(batch, Batch)]
        moment = everything[-1].received
        late = [batch.sequence for batch in journal.read(since=moment).read()]
        assert everything[-1].sequence in late
        assert len(late) < len(everything) / 2
        assert [batch.sequence for batch in journal.read(since=0).read()] == [batch.sequence for batch in everything]
        assert [batch.sequence for batch in journal.read(after=late[-1] - 1, since=moment).read()] == late[-1:]
        await journal.close()

    asyncio.run(main())


def test_new_forms_of_segments(tmp_path: Path) -> None:
    """The packed form of a segment is put in place, and readers find the same; a file that is gone is not."""

    async def main() -> None:
        async with opened(tmp_path) as journal:
            for number in range(8):
                await journal.append([own("a", number, size=500_000)])
            before, size = read(journal), journal.size_bytes
            first, following = journal.sealed(1)[:2]
            moment, needed_from = await journal.expiry()
            assert (moment > 0, needed_from > journal.last_sequence) == (True, True)
            name = rewrite(DiskFiles(str(tmp_path)), first, following)
            assert name is not None
            journal.look_for_indexes()
            assert await journal.adopt(name)
            assert journal.size_bytes < size
            assert read(journal) == before
            assert not await journal.adopt(name)

    run(main())


def test_the_oldest_expire(tmp_path: Path) -> None:
    """The journal stays within its size; a reader in the middle gets a gap, and a new one begins later."""

    async def main() -> None:
        async with opened(tmp_path) as journal:
            old = journal.read()
            await journal.append([own("a", 1, size=500_000)])
            assert [stored(item).sequence for item in old.read()] == [1]
            for number in range(2, 21):
                await journal.append([own("a", number, size=500_000)])
                assert journal.size_bytes <= RETAIN_BYTES_MIN
                assert sum(path.stat().st_size for path in tmp_path.glob("*.seg")) == journal.size_bytes
            items = read(journal)
            assert 4 <= len(items) < 10
            read_back = [stored(item) for item in old.read()]
            assert read_back[-len(items) :] == items
            (gap,) = [item for item in read_back if item.entries is None]
            assert gap.sequence + gap.messages == items[0].sequence
            assert sum(item.messages for item in read_back) == 19
            assert await journal.expire() == 0
            old.close()

    run(main())


def test_waiting_ends_with_the_commit_that_is_waited_for(tmp_path: Path) -> None:
    """`wait_beyond` returns at once or after the commit, and forgets a cancelled caller."""

    async def main() -> None:
        async with opened(tmp_path) as journal:
            await journal.append([batch("a", 3)])
            await journal.wait_beyond(2)
            waits = [asyncio.create_task(journal.wait_beyond(sequence)) for sequence in (3, 3, 5)]
            impatient = asyncio.create_task(journal.wait_beyond(3))
            await asyncio.sleep(0)
            impatient.cancel()
            await journal.append([batch("b", 2)])
            await asyncio.wait(waits[:2])
            assert not waits[2].done()
            await journal.append([batch("c")])
            await waits[2]
            await asyncio.wait([impatient])
            assert impatient.cancelled()

    run(main())


def test_an_append_that_nobody_waits_for_is_committed_all_the_same(tmp_path: Path) -> None:
    """Batches of a cancelled `append` can be read, waited for, and are no gap."""

    async def main() -> None:
        async with opened(tmp_path) as journal:
            reader = journal.read()
            waiting = asyncio.create_task(journal.wait_beyond(0))
            appending = asyncio.create_task(journal.append([own("a", 1, size=700_000)]))
            await asyncio.sleep(0)
            appending.cancel()
            await waiting
            assert appending.cancelled()
            assert journal.last_sequence == 1
            await journal.append([own("a", 2, size=700_000)])  # begins another segment
            assert [stored(item).sequence for item in reader.read()] == [1, 2]
            reader.close()

    run(main())


def test_batches_that_cannot_be_written_can_be_appended_again(tmp_path: Path) -> None:
    """JournalUnavailable names the journal; none of the batches is stored, and they are accepted later."""

    async def main() -> None:
        files = ForgettingFiles()
        async with opened(tmp_path, files=files) as journal:
            await journal.append([own("a", 1)])
            files.fail("sync", times=2)
            with pytest.raises(JournalUnavailable, match=f"{tmp_path}: cannot be written: Input/output error"):
                await journal.append([own("a", 2), batch("p")])
            assert journal.last_sequence == 1
            assert read(journal) == expected([own("a", 1)])
            assert (await journal.append([own("a", 2), batch("p")])).stored == 2
            files.fail("remove")
            journal._writer._retain_bytes = 0
            with pytest.raises(JournalUnavailable, match=f"{tmp_path}: Input/output error"):
                await journal.expire()

    run(main())


# Closing.


def test_closing_seals_the_journal(tmp_path: Path) -> None:
    """After closing no space is reserved and the thread has ended; closing again does nothing."""

    async def main() -> None:
        journal = await Journal.open(str(tmp_path))
        await journal.append([own("a", 1)])
        threads = threading.active_count()
        await asyncio.gather(journal.close(), journal.close())
        await journal.close()
        assert threading.active_count() == threads - 1
        assert sum(path.stat().st_size for path in tmp_path.glob("*.seg")) < 1000

    run(main())


def test_a_closed_journal_takes_nothing(tmp_path: Path) -> None:
    """A closed journal raises an error, and no caller waits for ever."""

    async def main() -> None:
        journal = await Journal.open(str(tmp_path))
        await journal.close()
        with pytest.raises(JournalUnusable, match="it is closed"):
            await journal.append([own("a", 1)])
        with pytest.raises(JournalUnusable, match="it is closed"):
            await journal.expire()

    run(main())


def test_closing_ends_though_the_last_sync_fails(tmp_path: Path) -> None:
    """If the last sync fails, closing raises the error and releases the folder."""

    async def main() -> None:
        files = WatchedFiles(str(tmp_path))
        journal = await Journal.open(str(tmp_path), durability="relaxed", files=files)
        await journal.append([own("a", 1)])
        files.fails = True
        with pytest.raises(JournalUnavailable, match="Input/output error"):
            await journal.close()
        async with opened(tmp_path) as journal:
            assert read(journal) == expected([own("a", 1)])

    run(main())


# Durability "relaxed".


def test_relaxed_syncs_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With durability ``relaxed``, an append without a successor is synced."""
    monkeypatch.setattr(journal_module, "RELAXED_SYNC_S", 0.05)

    async def main() -> None:
        files = WatchedFiles(str(tmp_path))
        async with opened(tmp_path, files=files, durability="relaxed") as journal:
            for number in range(1, 4):
                await journal.append([own("a", number)])
                assert await asyncio.to_thread(files.synced.wait, PATIENCE_S)
                files.synced.clear()

    run(main())


def test_relaxed_syncs_under_constant_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under constant load the sync is not postponed."""
    looks = itertools.count()
    clock = SimpleNamespace(monotonic=lambda: next(looks) / 100)  # polls every hundredth of a second
    monkeypatch.setattr(journal_module, "time", clock)

    async def main() -> None:
        files = WatchedFiles(str(tmp_path))
        async with opened(tmp_path, files=files, durability="relaxed", retain_bytes=1 << 30) as journal:
            appended = 0

            async def load() -> None:
                nonlocal appended
                while not files.synced.is_set() and appended < 1000:
                    await journal.append([batch("p")])
                    appended += 1

            await asyncio.gather(*(load() for _ in range(8)))
            assert 8 < appended < 200
            assert [path.name for path in tmp_path.glob("*.seg")] == [segment_name(1)]  # it was not a full segment

    run(main())


def test_fsync_needs_no_timer(tmp_path: Path) -> None:
    """With durability ``fsync``, every commit causes one sync, and nothing else does."""

    async def main() -> None:
        files = WatchedFiles(str(tmp_path))
        async with opened(tmp_path, files=files) as journal:
            for number in range(1, 4):
                files.synced.clear()
                await journal.append([own("a", number)])
                assert files.synced.is_set()
                assert not journal._writer.is_unsynced

    run(main())


def test_relaxed_gives_up_a_segment_whose_sync_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a failed sync of the timer, nothing more is written to that file."""
    monkeypatch.setattr(journal_module, "RELAXED_SYNC_S", 0.05)

    async def main() -> None:
        files = WatchedFiles(str(tmp_path))
        async with opened(tmp_path, files=files, durability="relaxed") as journal:
            files.fails = True
            await journal.append([own("a", 1)])
            assert await asyncio.to_thread(files.synced.wait, PATIENCE_S)
            await journal.expire()  # after the sync on the same thread
            files.fails = False
            await journal.append([own("a", 2)])
            assert sorted(path.name for path in tmp_path.glob("*.seg")) == [segment_name(1), segment_name(2)]
            assert read(journal) == expected([own("a", 1), own("a", 2)])

    run(main())


# Ownership of the folder.

HOLDER = """
import asyncio, os, sys
from hub.journal.journal import Journal
async def main():
    journal = await Journal.open(sys.argv[1])
    if sys.argv[2:] and os.fork() == 0:
        sys.stdin.readline()
        os._exit(0)
    print("open", flush=True)
    sys.stdin.readline()
asyncio.run(main())
"""


@contextmanager
def holder(path: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a process that has the journal open."""
    command = [sys.executable, "-c", HOLDER, str(path), *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        try:
            yield process
        finally:
            process.kill()


def test_another_process_is_refused(tmp_path: Path) -> None:
    """
    A second process is refused with the pid of the first one while that lives; after a kill nothing needs cleaning up.
    """

    async def main() -> None:
        with holder(tmp_path) as process:
            with pytest.raises(JournalLocked, match=f"process {process.pid} is already writing") as refused:
                await Journal.open(str(tmp_path))
            assert refused.value.pid == process.pid
            process.kill()
            process.wait()
            async with opened(tmp_path) as journal:
                await journal.append([own("a", 1)])

    run(main())


def test_a_forked_child_does_not_keep_the_journal(tmp_path: Path) -> None:
    """A forked child does not keep the journal after the death of the process that opened it."""

    async def main() -> None:
        with holder(tmp_path, "fork") as process:
            process.kill()
            process.wait()
            async with opened(tmp_path):
                pass

    run(main())


def test_a_second_journal_in_the_process_is_refused(tmp_path: Path) -> None:
    """
    A second journal is refused by any path to the folder, also during the first open, and does not release the folder.
    """

    async def main() -> None:
        (tmp_path / "real").mkdir()  # else the link may be opened first, which is an error of another kind
        (tmp_path / "link").symlink_to(tmp_path / "real")
        paths = [tmp_path / name for name in ("real", "real/../real", "link", "real")]
        for _ in range(20):
            results = await asyncio.gather(*(Journal.open(str(path)) for path in paths), return_exceptions=True)
            (first,) = [result for result in results if isinstance(result, Journal)]
            refused = [result for result in results if isinstance(result, JournalLocked)]
            assert [error.pid for error in refused] == [os.getpid()] * 3
            await first.close()
        first = await Journal.open(str(paths[0]))
        with pytest.raises(JournalLocked):
            await Journal.open(str(tmp_path / "real"))
        check = [sys.executable, "-c", HOLDER, str(tmp_path / "real")]
        assert b"is already writing" in subprocess.run(check, capture_output=True, input=b"", check=False).stderr
        await first.close()
        async with opened(tmp_path / "real"):
            pass

    run(main())


def refusing(path: Path, error: type[Exception], match: str, retain_bytes: int = RETAIN_BYTES_MIN) -> None:
    async def main() -> None:
        with pytest.raises(error, match=match):
            await Journal.open(str(path), retain_bytes=retain_bytes)

    run(main())


ANOTHER = """
import asyncio, sys
from hub.journal.journal import Journal
from hub.message import Batch

async def main() -> None:
    entries, chunk = map(bytes.fromhex, sys.argv[2:])
    journal = await Journal.open(sys.argv[1])
    await journal.append([Batch(b"app", entries, 1, chunk)])
    await journal.close()

asyncio.run(main())
"""


@pytest.mark.parametrize("change", ["remove", "replace", "move the folder"])
def test_two_journals_never_acknowledge_what_the_other_cannot_see(tmp_path: Path, change: str) -> None:
    """
    After the lock file is removed, another hub may open the journal; the first accepts nothing more and loses nothing.
    """
    folder = tmp_path / "journal"

    async def main() -> None:
        first = await Journal.open(str(folder))
        await first.append([own("a", 1)])
        await first.check_lock()
        if change == "move the folder":
            folder.rename(tmp_path / "elsewhere")
        else:
            (folder / "lock").unlink()
        if change == "replace":
            (folder / "lock").touch()
        with pytest.raises(JournalLost, match="start again"):
            await first.check_lock()
        theirs = own("b", 1)
        args = bytes(theirs.entries).hex(), (theirs.chunk_id or b"").hex()
        another = await asyncio.create_subprocess_exec(sys.executable, "-c", ANOTHER, str(folder), *args)
        assert await another.wait() == 0
        with pytest.raises(JournalLost):
            await first.append([own("a", 2)])
        with pytest.raises(JournalLost):
            await first.expire()
        await first.close()
        both = [own("a", 1), theirs]
        assert read_all(DiskFiles(str(folder))) == expected(both[change == "move the folder" :])

    run(main())


def test_nobody_else_may_read_the_lock(tmp_path: Path) -> None:
    """The lock file has mode 0600, because another user's shared lock would keep the next hub from starting."""

    async def main() -> None:
        async with opened(tmp_path):
            assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600

    run(main())


def test_too_small_a_journal_is_refused(tmp_path: Path) -> None:
    """A size that is too small is refused, and nothing is created."""
    refusing(tmp_path / "new", JournalUnusable, "bytes are too few", retain_bytes=RETAIN_BYTES_MIN - 1)
    assert not (tmp_path / "new").exists()


def test_an_impossible_folder_is_reported(tmp_path: Path) -> None:
    """A file in place of the folder or its parent, and a folder in place of the lock, are errors in one sentence."""
    (tmp_path / "file").write_bytes(b"mine")
    (tmp_path / "journal" / "lock").mkdir(parents=True)
    refusing(tmp_path / "file", JournalUnusable, "cannot be written: File exists")
    refusing(tmp_path / "file" / "below", JournalUnusable, "cannot be written: Not a directory")
    refusing(tmp_path / "journal", JournalUnusable, "cannot be written: Is a directory")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_a_new_folder_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each created folder is synced into its parent, once."""
    synced = []
    real = DiskFiles.sync_folder

    def sync_folder(files: DiskFiles) -> None:
        synced.append(files._folder)
        real(files)

    monkeypatch.setattr(DiskFiles, "sync_folder", sync_folder)

    async def main() -> None:
        for _ in range(2):
            async with opened(tmp_path / "a" / "b" / "journal"):
                pass

    run(main())
    made = [str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "b")]
    assert synced[:3] == made
    assert set(synced[3:]) == {str(tmp_path / "a" / "b" / "journal")}
    assert (tmp_path / "a" / "b" / "journal").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("call", ["pwritev", "posix_fallocate"])
def test_a_full_disk_at_the_start_is_reported(call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the error is one sentence, and the journal can be opened when there is space."""

    def full(*args: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full, raising=False)
        refusing(tmp_path, JournalUnusable, "No space left on device")

    async def main() -> None:
        async with opened(tmp_path):
            pass

    run(main())


def test_a_journal_that_was_never_readable_is_refused(tmp_path: Path) -> None:
    """Damaged headers and newer formats are refused, nothing is changed, and the folder is not left locked."""
    newer = pack_segment_header(SegmentHeader(VERSION + 1, bytes(16), 1, 0, 0, b""))
    for data, error in ((newer, JournalTooNew), (b"x" * 100, JournalUnusable), (newer, JournalTooNew)):
        (tmp_path / segment_name(1)).write_bytes(data)
        refusing(tmp_path, error, str(tmp_path))
        assert {path.name for path in tmp_path.iterdir()} == {"lock", segment_name(1)}
        assert (tmp_path / segment_name(1)).read_bytes() == data


def test_a_torn_end_is_cut_and_reported(tmp_path: Path) -> None:
    """The bytes after the last commit are cut when the journal is opened, and their number is reported."""

    async def main() -> None:
        async with opened(tmp_path) as journal:
            await journal.append([own("a", 1)])
        with (tmp_path / segment_name(1)).open("ab") as file:
            file.write(b"torn" + bytes(1000))
        async with opened(tmp_path) as journal:
            assert (journal.recovered.cut_bytes, journal.recovered.missing, journal.last_sequence) == (4, 0, 1)

    run(main())


def test_what_a_reader_needs_is_kept_from_the_start(tmp_path: Path) -> None:
    """Also by the expiry that opening the journal may cause; `need` replaces it. The first sequence follows."""

    async def main() -> None:
        async with opened(tmp_path / "j") as journal:
            assert (journal.first_sequence(), journal.bytes_beyond(0)) == (1, 0)
            journal.cursors.write("a", Cursor(0))
        async with opened(tmp_path / "j", needed_by=["a"]) as journal:
            for _ in range(8):
                await journal.append([batch("a", size=1 << 20)])
            await journal.expire()
            assert journal.first_sequence() == 1
            assert journal.bytes_beyond(0) > 8 << 20
            journal.need(6)
            now, needed_from = await journal.expiry()
            assert needed_from == 6
            assert 0 <= time.time_ns() - now < 60 * NS
            await journal.expire()
            assert 1 < journal.first_sequence() <= 6

    run(main())
