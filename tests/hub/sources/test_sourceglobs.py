"""hub.sources.sourceglobs: what is of a source, and since when."""

from __future__ import annotations

from hub.message import Position
from hub.sources.fileglob import Exclusion, Glob
from hub.sources.sourceglobs import SourceGlobs


def test_globs() -> None:
    """A glob without a position is looked for first; one with a position since the time that it has."""
    old, new, plain = Glob("/a/*.log"), Glob("/a/b*"), Glob("/a/x.1")
    globs = SourceGlobs([old, new, plain], Exclusion(["*.1"]), began_ns=100)
    globs.note_position(Position(old.name, 7))
    globs.note_position(Position(b"files:1:a", 9))
    assert globs.first == {new, plain}
    assert globs.position(old) == Position(old.name, 7)
    assert (globs.first_ns("/a/b.log"), globs.first_ns("/a/b"), globs.first_ns("/c")) == (7, 100, 100)
    assert [globs.has(path) for path in ("/a/c.log", "/a/b.1", "/a/x.1", "/c")] == [True, False, True, False]
