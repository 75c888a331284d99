"""hub.sources.fileset: each file once, and not too many."""

from __future__ import annotations

import os

import pytest

from hub.sources import fileset
from hub.sources.filesgone import VANISHED_S
from tests.hub.sources.followrig import Rig


def test_two_sources(rig: Rig) -> None:
    """A file that another source has is left to it."""
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    other = Rig(rig.folder)
    other.claims = rig.claims
    other.start()
    assert other.read() == []
    rig.it.release()
    rig.write("app.log", "2\n")
    other.positions = rig.positions
    other.start()
    assert other.read() == ["2"]
    other.it.close()


def test_too_many_files(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Further files are left alone."""
    monkeypatch.setattr(fileset, "FILES_MAX", 3)
    for n in range(5):
        rig.write(f"{n}.log", "x\n")
    rig.start()
    assert rig.read() == ["x"] * 3


def test_a_file_with_another_name_left(rig: Rig) -> None:
    """A file that has lost its own name, and has another one in the folder, is not given up."""
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    os.link(rig.folder / "app.log", rig.folder / "same.log")
    assert rig.all() == []
    (rig.folder / "app.log").unlink()
    rig.it.note_changed(str(rig.folder), "app.log")
    rig.look(everything=False)
    for file in rig.it.files.values():
        file.close()
    rig.now += 2 * VANISHED_S
    rig.it.tick()
    assert [file.entry for file in rig.it.files.values()] == ["same.log"]
    rig.write("same.log", "2\n")
    rig.it.note_modified(str(rig.folder), "same.log")
    assert rig.read() == ["2"]
