"""hub.sources.folderfinding: the folders that globs and links lead to."""

from __future__ import annotations

import os

from tests.hub.sources.followrig import Rig


def test_folders_come_and_go(rig: Rig) -> None:
    """A folder is found when it is there, and left when no glob leads to it and nothing in it is followed."""
    rig.globs = [f"{rig.folder}/*/*.log", f"{rig.folder}/none/such/*.log"]
    (rig.folder / "a").mkdir()
    (rig.folder / "b").mkdir()
    rig.start()
    assert set(rig.it.folders) == {f"{rig.folder}/a", f"{rig.folder}/b"}
    assert rig.it.walked == {str(rig.folder)}
    rig.write("a/app.log", "1\n")
    assert rig.all() == ["1"]
    (rig.folder / "b").rmdir()
    rig.look()
    assert set(rig.it.folders) == {f"{rig.folder}/a"}


def test_a_link_to_another_folder(rig: Rig) -> None:
    """The folder of what a link leads to is looked through, and reported once as one to be watched."""
    (rig.folder / "elsewhere").mkdir()
    rig.write("elsewhere/0", "1\n")
    os.symlink("elsewhere/0", rig.folder / "app.log")
    rig.start()
    assert rig.read() == ["1"]
    assert (rig.it.take_new_folder(), rig.it.take_new_folder()) == (True, False)
    assert set(rig.it.folders) == {str(rig.folder), f"{rig.folder}/elsewhere"}
