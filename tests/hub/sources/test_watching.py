"""hub.sources.watching: what the kernel reports about folders, and what happens where it reports nothing."""

from __future__ import annotations

import errno
import json
import os
import select
from pathlib import Path
from typing import Any

import pytest

from hub.sources import watching
from hub.sources.watching import Heard, Watching, mounted

pytest.importorskip("inotify_simple", reason="needs the library inotify-simple")
LOCAL: dict[int, str] = {}


def watched(*folders: Path, walked: tuple[Path, ...] = ()) -> Watching:
    found = Watching(types=lambda: LOCAL)
    found.watch(map(str, folders), map(str, walked))
    return found


def heard(found: Watching) -> Heard:
    """Return what has happened, which must be something."""
    assert select.select([found.fd], [], [], 30)[0]
    return found.read()


def test_writes_and_names(tmp_path: Path) -> None:
    """A write is distinguished from a name that comes or goes; reading does not block when there is nothing."""
    found = watched(tmp_path)
    (tmp_path / "a").write_text("x")
    folder = str(tmp_path)
    assert heard(found) == Heard({(folder, "a")}, {(folder, "a")}, is_incomplete=False)
    with open(tmp_path / "a", "a") as file:
        file.write("y")
    assert heard(found) == Heard({(folder, "a")}, set(), is_incomplete=False)
    os.rename(tmp_path / "a", tmp_path / "b")
    assert heard(found).changed == {(folder, "a"), (folder, "b")}
    os.chmod(tmp_path / "b", 0o600)
    assert heard(found).changed == {(folder, "b")}
    assert found.read() == Heard(set(), set(), is_incomplete=False)
    found.close()
    found.close()
    assert found.fd == -1


def test_folders(tmp_path: Path) -> None:
    """A folder that is made in a watched one means that everything is to be looked at; so does the end of one."""
    (tmp_path / "logs").mkdir()
    found = watched(tmp_path / "logs", walked=(tmp_path,))
    (tmp_path / "new").mkdir()
    assert heard(found).is_incomplete
    (tmp_path / "file").write_text("x")  # a name in a walked folder; its writes are not reported
    assert heard(found) == Heard(set(), {(str(tmp_path), "file")}, is_incomplete=False)
    (tmp_path / "logs").rmdir()
    assert heard(found).is_incomplete
    assert found.watches == {}
    found.close()


def test_what_is_no_longer_watched(tmp_path: Path) -> None:
    """Another set of folders ends the watches that are not in it; a missing folder is no error."""
    for name in "ab":
        (tmp_path / name).mkdir()
    found = watched(tmp_path / "a", tmp_path / "none")
    assert set(found.watches) == {str(tmp_path / "a")}
    found.watch([str(tmp_path / "b")], [])
    assert set(found.watches) == {str(tmp_path / "b")}
    (tmp_path / "a" / "x").write_text("x")
    (tmp_path / "b" / "y").write_text("x")
    assert heard(found).written == {(str(tmp_path / "b"), "y")}
    found.close()


def test_another_folder_at_the_path(tmp_path: Path) -> None:
    """A folder that was moved away and made anew is watched, and the old one no longer."""
    logs = tmp_path / "logs"
    logs.mkdir()
    found = watched(logs)
    os.rename(logs, tmp_path / "old")
    logs.mkdir()
    assert heard(found) == Heard(set(), {(str(logs), None)}, is_incomplete=True)
    found.watch([str(logs)], [])
    found.read()
    (tmp_path / "old" / "x").write_text("x")
    (logs / "y").write_text("x")
    assert heard(found).written == {(str(logs), "y")}
    os.rename(logs, tmp_path / "older")
    found.watch([str(logs)], [])
    assert found.watches == {}
    found.close()


