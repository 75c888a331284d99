"""hub.sources.filereading: steps of one owner."""

from __future__ import annotations

import os
import shutil
from typing import Any

import pytest

from hub.sources import filereading
from hub.sources.searching import TRIES
from tests.hub.sources.followrig import LONG, Rig


def test_permissions(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that cannot be read is tried again with the next look; it does not hold up its successor."""
    rig.start()
    rig.write("app.log", "1\n")
    opening, refused = os.open, [True]

    def fail(path: str, *args: int, **options: Any) -> int:
        if refused[0] and str(path).endswith("app.log"):
            raise PermissionError(13, "Permission denied", path)
        return opening(path, *args, **options)

    monkeypatch.setattr(os, "open", fail)
    assert rig.all() == []
    refused[0] = False
    assert rig.all() == ["1"]


def test_no_batch_is_small(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that has nearly read what it may ends: no read is for a rest with one line, or with none."""
    monkeypatch.setattr(filereading, "STEP_S", 60.0)
    rig.start()
    rig.write("app.log", ("a line of any length\n" * 50 + "another one\n") * 2000)
    rig.look()
    (owner,) = rig.it.owners.values()
    rig.store(rig.it.step(owner, 1 << 20).items)  # the row
    sizes = [item.count for item in rig.it.step(owner, 1 << 20).items]
    assert len(sizes) == 4
    assert min(sizes) > 10_000


def test_looks_at_other_folders_count_for_nothing(rig: Rig) -> None:
    """A first read that was taken back waits for a look at its own folder, however often the others are looked at."""
    rig.start()
    rig.write("app.log", LONG)
    rig.look()
    for number in (2, 1):
        shutil.copyfile(rig.folder / "app.log", rig.folder / f"app.log.{number}")
        os.truncate(rig.folder / "app.log", 0)
        rig.write("app.log", f"{number}\n" * 50)
    rig.it.folders[str(rig.folder)].next_look_at = rig.now + 5.0
    for _ in range(2 * TRIES):
        rig.it.note_modified(str(rig.folder), "app.log")
        assert rig.read() == []
        rig.look(everything=False)
    rig.now += 10.0
    rig.look(everything=False)
    assert rig.read() == [LONG.strip(), *["2"] * 50, *["1"] * 50]
