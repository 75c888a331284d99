"""hub.sources.linecutter: whole lines out of a file, from a place on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.sources.filecheck import Truncated
from hub.sources.linecutter import LINES_MAX, SAMPLE_BYTES, Cut, Kind, LineCutter, some_lines

LIMIT = 1000


class Open:
    """A file, and a cutter at *offset* of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(b"")
        self.fd = os.open(path, os.O_RDONLY)
        self.cutter = LineCutter()
        self.offset = 0

    def cut(self, bytes_max: int = 100) -> Cut:
        """Cut, and go on after what was found."""
        data = self.path.read_bytes()
        tail = data[max(self.offset - 8, 0) : self.offset]
        cut = self.cutter.cut(self.fd, self.offset, tail, bytes_max=bytes_max, line_bytes_max=LIMIT)
        if cut.kind is Kind.LINES:
            self.offset += len(cut.data)
        elif cut.kind is Kind.OVERSIZE:
            self.offset += cut.size
        return cut


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Open]:
    opened = Open(tmp_path / "file")
    yield opened
    os.close(opened.fd)


def test_lines_end_at_the_last_newline(file: Open) -> None:
    """Half a line stays in the file, and is read again with its end."""
    file.path.write_bytes(b"one\ntwo\nthr")
    assert file.cut() == Cut(Kind.LINES, b"one\ntwo\n")
    assert file.cut() == Cut(Kind.REST, size=3)
    file.path.write_bytes(b"one\ntwo\nthree\n")
    assert file.cut() == Cut(Kind.LINES, b"three\n")
    assert file.cut() == Cut(Kind.REST, size=0)


def test_a_read_is_bounded(file: Open) -> None:
    """Each cut has as many lines as fit."""
    file.path.write_bytes(b"0123456\n" * 50)
    cuts = []
    while (cut := file.cut()).kind is Kind.LINES:
        cuts.append(len(cut.data))
    assert cuts == [96, 96, 96, 96, 16]


def test_a_long_line_needs_room(file: Open) -> None:
    """The end of a line larger than a read is searched for; it is read when there is room for it."""
    line = b"x" * 350 + b"\n"
    file.path.write_bytes(b"a\n" + line + b"b\n")
    assert file.cut() == Cut(Kind.LINES, b"a\n")
    assert [file.cut().kind for _ in range(3)] == [Kind.MORE] * 3
    assert file.cut() == Cut(Kind.LARGE, size=351)
    assert file.cut() == Cut(Kind.LARGE, size=351)
    assert file.cut(351) == Cut(Kind.LINES, line)
    assert file.cut() == Cut(Kind.LINES, b"b\n")


def test_a_line_over_the_limit(file: Open) -> None:
    """It costs that line, and nothing of it is kept but its first bytes."""
    file.path.write_bytes(b"x" * (LIMIT + 1) + b"\nafter\n")
    while (cut := file.cut()).kind is Kind.MORE:
        pass
    assert cut == Cut(Kind.OVERSIZE, b"x" * SAMPLE_BYTES, LIMIT + 2)
    assert file.cut() == Cut(Kind.LINES, b"after\n")


def test_a_long_line_that_is_written_slowly(file: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was searched is not searched again."""
    monkeypatch.setattr("hub.sources.linecutter._REST_BYTES", 0)
    read, reads = os.pread, list[int]()

    def count(fd: int, size: int, offset: int) -> bytes:
        data = read(fd, size, offset)
        reads.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", count)
    for n in range(10):
        with open(file.path, "ab") as writer:
            writer.write(b"x" * 50)
        assert file.cut() == Cut(Kind.REST, size=50 * n + 50)
    assert sum(reads) == 500
    with open(file.path, "ab") as writer:
        writer.write(b"\n")
    assert file.cut() == Cut(Kind.LARGE, size=501)


@pytest.mark.parametrize("changed", [b"", b"ONE\nTWO\nthree\nfour\n", b"x"])
def test_a_changed_file_is_noticed(file: Open, changed: bytes) -> None:
    """The bytes before the place are compared with each read."""
    file.path.write_bytes(b"one\ntwo\n")
    file.cut()
    tail = b"one\ntwo\n"
    file.path.write_bytes(changed)
    with pytest.raises(Truncated):
        file.cutter.cut(file.fd, 8, tail, bytes_max=100, line_bytes_max=LIMIT)


def test_a_change_in_the_middle_of_a_long_line(file: Open) -> None:
    """A line whose end was there, and is gone, was truncated; so was one over the limit with others before it."""
    file.path.write_bytes(b"x" * 150 + b"\n")
    assert [file.cut().kind for _ in range(2)] == [Kind.MORE, Kind.LARGE]
    file.path.write_bytes(b"x" * 150)
    with pytest.raises(Truncated):
        file.cut(151)


def test_a_change_before_a_line_over_the_limit(file: Open) -> None:
    """The bytes before it are compared, too, when its end is found."""
    file.path.write_bytes(b"a\n" + b"x" * (LIMIT + 1) + b"\n")
    assert file.cut().kind is Kind.LINES
    assert [file.cut().kind for _ in range(10)] == [Kind.MORE] * 10
    file.path.write_bytes(b"b\n" + b"x" * (LIMIT + 1) + b"\n")
    with pytest.raises(Truncated):
        file.cutter.cut(file.fd, 2, b"a\n", bytes_max=100, line_bytes_max=LIMIT)


def test_holes_are_not_searched(tmp_path: Path) -> None:
    """A terabyte without data costs one step; the line that ends after it is lost as a whole."""
    path, size = tmp_path / "sparse", 1 << 40
    with open(path, "wb") as sparse:
        sparse.truncate(size)
    fd, cutter = os.open(path, os.O_RDONLY), LineCutter()
    try:
        assert cutter.cut(fd, 0, b"", bytes_max=4096, line_bytes_max=LIMIT).kind is Kind.MORE
        assert cutter.cut(fd, 0, b"", bytes_max=4096, line_bytes_max=LIMIT).kind is Kind.MORE
        assert cutter.cut(fd, 0, b"", bytes_max=4096, line_bytes_max=LIMIT) == Cut(Kind.REST, size=size)
        with open(path, "ab") as sparse:
            sparse.write(b"x\nnext\n")
        found = cutter.cut(fd, 0, b"", bytes_max=4096, line_bytes_max=LIMIT)
        assert found == Cut(Kind.OVERSIZE, bytes(SAMPLE_BYTES), size + 2)
    finally:
        os.close(fd)


def test_some_lines() -> None:
    """A batch of empty lines is bounded by their number; lines of usual length are not affected."""
    for line in (b"", b"long enough"):
        data = (line + b"\n") * LINES_MAX
        assert some_lines(data) == ([line] * LINES_MAX, data)
        assert some_lines(2 * data) == ([line] * LINES_MAX, data)
    assert some_lines(b"1\n2\n") == ([b"1", b"2"], b"1\n2\n")
