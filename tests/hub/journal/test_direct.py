"""hub.journal.direct: large writes past the page cache say the same as ordinary ones."""

import errno
import itertools
import os
import random
from pathlib import Path

import pytest

from hub.journal import direct
from hub.journal.direct import BUFFER_BYTES, PAGE_BYTES, DirectWriter
from hub.journal.files import DIRECT_BYTES, DiskFiles, Part

SIZE = 12 << 20


def _is_possible(folder: Path) -> bool:
    handle = os.open(folder / "probe", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        os.posix_fallocate(handle, 0, 2 * PAGE_BYTES)
        return DirectWriter().write(handle, 0, [b"x"])
    finally:
        os.close(handle)
        os.unlink(folder / "probe")


def test_small_and_large_writes_lie_behind_one_another(tmp_path: Path) -> None:
    """At any offset, of any sizes, in any turn, with a reader looking at every moment: the bytes are those given."""
    dice = random.Random(7)
    files = DiskFiles(str(tmp_path))
    handle = files.create("a", SIZE)
    reader = files.open("a")
    expected = bytearray(dice.randbytes(100))
    files.write(handle, 0, [bytes(expected)])
    while len(expected) < SIZE - (6 << 20):
        size = dice.choice([1, 50, 4096, 5000, DIRECT_BYTES, DIRECT_BYTES + dice.randrange(9000), BUFFER_BYTES + 77])
        data = dice.randbytes(size)
        cuts = sorted(dice.randrange(size) for _ in range(3))
        pieces = [data[start:end] for start, end in itertools.pairwise([0, *cuts, size])]
        parts: list[Part] = [pieces[0], memoryview(pieces[1]), bytearray(pieces[2]), pieces[3]]
        files.write(handle, len(expected), parts)
        expected += data
        assert files.read(reader, 0, len(expected) + 10) == bytes(expected) + bytes(10)
    assert files.size(handle) == SIZE
    files.close(handle)
    files.close(reader)


def test_a_file_never_grows(tmp_path: Path) -> None:
    """A write that ends in the last page is an ordinary one."""
    files = DiskFiles(str(tmp_path))
    size = DIRECT_BYTES + 1000
    handle = files.create("a", size)
    data = os.urandom(size - 3)
    files.write(handle, 3, [data])
    assert files.size(handle) == size
    assert files.read(handle, 0, size) == bytes(3) + data
    files.close(handle)


def test_the_next_file_with_the_same_number_is_another(tmp_path: Path) -> None:
    """Nothing is kept of a closed file: neither its tail nor what it was opened as."""
    if not _is_possible(tmp_path):
        pytest.skip("the file system under the temporary folder has no direct writes")
    files = DiskFiles(str(tmp_path))
    number = len(os.listdir("/proc/self/fd"))
    for name in ("a", "b", "c"):
        handle = files.create(name, SIZE)
        files.write(handle, 0, [name.encode() * 10])
        files.write(handle, 10, [name.encode() * DIRECT_BYTES])
        files.write(handle, 10 + DIRECT_BYTES, [b"." * DIRECT_BYTES])
        files.close(handle)
        reader = files.open(name)
        assert files.read(reader, 0, DIRECT_BYTES + 11) == name.encode() * (DIRECT_BYTES + 10) + b"."
        files.close(reader)
    assert len(os.listdir("/proc/self/fd")) == number


def test_the_page_cache_is_left_to_others(tmp_path: Path) -> None:
    """A large write is really a direct one: what it wrote needs no page of the cache, and is read back by the disk."""
    if not _is_possible(tmp_path):
        pytest.skip("the file system under the temporary folder has no direct writes")
    files = DiskFiles(str(tmp_path))
    handle = files.create("a", SIZE)
    before = _bytes_written()
    files.write(handle, 0, [os.urandom(BUFFER_BYTES)])
    assert _bytes_written() - before >= BUFFER_BYTES  # at once, not when the kernel or a sync finds time
    files.close(handle)


def _bytes_written() -> int:
    """Return what this process had the disk write, as the kernel counts it; dirty pages count too, but not twice."""
    lines = Path("/proc/self/io").read_text(encoding="ascii").split()
    return int(lines[lines.index("write_bytes:") + 1])


@pytest.mark.parametrize("number", [errno.EINVAL, errno.EOPNOTSUPP])
def test_a_file_system_without_direct_writes_gets_ordinary_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Found out at the first large write; it and all others are ordinary then."""
    tried = 0

    def refuse(*_: object) -> int:
        nonlocal tried
        tried += 1
        raise OSError(number, "no")

    files = DiskFiles(str(tmp_path))
    handle = files.create("a", SIZE)
    data = os.urandom(DIRECT_BYTES)
    with monkeypatch.context() as patch:
        patch.setattr(direct, "_write_all", refuse)
        files.write(handle, 5, [data])
        files.write(handle, 5 + len(data), [data])
    assert tried == 1
    assert files.read(handle, 5, 2 * len(data)) == data + data
    files.close(handle)


def test_another_error_is_the_writers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO is no reason to try otherwise."""

    def fail(*_: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    files = DiskFiles(str(tmp_path))
    handle = files.create("a", SIZE)
    if not _is_possible(tmp_path):
        pytest.skip("the file system under the temporary folder has no direct writes")
    monkeypatch.setattr(direct, "_write_all", fail)
    with pytest.raises(OSError, match="Input/output"):
        files.write(handle, 0, [bytes(DIRECT_BYTES)])
    files.close(handle)
