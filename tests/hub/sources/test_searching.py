"""hub.sources.searching: generations in other folders than that of their log."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.sources import filesgone, looking
from tests.hub.sources.followrig import LONG, Rig, tick


def shift(rig: Rig, old: Path) -> None:
    """Do what logrotate does with ``olddir``."""
    for number in (3, 2, 1):
        if (old / f"app.log.{number}").exists():
            os.rename(old / f"app.log.{number}", old / f"app.log.{number + 1}")
    os.rename(rig.folder / "app.log", old / "app.log.1")


def sorted_scan(scan: Any) -> Any:
    """Return *scan*, with the names in their order."""

    @contextlib.contextmanager
    def scanned(folder: Any) -> Iterator[list[Any]]:
        with scan(folder) as entries:
            yield sorted(entries, key=lambda entry: entry.name)

    return scanned


def with_olddir(rig: Rig, old: Path) -> Path:
    """Follow the logs in a folder ``b``, and what they become in *old*, its neighbour, which is not made. Return it."""
    rig.folder = old.parent / "b"
    rig.folder.mkdir()
    rig.globs = [f"{rig.folder}/*.log", f"{old}/*"]
    return old


@pytest.fixture
def old(rig: Rig, tmp_path: Path) -> Path:
    """The folder of the older generations, which is made."""
    folder = with_olddir(rig, tmp_path / "old")
    folder.mkdir()
    return folder


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("name", ["old", "a"])
def test_generations_in_another_folder(rig: Rig, tmp_path: Path, name: str, is_running: bool) -> None:
    """With ``olddir``, those that were made and moved between two looks, or while no hub ran, are in their order."""
    old = with_olddir(rig, tmp_path / name)
    old.mkdir()
    (old / "app.log.1").write_text("0\n")
    for _ in range(6):
        tick()
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    rig.write("app.log", "2\n")
    if not is_running:
        rig.it.close()
    for number in (3, 4):
        shift(rig, old)
        rig.write("app.log", f"{number}\n")
        tick()
    if is_running:
        assert rig.all() == ["2", "3", "4"]
    else:
        rig.start()
        assert rig.read() == ["2", "3", "4"]
    assert {file.tag for file in rig.it.files.values()} == {os.fsencode(rig.folder / "app.log")}
    for number in (5, 6):
        shift(rig, old)
        rig.write("app.log", f"{number}\n")
    assert rig.all() == ["5", "6"]
    assert rig.losses == []


def test_generations_of_a_log_that_is_not_there(rig: Rig, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a start, they are read in their order, in whichever one they are listed in their folder."""
    rig.start()
    for number in (1, 2, 3):
        rig.write("app.log", f"{number}\n")
        shift(rig, old)
        tick()
    rig.write("app.log", "4\n")
    rig.look()
    (owner,) = rig.it.owners.values()
    rig.step(owner)  # the rows
    shift(rig, old)
    monkeypatch.setattr(os, "scandir", sorted_scan(os.scandir))
    rig.start()
    assert rig.read() == ["1", "2", "3", "4"]


@pytest.mark.parametrize("names_max", [0, 256])
def test_a_look_at_the_folder_of_the_older_generations_alone(
    rig: Rig, old: Path, monkeypatch: pytest.MonkeyPatch, names_max: int
) -> None:
    """What is found there is not read before the folder of the log was looked at, which may be large, and wait."""
    monkeypatch.setattr(looking, "NAMES_MAX", names_max)
    rig.start()
    rig.write("app.log", LONG)
    assert rig.all() == [LONG.strip()]
    shift(rig, old)
    rig.write("app.log", "2\n" * 50)
    rig.look()
    os.rename(old / "app.log.1", old / "app.log.2")
    shutil.copyfile(rig.folder / "app.log", old / "app.log.1")
    os.truncate(rig.folder / "app.log", 0)
    tick()
    rig.write("app.log", "3\n")
    shift(rig, old)
    rig.write("app.log", "4\n")
    rig.it.folders[str(rig.folder)].next_look_at = rig.now + 5
    rig.it.note_changed(str(old), None)
    rig.look(everything=False)
    expected = [*["2"] * 50, "3", "4"]
    assert rig.read() == (expected if names_max else [])
    rig.now += 5
    rig.look(everything=False)
    assert rig.read() == ([] if names_max else expected)


