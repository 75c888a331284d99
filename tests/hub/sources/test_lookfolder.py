"""hub.sources.lookfolder: what is known about a folder."""

from __future__ import annotations

import pytest

from hub.sources import lookfolder
from hub.sources.fileglob import Exclusion, Glob
from hub.sources.lookfolder import Folder, Folders


def test_changes() -> None:
    """It is due when something has happened in it, and not too soon."""
    folder = Folder("/a")
    assert not folder.is_due(1.0)
    folder.note_changed("x")
    folder.next_look_at = 2.0
    assert (folder.is_due(1.0), folder.is_due(2.0)) == (False, True)
    folder.note_changed(None)
    folder.note_changed("y")
    assert folder.dirty is None


def test_names() -> None:
    """A name is known by the glob that it matches, or by the link that leads to it, which leads to one name only."""
    folder, glob = Folder("/a"), Glob("/a/*.log")
    folder.globs = [glob]
    folder.link("0", "/b/x.log", glob)
    assert folder.dirty is None
    folder.dirty = set()
    folder.link("0", "/b/x.log", glob)
    assert folder.dirty == set()
    nothing = Exclusion([])
    assert folder.glob_of("x.log", nothing) == (glob, "/a/x.log")
    assert folder.glob_of("0", nothing) == (glob, "/b/x.log")
    folder.link("1", "/b/x.log", glob)
    assert folder.glob_of("0", nothing) == (None, "/a/0")


def test_too_many_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are limited over all folders, and there is room again when one begins anew or is gone."""
    monkeypatch.setattr(lookfolder, "STRANGERS_MAX", 2)
    folders = Folders()
    for path in ("/a", "/b"):
        folders.by_path[path] = Folder(path)
        assert folders.add_stranger(folders.by_path[path], "app.log.1", 1)
    one = folders.by_path["/a"]
    assert not folders.add_stranger(one, "app.log.2", 2)
    folders.forget_strangers(one)
    assert folders.add_stranger(one, "app.log.2", 2)
    assert one.strangers == {"app.log": {"app.log.2": 2}}
    folders.remove("/b")
    assert folders.add_stranger(one, "app.log.3", 3)
