"""
hub.journal.files: the real folder, and the tests' disk with the same behaviour.
"""

import errno
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from hub.journal import files as files_module
from hub.journal.files import DIRECT_BYTES, BytesLike, DiskFiles, Files
from tests.hub.journal.forgetting import PAGE_BYTES, ForgettingFiles, every_choice
from tests.support import descriptors


@pytest.fixture(params=["disk", "memory"])
def files(request: pytest.FixtureRequest, tmp_path: Path) -> Files:
    """Both implementations: the tests' disk must behave like the real one."""
    return DiskFiles(str(tmp_path)) if request.param == "disk" else ForgettingFiles()


def test_a_new_file_is_zeros(files: Files) -> None:
    """A new file is zeros of its whole size at once."""
    fd = files.create("a", 5000)
    assert files.size(fd) == 5000
    assert files.read(fd, 0, 6000) == bytes(5000)
    assert files.list() == ["a"]
    files.close(fd)


def test_a_file_is_made_once(files: Files) -> None:
    """Creating a name that exists is an error, and the file stays unchanged."""
    fd = files.create("a", 10)
    files.write(fd, 0, [b"0123456789"])
    with pytest.raises(FileExistsError):
        files.create("a", 20)
    assert files.read(fd, 0, 20) == b"0123456789"
    files.close(fd)


def test_parts_are_written_one_after_the_other(files: Files) -> None:
    """Any number of parts of any kind is written, across pages, at any offset."""
    rng = random.Random(1)
    parts = [rng.randbytes(rng.randrange(9)) for _ in range(3000)]  # more than one system call accepts
    mixed = [bytearray(part) if index % 3 else memoryview(part) for index, part in enumerate(parts)]
    fd = files.create("a", 50_000)
    files.write(fd, 777, mixed)
    data = b"".join(parts)
    other = files.open("a")
    assert files.read(other, 0, 50_000) == bytes(777) + data + bytes(50_000 - 777 - len(data))
    files.close(fd)
    files.close(other)


def test_reading_stops_at_the_end(files: Files) -> None:
    """A read returns fewer bytes only at the end of the file, and none after it."""
    fd = files.create("a", 10)
    files.write(fd, 0, [b"0123456789"])
    assert files.read(fd, 8, 5) == b"89"
    assert files.read(fd, 10, 5) == files.read(fd, 99, 5) == b""
    files.close(fd)


def test_a_truncation_is_visible_through_open_descriptors(files: Files) -> None:
    """Readers of an open file that is cut read fewer bytes, and get no error."""
    fd = files.create("a", 5000)
    files.write(fd, 0, [b"x" * 5000])
    files.truncate("a", 100)
    assert files.size(fd) == 100
    assert files.read(fd, 50, 100) == b"x" * 50
    files.sync(fd)
    files.sync_all(fd)
    files.close(fd)


def test_names_are_given_and_taken(files: Files) -> None:
    """A rename replaces a file of that name; the old file can still be read through open fds."""
    fds = [files.create(name, 10) for name in ("a", "b")]
    files.write(fds[0], 0, [b"a"])
    assert [files.is_named(fd, "b") for fd in fds] == [False, True]
    files.rename("a", "b")
    files.sync_folder()
    assert files.list() == ["b"]
    assert [files.is_named(fd, "b") for fd in fds] == [True, False]
    assert files.is_named(fds[1], "nobody has this name")
    files.remove("b")
    assert files.list() == []
    assert files.read(fds[0], 0, 1) == b"a"
    assert files.is_named(fds[1], "b")
    for fd in fds:
        files.close(fd)


