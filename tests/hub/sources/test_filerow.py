"""hub.sources.filerow: what the journal keeps for a file."""

from __future__ import annotations

from hub.message import DETAIL_BYTES_MAX
from hub.sources.filecheck import RUNGS, Mark
from hub.sources.filerow import PATH_BYTES_MAX, FileRow, State, decode, row_path


def test_round_trip() -> None:
    """A row is read as it was written."""
    row = FileRow(
        row_path("/var/log/\udcff.log"), 2**64 - 1, 2**62, State.DONE, Mark(1024, 2**32 - 1, 256, 7, 8, (1, 2, 3))
    )
    assert row.path == b"/var/log/\xff.log"
    assert decode(row.encode()) == row


def test_it_fits() -> None:
    """The longest path leaves the row within the limit; two long paths with one end differ."""
    paths = [row_path(f"/{letter}" + "/x" * 2000) for letter in "ab"]
    row = FileRow(
        paths[0], 2**64 - 1, 2**62, State.GONE, Mark(2**32, 2**32, 2**32, 2**32, 2**32, (2**32,) * len(RUNGS))
    )
    assert len(row.encode()) <= DETAIL_BYTES_MAX
    assert paths[0] != paths[1]
    assert {len(path) for path in paths} == {PATH_BYTES_MAX}


def test_other_bytes() -> None:
    """What is no row is None."""
    for detail in (b"", b"\xc1", b"\x90", b"\x95\xa1x\x01\x02\x03\x04"):
        assert decode(detail) is None