def test_a_truncated_file_that_no_look_has_found_under_its_new_name(rig: Rig, old: Path) -> None:
    """What was found in the other folder may be older than what is in it, or younger: its new name shows that."""
    rig.start()
    rig.write("app.log", LONG)
    assert rig.all() == [LONG.strip()]
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n" * 50)
    tick()
    shutil.copyfile(rig.folder / "app.log", old / "app.log.1")
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "3\n")
    tick()
    shift(rig, old)
    rig.it.folders[str(old)].next_look_at = rig.now + 5
    rig.it.note_changed(str(old), None)
    for _ in range(2):
        rig.it.note_changed(str(rig.folder), "app.log")
        rig.look(everything=False)
        assert rig.read() == []
        rig.now += 3
    rig.look(everything=False)
    assert rig.read() == [*["2"] * 50, "3"]


@pytest.mark.parametrize("is_found", [True, False])
def test_a_truncated_file_that_is_moved_between_the_looks_at_two_folders(rig: Rig, old: Path, is_found: bool) -> None:
    """What is in its copy is stored first, as its new name shows, and all of it if it is removed before it is found."""
    rig.globs.reverse()
    rig.start()
    rig.write("app.log", "")
    assert rig.all() == []
    rig.write("app.log", "1\n" * 50)
    tick()
    shutil.copyfile(rig.folder / "app.log", old / "app.log.1")
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n")
    before_ns = rig.it.folders[str(old)].looked_ns
    for _ in rig.it.look():
        if rig.it.folders[str(old)].looked_ns > before_ns and (rig.folder / "app.log").exists():
            shift(rig, old)
            if not is_found:
                (old / "app.log.1").unlink()
    rig.look(everything=False)
    stored = rig.read()
    assert (stored if is_found else sorted(stored)) == ["1"] * 50 + ["2"]


def test_a_truncated_file_that_was_moved_away(rig: Rig, tmp_path: Path) -> None:
    """It is open: what is in it is read when no look has found it."""
    away = with_olddir(rig, tmp_path / "old").with_name("away")
    away.mkdir()
    rig.start()
    rig.write("app.log", LONG)
    assert rig.all() == [LONG.strip()]
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n")
    os.rename(rig.folder / "app.log", away / "app.log")
    assert rig.all() == []
    assert [*rig.wait(3), *rig.wait(3), *rig.wait(3)] == ["2"]
    assert [loss.lost_bytes for loss in rig.losses] == [0]


