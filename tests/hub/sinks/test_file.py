"""hub.sinks.file: lines in files by tag and date, rotation, what a crash leaves, and what users may cause."""

from __future__ import annotations

import json
import os
import resource
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hub.entries import NS
from hub.message import Message
from hub.quantities import Mode
from hub.sinks import file as module
from hub.sinks.file import FileSink, check_table
from hub.sinks.sink import Halted, SinkFault
from hub.sinks.values import FileSize, Span, Template
from tests.hub.sinks.delivering import TABLE, Alone
from tests.hub.sinks.test_pathtemplate import NOON

DAY = 86_400 * NS


def message(sequence: int, tag: str = "app", received: int = NOON, **record: Any) -> Message:
    return Message(tag, NOON, record or {"message": "hello"}, sequence, received)


def sink_of(folder: Path, name: str = "{tag}.log", detail: bytes = b"", **table: Any) -> tuple[FileSink, Alone]:
    """Return an open sink, and its host."""
    host = Alone()
    sink = host.sink = FileSink(msgspec.structs.replace(TABLE, path=Template(f"{folder}/{name}"), **table), host)
    sink.open(0, detail)
    return sink, host


def crash(host: Alone) -> bytes:
    """Return the detail of the last checkpoint, as after a kill."""
    return host.checkpoints[-1]


def sequences(path: Path) -> list[int]:
    return [json.loads(line)["sequence"] for line in path.read_bytes().splitlines()]


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_lines_are_written_by_tag(tmp_path: Path) -> None:
    """Each message is a line of its file, as `mpsr logs --output json` shows it; a new file has the mode."""
    sink, host = sink_of(tmp_path, mode=0o600)
    sink.deliver_groups([[message(1, "a"), message(2, "b/c"), message(3, "a")]])
    assert names(tmp_path) == ["a.log", "b%2Fc.log"]
    assert (sequences(tmp_path / "a.log"), sequences(tmp_path / "b%2Fc.log")) == ([1, 3], [2])
    assert stat.S_IMODE((tmp_path / "a.log").stat().st_mode) == 0o600
    assert json.loads((tmp_path / "b%2Fc.log").read_text())["record"] == {"message": "hello"}
    assert len(host.checkpoints) == 1, "the cursor knows the new files before they are written to"


def test_text_is_for_people(tmp_path: Path) -> None:
    """Time in UTC, tag, writer, level and text; what could deceive a reader is escaped; more lines are indented."""
    sink, _ = sink_of(tmp_path, "a.log", format="text")
    sink.deliver_groups([[message(1, level="error", message="one\ntwo\x1b"), message(2, n=3)]])
    assert (tmp_path / "a.log").read_text() == (
        "2026-11-27 12:00:00.000 app ?[0] error one\n    two\\x1b\n2026-11-27 12:00:00.000 app ?[0] n=3\n"
    )


@pytest.mark.parametrize("lost", [0, 1, 70, 10_000])
def test_a_crash_repeats_nothing(tmp_path: Path, lost: int) -> None:
    """The same messages come again after the last checkpoint, and each line is there once, also a half one."""
    sink, host = sink_of(tmp_path)
    sink.deliver_groups([[message(1, "a"), message(2, "b")]])
    detail = crash(host)
    sink.deliver_groups([[message(3, "a")]])
    sink.close()
    path = tmp_path / "a.log"
    os.truncate(path, max(path.stat().st_size - lost, 0))
    again, _ = sink_of(tmp_path, detail=detail)
    again.deliver_groups([[message(1, "a"), message(2, "b"), message(3, "a"), message(4, "a")]])
    again.idle(NOON)
    assert (sequences(path), sequences(tmp_path / "b.log")) == ([1, 3, 4], [2])


def test_a_crash_after_a_rename_repeats_nothing(tmp_path: Path) -> None:
    """The lines of a renamed file are compared with it; what follows goes into the file at the path."""
    sink, host = sink_of(tmp_path)
    sink.deliver_groups([[message(1, "a"), message(2, "a")]])
    sink.close()
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    again, _ = sink_of(tmp_path, detail=crash(host))
    again.deliver_groups([[message(1, "a")]])
    again.deliver_groups([[message(2, "a")]])
    again.deliver_groups([[message(3, "a")]])
    assert (sequences(tmp_path / "a.log.1"), sequences(tmp_path / "a.log")) == ([1, 2], [3])


def test_what_is_no_longer_due_is_removed(tmp_path: Path) -> None:
    """When everything is delivered, a file has no lines but those."""
    sink, host = sink_of(tmp_path)
    sink.deliver_groups([[message(1, "a"), message(2, "a")]])
    sink.close()
    again, _ = sink_of(tmp_path, detail=crash(host))
    again.deliver_groups([[message(1, "a")]])
    again.idle(NOON)
    assert sequences(tmp_path / "a.log") == [1]


