"""hub.sources.renewed: files that change are read again; what cannot be read changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.address import Address
from hub.errors import SourceError
from hub.sources.kinds import Tcp
from hub.sources.renewed import Renewed

TABLE = Tcp(address=Address("127.0.0.1:24224"))


def test_files_that_change(tmp_path: Path) -> None:
    """A change is seen by the next look; without one, nothing is read."""
    path = tmp_path / "key"
    path.write_text("first")
    reads: list[str] = []

    def read() -> str:
        reads.append(path.read_text())
        return reads[-1]

    renewed = Renewed(TABLE, (None, str(path)), read)
    renewed.look()
    assert (renewed.value, reads) == ("first", ["first"])
    path.write_text("the second")
    renewed.look()
    renewed.look()
    assert (renewed.value, reads) == ("the second", ["first", "the second"])


def test_a_file_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is an error at the start. Later the former value stays, and one line is logged, not one for each look."""

    def read() -> str:
        if not path.exists():
            raise SourceError(TABLE.where, "it is gone")
        return path.read_text()

    path = tmp_path / "key"
    with pytest.raises(SourceError, match="it is gone"):
        Renewed(TABLE, (str(path),), read)
    path.write_text("first")
    renewed = Renewed(TABLE, (str(path),), read)
    path.unlink()
    renewed.look()
    renewed.look()
    assert renewed.value == "first"
    logged = "".join(capsys.readouterr())
    assert logged.count("it is gone") == 1
