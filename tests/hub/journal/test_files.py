"""
hub.journal.files: the real folder, and the tests' disk with the same behaviour.
"""

import errno
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from hub.journal.files import DiskFiles, Files
from tests.hub.journal.forgetting import PAGE_BYTES, ForgettingFiles, every_choice


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


def test_parts_are_written_one_behind_the_other(files: Files) -> None:
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


def test_cutting_a_file_shows_to_those_who_have_it_open(files: Files) -> None:
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
def test_what_is_not_there_is_not_found(files: Files, action: Callable[[Files], object]) -> None:
    """Every operation on a missing file raises FileNotFoundError."""
    with pytest.raises(FileNotFoundError):
        action(files)


# The real disk only.


def test_a_short_write_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_short_read_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_file_without_space_is_not_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is found when the file is created, and the incomplete file is removed."""

    def full(fd: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    open_before = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match="No space left"):
        DiskFiles(str(tmp_path)).create("a", 100)
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/dev/fd")) == open_before


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
