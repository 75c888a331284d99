"""hub.sources.filesgone: files that were removed or moved away."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hub.sources import filesgone
from hub.sources.following import IDLE_S
from tests.hub.sources.followrig import Rig


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
    assert len(rig.losses) == 1, "only now it is gone"


def test_gone_after_a_restart(rig: Rig) -> None:
    """A file that is not found again may have had more: that is declared once."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.it.close()
    (rig.folder / "app.log").unlink()
    rig.start()
    assert [loss.tag for loss in rig.losses] == [os.fsencode(rig.folder / "app.log")]
    rig.start()
    assert len(rig.losses) == 1


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
