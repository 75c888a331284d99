"""hub.sources.filereading: steps of one owner."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hub.sources import filereading
from tests.hub.sources.followrig import Rig


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
