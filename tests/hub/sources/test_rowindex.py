"""hub.sources.rowindex: rows are found by name, inode and path."""

from __future__ import annotations

from hub.message import Position
from hub.sources.filecheck import Mark
from hub.sources.fileidentity import Identity
from hub.sources.filerow import FileRow, row_path
from hub.sources.rowindex import Row, RowIndex


def row(name: bytes, path: str, ino: int) -> Row:
    return Row(Position(name, 5), FileRow(row_path(path), ino, 0, 0, Mark()))


def test_indexes() -> None:
    """A row that is added is found in each way, and one that is forgotten in none."""
    rows = RowIndex()
    one, two = row(b"files:1:a", "/x", 7), row(b"files:1:b", "/x", 7)
    for each in (two, one):
        rows.add(each.position.name, each)
    assert rows.of_path("/x") == [one, two]
    assert rows.get(b"files:1:a") == one
    assert b"files:1:b" in rows
    assert rows.forget(b"files:1:a") == one
    assert (rows.has_ino(7), rows.has_path("/x"), rows.all()) == (True, True, [two])
    rows.forget(b"files:1:b")
    assert (rows.has_ino(7), rows.has_path("/x"), rows.all(), rows.of_path("/x")) == (False, False, [], [])


def test_another_device_number() -> None:
    """The same handle at the same path is the same file; at another path, or with the same number, it is not meant."""
    rows = RowIndex()
    rows.add(b"files:1:a", row(b"files:1:a", "/x", 7))
    assert rows.renumbered(Identity(b"files:2:a", 7, 0), "/x") == b"files:1:a"
    assert rows.renumbered(Identity(b"files:2:a", 7, 0), "/y") is None
    assert rows.renumbered(Identity(b"files:1:a", 7, 0), "/x") is None
