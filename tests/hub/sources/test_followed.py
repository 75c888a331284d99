"""hub.sources.followed: one file, read on from where it was left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.message import Batch
from hub.sources import followed
from hub.sources.filecheck import Truncated
from hub.sources.fileidentity import identify_open
from hub.sources.fileparse import FileParser
from hub.sources.filerow import FileRow, State, decode
from hub.sources.followed import JOIN_S, REST_S, Followed, Moved, Taken


class File:
    """A file that is followed, and a clock."""

    def __init__(self, path: Path, multiline: str | None = None) -> None:
        self.path = path
        path.touch()
        self.parser = FileParser(multiline=multiline)
        self.now = 100.0
        self.followed = self.again()

    def again(self) -> Followed:
        """Return the file as one that is found first."""
        with open(self.path, "rb") as file:
            described = os.fstat(file.fileno())
            identity = identify_open(file.fileno(), described)
        return Followed(
            identity, str(self.path), str(self.path), *os.path.split(self.path), tag=b"t",
            uid=described.st_uid, gid=described.st_gid, size=described.st_size,
            mtime_ns=described.st_mtime_ns, written_ns=described.st_mtime_ns,
        )  # fmt: skip

    def append(self, data: bytes) -> None:
        with open(self.path, "ab") as file:
            file.write(data)

    def read(self, bytes_max: int = 1000, limit: int = 1000) -> Taken:
        return self.followed.read(self.parser, bytes_max=bytes_max, line_bytes_max=limit, now=self.now)

    def records(self, **options: int) -> list[Any]:
        """Read, and return the records, or the bytes of losses."""
        found: list[Any] = []
        for run, position in self.read(**options).runs:
            assert position.number <= self.followed.offset
            if run.loss is not None:
                found.append(run.loss.lost_bytes)
            else:
                found += [message.record for message in Batch(b"t", run.entries, run.messages).messages()]
        return found

    @property
    def texts(self) -> list[str]:
        return [record["message"] for record in self.records()]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[File]:
    found = File(tmp_path / "app.log")
    yield found
    found.followed.close()


def test_it_goes_on_after_the_last_line(file: File) -> None:
    """Each line is read once; the position has what is needed to go on with another object."""
    file.append(b"one\ntwo\nthr")
    assert file.texts == ["one", "two"]
    position = file.followed.position()
    assert file.texts == []
    file.append(b"ee\n")
    file.followed.close()
    row = decode(position.detail)
    assert row is not None
    file.followed = file.again()
    file.followed.continue_at(position.number, row)
    assert file.texts == ["three"]


def test_has_more(file: File) -> None:
    """A read is bounded, and says whether there is more."""
    file.append(b"0123456\n" * 30)
    taken = file.read(100)
    assert ([run.messages for run, _ in taken.runs], taken.has_more) == ([12], True)
    while file.read(100).has_more:
        pass
    assert file.followed.unread_bytes == 0
    assert not file.followed.is_drained or file.read() == followed.NOTHING


@pytest.mark.parametrize("after", [b"", b"1\n", b"2\n2\n2\n", b"2\n2\n2\n2\n2\n"])
def test_a_truncated_file(file: File, after: bytes) -> None:
    """It is noticed if it is shorter, as long, or longer than before; it goes on at its start."""
    file.append(b"1\n1\n1\n")
    file.read()
    for open_file in (True, False):
        if not open_file:
            file.followed.close()
        file.path.write_bytes(after)
        with pytest.raises(Truncated):
            file.read()
    file.followed.restart(file.followed.data_start())
    assert len(file.texts) == after.count(b"\n")


def test_a_file_that_is_cut_off(file: File) -> None:
    """What was seen, not read and is gone is a loss; what is left is read."""
    file.append(b"one\n" + b"two\n" * 100)
    file.read(10)
    os.truncate(file.path, 12)
    assert file.records() == [file.followed.size - 12 if file.followed.size > 12 else 404 - 12]
    assert file.texts == ["two"]


def test_the_hole_of_a_program_that_does_not_append(file: File) -> None:
    """The zeros before the data are skipped, whether they are on the disk or not."""
    with open(file.path, "wb") as writer:
        writer.seek(1 << 20)
        writer.write(b"\0" * 100 + b"one\n")
    file.followed.open()
    file.followed.restart(file.followed.data_start())
    assert file.texts == ["one"]
    os.truncate(file.path, 0)
    os.truncate(file.path, 5000)
    assert file.followed.data_start() in (0, 5000)


def test_start_at_the_end(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there is passed over, except half a last line; one without a beginning is passed over, too."""
    file.append(b"one\ntwo\nthr")
    file.followed.start_at_end()
    assert file.followed.offset == 8
    file.append(b"ee\n")
    assert file.texts == ["three"]
    monkeypatch.setattr(followed, "LOOK_BACK_BYTES", 4)
    file.append(b"long line")
    file.followed.start_at_end()
    file.append(b" end\nlast\n")
    assert file.texts == [" end", "last"]