def test_two_names_of_one_folder(tmp_path: Path) -> None:
    """Both are notified of what happens in it."""
    (tmp_path / "a").mkdir()
    os.symlink("a", tmp_path / "b")
    found = watched(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a" / "x").write_text("x")
    assert heard(found).written == {(str(tmp_path / name), "x") for name in "ab"}
    found.watch([str(tmp_path / "b")], [])
    (tmp_path / "a" / "z").write_text("x")
    assert heard(found).written == {(str(tmp_path / "b"), "z")}
    found.close()


@pytest.mark.parametrize("kind", ["nfs4", "fuse.sshfs", "overlay"])
def test_silent_file_systems_are_polled(tmp_path: Path, kind: str) -> None:
    """A folder on them is not watched."""
    found = Watching(types=lambda: {os.stat(tmp_path).st_dev: kind})
    found.watch([str(tmp_path)], [str(tmp_path.parent)])
    assert (found.polled, found.watches) == ({str(tmp_path)}, {str(tmp_path): -1})
    found.watch([], [])
    assert found.polled == set()
    found.close()


class Full:
    """A queue of a kernel that has no more watches."""

    def add_watch(self, path: str, mask: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fileno(self) -> int:
        return 7

    def read(self, timeout: int) -> list[Any]:
        return [(-1, 0x4000, 0, "")]

    def close(self) -> None:
        pass


def logged(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Return what the hub has logged."""
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_no_more_watches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folders are polled, and that is one line in the log."""
    (tmp_path / "a").mkdir()
    found = Watching(Full, types=lambda: LOCAL)
    found.watch([str(tmp_path), str(tmp_path / "a")], [])
    assert found.polled == {str(tmp_path), str(tmp_path / "a")}
    (line,) = logged(capsys)
    assert (line["event"], line["level"]) == ("files.polling", "warning")
    assert "max_user_watches" in line["reason"]


def test_an_overflow() -> None:
    """Lost events mean that everything is to be looked at."""
    assert Watching(Full).read() == Heard(set(), set(), is_incomplete=True)


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is polled."""
    monkeypatch.setattr(watching, "_library", lambda: None)
    found = watched(tmp_path)
    assert (found.fd, found.polled) == (-1, {str(tmp_path)})
    assert found.read() == Heard(set(), set(), is_incomplete=False)
    found.close()


def test_without_a_queue(capsys: pytest.CaptureFixture[str]) -> None:
    """A kernel that gives none is no error."""

    def fail() -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    found = Watching(fail, types=lambda: LOCAL)
    assert (found.fd, logged(capsys)[0]["event"]) == (-1, "files.polling")


def test_mounts(tmp_path: Path) -> None:
    """The types of file systems by device; other bytes are none."""
    table = tmp_path / "mountinfo"
    table.write_text("36 35 98:0 /m /mnt rw,noatime master:1 - ext3 /dev/root rw\n37 35 0:5 / /x rw - nfs4 s:/ rw\n")
    assert mounted(str(table)) == {os.makedev(98, 0): "ext3", os.makedev(0, 5): "nfs4"}
    table.write_text("nonsense\n")
    assert mounted(str(table)) == {}
    assert mounted("/nonexistent") == {}
    assert mounted()


def test_a_file_that_is_made_and_moved_away(tmp_path: Path) -> None:
    """No look can find it any more, unless it is in a folder that is watched, or of which nothing is reported."""
    (tmp_path / "old").mkdir()
    (tmp_path / "logs").mkdir()
    found, log = watched(tmp_path / "logs"), tmp_path / "logs" / "app.log"

    def come_and_go() -> list[list[tuple[str, str]]]:
        log.write_text("x")
        os.rename(log, tmp_path / "old" / "app.log.1")
        return [list(names) for heard in (found.read(), found.read()) for names in heard.gone]

    assert come_and_go() == [[(str(tmp_path / "logs"), "app.log")]]
    (tmp_path / "logs" / "new").mkdir()
    assert come_and_go() == []
    found.polled.add("elsewhere")
    assert come_and_go() == []
    found.polled.clear()
    found.watch([str(tmp_path / "logs"), str(tmp_path / "old")], [])
    assert come_and_go() == []
    found.close()
