"""
hub.journal.direct: large writes that bypass the page cache have the same result as ordinary ones.
"""

import ctypes
import errno
import itertools
import mmap
import os
import random
import threading
from pathlib import Path

import pytest

from hub.journal import direct
from hub.journal.direct import BUFFER_BYTES, PAGE_BYTES, DirectWriter
from hub.journal.files import DIRECT_BYTES, BytesLike, DiskFiles
from tests.support import descriptors

pytestmark = pytest.mark.durability

SIZE = 12 << 20


def _is_possible(folder: Path) -> bool:
    fd = os.open(folder / "probe", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(fd, 0, 2 * PAGE_BYTES)
        return DirectWriter().write(fd, 0, [b"x"])
    finally:
        os.close(fd)
        os.unlink(folder / "probe")


def _need_direct_writes(folder: Path) -> None:
    if not _is_possible(folder):
        pytest.skip("the file system under the temporary folder has no direct writes")


def test_small_and_large_writes_follow_one_another(tmp_path: Path) -> None:
    """Writes at any offset, of any size, in any order, with a reader at every moment, leave the given bytes."""
    dice = random.Random(7)
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", SIZE)
    reader = files.open("a")
    expected = bytearray(dice.randbytes(100))
    files.write(fd, 0, [bytes(expected)])
    while len(expected) < SIZE - (6 << 20):
        size = dice.choice([1, 50, 4096, 5000, DIRECT_BYTES, DIRECT_BYTES + dice.randrange(9000), BUFFER_BYTES + 77])
        data = dice.randbytes(size)
        cuts = sorted(dice.randrange(size) for _ in range(3))
        pieces = [data[start:end] for start, end in itertools.pairwise([0, *cuts, size])]
        parts: list[BytesLike] = [pieces[0], memoryview(pieces[1]), bytearray(pieces[2]), pieces[3]]
        files.write(fd, len(expected), parts)
        expected += data
        assert files.read(reader, 0, len(expected) + 10) == bytes(expected) + bytes(10)
    assert files.size(fd) == SIZE
    files.close(fd)
    files.close(reader)


def test_a_file_never_grows(tmp_path: Path) -> None:
    """A write that ends in the last page is an ordinary one, so the file does not grow."""
    files = DiskFiles(str(tmp_path))
    size = DIRECT_BYTES + 1000
    fd = files.create("a", size)
    data = os.urandom(size - 3)
    files.write(fd, 3, [data])
    assert files.size(fd) == size
    assert files.read(fd, 0, size) == bytes(3) + data
    files.close(fd)


def test_the_next_file_with_the_same_number_is_another(tmp_path: Path) -> None:
    """After a file is closed, neither its tail nor its direct descriptor is kept."""
    _need_direct_writes(tmp_path)
    files = DiskFiles(str(tmp_path))
    number = descriptors()
    for name in ("a", "b", "c"):
        fd = files.create(name, SIZE)
        files.write(fd, 0, [name.encode() * 10])
        files.write(fd, 10, [name.encode() * DIRECT_BYTES])
        files.write(fd, 10 + DIRECT_BYTES, [b"." * DIRECT_BYTES])
        files.close(fd)
        reader = files.open(name)
        assert files.read(reader, 0, DIRECT_BYTES + 11) == name.encode() * (DIRECT_BYTES + 10) + b"."
        files.close(reader)
    assert descriptors() == number


def test_the_next_file_keeps_the_bytes_before_a_large_write(tmp_path: Path) -> None:
    """A large write where the previous file ended repeats the bytes of its own file, not those of the previous one."""
    _need_direct_writes(tmp_path)
    files = DiskFiles(str(tmp_path))
    end = DIRECT_BYTES + 1092
    first = files.create("a", SIZE)
    files.write(first, 0, [b"a" * end])
    files.close(first)
    second = files.create("b", SIZE)
    assert second == first, "it has another descriptor: this proves nothing"
    half = end // 2
    files.write(second, 0, [b"b" * half])
    files.write(second, half, [b"b" * (end - half)])
    files.write(second, end, [b"." * DIRECT_BYTES])
    assert files.read(second, 0, end + DIRECT_BYTES) == b"b" * end + b"." * DIRECT_BYTES
    files.close(second)


def test_the_page_cache_is_left_to_others(tmp_path: Path) -> None:
    """A large write leaves no page in the cache, and is read back from the disk."""
    _need_direct_writes(tmp_path)
    files = DiskFiles(str(tmp_path))
    fd = files.create("a", SIZE)
    files.write(fd, 0, [os.urandom(BUFFER_BYTES)])
    assert not _is_cached(fd, PAGE_BYTES)
    files.write(fd, BUFFER_BYTES, [os.urandom(DIRECT_BYTES - 1)])
    assert _is_cached(fd, BUFFER_BYTES + PAGE_BYTES)
    files.close(fd)


def _is_cached(fd: int, offset: int) -> bool:
    """
    Return whether the byte at the offset is in the page cache. Looking does not change that; a read with RWF_NOWAIT
    would start a read-ahead, and on a fast disk find what it has brought.
    """
    libc, resident = ctypes.CDLL(None, use_errno=True), ctypes.c_ubyte()
    start = offset - offset % mmap.ALLOCATIONGRANULARITY
    with mmap.mmap(fd, offset + 1 - start, offset=start) as mapped:
        byte = ctypes.c_char.from_buffer(mapped, offset - start)
        page = ctypes.addressof(byte) - (offset - start) % mmap.PAGESIZE
        failed = libc.mincore(ctypes.c_void_p(page), ctypes.c_size_t(1), ctypes.byref(resident))
        del byte
    if failed:
        pytest.skip(f"nothing says here what is in the page cache: {os.strerror(ctypes.get_errno())}")
    return bool(resident.value & 1)


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_without_direct_writes_gets_ordinary_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """If the first large write finds no direct writes, it and all later ones are ordinary."""
    tried = 0

    def refuse(*_: object) -> int:
        nonlocal tried
        tried += 1
        raise OSError(number, "no")

    files = DiskFiles(str(tmp_path))
    fd = files.create("a", SIZE)
    data = os.urandom(DIRECT_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(direct, "_write_all", refuse)
        files.write(fd, 5, [data])
        files.write(fd, 5 + len(data), [data])
    assert tried == 1
    assert files.read(fd, 5, 2 * len(data)) == data + data
    files.close(fd)


def test_another_error_is_the_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO is raised, and the write is not retried in the ordinary way."""

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    files = DiskFiles(str(tmp_path))
    fd = files.create("a", SIZE)
    _need_direct_writes(tmp_path)
    monkeypatch.setattr(direct, "_write_all", fail)
    with pytest.raises(OSError, match="Input/output"):
        files.write(fd, 0, [bytes(DIRECT_BYTES)])
    files.close(fd)


# Faults.


@pytest.mark.parametrize("most", [PAGE_BYTES, 512, 100, 1_000_000])
def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """
    All bytes are written, whatever part the kernel takes at a time, even a part that no direct write can continue.
    """
    _need_direct_writes(tmp_path)
    real, files = os.pwrite, DiskFiles(str(tmp_path))
    fd = files.create("a", SIZE)
    before, data = os.urandom(5000), os.urandom(DIRECT_BYTES + 77)
    files.write(fd, 0, [before])
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:most], offset))
    files.write(fd, 5000, [data])
    files.write(fd, 5000 + len(data), [data])
    assert files.read(fd, 0, 5001 + 2 * len(data)) == before + data + data + b"\0"
    files.close(fd)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_write_that_fails_in_the_middle_changes_nothing_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """
    A write that fails in the middle changes nothing before it and leaves nothing open; the next file is written
    directly.
    """
    _need_direct_writes(tmp_path)
    real, files = os.pwrite, DiskFiles(str(tmp_path))
    opened = descriptors()
    fd = files.create("a", 2 * SIZE)
    before = os.urandom(DIRECT_BYTES + 5)
    files.write(fd, 0, [before])
    calls = itertools.count()

    def fail(fd: int, data: memoryview, offset: int) -> int:
        if next(calls) == 1:
            raise OSError(number, os.strerror(number))
        return real(fd, data, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail)
        with pytest.raises(OSError, match=os.strerror(number)):
            files.write(fd, len(before), [os.urandom(2 * BUFFER_BYTES)])
    assert next(calls) == 2, "an ordinary write was not tried"
    assert files.read(fd, 0, len(before)) == before
    files.close(fd)
    assert descriptors() == opened
    fd = files.create("b", SIZE)
    files.write(fd, 0, [before])
    assert not _is_cached(fd, 0)
    assert files.read(fd, 0, len(before)) == before
    files.close(fd)


@pytest.mark.parametrize(
    ("number", "again"),
    [(errno.EMFILE, True), (errno.ENFILE, True), (errno.ENOMEM, True), (errno.ENOENT, False), (errno.EACCES, False)],
)
def test_without_another_descriptor_a_write_is_an_ordinary_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, again: bool
) -> None:
    """
    Without free descriptors a commit still succeeds; a temporary error is tried again later, a permanent one is not.
    """
    _need_direct_writes(tmp_path)
    files, tried = DiskFiles(str(tmp_path)), 0

    def refuse(path: str, *args: int) -> int:
        nonlocal tried
        tried += 1
        raise OSError(number, os.strerror(number))

    fd = files.create("a", SIZE)
    data = os.urandom(DIRECT_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        files.write(fd, 3, [data])
        files.write(fd, 3 + len(data), [data])
    assert tried == (2 if again else 1)
    files.write(fd, 3 + 2 * len(data), [data])
    assert _is_cached(fd, 3 * len(data)) != again
    assert files.read(fd, 3, 3 * len(data)) == data * 3
    files.close(fd)


def test_a_file_that_nobody_may_write_is_an_error(tmp_path: Path) -> None:
    """An error that an ordinary write raises too is raised unchanged."""
    files = DiskFiles(str(tmp_path))
    files.close(files.create("a", SIZE))
    fd = files.open("a")
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        files.write(fd, 0, [bytes(100)])
    files.close(fd)


def test_a_concurrent_reader_never_sees_earlier_bytes_change(tmp_path: Path) -> None:
    """A reader sees the bytes before the write unchanged while their page is written again."""
    dice = random.Random(3)
    files = DiskFiles(str(tmp_path))
    fd, data = files.create("a", SIZE), dice.randbytes(SIZE)
    done, wrong, looks = 0, 0, 0
    ended = threading.Event()

    def look() -> None:
        nonlocal wrong, looks
        reader = os.open(tmp_path / "a", os.O_RDONLY)
        while not ended.is_set() or not looks:
            end = done
            start = max(end - 3 * PAGE_BYTES, 0)
            wrong += os.pread(reader, end - start, start) != data[start:end]
            looks += 1
        os.close(reader)

    thread = threading.Thread(target=look)
    thread.start()
    while done < SIZE - BUFFER_BYTES:
        size = dice.choice([30, 3000, DIRECT_BYTES + dice.randrange(5000)])
        files.write(fd, done, [data[done : done + size]])
        done += size
    ended.set()
    thread.join()
    files.close(fd)
    assert wrong == 0
    assert looks > 10