def test_another_file_has_its_name(file: File) -> None:
    """A file that is not open is not confused with one that took its name; a missing one has moved."""
    os.rename(file.path, file.path.with_name("other"))
    with pytest.raises(Moved):
        file.read()
    file.append(b"x\n")
    with pytest.raises(Moved):
        file.read()
    file.path.unlink()
    os.mkfifo(file.path)
    with pytest.raises(Moved):
        file.read()
    assert file.followed.fd == -1


def test_half_a_last_line(file: File) -> None:
    """It is taken of a file that was renamed, when nothing has come for a while, and is marked."""
    file.append(b"one\nhalf")
    assert file.texts == ["one"]
    assert file.texts == []
    file.now += REST_S + 1
    assert not file.followed.is_due(file.now)
    assert file.texts == []
    os.rename(file.path, file.path.with_name("app.log.1"))
    file.followed.entry = "app.log.1"
    assert file.followed.is_due(file.now)
    assert file.records() == [{"partial": True, "message": "half"}]
    assert file.followed.unread_bytes == 0
    with open(file.path.with_name("app.log.1"), "ab") as writer:
        writer.write(b" rest\n")
    assert file.texts == [" rest"]


def test_half_a_last_line_that_is_long(file: File) -> None:
    """It waits for room; over the limit it is a loss."""
    file.append(b"x" * 500)
    os.unlink(file.path) if file.texts else None
    file.followed.home = "/elsewhere"
    file.read()
    file.now += REST_S
    while (taken := file.read(100)).has_more and not taken.room_bytes:
        pass
    assert taken.room_bytes == 500
    assert file.records(bytes_max=500) == [{"partial": True, "message": "x" * 500}]
    file.append(b"y" * 700)
    file.read(2000)
    file.now += REST_S
    assert file.records(bytes_max=2000, limit=600) == [700]
    assert file.followed.unread_bytes == 0


def test_a_deleted_file_is_read_to_its_end(file: File) -> None:
    """As long as it is open."""
    file.append(b"one\n")
    file.followed.open()
    file.path.unlink()
    assert file.texts == ["one"]
    assert file.followed.deleted
    assert file.followed.is_rotated


def test_long_lines(file: File) -> None:
    """A line larger than a read needs room; one over the limit is a loss, and the next line follows."""
    file.append(b"x" * 300 + b"\n" + b"y" * 2000 + b"\nend\n")
    while not (taken := file.read(100)).room_bytes:
        assert taken.has_more
    assert taken.room_bytes == 301
    assert file.records(bytes_max=301) == [{"message": "x" * 300}]
    found: list[Any] = []
    while not found:
        found = file.records(bytes_max=100)
    assert found == [2000]
    assert file.texts == ["end"]
    row = decode(file.followed.position().detail)
    assert row is not None
    again = file.again()
    again.continue_at(file.followed.offset, row)
    again.open()
    again.close()


def test_lines_wait_for_others(tmp_path: Path) -> None:
    """What may continue stays in the file for a while."""
    file = File(tmp_path / "app.log", multiline="indent")
    file.append(b"a\n  b\n")
    assert file.texts == []
    assert file.followed.offset == 0
    file.append(b"  c\nd\n")
    assert file.texts == ["a\n  b\n  c"]
    file.now += JOIN_S
    assert file.followed.is_due(file.now)
    assert file.texts == ["d"]
    assert not file.followed.is_due(file.now)
    file.followed.close()


def test_many_lines_that_belong_together_need_room(tmp_path: Path) -> None:
    """The read grows until something is taken."""
    file = File(tmp_path / "app.log", multiline="indent")
    file.append(b"a\n" + b"  b\n" * 500 + b"c\n")
    taken = file.read(256)
    assert (taken.runs, taken.has_more) == ([], True)
    room = taken.room_bytes
    assert room == 1024
    assert file.read(room).room_bytes == 4096
    assert [record["message"].count("b") for record in file.records(bytes_max=4096)] == [500]
    file.followed.close()


def test_a_row(file: File) -> None:
    """It has the path, the inode, the state and the mark."""
    row = decode(file.followed.position().detail)
    assert isinstance(row, FileRow)
    assert (row.path, row.ino, row.state) == (os.fsencode(file.path), file.path.stat().st_ino, State.LIVE)


def test_a_file_that_is_written_again_while_its_start_is_looked_for(
    file: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was truncated and is empty when its data is searched for: what is written then is no hole, but data."""
    file.path.write_bytes(b"1\n2\n3\n")
    file.followed.open()
    seeking = os.lseek

    def seek(fd: int, place: int, how: int) -> int:
        os.truncate(file.path, 0)
        try:
            return seeking(fd, place, how)
        finally:
            file.path.write_bytes(b"a longer line than before\n")

    monkeypatch.setattr(os, "lseek", seek)
    assert file.followed.data_start() == 0