@pytest.mark.parametrize(
    "action",
    [
        lambda files: files.open("none"),
        lambda files: files.remove("none"),
        lambda files: files.rename("none", "other"),
        lambda files: files.truncate("none", 0),
    ],
)
def test_a_missing_file_is_not_found(files: Files, action: Callable[[Files], object]) -> None:
    """Every operation on a missing file raises FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        action(files)


def test_a_synced_write_has_the_same_bytes(files: Files) -> None:
    """A write with *is_synced* writes what one without it writes, also with more parts than one call accepts."""
    rng = random.Random(2)
    fd, offset, data = files.create("a", 600_000), 5, b""
    for count, size in ((1, 1), (3, 5000), (1024, 9), (1025, 9), (2, 150_000), (1, 20)):
        parts = [rng.randbytes(size) for _ in range(count)]
        files.write(fd, offset + len(data), parts, is_synced=True)
        data += b"".join(parts)
        assert files.read(fd, 0, offset + len(data) + 7) == bytes(offset) + data + bytes(7)
    files.close(fd)


# The real disk only.


class Calls(NamedTuple):
    """The calls that write and sync, in order: their names and the flags of `pwritev`."""

    made: list[tuple[str, int]]

    def take(self) -> list[tuple[str, int]]:
        made = self.made[:]
        self.made.clear()
        return made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    calls, pwritev, pwrite, fdatasync = Calls([]), os.pwritev, os.pwrite, os.fdatasync

    def write_parts(fd: int, parts: list[BytesLike], offset: int, flags: int = 0) -> int:
        calls.made.append(("pwritev", flags))
        return pwritev(fd, parts, offset, flags)

    def write_one(fd: int, data: BytesLike, offset: int) -> int:
        calls.made.append(("pwrite", 0))
        return pwrite(fd, data, offset)

    def sync(fd: int) -> None:
        calls.made.append(("fdatasync", 0))
        fdatasync(fd)

    monkeypatch.setattr(os, "pwritev", write_parts)
    monkeypatch.setattr(os, "pwrite", write_one)
    monkeypatch.setattr(files_module, "_fdatasync", sync)
    return calls


def mounted(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let *folder* be on a file system of type *kind*."""
    device = folder.stat().st_dev
    lines = [
        "21 1 0:99999 / / rw - ext4 /dev/root rw",
        f"24 21 {os.major(device)}:{os.minor(device)} / /a\\040b rw,relatime shared:1 master:2 - {kind} /dev/x rw",
        f"25 21 {os.major(device)}:{os.minor(device)} / /again rw - unknown /dev/x rw",
    ]
    (folder / "mountinfo").write_text("\n".join(lines))
    monkeypatch.setattr(files_module, "_MOUNTS", str(folder / "mountinfo"))


SYNCED, SEPARATE = [("pwritev", os.RWF_DSYNC)], [("pwritev", 0), ("fdatasync", 0)]


