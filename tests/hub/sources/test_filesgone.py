"""hub.sources.filesgone: files that were removed or moved away."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from hub.sources import filesgone
from hub.sources.filesgone import VANISHED_S
from hub.sources.followed import REST_S
from hub.sources.following import IDLE_S
from tests.hub.sources.followrig import LONG, Rig, tick


def test_deleted_and_moved_files(rig: Rig, tmp_path: Path) -> None:
    """A deleted file that is open is read to its end, and its row is forgotten; one that was moved goes on."""
    away = tmp_path / "away"
    away.mkdir()
    rig.start()
    for name in ("a.log", "b.log"):
        rig.write(name, f"{name}\n")
    assert sorted(rig.all()) == ["a.log", "b.log"]
    rows = len(rig.positions)
    for name in ("a.log", "b.log"):
        rig.write(name, f"more of {name}\n")
    (rig.folder / "a.log").unlink()
    os.rename(rig.folder / "b.log", away / "b.log")
    assert sorted(rig.all()) == ["more of a.log", "more of b.log"]
    for _ in range(3):
        assert rig.wait(IDLE_S) == []
    assert len(rig.positions) == rows - 1
    os.rename(away / "b.log", rig.folder / "b.log")
    rig.write("b.log", "back\n")
    assert rig.all() == ["back"]
    assert rig.losses == []


def test_back_before_the_next_look(rig: Rig, tmp_path: Path) -> None:
    """A file is not given up before another look: the hub may have been stopped since it was missing."""
    away = tmp_path / "away"
    away.mkdir()
    rig.start()
    rig.write("app.log", "1\n")
    rig.look()
    os.rename(rig.folder / "app.log", away / "app.log")
    rig.look()
    rig.now += 10.0
    os.rename(away / "app.log", rig.folder / "app.log")
    rig.it.tick()
    assert rig.it.next_look_in is not None
    assert rig.all() == ["1"]
    os.rename(rig.folder / "app.log", away / "app.log")
    rig.it.close()
    rig.start()
    rig.wait(VANISHED_S)
    assert len(rig.losses) == 1, "only now it is gone"


def test_gone_after_a_restart(rig: Rig) -> None:
    """A file that is not found again may have had more: that is declared once."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.it.close()
    (rig.folder / "app.log").unlink()
    rig.start()
    assert rig.losses == []
    assert rig.it.has_timed_work
    rig.wait(VANISHED_S)
    assert [loss.tag for loss in rig.losses] == [os.fsencode(rig.folder / "app.log")]
    assert not rig.it.has_timed_work
    rig.start()
    rig.wait(VANISHED_S)
    assert len(rig.losses) == 1


def test_a_file_that_is_renamed_during_the_first_look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first look overlooks is found by the next one, and is no loss."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.it.close()
    rig.write("app.log", "2\n")
    stat, rotations = os.stat, iter([True])

    def rotating_stat(path: str, **options: Any) -> os.stat_result:
        if path == "app.log" and next(rotations, False):
            rig.rename("app.log", "app.log.1")
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", rotating_stat)
    rig.start()
    assert rig.it.files == {}
    rig.wait(VANISHED_S)
    assert rig.texts == ["1", "2"]
    rig.wait(VANISHED_S)
    assert rig.losses == []


def test_copies_of_a_file_that_is_gone_before_its_truncation_is_seen(rig: Rig) -> None:
    """They are read when the file is given up, the oldest first; what was in the file at last is a loss."""
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    rig.start()  # it is not open then
    for number in (1, 2):
        rig.write("app.log", f"{number}: {LONG}")
        if number == 2:
            rig.rename("app.log.1", "app.log.2")
        shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
        os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "3\n")
    rig.look()
    (rig.folder / "app.log").unlink()
    del rig.texts[:]
    for _ in range(3):
        rig.wait(VANISHED_S)
    assert rig.texts == [f"{number}: {LONG}".rstrip() for number in (1, 2)]
    assert [loss.lost_bytes for loss in rig.losses] == [2]
    assert rig.it.files.keys() <= rig.positions.keys()
    rig.start()
    for _ in range(3):
        rig.wait(VANISHED_S)
    assert len(rig.texts) == 2
    assert len(rig.losses) == 1


@pytest.mark.parametrize("is_looked", [False, True])
@pytest.mark.parametrize("is_open", [False, True])
@pytest.mark.parametrize("after", ["", "new\n"])
def test_a_file_that_is_copied_and_deleted(rig: Rig, after: str, is_open: bool, is_looked: bool) -> None:
    """The copy is not read again, also when nothing is known of the original any more."""
    rig.start()
    rig.write("app.log", LONG)
    rig.all()
    rig.wait(0.0 if is_open else IDLE_S)
    for _ in range(3):
        tick()
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    if is_looked:
        rig.all()
    (rig.folder / "app.log").unlink()
    if after:
        rig.write("app.log", after)
    for _ in range(4):
        rig.wait(REST_S)
    for _ in range(2):
        rig.start()
        rig.read()
        rig.wait(VANISHED_S)
    assert rig.texts == [LONG.rstrip(), *after.split()]


def test_files_that_come_and_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's rows of files that are gone are limited; the newest are kept."""
    monkeypatch.setattr(filesgone, "GONE_MAX", 3)
    rig.start()
    for number in range(9):
        rig.write(f"{number}.log", f"{number}\n")
    rig.all()
    for file in list(rig.it.files.values()):
        file.close()
    kept = [file.name for file in rig.it.files.values() if file.entry in ("6.log", "7.log", "8.log")]
    for number in range(9):
        (rig.folder / f"{number}.log").unlink()
        rig.all()
        rig.wait(3.0)
    assert rig.it.files == {}
    assert {name for name in rig.positions if not name.startswith(b"files:@")} == set(kept)