def test_logrotate(tmp_path: Path) -> None:
    """A file that is renamed is left alone, with or without another one in its place; nothing is lost or repeated."""
    sink, host = sink_of(tmp_path)
    for sequence, mode in ((1, "gone"), (2, "created"), (3, "idle"), (4, "")):
        sink.deliver_groups([[message(sequence, "a")]])
        if mode:
            (tmp_path / "a.log").rename(tmp_path / f"a.log.{mode}")
        if mode == "created":
            (tmp_path / "a.log").touch()
        if mode == "idle":
            sink.idle(NOON)
            assert "a.log" not in names(tmp_path)
    found = [sequences(tmp_path / name) for name in ("a.log.gone", "a.log.created", "a.log.idle", "a.log")]
    assert found == [[1], [2], [3], [4]]
    assert len(host.checkpoints) > 4


def test_copytruncate(tmp_path: Path) -> None:
    """A file that is truncated goes on at its new end, and the cursor knows it."""
    sink, _ = sink_of(tmp_path)
    sink.deliver_groups([[message(1, "a")]])
    os.truncate(tmp_path / "a.log", 0)
    sink.deliver_groups([[message(2, "a")]])
    detail = sink.settle()
    sink.close()
    again, _ = sink_of(tmp_path, detail=detail)
    again.deliver_groups([[message(3, "a")]])
    assert sequences(tmp_path / "a.log") == [2, 3]


def test_rotation_by_size(tmp_path: Path) -> None:
    """A file that would be larger is renamed, compressed if it is to be, and deleted when there are too many."""
    sink, _ = sink_of(tmp_path, rotate_size=FileSize(400), compress="gzip")
    for sequence in range(1, 6):
        sink.deliver_groups([[message(sequence, "a")]])
    live, *rotated = names(tmp_path)
    assert live == "a.log"
    assert [name.endswith(".gz") for name in rotated] == [True, True]
    assert sequences(tmp_path / "a.log") == [5]
    small, _ = sink_of(tmp_path, rotate_size=FileSize(400), compress="gzip", retain_size=0)
    small.deliver_groups([[message(6, "a")]])
    assert names(tmp_path) == ["a.log"]


def test_everything_in_a_rotated_file_is_covered(tmp_path: Path) -> None:
    """A crash after the rename finds nothing to compare, and begins a new file."""
    sink, host = sink_of(tmp_path, rotate_size=FileSize(300))
    sink.deliver_groups([[message(1, "a")]])
    checkpoints = len(host.checkpoints)
    sink.deliver_groups([[message(2, "a")]])
    (rotated,) = (name for name in names(tmp_path) if name != "a.log")
    assert sequences(tmp_path / rotated) == [1]
    before, after = host.checkpoints[checkpoints:]
    for detail in (after, before):
        again, _ = sink_of(tmp_path, detail=detail)
        again.deliver_groups([[message(2, "a")]])
        again.close()
        assert (sequences(tmp_path / rotated), sequences(tmp_path / "a.log")) == ([1], [2])
        (tmp_path / "a.log").unlink()  # before the rename, it was not there


def test_rotation_by_time(tmp_path: Path) -> None:
    """A file that was last written to in another period is renamed, also while nothing comes."""
    sink, _ = sink_of(tmp_path, rotate_every=Span(86_400))
    for is_idle in (False, True):
        sink.deliver_groups([[message(1, "a")]])
        sink._files[str(tmp_path / "a.log")].written -= DAY
        if is_idle:
            sink.idle(NOON)
        else:
            sink.deliver_groups([[message(2, "a")]])
    assert "a.log" not in names(tmp_path)
    assert len(names(tmp_path)) == 2


def test_a_new_day_finishes_the_files_of_the_old_one(tmp_path: Path) -> None:
    """They are closed and compressed, without another name."""
    sink, _ = sink_of(tmp_path, "{tag}/{date}.log", compress="zstd")
    sink.deliver_groups([[message(1, "a"), message(2, "b")]])
    sink.deliver_groups([[message(3, "a", received=NOON + DAY)]])
    sink.deliver_groups([[message(4, "a", received=NOON + DAY)]])
    assert names(tmp_path) == ["a/2026-11-27.log.zst", "a/2026-11-28.log", "b/2026-11-27.log.zst"]
    assert sequences(tmp_path / "a/2026-11-28.log") == [3, 4]


def test_users_cannot_make_any_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit, the tags that have no file share one; those that have one keep it."""
    monkeypatch.setattr(module, "FILES_MAX", 3)
    sink, _ = sink_of(tmp_path)
    sink.deliver_groups([[message(sequence, f"t{sequence}") for sequence in range(1, 6)]])
    sink.deliver_groups([[message(6, "t1"), message(7, "t9")]])
    assert names(tmp_path) == ["%others.log", "t1.log", "t2.log", "t3.log"]
    assert sequences(tmp_path / "t1.log") == [1, 6]
    assert sequences(tmp_path / "%others.log") == [4, 5, 7]


def test_few_files_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that were used last; the cursor knows no more than these and the ones of the portion at hand."""
    monkeypatch.setattr(module, "OPEN_MAX", 2)
    monkeypatch.setattr(module, "PATHS_MAX", 2)
    sink, host = sink_of(tmp_path)
    for sequence in range(1, 7):
        sink.deliver_groups([[message(sequence, f"t{sequence}"), message(sequence + 10, "always")]])
    sink.settle()
    assert sorted(map(os.path.basename, sink._files)) == ["always.log", "t6.log"]
    assert max(map(len, (msgspec.msgpack.decode(each) for each in host.checkpoints))) <= 4
    assert sequences(tmp_path / "always.log") == [*range(11, 17)]


