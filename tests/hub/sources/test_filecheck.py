"""hub.sources.filecheck: whether a file still has what was read of it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hub.sources.filecheck import (
    BEGIN_BYTES,
    HEAD_BYTES,
    TAIL_BYTES,
    Mark,
    Truncated,
    has_mark,
    is_part,
    is_prefix,
    mark_at,
    tail_of,
)


def noise(size: int) -> bytes:
    """Return bytes without a pattern, the same each time, none of which is an x."""
    return random.Random(size).randbytes(size).replace(b"x", b"y")


@contextmanager
def opened(path: Path, data: bytes) -> Iterator[int]:
    """Write *data*, and open the file."""
    path.write_bytes(data)
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


@pytest.mark.parametrize("size", [0, 1, TAIL_BYTES - 1, TAIL_BYTES, TAIL_BYTES + 1, HEAD_BYTES, HEAD_BYTES + 5, 5000])
@pytest.mark.parametrize("step", [1, 100, 700, 5000])
def test_a_mark_grows_with_what_is_read(tmp_path: Path, size: int, step: int) -> None:
    """The mark after many reads is the mark of the file at that place, however the reads were cut."""
    data = noise(size)
    mark, tail = Mark(), b""
    for offset in range(0, size, step):
        taken = data[offset : offset + step]
        tail = (tail + taken)[-TAIL_BYTES:]
        mark = mark.after(taken, offset, tail)
    with opened(tmp_path / "file", data + b"more") as fd:
        assert mark_at(fd, size) == (mark, data[max(size - TAIL_BYTES, 0) : size])
        assert tail_of(fd, size, mark) == tail


def test_changes_are_noticed(tmp_path: Path) -> None:
    """Another beginning, other bytes before the place, and a shorter file are Truncated; the rest is not looked at."""
    data = bytes(range(256)) * 20
    place = 4000
    with opened(tmp_path / "file", data) as fd:
        mark, _ = mark_at(fd, place)
    for changed in (b"x" + data[1:], data[: place - 1] + b"x" + data[place:], data[: place - 1], b""):
        with opened(tmp_path / "file", changed) as fd:
            assert not has_mark(fd, place, mark)
            with pytest.raises(Truncated):
                tail_of(fd, place, mark)
    with opened(tmp_path / "file", data[:place]) as fd:
        assert has_mark(fd, place, mark)


def test_prefixes(tmp_path: Path) -> None:
    """A copy that was made before more was written begins like the file."""
    data = noise(10_000)
    with opened(tmp_path / "one", data) as one:
        for other, is_copy in (
            (data[:5000], True),
            (data, True),
            (data + b"x", True),
            (b"", True),
            (b"x" + data[1:], False),
            (data[:4999] + b"xx", False),
            (data[:2500] + b"x" * 10 + data[2510:5000], False),
        ):
            with opened(tmp_path / "other", other) as fd:
                size = min(len(data), len(other))
                assert is_prefix(one, fd, size) is is_prefix(fd, one, size) is is_copy
                os.truncate(tmp_path / "other", 0)
                assert is_prefix(one, fd, size) is (not size)  # no longer what it was when its size was asked for


@pytest.mark.parametrize("size", [BEGIN_BYTES, 500, HEAD_BYTES, 3000])
def test_parts_of_what_was_read(tmp_path: Path, size: int) -> None:
    """A shorter file that begins alike is a part of it; a very short one, a longer one, and another are not."""
    data = noise(4000)
    with opened(tmp_path / "file", data) as fd:
        mark, _ = mark_at(fd, 3000)
        assert is_part(fd, size, 3000, mark)
        assert not is_part(fd, BEGIN_BYTES - 1, 3000, mark)
        assert not is_part(fd, 3001, 3000, mark)
    with opened(tmp_path / "file", b"x" + data[1:]) as fd:
        assert not is_part(fd, size, 3000, mark)


@pytest.mark.parametrize(
    ("header", "size", "is_alike"), [(127, 127, True), (127, 128, False), (300, 511, True), (300, 512, False)]
)
def test_files_with_the_same_header(tmp_path: Path, header: int, size: int, is_alike: bool) -> None:
    """The longest beginning counts of which both have a checksum, also if what was read came in pieces."""
    data = noise(2000)
    mark = Mark()
    for begin in range(0, 2000, 250):
        mark = mark.after(data[begin : begin + 250], begin, data[max(begin + 250 - TAIL_BYTES, 0) : begin + 250])
    with opened(tmp_path / "file", data) as fd:
        assert mark == mark_at(fd, 2000)[0]
    with opened(tmp_path / "other", data[:header] + noise(size - header)) as fd:
        assert is_part(fd, size, 2000, mark) is is_alike


def test_a_mark_of_an_older_version(tmp_path: Path) -> None:
    """It has no checksums between the two, and gets none: they would be taken for others."""
    data = noise(2000)
    with opened(tmp_path / "file", data) as fd:
        mark = mark_at(fd, 300)[0]._replace(rung_crcs=())
        after = mark.after(data[300:2000], 300, data[-TAIL_BYTES:])
        assert after == mark_at(fd, 2000)[0]._replace(rung_crcs=())
        assert is_part(fd, 600, 2000, after)
