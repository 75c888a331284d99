"""hub.sources.fileset: each file once, and not too many."""

from __future__ import annotations

import pytest

from hub.sources import fileset
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