@pytest.mark.parametrize(("limit", "messages"), [(256, 16), (1024, 64), (65536, 1024), (resource.RLIM_INFINITY, 1024)])
def test_descriptors_are_left_to_connections(
    limit: int, messages: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each group of a portion may need a file of its own."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert sink_of(tmp_path)[0].groups_max == messages


def test_a_stop_ends_a_compression(tmp_path: Path) -> None:
    """It begins again with the next sink."""
    sink, host = sink_of(tmp_path, rotate_size=FileSize(300), compress="zstd")
    sink.deliver_groups([[message(1, "a")]])
    host.halted = True
    with pytest.raises(Halted):
        sink.deliver_groups([[message(2, "a")]])
    sink.close()
    assert [name.endswith("Z") for name in names(tmp_path)] == [True]
    sink_of(tmp_path, rotate_size=FileSize(300), compress="zstd")
    assert [name.endswith("Z.zst") for name in names(tmp_path)] == [True]


def test_a_folder_is_checked(tmp_path: Path) -> None:
    """One that is missing, that is no folder, or in which another user could replace files, is refused."""
    table = msgspec.structs.replace(TABLE, path=Template(f"{tmp_path}/logs/{{tag}}.log"))
    with pytest.raises(FileNotFoundError):
        check_table(table)
    (tmp_path / "logs").write_text("")
    with pytest.raises(NotADirectoryError):
        check_table(table)
    (tmp_path / "logs").unlink()
    (tmp_path / "logs").mkdir()
    check_table(table)
    assert names(tmp_path) == []
    (tmp_path / "logs").chmod(0o777)
    with pytest.raises(OSError, match="can be written by everybody"):
        check_table(table)
    with pytest.raises(OSError, match="can be written by everybody"):
        sink_of(tmp_path / "logs")


def test_a_folder_and_a_group_must_be_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be written to, and a group that the hub may not give, are refused."""
    table = msgspec.structs.replace(TABLE, path=Template(f"{tmp_path}/{{tag}}.log"), group="54321")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    monkeypatch.setattr(module, "check_base", lambda _: None)
    with pytest.raises(SinkFault, match="choose a group of yours"):
        check_table(table)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError):
        check_table(table)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_no_file_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    """It could never be opened; the same for a mode that keeps the hub itself out."""
    make(tmp_path / "a.log")
    with pytest.raises(SinkFault, match="is not a file"):
        check_table(msgspec.structs.replace(TABLE, path=Template(f"{tmp_path}/a.log")))
    with pytest.raises(SinkFault, match=r"mode 0444: .*\(at least 0600\)"):
        check_table(msgspec.structs.replace(TABLE, path=Template(f"{tmp_path}/b.log"), mode=Mode(0o444)))


def test_a_new_file_with_the_inode_of_a_deleted_one_is_known_before_it_is_written_to(tmp_path: Path) -> None:
    """After a kill between the creation of a file and its checkpoint, the old cursor names the same inode."""
    sink, host = sink_of(tmp_path)
    sink.deliver_groups([[message(1, "a")]])
    (known,) = msgspec.msgpack.decode(sink.settle())
    sink.close()
    os.truncate(tmp_path / "a.log", 0)
    for _ in range(2):  # two kills in a row
        again, host = sink_of(tmp_path, detail=msgspec.msgpack.encode([known]))
        again.deliver_groups([[message(2, "a")]])
        for detail in host.checkpoints:  # in the second life, the cursor knows it already
            (known,) = msgspec.msgpack.decode(detail)
        again.close()
    assert sequences(tmp_path / "a.log") == [2]


def test_rotated_files_are_no_tags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many files were rotated, a tag has a file of its own."""
    monkeypatch.setattr(module, "FILES_MAX", 3)
    sink, _ = sink_of(tmp_path, rotate_size=FileSize(200))
    for sequence in range(1, 9):
        sink.deliver_groups([[message(sequence, "a")]])
    assert "%others.log" not in names(tmp_path)


@pytest.mark.parametrize("template", ["{tag}.log", "{tag}-{date}.log", "{tag}/{date}.log"])
def test_each_tag_counts_once(template: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither files that were closed meanwhile nor those of other days take the place of another tag."""
    monkeypatch.setattr(module, "FILES_MAX", 8)
    monkeypatch.setattr(module, "OPEN_MAX", 2)
    sink, host = sink_of(tmp_path, template)
    for number in range(1, 33):
        sink.deliver_groups([[message(number, f"t{number % 8}", NOON + (number // 8) * DAY)]])
        host.checkpoint()
    sink.deliver_groups([[message(33, "more", NOON + 5 * DAY), message(34, "t1", NOON + 5 * DAY)]])
    found = {sequence: path for path in tmp_path.rglob("*.log") for sequence in sequences(path)}
    assert {number for number, path in found.items() if "%others" in str(path)} == {33}
    assert len(found) == 34
