"""hub.sinks.logfile: appending, the comparison after a crash, and what others do to a file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from hub.sinks import logfile as module
from hub.sinks.logfile import Known, LogFile, make_folders
from hub.sinks.sink import SinkFault


def opened(path: Path) -> LogFile:
    return LogFile.open(str(path), mode=0o640, gid=-1)


def after_crash(path: Path, known: Known, more: bytes) -> LogFile:
    """Return the file as the next sink finds it, with *more* at its end."""
    with path.open("ab") as file:
        file.write(more)
    found = LogFile.find(known)
    assert found is not None
    return found


def test_a_file_is_made_and_continued(tmp_path: Path) -> None:
    """Missing folders and the file are made, with its mode; a file that is there is appended to."""
    path = tmp_path / "a" / "b" / "c.log"
    file = opened(path)
    file.write(b"1\n2\n", 7)
    file.settle()
    assert (file.size, file.end, file.written, file.has_more, file.is_dirty) == (4, 4, 7, False, False)
    file.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    again = opened(path)
    again.write(b"3\n", 7)
    assert again.known == Known(str(path), *again.identity, 6)
    again.close()
    assert path.read_bytes() == b"1\n2\n3\n"


def test_a_link_or_a_pipe_is_refused(tmp_path: Path) -> None:
    """Nothing is written through a link, or into something that is no file."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(OSError, match="symbolic links"):
        opened(tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SinkFault, match="is not a file"):
        opened(tmp_path / "pipe")
    assert not (tmp_path / "target").exists()


LINES = b"first\nsecond\nthird\n"


@pytest.mark.parametrize("written", range(len(LINES) + 1))
@pytest.mark.parametrize("cut", [0, 6, 13, len(LINES)])
def test_what_comes_again_is_not_written_twice(tmp_path: Path, written: int, cut: int) -> None:
    """Wherever a crash has cut the file, and however the lines come again, it has each of them once."""
    path = tmp_path / "a.log"
    file = opened(path)
    file.write(b"before\n", 0)
    known = file.known
    file.close()
    file = after_crash(path, known, LINES[:written])
    assert file.has_more == (written > 0)
    for part in (LINES[:cut], LINES[cut:]):
        if part:
            file.write(part, 0)
    assert not file.has_more
    file.close()
    assert path.read_bytes() == b"before\n" + LINES


@pytest.mark.parametrize(
    ("there", "comes", "stays"),
    [
        (b"one\ntwo\nthr", b"one\n2\n", b"one\n2\n"), (b"x", b"y\n", b"y\n"), (b"one\ntwo\n", b"one\n", b"one\n"),
        (b"abc\n", b"abd\n", b"abd\n"), (b"a\nb\nc\n", b"a\nb\nd\n", b"a\nb\nd\n"),
    ],
)  # fmt: skip
def test_what_does_not_come_again_is_removed(tmp_path: Path, there: bytes, comes: bytes, stays: bytes) -> None:
    """Lines of messages that are no longer due make room for those that are, from the first line that differs."""
    path = tmp_path / "a.log"
    file = opened(path)
    known = file.known
    file.close()
    file = after_crash(path, known, there)
    file.write(comes, 0)
    if file.has_more:
        file.cut()
    file.settle()
    file.close()
    assert path.read_bytes() == stays


def test_a_renamed_file_is_found(tmp_path: Path) -> None:
    """In the same folder, under any name, beside a new one at its path. One that is gone is not found."""
    path = tmp_path / "a.log"
    file = opened(path)
    known = file.known
    file.close()
    path.rename(tmp_path / "a.log.1")
    path.write_bytes(b"new\n")
    found = LogFile.find(known)
    assert found is not None
    assert (found.look(), found.identity) == ((False, False), file.identity)
    found.close()
    (tmp_path / "a.log.1").unlink()
    assert LogFile.find(known) is None
    assert LogFile.find(known._replace(path=str(tmp_path / "none" / "a.log"))) is None


def test_what_others_do_is_noticed(tmp_path: Path) -> None:
    """A file that is truncated (copytruncate), appended to, renamed or removed by others."""
    path = tmp_path / "a.log"
    file = opened(path)
    file.write(b"one\n", 0)
    assert file.look() == (True, False)
    os.truncate(path, 0)
    assert (file.look(), file.size) == ((True, True), 0)
    file.write(b"two\n", 0)
    assert path.read_bytes() == b"two\n"
    with path.open("ab") as other:
        other.write(b"foreign\n")
    assert (file.look(), file.size) == ((True, True), 12)
    path.rename(tmp_path / "b.log")
    assert file.look() == (False, False)
    path.write_bytes(b"")
    assert file.look() == (False, False)
    file.close()


def test_truncation_after_a_crash(tmp_path: Path) -> None:
    """If the file was truncated before it was compared, what is left of it counts."""
    path = tmp_path / "a.log"
    file = opened(path)
    file.write(b"one\n", 0)
    known = file.known
    file.close()
    file = after_crash(path, known, b"two\nthree\n")
    os.truncate(path, 8)
    assert (file.look(), file.size, file.end) == ((True, True), 4, 8)
    os.truncate(path, 2)
    assert (file.look(), file.size, file.end) == ((True, True), 2, 2)
    file.close()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk takes a part of the lines, that part is removed again."""
    path = tmp_path / "a.log"
    file = opened(path)
    file.write(b"one\n", 0)

    def fill(fd: int, data: bytes) -> None:
        os.write(fd, data[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_all", fill)
    with pytest.raises(OSError, match="No space"):
        file.write(b"two\nthree\n", 0)
    assert path.read_bytes() == b"one\n"
    monkeypatch.undo()
    file.write(b"two\n", 0)
    file.close()
    assert path.read_bytes() == b"one\ntwo\n"


def test_a_failed_sync_is_not_believed_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written since the last sync is removed, so that it is written again."""
    path = tmp_path / "a.log"
    file = opened(path)
    file.write(b"one\n", 0)
    file.settle()
    file.write(b"two\n", 0)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        file.settle()
    monkeypatch.undo()
    file.close()
    assert path.read_bytes() == b"one\n"


def test_folders_are_made_once(tmp_path: Path) -> None:
    """A folder that is there is left as it is."""
    make_folders(str(tmp_path / "a" / "b"))
    make_folders(str(tmp_path / "a" / "b"))
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o750


def test_a_smaller_file_with_the_inode_is_another_one(tmp_path: Path) -> None:
    """A new file may get the inode of a deleted one. A compressed file is never taken for a renamed one."""
    path = tmp_path / "a.log"
    file = opened(path)
    file.write(b"one\n", 0)
    known = file.known
    file.close()
    assert LogFile.find(known._replace(size=5)) is None
    path.rename(tmp_path / "a.log.gz")
    assert LogFile.find(known) is None
