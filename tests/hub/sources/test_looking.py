"""hub.sources.looking: folders, names and links."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.sources.rotations import NAMES_MAX
from tests.hub.sources.followrig import Rig
from tests.users import ALICE, NEEDS_ROOT


def test_hard_links_and_links(rig: Rig) -> None:
    """A file with several names in the glob is read once."""
    rig.start()
    rig.write("app.log", "1\n")
    os.link(rig.folder / "app.log", rig.folder / "same.log")
    os.symlink("app.log", rig.folder / "link.log")
    assert rig.all() == ["1"]
    rig.write("same.log", "2\n")
    assert rig.all() == ["2"]
    (rig.folder / "app.log").unlink()
    rig.write("same.log", "3\n")
    assert rig.all() == ["3"]


def test_a_link_to_rotated_files(rig: Rig, tmp_path: Path) -> None:
    """A link from elsewhere leads to the generations of its target, as in Kubernetes."""
    pods = tmp_path / "pods"
    pods.mkdir()
    (pods / "0.log").write_text("1\n")
    os.symlink(pods / "0.log", rig.folder / "app.log")
    rig.start()
    assert rig.read() == ["1"]
    with open(pods / "0.log", "a") as file:
        file.write("2\n")
    os.rename(pods / "0.log", pods / "0.log.20261127-101010")
    (pods / "0.log").write_text("3\n")
    assert rig.all() == ["2", "3"]
    rig.start()
    assert rig.read() == []


@NEEDS_ROOT
def test_a_folder_that_becomes_a_link(rig: Rig) -> None:
    """What a user's link leads to is not read, also between two looks at everything."""
    logs, secret = rig.folder / "logs", rig.folder / "secret"
    for folder in (logs, secret):
        folder.mkdir()
        (folder / "app.log").write_text(f"{folder.name}\n")
    rig.globs = [f"{rig.folder}/log*/*.log"]
    rig.start()
    assert rig.read() == ["logs"]
    os.rename(logs, rig.folder / "old")
    os.symlink("secret", logs)
    os.lchown(logs, ALICE, ALICE)
    rig.it.note_changed(str(logs), None)
    rig.look(everything=False)
    assert rig.read() == []
    assert rig.all() == []
    os.lchown(logs, 0, 0)
    assert rig.all() == ["secret"]


def test_a_generation_that_was_renamed_during_the_look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was in neither place: the names are listed again until they are the same before and after."""
    rig.start()
    rig.write("app.log", "1\n")
    listing, names = os.scandir, iter([True])

    class Stale:
        """A listing from before a rotation."""

        def __init__(self, folder: Any) -> None:
            with listing(folder) as entries:
                self.found = list(entries)
            rig.rename("app.log", "app.log.1")
            rig.write("app.log", "2\n")

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return iter(self.found)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", lambda folder: Stale(folder) if next(names, False) else listing(folder))
    rig.it.note_changed(str(rig.folder), None)
    rig.look(everything=False)
    assert next(names, None) is None
    assert rig.read() == ["1", "2"]


def test_names_that_change_during_a_look(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read of a file whose generations a look has not found out."""
    rig.start()
    rig.write("app.log", "1\n")
    rig.all()
    rig.rename("app.log", "app.log.2")
    rig.write("app.log.1", "2\n")
    rig.write("app.log", "3\n")
    listing = os.scandir

    def shuffled(folder: Any) -> Any:
        flip(rig.folder / "app.log.4")
        return listing(folder)

    monkeypatch.setattr(os, "scandir", shuffled)
    assert rig.all() == []
    monkeypatch.setattr(os, "scandir", listing)
    rig.look()
    assert rig.read() == ["2", "3"]


def test_names_that_never_stop_changing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two looks, the log is read all the same."""
    rig.start()
    rig.write("app.log", "1\n")
    listing = os.scandir

    def shuffled(folder: Any) -> Any:
        flip(rig.folder / "app.log.4")
        return listing(folder)

    monkeypatch.setattr(os, "scandir", shuffled)
    assert [rig.all(), rig.all()] == [[], ["1"]]


def test_names_of_one_log_after_the_other_that_change_during_looks(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each log waits for one more look, and no other log makes it wait less."""
    rig.start()
    listing, changing = os.scandir, "web.log"

    def shuffled(folder: Any) -> Any:
        flip(rig.folder / f"{changing}.4")
        return listing(folder)

    monkeypatch.setattr(os, "scandir", shuffled)
    rig.write("web.log", "1\n")
    assert rig.all() == []
    changing = "app.log"
    rig.write("app.log", "2\n")
    assert rig.all() == ["1"]
    assert rig.all() == ["2"]


def test_a_file_that_is_written_to_during_the_look_that_finds_it(rig: Rig) -> None:
    """It is not read before its older generations are known, however many files the look is about."""
    rig.start()
    rig.write("web.log", "1\n")
    assert rig.all() == ["1"]
    rig.rename("web.log", "web.log.2")
    rig.write("web.log.1", "2\n")
    rig.write("web.log", "3\n")
    for number in range(NAMES_MAX):
        rig.write(f"{number}.log", "")
    for _ in rig.it.look():
        rig.it.note_modified(str(rig.folder), "web.log")
        rig.read()
    rig.read()
    assert rig.texts == ["1", "2", "3"]


def flip(path: Path) -> None:
    """Create a file, or remove it."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        path.unlink()
