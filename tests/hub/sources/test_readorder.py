"""hub.sources.readorder: older generations are read first."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from hub.sources import fileidentity
from hub.sources.fileparse import FileParser
from hub.sources.followed import JOIN_S
from tests.hub.sources.followrig import LONG, Rig, refuse_to_open, tick


def test_rename(rig: Rig) -> None:
    """A renamed file is read to its end before its successor, which is read from its start."""
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    rig.write("app.log", "2\n")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "3\n")
    assert rig.all() == ["2", "3"]
    assert rig.losses == []


def test_much_that_was_written_before_a_rename(rig: Rig) -> None:
    """It comes before the lines of the new file, also if that is seen while the old one is read."""
    rig.start()
    rig.write("app.log", "first\n")
    assert rig.all() == ["first"]
    older = [f"{number:>1000}" for number in range(2500)]
    rig.write("app.log", "\n".join(older) + "\n")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "new\n")
    assert rig.all() == [*older, "new"]
    rig.write("app.log.1", "later\n")
    rig.write("app.log", "newer\n")
    assert sorted(rig.all()) == ["later", "newer"]


def test_a_message_of_several_lines_before_a_rename(rig: Rig) -> None:
    """Lines that wait for others come before those of the new file."""
    rig.parser = FileParser(multiline=r"\d")
    rig.start()
    rig.write("app.log", "1\n more\n")
    assert rig.all() == []
    assert rig.wait(JOIN_S) == ["1\n more"]
    rig.write("app.log", "2\n more\n")
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "3\n4\n")
    assert rig.all() == []
    rig.write("app.log.1", " and more\n")
    assert rig.all() == []
    assert rig.wait(JOIN_S) == ["2\n more\n and more", "3"]


def test_younger_ones_do_not_wait_for_one_that_cannot_be_read(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also not for those in between, which have nothing more."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    refuse_to_open(monkeypatch, "app.log.1", "app.log.2", "app.log.3")
    rig.start()
    rig.rename("app.log", "app.log.1")
    rig.write("app.log", "2\n")
    assert rig.all() == ["2"]
    rig.rename("app.log", "app.log.0")
    rig.write("app.log", "3\n")
    assert rig.all() == ["3"]


def test_the_last_message_of_an_older_generation(rig: Rig) -> None:
    """It does not wait for more lines when the generation after the next one has begun."""
    rig.parser = FileParser(multiline=r"\d")
    rig.start()
    for number in range(5):
        rig.write("app.log", f"{number}\n more\n")
        rig.rename("app.log", f"app.log.{5 - number}")
        tick()
    rig.write("app.log", "6\n")
    assert rig.all() == ["0\n more", "1\n more", "2\n more", "3\n more"]
    assert rig.wait(JOIN_S) == ["4\n more"]
    assert rig.wait(JOIN_S) == ["6"]


def test_a_generation_that_is_found_late(rig: Rig) -> None:
    """Younger ones wait for it, also those after one that has nothing more; they go on when it was read."""
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    rig.look()
    tick()
    rig.write("elsewhere", LONG)
    tick()
    for number, text in ((2, "2\n"), (1, "3\n")):
        rig.rename("app.log", f"app.log.{number}")
        rig.write("app.log", text)
        assert rig.all() == [text.strip()]
        tick()
    rig.rename("elsewhere", "app.log.3")
    rig.write("app.log", "4\n")
    assert rig.all() == [LONG.strip(), "4"]


def test_generations_that_were_made_at_once(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have the same times if the clock that stamps files has not moved on: their numbers tell which is older."""
    born_ns = time.time_ns() + 1_000_000_000_000
    monkeypatch.setattr(fileidentity, "_born_ns", lambda *_: born_ns)
    rig.start()
    for number in (1, 3, 2, 10):
        rig.write(f"app.log.{number}", f"{number}{LONG}")
        os.utime(rig.folder / f"app.log.{number}", ns=(born_ns, born_ns))
    rig.write("app.log", "new\n")
    assert rig.all() == [*(f"{number}{LONG.strip()}" for number in (10, 3, 2, 1)), "new"]


def start_beside_another_folder(rig: Rig, folder: Path) -> None:
    """Start a source of `logs/*.log`; in `away`, beside it, nothing is looked for."""
    (folder / "away").mkdir()
    rig.folder = folder / "logs"
    rig.folder.mkdir()
    rig.globs = [f"{rig.folder}/*.log"]
    rig.start()


def test_a_truncated_file_whose_new_name_is_unknown(rig: Rig, tmp_path: Path) -> None:
    """It is younger than copies that a look has found while it was at its path, although it was made before them."""
    start_beside_another_folder(rig, tmp_path)
    rig.write("app.log", "1\n")
    rig.all()
    os.truncate(rig.folder / "app.log", 0)
    assert rig.all() == []
    rig.write("app.log", "2\n" * 50)
    tick()
    shutil.copyfile(rig.folder / "app.log", rig.folder / "app.log.1")
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "3\n" * 50)
    rig.look()
    rig.rename("app.log", "../away/app.log.1")
    rig.look()
    assert rig.read() == [*["2"] * 50, *["3"] * 50]


def test_a_truncated_file_that_is_renamed_after_its_copies_were_found(rig: Rig, tmp_path: Path) -> None:
    """It is younger than copies that were found when it was read, although no look has seen it at its path since."""
    start_beside_another_folder(rig, tmp_path)
    rig.write("app.log", "1\n" * 50)
    assert rig.all() == ["1"] * 50
    for number, text in ((2, "2\n" * 50), (1, "3\n" * 50)):
        tick()
        shutil.copyfile(rig.folder / "app.log", rig.folder / f"app.log.{number}")
        os.truncate(rig.folder / "app.log", 0)
        rig.write("app.log", text)
    rig.look()
    (owner,) = rig.it.owners.values()
    rig.step(owner)
    rig.rename("app.log", "../away/app.log.1")
    rig.look()
    assert rig.read() == [*["2"] * 50, *["3"] * 50]
    assert [loss.lost_bytes for loss in rig.losses] == [0]