@pytest.mark.parametrize("few", [0, 9])
def test_a_file_that_is_moved_while_a_look_goes_from_one_folder_to_the_next(
    rig: Rig, old: Path, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    """It is not given up before all folders were looked at again, and read when it is found in any."""
    monkeypatch.setattr(filesgone, "FEW_FOLDERS", few)
    rig.start()
    rig.write("app.log", "1\n")
    home = rig.it.folders[str(rig.folder)]
    before_ns = home.looked_ns
    tick()
    for _ in rig.it.look():
        if home.looked_ns > before_ns and (rig.folder / "app.log").exists():
            shift(rig, old)
    for _ in range(3):
        rig.it.folders[str(old)].next_look_at = rig.now + 10
        rig.it.note_changed(str(rig.folder), "app.log")
        rig.look(everything=False)
        rig.now += 3
    rig.now += 10
    rig.it.note_changed(str(old), None)
    rig.look(everything=False)
    rig.all()
    assert rig.texts == ["1"]
    assert rig.losses == []


def test_a_folder_that_is_gone_before_it_is_looked_at(rig: Rig, old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The generations elsewhere do not wait for it."""
    monkeypatch.setattr(looking, "NAMES_MAX", 0)
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    rig.write("app.log", "2\n")
    shift(rig, old)
    rig.folder.rmdir()
    rig.it.note_changed(str(old), None)
    rig.look(everything=False)
    assert [*rig.read(), *rig.all()] == ["2"]


@pytest.mark.parametrize("is_running", [True, False])
def test_copies_in_another_folder(rig: Rig, old: Path, is_running: bool) -> None:
    """With ``olddir`` and ``copytruncate``, the rest of the copy is found there, and nothing else of it is read."""
    rig.start()
    rig.write("app.log", LONG)
    assert rig.all() == [LONG.strip()]
    if not is_running:
        rig.it.close()
    for number in (2, 1):
        rig.write("app.log", f"{number}\n" * 50)
        shutil.copyfile(rig.folder / "app.log", old / f"app.log.{number}")
        os.truncate(rig.folder / "app.log", 0)
        tick()
    rig.write("app.log", "0\n")
    if not is_running:
        rig.start()
    assert [*(rig.all() if is_running else rig.read()), *rig.all()] == [*["2"] * 50, *["1"] * 50, "0"]
    assert [loss.lost_bytes for loss in rig.losses] == [0]


@pytest.mark.parametrize("names_max", [-1, 256])
@pytest.mark.parametrize("is_running", [True, False])
def test_a_copy_of_a_log_that_was_just_made(
    rig: Rig, old: Path, monkeypatch: pytest.MonkeyPatch, is_running: bool, names_max: int
) -> None:
    """In another folder that is looked at before its own one, it is no log of its own: each line is stored once."""
    monkeypatch.setattr(looking, "NAMES_MAX", names_max)
    rig.globs.reverse()
    if is_running:
        rig.start()
    rig.write("app.log", LONG)
    shutil.copyfile(rig.folder / "app.log", old / "app.log.1")
    if is_running:
        rig.it.folders[str(rig.folder)].next_look_at = rig.now + 5
        rig.it.note_changed(str(old), None)
        rig.look(everything=False)
    else:
        rig.start()
    if is_running and names_max == -1:
        assert rig.read() == []  # until the folder of the log was looked at
        rig.now += 5
        rig.look(everything=False)
    assert rig.read() == [LONG.strip()]
    os.truncate(rig.folder / "app.log", 0)
    rig.write("app.log", "2\n")
    assert [*rig.all(), *rig.all()] == ["2"]
    assert [file.tag for file in rig.it.files.values()] == [os.fsencode(rig.folder / "app.log")] * len(rig.it.files)


def test_what_is_no_log_beside_generations_in_another_folder(rig: Rig, old: Path) -> None:
    """A folder, and a file that no glob matches, are no reason to leave the generations of that name aside."""
    rig.globs[0] = f"{rig.folder}/app*"
    rig.start()
    (rig.folder / "app.log").mkdir()
    rig.write("apt.log", LONG)
    for name in ("app", "apt"):
        (old / f"{name}.log.1").write_text(f"{name}\n")
    assert sorted(rig.all()) == ["app", "apt"]


def test_a_folder_with_generations_of_two_logs(rig: Rig, tmp_path: Path) -> None:
    """Nobody knows of which: they are read under the name that they have there."""
    old = tmp_path / "old"
    for name in ("old", "b", "c"):
        (tmp_path / name).mkdir()
    rig.globs = [f"{tmp_path}/*/*.log", f"{old}/*"]
    rig.start()
    for name in ("b", "c"):
        (tmp_path / name / "app.log").write_text(f"{name}\n")
    assert sorted(rig.all()) == ["b", "c"]
    tick()
    (old / "app.log.1").write_text("which?\n")
    assert rig.all() == ["which?"]
    assert os.fsencode(old / "app.log") in {file.tag for file in rig.it.files.values()}


def test_generations_that_are_elsewhere_before_their_log_is_known(rig: Rig, old: Path) -> None:
    """They are read under the name that they have there; those that follow are known as generations of the log."""
    rig.start()
    rig.write("app.log", "1\n")
    shift(rig, old)
    assert rig.all() == ["1"]
    rig.write("app.log", "2\n")
    assert rig.all() == ["2"]
    for number in (3, 4):
        shift(rig, old)
        rig.write("app.log", f"{number}\n")
        tick()
    assert rig.all() == ["3", "4"]
    assert sorted(file.tag for file in rig.it.files.values()) == sorted(
        [os.fsencode(old / "app.log"), *[os.fsencode(rig.folder / "app.log")] * 3]
    )


def test_generations_of_a_log_that_was_gone_before_its_path_was_certain(rig: Rig, old: Path) -> None:
    """Either of the two paths that they may belong to has them, although no look at everything has seen a log there."""
    rig.start()
    rig.write("app.log", "1\n")
    shift(rig, old)
    assert rig.all() == ["1"]
    rig.write("app.log", "2\n")
    rig.it.note_changed(str(rig.folder), None)
    rig.look(everything=False)
    assert rig.read() == ["2"]
    for number in (3, 4):
        shift(rig, old)
        rig.write("app.log", f"{number}\n")
        tick()
    shift(rig, old)
    assert rig.all() == ["3", "4"]
    assert rig.losses == []


def test_generations_that_are_elsewhere_while_there_is_no_log(rig: Rig, tmp_path: Path) -> None:
    """They are those of the log that the journal knows, and come before it when it is there again."""
    old = with_olddir(rig, tmp_path / "a")
    old.mkdir()
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    rig.it.close()
    for number in (2, 3):
        shift(rig, old)
        rig.write("app.log", f"{number}\n")
        tick()
    shift(rig, old)
    (old / "app.log.3").unlink()  # the only one with a position
    rig.start()
    rig.write("app.log", "4\n")
    rig.look()
    assert rig.read() == ["2", "3", "4"]
    assert {file.tag for file in rig.it.files.values()} == {os.fsencode(rig.folder / "app.log")}


def test_generations_of_a_log_whose_folder_is_no_longer_looked_through(rig: Rig, tmp_path: Path) -> None:
    """They are read under the name that they have where they are."""
    old = with_olddir(rig, tmp_path / "a")
    old.mkdir()
    rig.start()
    rig.write("app.log", "1\n")
    assert rig.all() == ["1"]
    rig.globs = [f"{old}/*"]
    (rig.folder / "app.log").unlink()
    rig.write("app.log", "2\n")
    shift(rig, old)
    rig.start()
    assert rig.read() == ["2"]


def olddir_to_be_made(rig: Rig, tmp_path: Path) -> Path:
    """Read the first line of a log whose ``olddir`` is not there yet."""
    old = with_olddir(rig, tmp_path / "old")
    rig.start()
    rig.write("app.log", LONG)
    assert rig.all() == [LONG.strip()]
    return old


def test_a_copy_in_a_folder_that_was_just_made(rig: Rig, tmp_path: Path) -> None:
    """With ``createolddir``, the first copy is found, also if the truncation is seen before the folder."""
    old = olddir_to_be_made(rig, tmp_path)
    rig.write("app.log", "1\n" * 50)
    old.mkdir()
    shutil.copyfile(rig.folder / "app.log", old / "app.log.1")
    os.truncate(rig.folder / "app.log", 0)
    tick()
    rig.write("app.log", "0\n")
    rig.it.note_modified(str(rig.folder), "app.log")
    assert rig.read() == [*["1"] * 50, "0"]
    assert rig.it.take_new_folder()
    assert [*rig.all(), *rig.all()] == []
    assert [loss.lost_bytes for loss in rig.losses] == [0]


def test_generations_in_a_folder_that_was_just_made(rig: Rig, tmp_path: Path) -> None:
    """With ``createolddir``, a file that was made and moved there comes before the one that followed it."""
    old = olddir_to_be_made(rig, tmp_path)
    old.mkdir()
    for number in (1, 2):
        shift(rig, old)
        rig.write("app.log", f"{number}\n")
        for _ in range(6):
            tick()
    rig.it.note_changed(str(rig.folder), "app.log")
    rig.look(everything=False)
    assert [*rig.read(), *rig.all()] == ["1", "2"]
    assert rig.losses == []
