"""hub.sources.filefinding: what is followed, and from where on."""

from __future__ import annotations

import shutil
import time

import pytest

from hub.message import Position
from hub.sources import filefinding
from hub.sources.following import IDLE_S
from tests.hub.sources.followrig import Rig
from tests.hub.sources.test_fileidentity import reuse_inode


def test_first_sight(rig: Rig) -> None:
    """What is there when a glob is first looked for is read from its end, what appears later from its start."""
    rig.options = {}
    rig.write("old.log", "1\nhalf")
    rig.write("old.log.1", "0\n")
    rig.start()
    assert rig.read() == []
    rig.write("old.log", " line\n2\n")
    rig.write("new.log", "3\n")
    assert sorted(rig.all()) == ["2", "3", "half line"]
    rig.write("later.log", "4\n")
    rig.start()
    assert rig.read() == ["4"]
    rig.globs.append(f"{rig.folder}/*.txt")
    rig.write("other.txt", "5\n")
    rig.start()
    assert rig.read() == []
    rig.write("other.txt", "6\n")
    assert rig.all() == ["6"]


@pytest.mark.parametrize("older", ["app.log.1", "z.log.1", "gone"])
def test_another_glob_after_a_rotation(rig: Rig, older: str) -> None:
    """It is looked for first, and yet the file is new: its older generation was followed under the same name."""
    rig.options = {"from_start": False}
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    rig.it.close()
    rig.rename("app.log", older)
    if older == "gone":
        (rig.folder / older).unlink()
    rig.write("app.log", "2\n")
    rig.write("apple.log", "old\n")
    rig.globs = [f"{rig.folder}/app*.log"]
    rig.start()
    assert rig.all() == ["2"]


def test_older_generations_at_first_sight(rig: Rig) -> None:
    """They are passed over, too; what is written to one later is read."""
    rig.options = {}
    rig.write("app.log.1", "0\n")
    rig.write("app.log", "1\n")
    rig.start()
    rig.rename("app.log.1", "app.log.2")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "3\n")
    rig.write("app.log.1", "2\n")
    assert rig.all() == ["2", "3"]


def test_made_before_the_first_look(rig: Rig) -> None:
    """What was made after the source began is new, also if it is renamed before its position is stored."""
    rig.options = {"began_ns": time.time_ns() - 1_000_000_000}
    rig.write("app.log", "1\n")
    rig.start()
    assert rig.read() == ["1"]
    for name in [name for name in rig.positions if b"@" not in name]:
        del rig.positions[name]  # the machine lost power before it was synced
    rig.rename("app.log", "app.log.1")
    rig.start()
    assert rig.read() == ["1"]


def test_another_device_number(rig: Rig) -> None:
    """Rows of the same files on a device that had another number are used."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    for name, position in list(rig.positions.items()):
        if b":@" not in name:
            del rig.positions[name]
            other = name.replace(b"files:", b"files:9999", 1)
            rig.positions[other] = Position(other, position.number, position.detail)
    rig.write("app.log", "2\n")
    rig.start()
    assert rig.read() == ["2"]
    assert not [name for name in rig.positions if b"files:9999" in name]


def test_our_own_output(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file that this process writes its log to is left alone."""
    rig.write("app.log", "1\n")
    rig.write("hub.log", "2\n")
    described = (rig.folder / "hub.log").stat()
    assert len(filefinding.own_output()) in (1, 2)
    monkeypatch.setattr(filefinding, "own_output", lambda: {(described.st_dev, described.st_ino)})
    rig.start()
    assert rig.read() == ["1"]


def test_a_reused_inode(rig: Rig) -> None:
    """A new file with the inode of a deleted one is read from its start."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.wait(IDLE_S)
    rig.it.tick()
    reuse_inode(rig.folder / "app.log")
    (rig.folder / "app.log").write_text("2\n")
    assert rig.all() == ["2"]


def test_a_copy_is_another_file(rig: Rig) -> None:
    """A copy in the glob is read from its start, although it begins alike."""
    rig.start()
    rig.write("app.log", "1\n2\n")
    rig.all()
    shutil.copyfile(rig.folder / "app.log", rig.folder / "copy.log")
    assert rig.all() == ["1", "2"]
    rig.write("app.log", "3\n")
    assert rig.all() == ["3"]