def test_a_small_synced_write_is_one_system_call(tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    """On ext4, a commit of ordinary size is written and synced by one call; without *is_synced* nothing is synced."""
    mounted(tmp_path, "ext4", monkeypatch)
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", 1 << 20)
    for _ in range(3):
        files.write(fd, 0, [b"a", b"b"], is_synced=True)
        assert calls.take() == SYNCED
    files.write(fd, 0, [b"a", b"b"])
    assert calls.take() == [("pwritev", 0)]
    files.close(fd)


def test_many_parts_and_large_writes_are_synced_by_a_call_of_their_own(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More parts than one call accepts, and a large write, direct or not, are written first and synced after it."""
    mounted(tmp_path, "ext4", monkeypatch)
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", 2 * DIRECT_BYTES)
    files.write(fd, 0, [b"a"] * 1025, is_synced=True)
    assert calls.take() == [("pwritev", 0), ("pwritev", 0), ("fdatasync", 0)]
    files.write(fd, 0, [bytes(DIRECT_BYTES)], is_synced=True)
    *writes, sync = calls.take()
    assert writes
    assert sync == ("fdatasync", 0)
    files.write(fd, 0, [b"a"], is_synced=True)
    assert calls.take() == SYNCED
    files.close(fd)


@pytest.mark.parametrize("kind", ["9p", "fuse.sshfs", "virtiofs", "nfs4", ""])
def test_where_the_flag_may_be_ignored_it_is_not_used(
    kind: str, tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a file system that may ignore the flag, and where its type is unknown, the sync is a call of its own."""
    mounted(tmp_path, kind, monkeypatch)
    if not kind:
        monkeypatch.setattr(files_module, "_MOUNTS", str(tmp_path / "none"))
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", 1000)
    files.write(fd, 0, [b"a", b"b"], is_synced=True)
    assert calls.take() == SEPARATE
    files.close(fd)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_a_kernel_without_the_flag_is_asked_once(
    number: int, tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the kernel refuses the flag, this write and all later ones are synced by a call of their own."""
    mounted(tmp_path, "xfs", monkeypatch)
    counted, refused = os.pwritev, 0

    def refuse(fd: int, parts: list[BytesLike], offset: int, flags: int = 0) -> int:
        nonlocal refused
        if flags:
            refused += 1
            raise OSError(number, os.strerror(number))
        return counted(fd, parts, offset)

    monkeypatch.setattr(os, "pwritev", refuse)
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", 1000)
    for _ in range(2):
        files.write(fd, 10, [b"a", b"b"], is_synced=True)
        assert calls.take() == SEPARATE
    assert refused == 1
    assert files.read(fd, 9, 4) == b"\0ab\0"
    files.close(fd)


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_an_error_of_a_synced_write_is_raised_and_not_retried(
    number: int, tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error may be one of the sync, and a second sync could succeed without writing the data."""
    mounted(tmp_path, "ext4", monkeypatch)

    def fail(fd: int, parts: list[BytesLike], offset: int, flags: int = 0) -> int:
        calls.made.append(("pwritev", flags))
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwritev", fail)
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", 1000)
    with pytest.raises(OSError, match=os.strerror(number)):
        files.write(fd, 0, [b"a"], is_synced=True)
    assert calls.take() == SYNCED
    files.close(fd)


def test_a_synced_write_that_is_cut_short_is_written_and_synced_again(
    tmp_path: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a short synced write, all parts are written, then synced."""
    mounted(tmp_path, "ext4", monkeypatch)
    counted = os.pwritev

    def cut_short(fd: int, parts: list[BytesLike], offset: int, flags: int = 0) -> int:
        return counted(fd, [b"".join(parts)[:3]] if flags else parts, offset, flags)

    monkeypatch.setattr(os, "pwritev", cut_short)
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", 1000)
    files.write(fd, 1, [b"abcd", b"efgh"], is_synced=True)
    assert calls.take() == SYNCED + SEPARATE
    assert files.read(fd, 0, 10) == b"\0abcdefgh\0"
    files.close(fd)


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a short write (a signal, or a nearly full disk), the rest is written after it."""
    real, real_one = os.pwritev, os.pwrite
    monkeypatch.setattr(os, "pwritev", lambda fd, parts, offset: real(fd, [b"".join(parts)[:7]], offset))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real_one(fd, data[:5], offset))
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", 4000)
    parts = [bytes([number % 251]) * 3 for number in range(1100)]
    files.write(fd, 11, parts)
    assert files.read(fd, 0, 4000) == (bytes(11) + b"".join(parts)).ljust(4000, b"\0")
    files.close(fd)


def test_a_short_read_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a short read, the rest is read after it."""
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", 100)
    files.write(fd, 0, [bytes(range(100))])
    real = os.pread
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: real(fd, min(size, 7), offset))
    assert files.read(fd, 3, 50) == bytes(range(3, 53))
    assert files.read(fd, 90, 50) == bytes(range(90, 100))
    files.close(fd)


def test_a_bad_sector_costs_its_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unreadable pages are returned as zeros and their neighbours unchanged; any other error is raised."""
    data, bad, fault = os.urandom(5 * 4096 + 100), range(4096, 2 * 4096), errno.EIO
    (tmp_path / "f").write_bytes(data)
    files, pread = DiskFiles(str(tmp_path)), os.pread

    def failing(fd: int, size: int, offset: int) -> bytes:
        if offset < bad.stop and offset + size > bad.start:
            raise OSError(fault, os.strerror(fault))
        return pread(fd, size, offset)

    monkeypatch.setattr(os, "pread", failing)
    fd = files.open("f")
    around = data[: bad.start] + bytes(4096) + data[bad.stop :]
    for offset, size in ((0, 1 << 20), (4000, 200), (4097, 10), (8191, 2), (100, 3 * 4096), (20_000, 1 << 20)):
        assert files.read(fd, offset, size) == around[offset : offset + size]
    fault = errno.ENXIO
    with pytest.raises(OSError, match="No such device"):
        files.read(fd, 0, 1 << 20)
    files.close(fd)


def test_a_file_without_space_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is found when the file is created, and the incomplete file is removed."""

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    open_before = descriptors()
    with pytest.raises(OSError, match="No space left"):
        DiskFiles(str(tmp_path)).create("a", 100)
    assert list(tmp_path.iterdir()) == []
    assert descriptors() == open_before


def test_space_is_reserved(tmp_path: Path) -> None:
    """The blocks of a new file are allocated before anything is written to it."""
    if not hasattr(os, "posix_fallocate"):
        pytest.skip("no posix_fallocate here")
    files = DiskFiles(str(tmp_path))
    files.close(files.create("a", 1 << 20))
    assert (tmp_path / "a").stat().st_blocks * 512 >= 1 << 20


# The tests' disk: the results of a power cut.


def cuts(files: ForgettingFiles) -> set[tuple[str, bytes]]:
    """Return every content that each name may have afterwards."""
    found = set()
    for choose in every_choice():
        disk = files.after_power_cut(choose)
        names, contents = disk.contents()
        found |= {(name, contents[number]) for name, number in names.items()}
        if not names:
            found.add(("", b""))
    return found


def two_pages(first: bytes, second: bytes) -> bytes:
    return first * PAGE_BYTES + second * PAGE_BYTES


def test_unsynced_pages_are_old_new_or_torn() -> None:
    """Each unsynced page is independent: a later page may be on disk where an earlier one is not."""
    files = ForgettingFiles()
    fd = files.create("a", 2 * PAGE_BYTES)
    files.sync_all(fd)
    files.sync_folder()
    files.write(fd, 0, [two_pages(b"x", b"y")])
    half = PAGE_BYTES // 2
    torn = [b"\0" * half + b"x" * half, b"x" * half + b"\0" * half]
    pages = [b"\0" * PAGE_BYTES, b"x" * PAGE_BYTES, *torn]
    assert cuts(files) == {("a", one + two.replace(b"x", b"y")) for one in pages for two in pages}
    files.sync(fd)
    assert cuts(files) == {("a", two_pages(b"x", b"y"))}


def test_a_synced_write_syncs_only_its_pages() -> None:
    """What was written to other pages before stays unsynced, and if the sync fails, only its own pages are dropped."""
    files = ForgettingFiles()
    fd = files.create("a", 3 * PAGE_BYTES)
    files.sync_all(fd)
    files.sync_folder()
    files.write(fd, 0, [b"x"])
    files.write(fd, PAGE_BYTES, [two_pages(b"y", b"z")], is_synced=True)
    synced = two_pages(b"y", b"z")
    assert cuts(files) == {("a", first.ljust(PAGE_BYTES, b"\0") + synced) for first in (b"", b"x")}
    files.fail("sync")
    with pytest.raises(OSError, match="Input/output error"):
        files.write(fd, 2 * PAGE_BYTES, [b"w" * PAGE_BYTES], is_synced=True)
    files.sync(fd)
    after = [contents for _, contents in cuts(files)]
    assert {contents[:1] for contents in after} == {b"x"}
    assert {contents[-1:] for contents in after} == {b"z", b"w"}


def test_the_power_may_fail_between_a_write_and_its_sync() -> None:
    """A synced write is a step for each page and one for the sync."""
    files = ForgettingFiles()
    fd = files.create("a", 2 * PAGE_BYTES)
    files.sync_all(fd)
    files.sync_folder()
    steps: list[tuple[str, int]] = []
    files.watch = lambda step: steps.append((step, len(cuts(files.after_kill()))))
    files.write(fd, 0, [two_pages(b"x", b"y")], is_synced=True)
    assert steps == [("page", 1), ("page", 4), ("sync", 16)]
    assert len(cuts(files)) == 1


def test_unsynced_names_and_sizes_are_old_or_new() -> None:
    """A rename may be undone, a removed file may return, a cut file may be long again."""
    files = ForgettingFiles()
    fd = files.create("a", 3)
    files.write(fd, 0, [b"abc"])
    files.sync_all(fd)
    assert cuts(files) == {("a", b"abc"), ("", b"")}
    files.sync_folder()
    files.rename("a", "b")
    assert cuts(files) == {("a", b"abc"), ("b", b"abc"), ("", b"")}
    files.sync_folder()
    assert cuts(files) == {("b", b"abc")}
    files.remove("b")
    assert cuts(files) == {("b", b"abc"), ("", b"")}


def test_a_failed_sync_drops_its_pages() -> None:
    """The sync after a failed one succeeds and writes none of the dropped pages, although they can still be read."""
    files = ForgettingFiles()
    fd = files.create("a", PAGE_BYTES)
    files.sync_all(fd)
    files.sync_folder()
    files.write(fd, 0, [b"x" * PAGE_BYTES])
    files.fail("sync")
    with pytest.raises(OSError, match="Input/output error"):
        files.sync(fd)
    files.sync(fd)
    assert files.read(fd, 0, 1) == b"x"
    assert ("a", bytes(PAGE_BYTES)) in cuts(files)
    files.write(fd, 0, [b"z"])
    files.sync(fd)
    assert cuts(files) == {("a", b"z" + b"x" * (PAGE_BYTES - 1))}


def test_a_killed_process_loses_nothing_but_gains_no_safety() -> None:
    """The next process sees the writes of a killed one, and a power cut may still lose them."""
    files = ForgettingFiles()
    fd = files.create("a", 2)
    files.sync_all(fd)
    files.sync_folder()
    files.write(fd, 0, [b"ab"])
    after = files.after_kill()
    assert after.read(after.open("a"), 0, 2) == b"ab"
    assert cuts(after) == cuts(files) == {("a", b"ab"), ("a", b"\0\0")}


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_the_mode_of_a_file_is_the_same_under_every_umask(tmp_path: Path, umask: int) -> None:
    """The folder decides who reads; the file is readable for its group."""
    files = DiskFiles(str(tmp_path))
    before = os.umask(umask)
    try:
        files.close(files.create("x", 4096))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640
